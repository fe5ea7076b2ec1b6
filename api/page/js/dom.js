// Making elements, and small things that all views share.

/**
 * Make an element.
 *
 * Properties that begin with "on" are listeners; true and false switch attributes, but are words in those of ARIA and
 * of data; null leaves one out. Children are elements or text, and never parsed as HTML.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (name === "checked" || name === "disabled" || name === "hidden") element[name] = value;
    else if (/^(aria|data)-/.test(name)) value != null && element.setAttribute(name, String(value));
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/** Put children in the place of those that an element has; where they are the same ones, they keep their focus. */
export function fill(element, ...children) {
  const wanted = children.flat(Infinity).filter((child) => child != null && child !== false);
  const there = element.childNodes;
  if (wanted.length !== there.length || wanted.some((one, i) => one !== there[i])) element.replaceChildren(...wanted);
  return element;
}

let lastId = 0;

/** An id that no other element of the page has. */
export function newId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/** A labelled control, with its help below. `control` is an input, a select, or a group that begins with one. */
export function field(label, control, help = "", extra = null) {
  control.id ||= newId("field");
  const helpId = `${control.id}-help`;
  if (help) control.setAttribute("aria-describedby", helpId);
  return h(
    "div", { class: "field" },
    h("label", { for: control.id }, label),
    extra ? h("div", { class: "joined" }, control, extra) : control,
    help && h("small", { id: helpId }, help),
  );
}

/** A select of [value, text] pairs. */
export function select(options, value, properties = {}) {
  const element = h("select", properties, options.map(([one, text]) => h("option", { value: one }, text)));
  if (value != null) element.value = value;
  return element;
}

/** A button; its kind is "primary", "danger", "quiet" or "". */
export function button(text, onclick, kind = "", properties = {}) {
  return h("button", { type: "button", class: kind, onclick, ...properties }, text);
}

/** Have a button do something that takes a while: it cannot be pressed twice, and a problem is told in `place`. */
export async function busy(control, place, showProblem, work) {
  const focused = document.activeElement === control;
  control.disabled = true;
  control.setAttribute("aria-busy", "true");
  fill(place);
  try {
    return await work();
  } catch (error) {
    fill(place, showProblem(error));
    return undefined;
  } finally {
    control.disabled = false;
    control.removeAttribute("aria-busy");
    if (focused && document.activeElement === document.body) control.focus();
  }
}

/**
 * Of what is asked for anew before an answer has come, only the newest answer counts.
 *
 * Call what this gives whenever something is asked for; what that gives tells whether nothing has been since.
 */
export function newestOnly() {
  let newest = 0;
  return () => {
    const asked = (newest += 1);
    return () => asked === newest;
  };
}

/** Tell something in passing, to screen readers as well. */
export function notify(text) {
  const notice = h("p", { class: "notice" }, text);
  document.getElementById("notices").append(notice);
  setTimeout(() => notice.remove(), 5000);
}

/** Last part of a path. */
export function fileName(path) {
  return path.split("/").filter(Boolean).pop() ?? path;
}

/** All of a path but its last part. */
export function folderOf(path) {
  return path.replace(/\/+[^/]*\/*$/, "") || "/";
}

/** What a person remembers for next time, on this computer only. */
export const remembered = {
  get: (name) => localStorage.getItem(`pyama.${name}`) ?? "",
  set: (name, value) => localStorage.setItem(`pyama.${name}`, value),
};
