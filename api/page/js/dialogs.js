// Questions in a dialog. The browser keeps the focus inside, closes it by Escape, and gives the focus back.

import { button, fill, h, newId } from "./dom.js";

/**
 * Show a dialog and wait for what `close(result)` is called with; undefined where it was closed otherwise.
 *
 * `build(close)` gives its content.
 */
export function openDialog(title, build, kind = "") {
  return new Promise((resolve) => {
    let result;
    const titleId = newId("title");
    const dialog = h("dialog", { class: kind, "aria-labelledby": titleId });
    const close = (chosen) => {
      result = chosen;
      dialog.close();
    };
    fill(
      dialog,
      h(
        "header", {},
        h("h2", { id: titleId }, title),
        button("✕", () => close(), "quiet icon", { "aria-label": "Close" }),
      ),
      build(close, dialog),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
    dialog.querySelector("[autofocus]")?.focus();
  });
}

/** Ask whether to do something that cannot be taken back. */
export function confirmDialog(title, text, action) {
  return openDialog(title, (close) => [
    h("p", {}, text),
    h(
      "footer", {},
      button("Keep it", () => close(false), "", { autofocus: true }),
      button(action, () => close(true), "danger"),
    ),
  ], "small");
}
