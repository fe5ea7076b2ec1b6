// The frames of a FOV: which image, which frame, zoom, overlays; a click tells which cell is there.

import { blob, get } from "./api.js";
import { button, field, fill, h, newestOnly, newId, select } from "./dom.js";
import { pause } from "./events.js";
import { showProblem } from "./problems.js";

const LONGEST_SIDE = 1024;
const FRAME_MS = 110;
const AHEAD = 3;
const MOST_KEPT = 240;
const MOST_ZOOM = 16;
const CLICK_PX = 4;

export class Viewer {
  onselect = () => {};
  onframe = () => {};

  constructor(folder, fov, signal) {
    Object.assign(this, { folder, fov, signal });
    this.frame = 0;
    this.window = this.whole;
    this.pictures = new Map();
    this.beginToPlay = newestOnly();
    this.trace = null;
    this.images = imagesOf(fov);
    this.canvas = h("canvas", { role: "img" });
    this.canvas.width = LONGEST_SIDE;
    this.canvas.height = Math.round((LONGEST_SIDE * fov.height) / fov.width);
    this.problem = h("div");
    this.element = this.images.length ? this.build() : this.buildEmpty();
    if (this.images.length) {
      this.listen();
      this.go(0);
    }
  }

  get whole() {
    return { x0: 0, y0: 0, x1: this.fov.width, y1: this.fov.height };
  }

  build() {
    const redraw = () => this.go(this.frame);
    this.image = select(this.images.map(({ text }, i) => [i, text]), 0, { onchange: redraw });
    const tracked = this.fov.stacks.includes("tracked");
    const overlay = (checked) => h("input", { type: "checkbox", checked: checked && tracked, disabled: !tracked, onchange: redraw });
    this.outlines = overlay(true);
    this.numbers = overlay(false);
    this.low = h("input", { type: "number", min: 0, max: 100, step: 0.1, value: 1, onchange: redraw });
    this.high = h("input", { type: "number", min: 0, max: 100, step: 0.1, value: 99.8, onchange: redraw });
    this.slider = h("input", {
      type: "range", min: 0, max: this.fov.n_frames - 1, value: 0, "aria-label": "Frame", id: newId("frame"),
      oninput: () => this.go(Number(this.slider.value)),
    });
    this.count = h("output", { for: this.slider.id });
    this.playButton = button("▶", () => this.playOrPause(), "icon", { "aria-label": "Play", "aria-pressed": "false" });
    return h(
      "section", { class: "card viewer", "aria-label": "Frames" },
      h(
        "div", { class: "toolbar" },
        field("Image", this.image),
        h("label", { class: "switch" }, this.outlines, "Outlines"),
        h("label", { class: "switch" }, this.numbers, "Numbers"),
      ),
      h("div", { class: "frame" }, this.canvas),
      this.problem,
      h(
        "div", { class: "toolbar" },
        this.playButton, this.slider, this.count,
        button("−", () => this.zoom(0.5), "icon", { "aria-label": "Zoom out" }),
        button("+", () => this.zoom(2), "icon", { "aria-label": "Zoom in" }),
        button("⤢", () => this.zoom(0), "icon", { "aria-label": "Show all of it" }),
      ),
      h(
        "details", {},
        h("summary", {}, "Contrast"),
        h(
          "div", { class: "grid" },
          field("Black at the percentile", this.low), field("White at the percentile", this.high),
        ),
      ),
    );
  }

  buildEmpty() {
    return h("section", { class: "card" }, h("p", { class: "empty" },
      "The images of this FOV were not kept (parameter keep). Traces are shown all the same."));
  }

