// Showing what went wrong: the API's own words, field by field where it names fields.

import { h } from "./dom.js";

/** An element that tells a problem. */
export function showProblem(problem) {
  if (problem.name === "AbortError") return "";
  if (!("code" in problem)) console.error(problem);
  const fields = problem.fields ?? [];
  return h(
    "div", { class: "problem", role: "alert" },
    h("strong", {}, fields.length > 1 ? `${fields.length} things need your attention` : "That did not work"),
    fields.length
      ? h("ul", {}, fields.map(({ field, message }) => h("li", {}, h("code", {}, field), ` ${message}`)))
      : h("p", {}, problem.message),
    problem.code && h("small", {}, problem.code),
  );
}
