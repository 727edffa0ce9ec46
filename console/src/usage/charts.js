import { drawn, MOST_NAMES, swatch } from "../chart.js";
import { element } from "../elements.js";
import { milliseconds } from "../refine/report.js";
import { amount, compact } from "../words.js";
import { modelsOf, series } from "./series.js";

/** @typedef {import("../chart.js").Chart} Chart */
/**
 * @typedef {Pick<Chart, "kind" | "format" | "tick">} Form
 * @typedef {Form & { title: string, value: (sums: import("./series.js").Sums) => number }} Measure
 */

/** @type {Form} */
const COUNT = { kind: "bars", format: amount, tick: compact };
/** @type {Form} */
const TIME = { kind: "points", format: milliseconds, tick: milliseconds };
/** @type {Measure[]} */
const MEASURES = [
  { title: "Calls", value: (sums) => sums.calls, ...COUNT },
  { title: "Tokens", value: (sums) => sums.input_tokens + sums.output_tokens, ...COUNT },
  { title: "Failures", value: (sums) => sums.failed, ...COUNT },
  { title: "Mean latency", value: (sums) => Math.round(sums.latency_ms.mean), ...TIME },
];
const NARROWEST_BAR = 5;

/**
 * A usage as charts, each as wide as there is room for.
 *
 * @param {import("../types.js").Usage} usage
 */
export function charts(usage) {
  const legend = element(
    "ul",
    { class: "legend", "aria-label": "Models" },
    ...modelsOf(usage.items, MOST_NAMES).map((name, place) =>
      element("li", {}, swatch(place), " ", element("bdi", {}, name)),
    ),
  );
  const figures = MEASURES.map((measure) => figure(usage, measure));
  return element("div", {}, legend, element("div", { class: "charts" }, ...figures));
}

/**
 * @param {import("../types.js").Usage} usage
 * @param {Measure} measure
 */
function figure(usage, measure) {
  const place = element("div");
  const box = element("figure", { class: "card" }, element("figcaption", {}, measure.title), place);
  const resized = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0) place.replaceChildren(drawn(chart(usage, measure, width), width));
  });
  resized.observe(place);
  return box;
}

/**
 * @param {import("../types.js").Usage} usage
 * @param {Measure} measure
 * @param {number} width
 */
function chart(usage, { title, value, ...form }, width) {
  const { models, columns } = series(usage, Math.floor(width / NARROWEST_BAR), MOST_NAMES);
  const shown = columns.map(({ first, last, values }) => ({
    label: first === last ? first : `${first} to ${last}`,
    short: first.slice("yyyy-".length),
    values: values.map((sums) => sums && value(sums)),
  }));
  const span = columns[0].first === columns[0].last ? "by day" : "by several days";
  return {
    title: `${title} ${span} and model`,
    description: `From ${columns[0].first} to ${columns[columns.length - 1].last}. ${most(shown, models, form.format)}`,
    names: models,
    columns: shown,
    ...form,
  };
}

/**
 * @param {Chart["columns"]} columns
 * @param {string[]} names
 * @param {(value: number) => string} format
 */
function most(columns, names, format) {
  const cells = columns.flatMap(({ label, values }) => values.map((value, place) => ({ label, value, place })));
  const highest = cells.reduce((high, cell) => ((cell.value ?? 0) > (high.value ?? 0) ? cell : high));
  if (!highest.value) return "None.";
  return `Most: ${format(highest.value)}, ${names[highest.place]}, ${highest.label}. The table has all values.`;
}