  listen() {
    const { signal } = this;
    const on = (target, name, listener, options = {}) => target.addEventListener(name, listener, { signal, ...options });
    on(this.canvas, "wheel", (event) => this.wheel(event), { passive: false });
    on(this.canvas, "pointerdown", (event) => this.press(event));
    on(this.canvas, "pointermove", (event) => this.drag(event));
    on(this.canvas, "pointerup", (event) => this.release(event));
    on(this.canvas, "pointercancel", () => (this.pressed = null));
    on(document, "keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    const slides = event.target === this.slider;
    if (event.key === " " && (slides || !event.target.closest("button, a, input, select, textarea, summary"))) {
      event.preventDefault();
      this.playOrPause();
    } else if (!slides && ["ArrowLeft", "ArrowRight"].includes(event.key) && !event.target.closest("input, select, textarea")) {
      event.preventDefault();
      this.go(this.frame + (event.key === "ArrowLeft" ? -1 : 1));
    }
  }

  /** Show a frame. */
  async go(frame) {
    if (!this.images.length) return;
    this.frame = Math.min(Math.max(frame, 0), this.fov.n_frames - 1);
    this.slider.value = this.frame;
    this.count.textContent = `${this.frame + 1} / ${this.fov.n_frames}`;
    this.canvas.setAttribute("aria-label", `${this.images[this.image.value].text}, frame ${this.frame + 1} of ${this.fov.n_frames}`);
    this.onframe(this.frame);
    const wanted = this.query(this.frame);
    try {
      const bitmap = await createImageBitmap(await this.picture(wanted));
      // Another frame may have been asked for meanwhile.
      if (JSON.stringify(wanted) !== JSON.stringify(this.query(this.frame))) return;
      this.bitmap = bitmap;
      this.drawn = this.frame;
      fill(this.problem);
      this.draw();
      for (let next = 1; next <= AHEAD && this.playing; next += 1) {
        this.picture(this.query((this.frame + next) % this.fov.n_frames)).catch(() => {});
      }
    } catch (problem) {
      if (this.signal.aborted) return;
      // A film that goes on would fail again with each frame, and ask for a key each time where that is what it needs.
      this.stop();
      fill(this.problem, showProblem(problem));
    }
  }

  query(frame) {
    const { kind, channel } = this.images[this.image.value];
    const { x0, y0, x1, y1 } = this.window;
    return {
      output_dir: this.folder, fov: this.fov.fov, frame, kind, channel, low: this.low.value, high: this.high.value,
      outlines: this.outlines.checked, numbers: this.numbers.checked, x0, y0, x1, y1,
      max_size: LONGEST_SIDE, format: "webp",
    };
  }

  /** The picture of a frame; those of late are kept, as they come over the wire. */
  picture(query) {
    const name = JSON.stringify(query);
    if (!this.pictures.has(name)) {
      const coming = blob("/visualization/image", query, { signal: this.signal });
      coming.catch(() => this.pictures.delete(name));
      this.pictures.set(name, coming);
      if (this.pictures.size > MOST_KEPT) this.pictures.delete(this.pictures.keys().next().value);
    }
    return this.pictures.get(name);
  }

  draw() {
    const { canvas, bitmap } = this;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = this.scale < 2;
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const at = this.trace?.frames.indexOf(this.drawn) ?? -1;
    if (at < 0) return;
    const [x0, y0, x1, y1] = this.trace.boxes[at];
    const margin = 3;
    const [left, top] = this.toCanvas(x0 - margin, y0 - margin);
    const [right, bottom] = this.toCanvas(x1 + 1 + margin, y1 + 1 + margin);
    context.strokeStyle = "#fbbf24";
    context.lineWidth = 3;
    context.strokeRect(left, top, right - left, bottom - top);
  }

  /** Canvas pixels of one pixel of the recording. */
  get scale() {
    return this.canvas.width / (this.window.x1 - this.window.x0);
  }

  toCanvas(x, y) {
    return [(x - this.window.x0) * this.scale, (y - this.window.y0) * this.scale];
  }

  /** Pixel of the recording below the pointer. */
  at(event) {
    const shown = this.canvas.getBoundingClientRect();
    const { x0, y0, x1, y1 } = this.window;
    return [
      x0 + ((event.clientX - shown.left) / shown.width) * (x1 - x0),
      y0 + ((event.clientY - shown.top) / shown.height) * (y1 - y0),
    ];
  }

  /** Mark a cell, given its trace, in all frames. */
  mark(trace) {
    this.trace = trace;
    if (this.bitmap) this.draw();
  }

  /** Zoom by a factor about a place; 0 shows all of it. */
  zoom(factor, place = null) {
    const { width, height } = this.fov;
    const now = width / (this.window.x1 - this.window.x0);
    const zoom = factor === 0 ? 1 : Math.min(MOST_ZOOM, Math.max(1, now * factor));
    if (zoom === now) return;
    const [w, h] = [Math.round(width / zoom), Math.round(height / zoom)];
    const { x0, y0, x1, y1 } = this.window;
    const [x, y] = place ?? [(x0 + x1) / 2, (y0 + y1) / 2];
    this.move(x - (w * (x - x0)) / (x1 - x0), y - (h * (y - y0)) / (y1 - y0), w, h);
  }

  move(x0, y0, w, h) {
    const inside = (first, n, size) => Math.round(Math.min(Math.max(first, 0), n - size));
    const [left, top] = [inside(x0, this.fov.width, w), inside(y0, this.fov.height, h)];
    this.window = { x0: left, y0: top, x1: left + w, y1: top + h };
    this.go(this.frame);
  }

  wheel(event) {
    event.preventDefault();
    this.zoom(event.deltaY < 0 ? 1.5 : 1 / 1.5, this.at(event));
  }

  press(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pressed = { x: event.clientX, y: event.clientY, window: this.window, moved: false };
  }

  drag(event) {
    // The button may have been let go where nobody told.
    if (!event.buttons) this.pressed = null;
    if (!this.pressed) return;
    const { x, y, window } = this.pressed;
    const [dx, dy] = [event.clientX - x, event.clientY - y];
    if (Math.hypot(dx, dy) > CLICK_PX) this.pressed.moved = true;
    if (!this.pressed.moved) return;
    const [w, h] = [window.x1 - window.x0, window.y1 - window.y0];
    const perPixel = w / this.canvas.clientWidth;
    this.move(window.x0 - dx * perPixel, window.y0 - dy * perPixel, w, h);
  }

  async release(event) {
    const { pressed } = this;
    this.pressed = null;
    if (!pressed || pressed.moved) return;
    const [x, y] = this.at(event);
    try {
      const query = { output_dir: this.folder, fov: this.fov.fov, frame: this.frame, x, y };
      const { cell } = await get("/visualization/cell", query, { signal: this.signal });
      this.onselect(cell);
    } catch (problem) {
      fill(this.problem, showProblem(problem));
    }
  }

  playOrPause() {
    if (this.playing) this.stop();
    else this.play();
  }

  async play() {
    // A loop that was stopped less than a frame ago has not seen it yet, and must not go on.
    const isNewest = this.beginToPlay();
    this.playing = true;
    this.showPlaying();
    while (this.playing && isNewest() && !this.signal.aborted) {
      await Promise.all([this.go((this.frame + 1) % this.fov.n_frames), pause(FRAME_MS, this.signal)]);
    }
  }

  stop() {
    this.playing = false;
    if (this.playButton) this.showPlaying();
  }

  showPlaying() {
    this.playButton.textContent = this.playing ? "❚❚" : "▶";
    this.playButton.setAttribute("aria-label", this.playing ? "Pause" : "Play");
    this.playButton.setAttribute("aria-pressed", String(this.playing));
  }
}

/** The images that can be shown of a FOV. */
function imagesOf({ phase, fluorescence, stacks }) {
  const images = [];
  const add = (stack, text, kind, channel) => stacks.includes(stack) && images.push({ text, kind, channel });
  if (phase) add("phase", phase.name, "phase", phase.channel);
  for (const { channel, name } of fluorescence) {
    add("fluorescence", name, "fluorescence", channel);
    add("background", `${name}, background`, "background", channel);
    if (stacks.includes("background")) add("fluorescence", `${name}, less background`, "corrected", channel);
  }
  return images;
}
