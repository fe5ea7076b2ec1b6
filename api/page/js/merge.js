// Merging: which FOVs belong to which sample, and the files that come out.

import { get, post } from "./api.js";
import { busy, button, fill, fileName, h, newestOnly, notify, remembered } from "./dom.js";
import { downloadLink } from "./download.js";
import { follow } from "./events.js";
import { pathInput } from "./picker.js";
import { showProblem } from "./problems.js";
import { counted } from "./text.js";

export async function show({ input_dir: folder = remembered.get("output_dir") }, signal) {
  const view = new Merge(folder, signal);
  if (folder) await view.look(folder);
  return view.element;
}

class Merge {
  constructor(folder, signal) {
    this.signal = signal;
    this.askForFolder = newestOnly();
    this.askForSamples = newestOnly();
    this.input = pathInput("Results of a run", "The folder that a run has written into", {
      value: folder, onchange: (path) => this.look(path),
    });
    this.output = pathInput("Folder for the merged files", "Made where it is not there", {
      value: folder && `${folder}/merged`,
    });
    this.samplesFile = pathInput("Samples file", "Keeps what stands above, for next time", {
      extensions: [".yaml", ".yml"], value: folder && `${folder}/samples.yaml`, onchange: (path) => this.load(path),
    });
    this.hint = h("p", { class: "hint" });
    this.samples = h("div", { class: "samples", role: "group", "aria-label": "Samples" });
    this.problem = h("div");
    this.files = h("div");
    this.run = h("button", { type: "submit", class: "primary" }, "Merge");
    this.element = h(
      "form", { class: "narrow", novalidate: true, onsubmit: (event) => this.submit(event) },
      h("h1", {}, "Merge samples"),
      h("section", { class: "card" }, h("h2", {}, "What is merged"), this.input.element, this.hint),
      h(
        "section", { class: "card" },
        h("h2", {}, "Samples"),
        h("p", { class: "hint" }, "FOVs that were treated alike belong to one sample."),
        this.samples,
        h("div", { class: "actions" }, button("Add a sample", () => this.add("", "").focus())),
      ),
      h("section", { class: "card" }, h("h2", {}, "Where to"), this.samplesFile.element, this.output.element),
      this.problem,
      h("div", { class: "actions" }, this.run),
      this.files,
    );
  }

  add(name, fovs) {
    const inputs = {
      name: h("input", { type: "text", value: name, placeholder: "control", "aria-label": "Name of the sample" }),
      fovs: h("input", { type: "text", value: fovs, placeholder: "0-4, 7", "aria-label": "FOVs of the sample" }),
    };
    const row = h(
      "div", { class: "joined sample" }, inputs.name, inputs.fovs,
      button("✕", () => row.remove(), "quiet icon", { "aria-label": "Remove this sample" }),
    );
    row.inputs = inputs;
    this.samples.append(row);
    return inputs.name;
  }

  /** Look into a folder of results, and at the samples that are kept there. */
  async look(folder) {
    const isNewest = this.askForFolder();
    // Samples that are still to come are those of another folder.
    this.askForSamples();
    fill(this.problem);
    fill(this.samples);
    try {
      const { fovs, output_dir: path } = await get("/visualization/folder", { output_dir: folder }, { signal: this.signal });
      if (!isNewest()) return;
      const numbers = fovs.map(({ fov }) => fov);
      this.hint.textContent = numbers.length
        ? `${counted(numbers.length, "FOV")} are there: ${spans(numbers)}. ${counted(fovs.filter((one) => one.inspected).length, "FOV")} inspected.`
        : "No FOV is done there yet.";
      this.output.value = `${path}/merged`;
      this.samplesFile.value = `${path}/samples.yaml`;
      const { items } = await post("/processing/list-directory", { directory_path: path, filter_extensions: [".yaml"] });
      if (!isNewest()) return;
      if (items.some((item) => item.path === this.samplesFile.value)) await this.load(this.samplesFile.value);
      else this.add("sample", spans(numbers));
    } catch (problem) {
      if (!isNewest()) return;
      this.hint.textContent = "";
      fill(this.problem, showProblem(problem));
    }
  }

  /** Take the samples of a file; one that is not there is going to be written. */
  async load(path) {
    const isNewest = this.askForSamples();
    try {
      const { samples } = await post("/processing/samples/load", { file_path: path });
      if (!isNewest()) return;
      fill(this.samples);
      for (const { name, fovs } of samples) this.add(name, fovs);
    } catch (problem) {
      if (isNewest() && problem.code !== "FILE_NOT_FOUND") fill(this.problem, showProblem(problem));
    }
  }

  async submit(event) {
    event.preventDefault();
    fill(this.files);
    await busy(this.run, this.problem, showProblem, async () => {
      const samples = [...this.samples.children].map(({ inputs: { name, fovs } }) => ({ name: name.value.trim(), fovs: fovs.value.trim() }));
      await post("/processing/samples/save", { file_path: this.samplesFile.value, samples });
      const asked = { sample_yaml: this.samplesFile.value, input_dir: this.input.value, output_dir: this.output.value };
      const answer = await post("/processing/merge", asked);
      // A merge that takes longer goes on as a job.
      const { message } = answer.merged_files ? answer : await this.wait(answer.job_id);
      notify(message);
      this.showFiles({ ...answer, message, merged_files: answer.merged_files ?? answer.expected_files });
    });
  }

  async wait(jobId) {
    let last;
    await follow(jobId, (job) => {
      last = job;
      fill(this.files, h("p", { class: "waiting" }, job.message));
    }, this.signal);
    if (last?.status !== "completed") throw new Error(last?.error ?? last?.message ?? "the merge was not completed");
    return last;
  }

  showFiles({ message, output_dir: folder, merged_files: files }) {
    const tidy = (file) => !file.endsWith("_merged.csv");
    fill(
      this.files,
      h(
        "section", { class: "card" },
        h("h2", {}, message),
        h("ul", { class: "rows" }, files.map((file) => h(
          "li", {},
          h("span", { class: "name", title: file }, fileName(file)),
          downloadLink(folder, file, "Download"),
          tidy(file) && h("a", { class: "button primary", href: `#/fit?${new URLSearchParams({ csv_path: file })}` }, "Fit"),
        ))),
      ),
    );
  }
}

/** Numbers as people write them: "0-4, 7". */
function spans(numbers) {
  const found = [];
  for (const number of numbers) {
    const last = found.at(-1);
    if (last && number === last[1] + 1) last[1] = number;
    else found.push([number, number]);
  }
  return found.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(", ");
}
