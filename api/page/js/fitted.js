// A fit: how far it is, then its summary, the distribution of its parameters, and each cell's curve over its trace.

import { get, post } from "./api.js";
import { button, fill, folderOf, h } from "./dom.js";
import { downloadLink } from "./download.js";
import { follow, hasEnded } from "./events.js";
import { curve, inHours } from "./models.js";
import { histogramPlot, Plot } from "./plots.js";
import { showProblem } from "./problems.js";
import { counted, readableNumber } from "./text.js";

const PAGE = 20;
// Cells that histograms are made of at most; a page of the API's answer holds 1000.
const MOST_CELLS = 5000;
const CELLS_AT_ONCE = 1000;
const POINTS = 400;

export async function show({ job: id = "" }, signal) {
  const job = await get(`/jobs/${encodeURIComponent(id)}`, {}, { signal });
  const view = new Fitted(job, signal);
  view.begin();
  return view.element;
}

class Fitted {
  constructor(job, signal) {
    this.job = job;
    this.signal = signal;
    this.bar = h("progress", { max: 100, "aria-label": "Progress of the fit" });
    this.message = h("p", { class: "message" });
    this.content = h("div");
    this.element = h(
      "section", {},
      h("div", { class: "title" }, h("h1", {}, `Fit of ${job.name}`), h("span", { class: "spacer" }),
        h("a", { class: "button", href: `#/fit?${new URLSearchParams({ csv_path: job.input_path ?? "" })}` }, "Fit again")),
      this.message,
      this.bar,
      this.content,
    );
  }

  async begin() {
    try {
      await follow(this.job.job_id, (job) => this.tell(job), this.signal);
      if (!this.signal.aborted && this.job.status === "completed") await this.showResults();
    } catch (problem) {
      if (!this.signal.aborted) fill(this.content, showProblem(problem));
    }
  }

  tell(job) {
    this.job = job;
    this.bar.value = job.progress.percentage;
    this.bar.hidden = hasEnded(job);
    this.message.textContent = job.error ?? job.message;
    this.element.dataset.status = job.status;
  }

  async showResults() {
    const page = (offset, limit) => get(`/analysis/fitting/results/${this.job.job_id}`, { offset, limit }, { signal: this.signal });
    const first = await page(0, CELLS_AT_ONCE);
    const rows = [...first.results];
    while (rows.length < Math.min(first.total, MOST_CELLS)) {
      const { results } = await page(rows.length, CELLS_AT_ONCE);
      if (!results.length) break;
      rows.push(...results);
    }
    this.found = first;
    this.rows = rows;
    fill(this.content, this.summary(), this.histograms(), this.cells());
    await this.choose(rows.find((row) => row.success) ?? rows[0]);
  }

  summary() {
    const { summary, results_file: table, summary_file: summaryFile } = this.found;
    const facts = [
      [`${summary.successful_fits} of ${summary.total_cells}`, "cells fitted"],
      [readableNumber(summary.mean_r_squared), "mean R²"],
      ...Object.entries(summary.quality).map(([name, n]) => [String(n), `${name} fits`]),
    ];
    const folder = folderOf(table);
    return h(
      "section", { class: "card" },
      h("div", { class: "head" }, h("h2", {}, summary.model_type), h("span", { class: "spacer" }),
        downloadLink(folder, table, "Table of all cells"), downloadLink(folder, summaryFile, "Summary")),
      h("dl", { class: "facts" }, facts.map(([fact, what]) => h("div", {}, h("dt", {}, what), h("dd", {}, fact)))),
      Object.entries(summary.remarks).map(([remark, n]) => h("p", { class: "warning" }, `${counted(n, "cell")}: ${remark}`)),
    );
  }

  histograms() {
    const { summary, total } = this.found;
    const good = this.rows.filter((row) => row.success);
    const plots = Object.entries(summary.parameters).map(([name, { unit, median }]) => {
      const values = good.map((row) => row.fitted_params[name]).filter((value) => value != null);
      if (!values.length) return null;
      const plot = histogramPlot(name, unit, values, { height: 180, signal: this.signal });
      return h("figure", { "data-parameter": name }, h("figcaption", {}, `${name}: median ${readableNumber(median)} ${unit}`), plot.element);
    });
    return h(
      "section", { class: "card" },
      h("h2", {}, "Parameters"),
      total > this.rows.length && h("p", { class: "hint" }, `Of the first ${this.rows.length} of ${total} cells`),
      h("div", { class: "histograms" }, plots),
    );
  }

