// Plots, by uPlot: lines over time, and histograms, in the colours of the page.

import { h } from "./dom.js";
import { readableNumber } from "./text.js";

const { uPlot } = globalThis;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/**
 * A plot that is as wide as its place.
 *
 * `make(colours)` gives {axes: {x, y}, series, data, ...} as uPlot has them; it is called again when light turns into dark.
 */
export class Plot {
  constructor(label, make, { height = 240, signal } = {}) {
    this.make = make;
    this.height = height;
    this.element = h("div", { class: "plot", role: "img", "aria-label": label });
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.element);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => this.draw();
    dark.addEventListener("change", redraw);
    signal?.addEventListener("abort", () => {
      dark.removeEventListener("change", redraw);
      this.destroy();
    }, { once: true });
  }

  draw() {
    const width = this.element.clientWidth;
    this.plot?.destroy();
    this.plot = null;
    if (!width) return;
    const { axes, series, data, ...options } = this.make(colour);
    const drawn = (title) => ({
      label: title, values: (_, ticks) => ticks.map((tick) => readableNumber(tick)), stroke: colour("muted"), font: "12px system-ui", labelFont: "12px system-ui", labelSize: 18, gap: 4,
      grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1, size: 4 },
    });
    this.plot = new uPlot(
      {
        width, height: this.height, legend: { show: false },
        axes: [
          { ...drawn(axes.x), size: 26, space: 64 },
          { ...drawn(axes.y), size: 56 },
        ],
        series: [{}, ...series],
        ...options,
        scales: { ...options.scales, x: { time: false, ...options.scales?.x } },
      },
      data,
      this.element,
    );
  }

  fit() {
    const width = this.element.clientWidth;
    if (!this.plot) this.draw();
    else if (width && width !== this.plot.width) this.plot.setSize({ width, height: this.height });
  }

  destroy() {
    this.observer.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }
}

/** How many values lie in each of some intervals of the same width. */
export function histogram(values, nBins) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const width = (most - least || Math.abs(least) || 1) / nBins;
  // Values that are all the same stand in the middle.
  const low = most > least ? least : least - (width * nBins) / 2;
  const counts = new Array(nBins).fill(0);
  for (const value of values) counts[Math.min(nBins - 1, Math.floor((value - low) / width))] += 1;
  return { centres: counts.map((_, i) => low + (i + 0.5) * width), counts };
}

/** A plot of a histogram. */
export function histogramPlot(name, unit, values, options) {
  const { centres, counts } = histogram(values, Math.max(8, Math.min(40, Math.ceil(Math.sqrt(values.length)))));
  return new Plot(`Histogram of ${name} of ${values.length} cells`, (colours) => ({
    axes: { x: unit ? `${name} (${unit})` : name, y: "cells" },
    series: [{ stroke: colours("accent"), fill: colours("accent-soft"), paths: uPlot.paths.bars({ size: [1, 100] }), points: { show: false } }],
    data: [centres, counts],
    cursor: { show: false },
    scales: { y: { range: (_, __, most) => [0, most * 1.08] }, x: { range: () => outer(centres) } },
  }), options);
}

function outer(centres) {
  const half = (centres.at(-1) - centres[0]) / (2 * (centres.length - 1));
  return [centres[0] - half, centres.at(-1) + half];
}
