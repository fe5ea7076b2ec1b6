// The cells of a FOV: their traces, a page of cells at a time, and which of them are good.

import { get, post } from "./api.js";
import { busy, button, fill, h, remembered } from "./dom.js";
import { Plot } from "./plots.js";
import { showProblem } from "./problems.js";
import { counted, readableTime, spoken } from "./text.js";

const PAGE = 50;
const HEIGHT = 165;

export class CellPanel {
  onselect = () => {};
  onframe = () => {};

  constructor(folder, fov, signal) {
    Object.assign(this, { folder, fov, signal });
    this.frame = 0;
    this.selected = null;
    this.page = 1;
    this.plots = [];
    this.chipOf = new Map();
    this.chips = h("div", { class: "cells", role: "group", "aria-label": "Cells" });
    this.heading = h("h2", {}, "Cells");
    this.inspected = h("p", { class: "hint" });
    this.who = h("input", {
      type: "text", value: remembered.get("who"), autocomplete: "name", maxlength: 100, class: "who",
      placeholder: "Your name", "aria-label": "Your name", title: "Kept with your marks",
    });
    this.good = button("Good", () => this.mark(true), "", { disabled: true, title: "Key g" });
    this.bad = button("Bad", () => this.mark(false), "", { disabled: true, title: "Key b" });
    this.plotArea = h("div", { class: "plots" });
    this.pages = h("div", { class: "pages" });
    this.problem = h("div");
    this.element = h(
      "section", { class: "card cell-panel", "aria-label": "Cells and traces" },
      h(
        "div", { class: "head" },
        this.heading, h("span", { class: "spacer" }),
        h("div", { class: "joined", role: "group", "aria-label": "Mark the chosen cell" }, this.who, this.good, this.bad),
      ),
      this.chips,
      this.problem,
      this.plotArea,
      this.pages,
      h("p", { class: "hint" }, "Choose a cell here or in the image. Cells that are marked bad (keys g and b) stay out of merges; nothing is deleted."),
      this.inspected,
    );
    document.addEventListener("keydown", (event) => this.key(event), { signal });
  }

  async load() {
    try {
      await this.loadMarks();
      await this.loadTraces();
    } catch (problem) {
      if (!this.signal.aborted) fill(this.problem, showProblem(problem));
    }
  }

  async loadMarks() {
    const query = { output_dir: this.folder, fov: this.fov.fov };
    const told = await get("/quality-control/cells", query, { signal: this.signal });
    this.marks = new Map(told.cells.map(({ cell, good }) => [cell, good]));
    const { inspected_by: who, inspected_at: when } = told;
    this.inspected.textContent = who ? `Last marked by ${who}, ${readableTime(Date.parse(when))}` : "";
    this.showChips();
  }

  async loadTraces() {
    const { page } = this;
    const query = { output_dir: this.folder, fov: this.fov.fov, page, page_size: PAGE };
    const traces = await get("/visualization/traces", query, { signal: this.signal });
    if (page !== this.page) return; // another part has been asked for since
    this.traces = traces;
    this.showPages();
    this.showPlots();
  }

  showChips() {
    const nBad = [...this.marks.values()].filter((good) => !good).length;
    this.heading.textContent = `${counted(this.marks.size, "cell")}${nBad ? `, ${nBad} bad` : ""}`;
    const chips = [...this.marks].map(([cell, good]) => this.chip(cell, good));
    fill(this.chips, chips.length ? chips : h("p", { class: "empty" }, "No cell of this FOV passed the filters."));
    this.good.disabled = this.bad.disabled = this.selected === null;
    const good = this.marks.get(this.selected);
    this.good.setAttribute("aria-pressed", String(good === true));
    this.bad.setAttribute("aria-pressed", String(good === false));
  }

  chip(cell, good) {
    if (!this.chipOf.has(cell)) {
      this.chipOf.set(cell, button(String(cell), () => this.select(cell), "chip", { "data-cell": cell }));
    }
    const chip = this.chipOf.get(cell);
    chip.dataset.good = good;
    chip.setAttribute("aria-pressed", String(cell === this.selected));
    chip.setAttribute("aria-label", `Cell ${cell}, ${good ? "good" : "bad"}`);
    return chip;
  }

  showPages() {
    const { page, n_pages: nPages } = this.traces;
    fill(this.pages, nPages > 1 && [
      button("Earlier cells", () => this.turn(page - 1), "", { disabled: page === 1 }),
      h("span", {}, `Cells in plots: part ${page} of ${nPages}`),
      button("Later cells", () => this.turn(page + 1), "", { disabled: page === nPages }),
    ]);
  }

  /** Show another part of the cells in the plots; where it cannot be had, the one that is shown stays. */
  async turn(page) {
    if (page === this.page) return;
    fill(this.problem);
    this.page = page;
    try {
      await this.loadTraces();
    } catch (problem) {
      if (page !== this.page || this.signal.aborted) return;
      this.page = this.traces.page;
      fill(this.problem, showProblem(problem));
    }
  }