  cells() {
    this.offset = 0;
    this.body = h("tbody");
    this.pages = h("div", { class: "pages" });
    this.plotPlace = h("div", { class: "fit-plot" });
    const names = Object.keys(this.found.summary.parameters);
    this.showRows(names);
    return h(
      "section", { class: "card" },
      h("h2", {}, "Cells"),
      h(
        "div", { class: "columns even" },
        h("div", {}, h(
          "table", {},
          h("thead", {}, h("tr", {}, ["FOV", "Cell", "R²", ...names].map((text) => h("th", { scope: "col" }, text)))),
          this.body,
        ), this.pages),
        this.plotPlace,
      ),
    );
  }

  showRows(names) {
    fill(this.body, this.rows.slice(this.offset, this.offset + PAGE).map((row) => h(
      "tr", { "aria-selected": row === this.chosen, "data-cell": `${row.fov}-${row.cell}` },
      h("td", {}, String(row.fov)),
      h("td", {}, button(String(row.cell), () => this.choose(row), "link", { "aria-label": `Show cell ${row.cell} of FOV ${row.fov}` })),
      h("td", {}, readableNumber(row.r_squared, 3)),
      names.map((name) => h("td", {}, readableNumber(row.fitted_params[name], 3))),
    )));
    const turn = (by) => () => ((this.offset += by), this.showRows(names));
    fill(this.pages, this.rows.length > PAGE && [
      button("Earlier", turn(-PAGE), "", { disabled: this.offset === 0 }),
      h("span", {}, `${this.offset + 1}–${Math.min(this.offset + PAGE, this.rows.length)} of ${this.rows.length}`),
      button("Later", turn(PAGE), "", { disabled: this.offset + PAGE >= this.rows.length }),
    ]);
  }

  async choose(row) {
    if (!row) return;
    this.chosen = row;
    for (const line of this.body.children) line.setAttribute("aria-selected", line.dataset.cell === `${row.fov}-${row.cell}`);
    try {
      const { csv_path: path, column } = this.found;
      const { data, traces } = await post("/analysis/load-traces", {
        csv_path: path, column, cells: [{ fov: row.fov, cell: row.cell }],
      }, { signal: this.signal });
      if (row === this.chosen) this.showFit(row, data, traces[0]);
    } catch (problem) {
      if (!this.signal.aborted) fill(this.plotPlace, showProblem(problem));
    }
  }

  showFit(row, data, trace) {
    this.plot?.destroy();
    const times = inHours(trace.times, data.time_units);
    const fine = between(times[0], times.at(-1));
    const drawn = row.success ? curve(this.found.summary.model_type, row.fitted_params, fine) : null;
    const name = `Cell ${row.cell} of FOV ${row.fov}`;
    this.plot = new Plot(`${name}: trace${drawn ? " and fitted curve" : ""}`, (colours) => ({
      axes: { x: "time (h)", y: data.column },
      ...overlaid(times, trace.values, fine, drawn, colours),
      cursor: { drag: { x: false, y: false } },
    }), { height: 320, signal: this.signal });
    fill(
      this.plotPlace,
      h("h3", {}, name, row.success ? ` · R² ${readableNumber(row.r_squared, 3)}` : ""),
      this.plot.element,
      row.reason && h("p", { class: "warning" }, row.reason),
      row.at_bound.length > 0 && h("p", { class: "warning" }, `At its bound: ${row.at_bound.join(", ")}`),
      h("p", { class: "hint" }, Object.entries(row.fitted_params).map(([parameter, value]) => {
        const error = row.std_errors[parameter];
        return `${parameter} = ${readableNumber(value)}${error == null ? "" : ` ± ${readableNumber(error, 2)}`}`;
      }).join(" · ")),
    );
  }
}

const between = (first, last) => Array.from({ length: POINTS }, (_, i) => first + ((last - first) * i) / (POINTS - 1));

/** Points and a curve on one axis of times, as uPlot wants them. */
function overlaid(times, values, fine, drawn, colours) {
  const points = { stroke: "transparent", points: { show: true, size: 6, fill: colours("trace-strong"), stroke: colours("trace-strong") } };
  if (!drawn) return { series: [points], data: [times, values] };
  const all = [...times.map((t, i) => [t, values[i], null]), ...fine.map((t, i) => [t, null, drawn[i]])]
    .sort(([one], [other]) => one - other);
  const line = { stroke: colours("accent"), width: 2.5, points: { show: false }, spanGaps: true };
  return { series: [points, line], data: [0, 1, 2].map((i) => all.map((row) => row[i])) };
}
