// Starting a run: a recording, its channels as its own metadata suggest them, parameters, a folder for the results.

import { get, post, schema } from "./api.js";
import { busy, button, fill, folderOf, h, field, newestOnly, newId, remembered, select } from "./dom.js";
import { pathInput } from "./picker.js";
import { showProblem } from "./problems.js";
import { SchemaForm } from "./schema.js";
import { counted, readableDuration, readableNumber, spoken } from "./text.js";

// `fovs` says the same as these two, and more.
const LEFT_OUT = new Set(["fov_start", "fov_end"]);
const OFTEN = new Set(["fovs", "min_frames", "border_margin", "keep"]);

export async function show(parameters, signal) {
  const [features, described, { recording_extensions: extensions }] = await Promise.all([
    get("/processing/features", {}, { signal }), schema("Parameters"), get("/processing/starting-folders", {}, { signal }),
  ]);
  const view = new NewRun(features, described.properties, extensions);
  if (parameters.recording) view.load(parameters.recording);
  return view.element;
}

class NewRun {
  constructor(features, properties, extensions) {
    this.features = features;
    this.ask = newestOnly();
    this.recording = pathInput("Recording", "A file on the server", {
      extensions, onchange: (path) => this.load(path),
    });
    this.output = pathInput("Folder for the results", "Made where it is not there; FOVs that are complete in it are kept");
    const asked = Object.entries(properties).filter(([name]) => !LEFT_OUT.has(name));
    this.often = new SchemaForm(Object.fromEntries(asked.filter(([name]) => OFTEN.has(name))));
    this.rarely = new SchemaForm(Object.fromEntries(asked.filter(([name]) => !OFTEN.has(name))));
    this.about = h("div");
    this.channels = h("div");
    this.problem = h("div");
    this.start = h("button", { type: "submit", class: "primary", disabled: true }, "Start the run");
    this.rest = h(
      "div", { hidden: true },
      h("section", { class: "card" }, h("h2", {}, "Channels"), this.channels),
      h(
        "section", { class: "card" },
        h("h2", {}, "Parameters"),
        h("div", { class: "grid" }, this.often.elements),
        h("details", {}, h("summary", {}, "All parameters"), h("div", { class: "grid" }, this.rarely.elements)),
      ),
      h("section", { class: "card" }, h("h2", {}, "Results"), this.output.element),
    );
    this.element = h(
      "form", { class: "narrow", novalidate: true, onsubmit: (event) => this.submit(event) },
      h("h1", {}, "New run"),
      h("section", { class: "card" }, h("h2", {}, "Recording"), this.recording.element, this.about),
      this.rest,
      this.problem,
      h("div", { class: "actions" }, this.start),
    );
  }

  /** Look into a recording, and propose all else. */
  async load(path) {
    const isNewest = this.ask();
    this.recording.value = path;
    this.plan = null;
    this.start.disabled = true;
    this.rest.hidden = true;
    fill(this.about);
    if (!path) return;
    fill(this.about, h("p", { class: "waiting" }, "Looking into the recording…"));
    try {
      const { metadata, suggested_channels: suggested } = await post("/processing/load-metadata", { file_path: path });
      if (!isNewest()) return;
      fill(this.about, aboutRecording(metadata));
      this.plan = new ChannelPlan(metadata.channel_names, suggested, this.features);
      fill(this.channels, this.plan.element);
      this.output.value = `${folderOf(path)}/${metadata.base_name}_results`;
      this.rest.hidden = false;
      this.start.disabled = false;
    } catch (problem) {
      if (isNewest()) fill(this.about, showProblem(problem));
    }
  }

  async submit(event) {
    event.preventDefault();
    // The button comes back from a request that was refused, also where another recording is being looked into by then.
    if (!this.plan) return;
    await busy(this.start, this.problem, showProblem, async () => {
      const parameters = { ...this.often.values, ...this.rarely.values };
      await post("/processing/workflow/start", {
        microscopy_path: this.recording.value,
        output_dir: this.output.value,
        channels: this.plan.channels,
        ...(Object.keys(parameters).length && { parameters }),
      }, { headers: { "Idempotency-Key": this.attempt() } });
      remembered.set("output_dir", this.output.value);
      location.hash = "#/";
    });
  }

  /** The same for a second attempt of the same request, so that it starts nothing twice. */
  attempt() {
    const asked = JSON.stringify([this.recording.value, this.output.value, this.plan.channels, this.often.values, this.rarely.values]);
    if (asked !== this.asked) [this.asked, this.attemptId] = [asked, `page-${Date.now()}-${Math.random()}`];
    return this.attemptId;
  }
}

function aboutRecording(metadata) {
  const { width, height, n_frames: frames, n_fovs: fovs, timepoints, pixel_size_um: pixel } = metadata;
  const length = timepoints.length > 1 && `over ${readableDuration(60 * (timepoints.at(-1) - timepoints[0]))}`;
  const facts = [
    [String(fovs), fovs === 1 ? "field of view" : "fields of view"],
    [counted(frames, "frame"), length || "a single time point"],
    [`${width} × ${height}`, pixel ? `pixels of ${readableNumber(pixel)} µm` : "pixels"],
    [counted(metadata.n_channels, "channel"), metadata.dtype],
  ];
  return [
    h("dl", { class: "facts" }, facts.map(([fact, more]) => h("div", {}, h("dt", {}, more), h("dd", {}, fact)))),
    metadata.warnings.map((warning) => h("p", { class: "warning" }, warning)),
  ];
}

/** The role of each channel of a recording, and what is measured in it. */
class ChannelPlan {
  constructor(names, suggested, features) {
    this.rows = names.map((name, number) => new ChannelRow(name, number, suggested, features));
    this.element = h(
      "div", {},
      suggested.reason && h("p", { class: "warning" }, suggested.reason),
      this.rows.map((row) => row.element),
    );
  }

  get channels() {
    const roles = (role) => this.rows.filter((row) => row.role.value === role).map((row) => row.asked);
    const phase = roles("phase");
    // The API tells what is wrong with no phase channel, or with two.
    return { phase: phase.length === 1 ? phase[0] : phase.length ? phase : null, fluorescence: roles("fluorescence") };
  }
}

class ChannelRow {
  constructor(name, number, suggested, features) {
    this.number = number;
    this.features = features;
    const fluorescent = suggested.fluorescence.find((one) => one.channel === number);
    const chosen = suggested.phase?.channel === number ? suggested.phase : fluorescent;
    const role = !chosen ? "none" : chosen === fluorescent ? "fluorescence" : "phase";
    const roles = [["phase", "Phase contrast"], ["fluorescence", "Fluorescence"], ["none", "Leave out"]];
    this.role = select(roles, role, { onchange: () => this.showFeatures([]) });
    this.boxes = h("div", { class: "checks", role: "group", "aria-label": `Features of channel ${number}` });
    this.element = h("div", { class: "channel" }, field(`Channel ${number}: ${name}`, this.role), this.boxes);
    this.showFeatures(chosen?.features ?? []);
  }

  showFeatures(checked) {
    const role = this.role.value;
    const details = this.features.details[role] ?? {};
    const names = Object.keys(details);
    const wanted = checked.length ? checked : names.slice(0, 1);
    this.inputs = names.map((name) => h("input", { type: "checkbox", value: name, id: newId("feature"), checked: wanted.includes(name) }));
    fill(this.boxes, this.inputs.map((input) =>
      h("label", { for: input.id, title: details[input.value].description }, input, spoken(input.value))));
  }

  get asked() {
    return { channel: this.number, features: this.inputs.filter((one) => one.checked).map((one) => one.value) };
  }
}