  /** Choose a cell, or none. */
  async select(cell) {
    if (!this.traces) return; // still to come
    if (cell !== null && !this.marks.has(cell)) {
      fill(this.problem, h("p", { class: "hint" }, `Cell ${cell} was followed, but is not in the table: it is too short or too near the edge.`));
      cell = null;
    } else {
      fill(this.problem);
    }
    this.selected = cell;
    this.showChips();
    if (cell !== null) await this.turn(Math.floor([...this.marks.keys()].indexOf(cell) / PAGE) + 1);
    if (cell !== this.selected) return; // another one has been chosen since
    this.redraw();
    this.onselect(this.traces.cells.find((trace) => trace.cell === cell) ?? null);
  }

  showFrame(frame) {
    this.frame = frame;
    for (const { plot } of this.plots) plot?.redraw(false);
  }

  showPlots() {
    for (const plot of this.plots) plot.destroy();
    const { columns, cells } = this.traces;
    this.times = timesOf(cells);
    const axis = [...this.times.values()];
    this.plots = cells.length ? columns.map((column) => this.plotOf(column, axis)) : [];
    fill(this.plotArea, this.plots.map(({ element, heading }) => [h("h3", {}, heading), element]));
  }

  plotOf(column, axis) {
    const { cells, time_units: unit } = this.traces;
    const channel = [this.fov.phase, ...this.fov.fluorescence].find((one) => one?.channel === column.channel);
    const heading = `${spoken(column.feature)} · ${channel?.name ?? `channel ${column.channel}`}`;
    const plot = new Plot(`${heading} of ${counted(cells.length, "cell")} over time`, (colours) => {
      // The last one is drawn over all others.
      const chosenLast = [...cells].sort((one, other) => (one.cell === this.selected) - (other.cell === this.selected));
      return {
        axes: { x: `time (${unit})`, y: unitOf(column) },
        series: chosenLast.map((cell) => this.lineOf(cell, colours)),
        data: [axis, ...chosenLast.map((cell) => this.aligned(cell, cell.values[column.name]))],
        cursor: { drag: { x: false, y: false }, points: { show: false }, bind: { click: (self) => () => this.clicked(self) } },
        hooks: { draw: [(self) => this.drawNow(self, colours)] },
      };
    }, { height: HEIGHT, signal: this.signal });
    plot.heading = heading;
    return plot;
  }

  aligned(cell, values) {
    const at = new Map(cell.frames.map((frame, i) => [frame, values[i]]));
    return [...this.times.keys()].map((frame) => at.get(frame) ?? null);
  }

  lineOf({ cell }, colours) {
    const chosen = cell === this.selected;
    const good = this.marks.get(cell) !== false;
    return {
      stroke: chosen ? colours("accent") : colours(good ? "trace" : "trace-bad"),
      width: chosen ? 2.5 : 1,
      dash: good ? undefined : [4, 3],
      points: { show: false },
      spanGaps: false,
    };
  }

  redraw() {
    for (const plot of this.plots) plot.draw();
  }

  drawNow(self, colours) {
    const time = this.times.get(this.frame);
    if (time === undefined) return;
    const x = self.valToPos(time, "x", true);
    self.ctx.save();
    self.ctx.strokeStyle = colours("muted");
    self.ctx.setLineDash([3, 3]);
    self.ctx.beginPath();
    self.ctx.moveTo(x, self.bbox.top);
    self.ctx.lineTo(x, self.bbox.top + self.bbox.height);
    self.ctx.stroke();
    self.ctx.restore();
  }

  /** Go to the frame below the pointer. */
  clicked(self) {
    if (self.cursor.idx != null) this.onframe([...this.times.keys()][self.cursor.idx]);
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea")) return;
    if (document.querySelector("dialog[open]") || this.selected === null) return;
    if (event.key === "g" || event.key === "b") this.mark(event.key === "g");
  }

  async mark(good) {
    const cell = this.selected;
    const who = this.who.value.trim();
    if (!who) {
      this.who.focus();
      fill(this.problem, h("p", { class: "warning", role: "alert" }, "Say who you are first: your name is kept with your marks."));
      return;
    }
    remembered.set("who", who);
    await busy(good ? this.good : this.bad, this.problem, showProblem, async () => {
      await post("/quality-control/cells", {
        output_dir: this.folder, fov: this.fov.fov, cells: { [cell]: good }, who,
      });
      await this.loadMarks();
      this.redraw();
    });
  }
}

/** Unit of a feature; what has none is a plain number. */
const unitOf = ({ unit }) => (unit === "1" || unit == null ? "" : unit);

/** Time of each frame in which a cell of the page was seen, in order. */
function timesOf(cells) {
  const times = new Map();
  for (const { frames, time } of cells) frames.forEach((frame, i) => times.set(frame, time[i]));
  return new Map([...times].sort(([one], [other]) => one - other));
}
