// Starting a fit: a trace file, a model, and where the search begins and ends.

import { get, post } from "./api.js";
import { busy, field, fill, h, newestOnly, select } from "./dom.js";
import { pathInput } from "./picker.js";
import { showProblem } from "./problems.js";
import { counted, readableNumber } from "./text.js";

const LOSSES = [
  ["linear", "Least squares"], ["soft_l1", "Soft L1: outliers count less"],
  ["huber", "Huber: outliers count less"], ["cauchy", "Cauchy: outliers count much less"],
];

export async function show({ csv_path: path = "" }, signal) {
  const { models } = await get("/analysis/models", {}, { signal });
  const view = new Fit(models, path);
  if (path) await view.look(path);
  return view.element;
}

class Fit {
  constructor(models, path) {
    this.models = models;
    this.ask = newestOnly();
    this.traces = pathInput("Trace file", "A merged file of a sample, or the table of a FOV", {
      extensions: [".csv"], value: path, onchange: (chosen) => this.look(chosen),
    });
    this.about = h("p", { class: "hint" });
    this.column = h("select", { onchange: () => this.look(this.traces.value, this.column.value) });
    this.columnField = h("div", { hidden: true }, field("Column", this.column));
    this.model = select(models.map(({ name }) => [name, name]), models[1]?.name, { onchange: () => this.showModel() });
    this.equation = h("p", { class: "equation" });
    this.description = h("p", { class: "hint" });
    this.rows = h("tbody");
    this.loss = select(LOSSES, "linear");
    this.problem = h("div");
    this.start = h("button", { type: "submit", class: "primary" }, "Start the fit");
    this.element = h(
      "form", { class: "narrow", novalidate: true, onsubmit: (event) => this.submit(event) },
      h("h1", {}, "Fit traces"),
      h("section", { class: "card" }, h("h2", {}, "Traces"), this.traces.element, this.columnField, this.about),
      h(
        "section", { class: "card" },
        h("h2", {}, "Model"),
        field("Model", this.model), this.description, this.equation,
        h(
          "table", { class: "parameters" },
          h("thead", {}, h("tr", {}, ["Parameter", "Start", "Lowest", "Highest", "Meaning"].map((text) => h("th", { scope: "col" }, text)))),
          this.rows,
        ),
        field("Loss", this.loss, "How residuals count"),
      ),
      this.problem,
      h("div", { class: "actions" }, this.start),
    );
    this.showModel();
  }

  get chosen() {
    return this.models.find(({ name }) => name === this.model.value);
  }

  /** Look into a trace file. */
  async look(path, column = null) {
    const isNewest = this.ask();
    fill(this.problem);
    this.about.textContent = "";
    this.columnField.hidden = true;
    // Another file has columns of its own.
    if (column === null) fill(this.column);
    if (!path) return;
    try {
      const { data } = await post("/analysis/load-traces", { csv_path: path, column });
      if (!isNewest()) return;
      const measured = data.columns.filter((name) => /_ch_\d+$/.test(name));
      fill(this.column, measured.map((name) => h("option", { value: name }, name)));
      this.column.value = data.column;
      this.columnField.hidden = measured.length < 2;
      this.column.disabled = measured.length < 2;
      this.range = data.value_range;
      this.about.textContent = [
        counted(data.n_cells, "cell"), counted(data.n_timepoints, "time point"),
        `${readableNumber(data.time_range[0])} to ${readableNumber(data.time_range[1])} ${data.time_units}`,
        data.value_range && `values ${readableNumber(data.value_range[0])} to ${readableNumber(data.value_range[1])}`,
      ].filter(Boolean).join(" · ");
      this.proposeBounds();
    } catch (problem) {
      if (isNewest()) fill(this.problem, showProblem(problem));
    }
  }

  showModel() {
    const { description, equation, parameters } = this.chosen;
    this.description.textContent = description;
    this.equation.textContent = equation;
    this.inputs = parameters.map((parameter) => new ParameterRow(parameter));
    fill(this.rows, this.inputs.map((row) => row.element));
    this.proposeBounds();
  }

  /** Widen the bounds of heights and offsets to what is in the file: the defaults are for values about 1. */
  proposeBounds() {
    if (!this.range) return;
    const [low, high] = this.range;
    const reach = 2 * Math.max(high - low, Math.abs(high), Math.abs(low));
    for (const row of this.inputs) row.widen(reach);
  }

  async submit(event) {
    event.preventDefault();
    await busy(this.start, this.problem, showProblem, async () => {
      const set = (values) => Object.fromEntries(values.filter(([, value]) => value !== undefined));
      const { job_id: job } = await post("/analysis/fitting/start", {
        csv_path: this.traces.value,
        model_type: this.model.value,
        model_params: set(this.inputs.map(({ parameter, start }) => [parameter.name, start])),
        model_bounds: set(this.inputs.map(({ parameter, bounds }) => [parameter.name, bounds])),
        loss: this.loss.value,
        ...(!this.column.disabled && this.column.value && { column: this.column.value }),
      });
      location.hash = `#/fitted?${new URLSearchParams({ job })}`;
    });
  }
}

class ParameterRow {
  constructor(parameter) {
    this.parameter = parameter;
    const { name, default: preset, bounds, fixed, unit, meaning } = parameter;
    const number = (value, what, disabled = false) => h("input", {
      type: "number", step: "any", placeholder: value, "aria-label": `${what} of ${name}`, disabled,
    });
    this.inputs = { start: number(preset, "Start"), low: number(bounds[0], "Lowest", fixed), high: number(bounds[1], "Highest", fixed) };
    this.element = h(
      "tr", {},
      h("th", { scope: "row" }, name, h("small", {}, unit)),
      Object.values(this.inputs).map((input) => h("td", {}, input)),
      h("td", { class: "hint" }, fixed ? `${meaning} (keeps its value)` : meaning),
    );
  }

  widen(reach) {
    const { bounds: [low, high], fixed, unit } = this.parameter;
    if (fixed || unit !== "counts" || high >= reach) return;
    this.inputs.high.value = roundUp(reach);
    if (low < 0) this.inputs.low.value = -roundUp(reach);
  }

  get start() {
    return numberOf(this.inputs.start);
  }

  get bounds() {
    const [low, high] = [numberOf(this.inputs.low), numberOf(this.inputs.high)];
    if (low === undefined && high === undefined) return undefined;
    return [low ?? this.parameter.bounds[0], high ?? this.parameter.bounds[1]];
  }
}

const numberOf = (input) => (input.value.trim() === "" ? undefined : Number(input.value));

/** The next number of one digit and zeros. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return Math.ceil(value / power) * power;
}
