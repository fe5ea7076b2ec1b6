// Downloading tables and pictures, also where a key is needed, which a plain link cannot send.

import { address, blob, key } from "./api.js";
import { fileName, h, notify } from "./dom.js";

const DOWNLOAD = "/visualization/download";

/** A link that saves a file of a folder of results. */
export function downloadLink(folder, file, text, { path = DOWNLOAD, query = { output_dir: folder, file } } = {}) {
  const name = fileName(file);
  const save = async (event) => {
    if (!key.get()) return; // the browser saves it by itself, however large it is
    event.preventDefault();
    try {
      saveAs(await blob(path, query), name);
    } catch (problem) {
      notify(problem.message);
    }
  };
  return h("a", { class: "button", href: address(path, query), download: name, onclick: save }, text);
}

function saveAs(content, name) {
  const url = URL.createObjectURL(content);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
