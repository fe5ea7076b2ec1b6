// The page as a whole: which view is shown, and what all of them share.

import { onKeyNeeded } from "./api.js";
import { fill, h } from "./dom.js";
import { askForKey } from "./keys.js";
import { showProblem } from "./problems.js";

// Each view is loaded when it is needed, and gives `show(parameters, signal)`, which makes its content. The signal ends
// whatever goes on for it when another view is shown.
const VIEWS = {
  jobs: { title: "Jobs", load: () => import("./jobs.js") },
  new: { title: "New run", load: () => import("./new-run.js") },
  result: { title: "Results", load: () => import("./result.js") },
  merge: { title: "Merge", load: () => import("./merge.js") },
  fit: { title: "Fit", load: () => import("./fit.js") },
  fitted: { title: "Fit", nav: "fit", load: () => import("./fitted.js") },
};

const main = document.getElementById("main");
let leaving = new AbortController();

/** The view that the address names, as #/result?output_dir=/data/output. */
function addressed() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { name: path in VIEWS ? path : "jobs", parameters: Object.fromEntries(new URLSearchParams(query)) };
}

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { name, parameters } = addressed();
  const view = VIEWS[name];
  document.title = `${view.title} · PyAMA`;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === (view.nav ?? name)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  fill(main, h("h1", {}, view.title), h("p", { class: "waiting" }, "Loading…"));
  try {
    const { show: make } = await view.load();
    const content = await make(parameters, signal);
    if (!signal.aborted) fill(main, content);
  } catch (problem) {
    if (!signal.aborted) fill(main, h("h1", {}, view.title), showProblem(problem));
  }
}

onKeyNeeded(askForKey);
document.getElementById("key-button").addEventListener("click", async () => {
  if (await askForKey()) show();
});
window.addEventListener("hashchange", async () => {
  await show();
  main.focus({ preventScroll: true });
});
show();
