// The API key: asked for when the API wants one, kept for this tab until it is closed.

import { key } from "./api.js";
import { openDialog } from "./dialogs.js";
import { button, field, h } from "./dom.js";

/** Ask for a key; whether there is a new one. */
export async function askForKey(problem = null) {
  const given = await openDialog("API key", (close) => {
    const input = h("input", {
      type: "password", autocomplete: "off", spellcheck: "false", value: key.get(), autofocus: true,
    });
    const submit = (event) => {
      event.preventDefault();
      close(input.value.trim());
    };
    return h(
      "form", { onsubmit: submit },
      problem && h("p", { class: "problem", role: "alert" }, problem.message),
      h("p", {}, "This server asks for a key. Whoever runs it makes one by ", h("code", {}, "pyama api-key NAME"), "."),
      field("Key", input, "It is kept in this tab only, until you close it."),
      h(
        "footer", {},
        key.get() && button("Forget the key", () => close(""), "quiet"),
        h("button", { type: "submit", class: "primary" }, "Use this key"),
      ),
    );
  }, "small");
  if (given === undefined) return false;
  key.set(given);
  return given !== "";
}
