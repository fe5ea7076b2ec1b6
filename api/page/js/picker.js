// Choosing a file or a folder of the server, on the routes of the file explorer.

import { get, post } from "./api.js";
import { openDialog } from "./dialogs.js";
import { button, field, fill, folderOf, h, newestOnly, remembered } from "./dom.js";
import { showProblem } from "./problems.js";
import { readableSize, readableTime } from "./text.js";

/**
 * Let a person choose a path of the server; undefined where none was chosen.
 *
 * `extensions` are those of the files to show; null to choose a folder.
 */
export function pickPath(title, { extensions = null, start = "" } = {}) {
  return openDialog(title, (close) => new Explorer(extensions, start, close).element, "picker");
}

class Explorer {
  constructor(extensions, start, close) {
    this.extensions = extensions;
    this.close = close;
    this.ask = newestOnly();
    // What is typed must not be overwritten by the folder that browsing begins in.
    this.input = h("input", { type: "text", spellcheck: "false", autocomplete: "off", autofocus: true, readonly: true });
    this.list = h("ul", { class: "files", "aria-label": "Files and folders" });
    this.places = h("div", { class: "places" });
    this.problem = h("div");
    const choosing = extensions === null;
    this.element = h(
      "form", { onsubmit: (event) => this.submit(event) },
      field("Folder", this.input, "", h("button", { type: "submit" }, "Go")),
      this.places,
      this.problem,
      this.list,
      choosing && h("footer", {}, button("Choose this folder", () => this.choose(this.folder), "primary")),
    );
    this.begin(start);
  }

  async begin(start) {
    try {
      const { folders } = await get("/processing/starting-folders");
      const recent = this.extensions
        ? (await get("/processing/recent-files", { limit: 4, extensions: this.extensions.join(",") })).recent_files
        : [];
      fill(
        this.places,
        folders.map((folder) => button(folder, () => this.open(folder), "chip")),
        recent.map((file) => button(`★ ${file.name}`, () => this.choose(file.path), "chip", { title: file.path })),
      );
      await this.open(start || remembered.get("folder") || folders[0], folders[0]);
    } catch (problem) {
      fill(this.problem, showProblem(problem));
    }
    this.input.readOnly = false;
  }

  submit(event) {
    event.preventDefault();
    this.open(this.input.value.trim());
  }

  /** Show a folder; another one where it cannot be shown. */
  async open(folder, otherwise = null) {
    const isNewest = this.ask();
    fill(this.problem);
    try {
      const found = await post("/processing/list-directory", {
        directory_path: folder, filter_extensions: this.extensions,
      });
      if (!isNewest()) return;
      this.folder = found.directory_path;
      this.input.value = this.folder;
      remembered.set("folder", this.folder);
      this.show(found);
    } catch (problem) {
      if (!isNewest()) return;
      if (otherwise !== null) await this.open(otherwise);
      else fill(this.problem, showProblem(problem));
    }
  }

  show({ items, truncated }) {
    const shown = items.filter((item) => item.is_directory || this.extensions);
    const up = this.folder !== "/" && this.entry("↑", "..", "Folder above", "", () => this.open(folderOf(this.folder)));
    fill(
      this.list,
      up,
      shown.map((item) =>
        item.is_directory
          ? this.entry("▸", item.name, "Folder", "", () => this.open(item.path))
          : this.entry("▪", item.name, readableSize(item.size_bytes), readableTime(1000 * item.modified_time), () =>
              this.choose(item.path)),
      ),
      shown.length === 0 && h("li", { class: "empty" }, this.extensions
        ? `No folders here, and no files that end in ${this.extensions.join(", ")}`
        : "No folders here"),
      truncated && h("li", { class: "empty" }, "There is more in this folder than is shown."),
    );
  }

  entry(icon, name, what, when, onclick) {
    return h(
      "li", {},
      h(
        "button", { type: "button", onclick },
        h("span", { "aria-hidden": "true", class: "icon" }, icon),
        h("span", { class: "name" }, name),
        h("span", { class: "what" }, what),
        h("span", { class: "when" }, when),
      ),
    );
  }

  choose(path) {
    remembered.set("folder", this.extensions ? folderOf(path) : path);
    this.close(path);
  }
}

/** A text input for a path, with a button that lets it be chosen. */
export function pathInput(label, help, { extensions = null, value = "", onchange = () => {} } = {}) {
  const input = h("input", { type: "text", spellcheck: "false", autocomplete: "off", value, class: "path" });
  input.addEventListener("change", () => onchange(input.value.trim()));
  const choose = async () => {
    const start = extensions === null ? input.value.trim() : folderOf(input.value.trim() || "/");
    const path = await pickPath(label, { extensions, start: start === "/" ? "" : start });
    if (path === undefined) return;
    input.value = path;
    onchange(path);
  };
  const element = field(label, input, help, button("Choose…", choose, "", { "aria-label": `Choose: ${label}` }));
  return { element, input, get value() { return input.value.trim(); }, set value(path) { input.value = path; } };
}

