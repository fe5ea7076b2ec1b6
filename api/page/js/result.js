// What a run has left: frames, cells, their traces, marks, and tables to download.

import { blob, get } from "./api.js";
import { CellPanel } from "./cells.js";
import { downloadLink } from "./download.js";
import { fill, fileName, h, remembered } from "./dom.js";
import { pause } from "./events.js";
import { pathInput } from "./picker.js";
import { showProblem } from "./problems.js";
import { counted } from "./text.js";
import { Viewer } from "./viewer.js";

const LOOK_MS = 8000;
const PICTURE = "/visualization/picture";

export async function show({ output_dir: folder = "", fov }, signal) {
  if (!folder) return chooseFolder();
  const found = await get("/visualization/folder", { output_dir: folder }, { signal });
  remembered.set("output_dir", folder);
  const view = new Result(found, Number(fov ?? found.fovs[0]?.fov), signal);
  view.keepUpToDate();
  return view.element;
}

/** A form that asks which results are to be seen. */
function chooseFolder() {
  const go = (path) => path && (location.hash = address(path));
  const folder = pathInput("Folder of results", "The folder that a run has written into", {
    value: remembered.get("output_dir"),
  });
  const submit = (event) => (event.preventDefault(), go(folder.value));
  return h(
    "form", { class: "narrow", onsubmit: submit },
    h("h1", {}, "Results"),
    h("section", { class: "card" }, folder.element,
      h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Open"))),
    h("p", { class: "hint" }, "Or open a job in the list of ", h("a", { href: "#/" }, "jobs"), "."),
  );
}

const address = (folder, fov) => `#/result?${new URLSearchParams({ output_dir: folder, ...(fov != null && { fov }) })}`;

class Result {
  constructor(found, fov, signal) {
    this.signal = signal;
    this.folder = found.output_dir;
    this.chooser = h("select", { onchange: () => this.open(Number(this.chooser.value)), "aria-label": "Field of view" });
    this.about = h("span", { class: "hint" });
    this.content = h("div");
    this.element = h(
      "section", { class: "result" },
      h(
        "div", { class: "title" },
        h("h1", { title: this.folder }, found.base_name ?? fileName(this.folder)),
        this.chooser,
        this.about,
        h("span", { class: "spacer" }),
        h("a", { class: "button", href: `#/merge?${new URLSearchParams({ input_dir: this.folder })}` }, "Merge samples"),
        h("a", { class: "button", href: "#/result" }, "Other results"),
      ),
      this.content,
    );
    this.list(found.fovs);
    if (found.fovs.length) this.open(fov);
    else this.tellNothing();
  }

  list(fovs) {
    const before = this.fovs?.length;
    this.fovs = fovs;
    if (fovs.length === before) return;
    const chosen = this.chooser.value;
    fill(this.chooser, fovs.map(({ fov, n_cells: n, inspected }) =>
      h("option", { value: fov }, `FOV ${fov} · ${counted(n, "cell")}${inspected ? " · inspected" : ""}`)));
    if (chosen) this.chooser.value = chosen;
    this.chooser.hidden = fovs.length === 0;
  }

  open(number) {
    this.viewer?.stop();
    this.leaving?.abort();
    this.leaving = new AbortController();
    const signal = AbortSignal.any([this.signal, this.leaving.signal]);
    const fov = this.fovs.find((one) => one.fov === number) ?? this.fovs[0];
    this.chooser.value = fov.fov;
    history.replaceState(null, "", address(this.folder, fov.fov));
    this.about.textContent = counted(fov.n_frames, "frame");
    const viewer = (this.viewer = new Viewer(this.folder, fov, signal));
    const cells = new CellPanel(this.folder, fov, signal);
    viewer.onselect = (cell) => cells.select(cell);
    viewer.onframe = (frame) => cells.showFrame(frame);
    cells.onselect = (trace) => viewer.mark(trace);
    cells.onframe = (frame) => viewer.go(frame);
    fill(
      this.content,
      fov.warnings.map((warning) => h("p", { class: "warning" }, warning)),
      h("div", { class: "columns" }, h("div", {}, viewer.element, this.files(fov)), cells.element),
    );
    cells.load();
  }

  files(fov) {
    return h(
      "section", { class: "card files-card" },
      h("h2", {}, "Files"),
      h(
        "div", { class: "actions" },
        downloadLink(this.folder, fov.traces_file, "Table of this FOV"),
        downloadLink(this.folder, "processing_results.yaml", "Index of all"),
        h("a", { class: "button", href: `#/fit?${new URLSearchParams({ csv_path: fov.traces_file })}` }, "Fit this table"),
      ),
      fov.pictures.length > 0 && this.gallery(fov),
    );
  }

  /** The pictures that were made of a FOV; loaded when somebody wants to see them. */
  gallery(fov) {
    const place = h("div", { class: "gallery" });
    const load = async () => {
      for (const name of fov.pictures) {
        const query = { output_dir: this.folder, fov: fov.fov, name };
        const link = downloadLink(this.folder, name, "Download", { path: PICTURE, query });
        const image = h("img", { alt: `Picture ${name} of FOV ${fov.fov}` });
        place.append(h("figure", {}, image, h("figcaption", {}, name, " ", link)));
        image.src = URL.createObjectURL(await blob(PICTURE, query, { signal: this.signal }));
      }
    };
    const gallery = h("details", {}, h("summary", {}, "Pictures for quality control"), place);
    gallery.addEventListener("toggle", () => load().catch((problem) => fill(place, showProblem(problem))), { once: true });
    return gallery;
  }

  tellNothing() {
    fill(this.content, h("p", { class: "empty" }, "No FOV is done yet; each is shown here as soon as it is."));
  }

  /** Show FOVs of a run that still goes on as they come. */
  async keepUpToDate() {
    while (!this.signal.aborted) {
      await pause(LOOK_MS, this.signal);
      if (this.signal.aborted || document.hidden) continue;
      try {
        const options = { signal: this.signal, byItself: true };
        const { fovs } = await get("/visualization/folder", { output_dir: this.folder }, options);
        const first = this.fovs.length === 0 && fovs.length > 0;
        this.list(fovs);
        if (first) this.open(fovs[0].fov);
      } catch {
        // What is shown stays; whoever asks for something else is told.
      }
    }
  }
}
