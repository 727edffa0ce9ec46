import { uniqueId } from "./elements.js";
import { svg } from "./svg.js";

/**
 * What a chart shows: one column a label; in it one value a name, as bars upon each other or as points. Null is none.
 *
 * @typedef {object} Chart
 * @property {string} title
 * @property {string} description
 * @property {string[]} names At most `MOST_NAMES`.
 * @property {{ label: string, short: string, values: (number | null)[] }[]} columns
 * @property {"bars" | "points"} kind
 * @property {(value: number) => string} format
 * @property {(value: number) => string} tick The same, short.
 */

/** How many names can be told apart, by colour, by the bars' patterns and by the points' shapes. */
export const MOST_NAMES = 6;

const HEIGHT = 200;
const MARGIN = { top: 8, right: 20, bottom: 24, left: 52 };
const LINES = 4;
const LABEL_WIDTH = 56;

/**
 * A chart as SVG. It is a picture: who cannot see it reads its description, and the table beside it.
 *
 * @param {Chart} chart
 * @param {number} width In CSS pixels.
 */
export function drawn(chart, width) {
  const id = uniqueId();
  const plot = { width: Math.max(1, width - MARGIN.left - MARGIN.right), height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const numbers = chart.columns.map(({ values }) => values.map((value) => value ?? 0));
  const highest = chart.kind === "bars" ? numbers.map((column) => column.reduce((a, b) => a + b, 0)) : numbers.flat();
  const top = roundedUp(Math.max(...highest));
  return svg(
    "svg",
    {
      class: "chart",
      role: "img",
      "aria-labelledby": `${id}-title ${id}-description`,
      viewBox: `0 0 ${width} ${HEIGHT}`,
      width,
      height: HEIGHT,
    },
    svg("title", { id: `${id}-title` }, chart.title),
    svg("desc", { id: `${id}-description` }, chart.description),
    svg("defs", {}, ...chart.names.map((_, place) => pattern(id, place))),
    svg(
      "g",
      { transform: `translate(${MARGIN.left} ${MARGIN.top})` },
      ...lines(plot, top, chart.tick),
      ...labels(plot, chart.columns),
      ...(chart.kind === "bars" ? bars(plot, top, chart, id) : points(plot, top, chart)),
    ),
  );
}

/**
 * How a chart shows one name, as a bar and as a point: to stand beside the name.
 *
 * @param {number} place
 */
export function swatch(place) {
  const id = uniqueId();
  return svg(
    "svg",
    { class: "swatch", width: 34, height: 16, "aria-hidden": "true" },
    svg("defs", {}, pattern(id, place)),
    svg("rect", { width: 16, height: 16, fill: `url(#${id}-${place})` }),
    mark(place, 26, 8),
  );
}

/** @typedef {{ width: number, height: number }} Plot */

/**
 * @param {Plot} plot
 * @param {number} top
 * @param {Chart} chart
 * @param {string} id
 */
function bars(plot, top, { columns, names, format }, id) {
  const step = plot.width / columns.length;
  const gap = step > 6 ? step * 0.2 : 0;
  return columns.flatMap(({ label, values }, column) => {
    let base = plot.height;
    return values.map((value, place) => {
      if (!value) return null;
      const height = (value / top) * plot.height;
      base -= height;
      const shape = { x: column * step + gap / 2, y: base, width: step - gap, height };
      const said = svg("title", {}, `${label}, ${names[place]}: ${format(value)}`);
      return svg("rect", { class: "bar", ...shape, fill: `url(#${id}-${place})` }, said);
    });
  });
}

/**
 * @param {Plot} plot
 * @param {number} top
 * @param {Chart} chart
 */
function points(plot, top, { columns, names, format }) {
  const step = plot.width / columns.length;
  return names.flatMap((name, place) => {
    const found = columns.flatMap(({ label, values }, column) => {
      const value = values[place];
      if (value === null) return [];
      return [{ label, value, x: (column + 0.5) * step, y: plot.height - (value / top) * plot.height }];
    });
    const way = found.map(({ x, y }, number) => `${number === 0 ? "M" : "L"}${x} ${y}`).join(" ");
    return [
      svg("path", { class: `way stroke-${place}`, d: way }),
      ...found.map(({ label, value, x, y }) => mark(place, x, y, `${label}, ${name}: ${format(value)}`)),
    ];
  });
}

/**
 * A point, in a shape of its own.
 *
 * @param {number} place
 * @param {number} x
 * @param {number} y
 * @param {string} [said]
 */
function mark(place, x, y, said) {
  const shapes = [
    "M-4 0 a4 4 0 1 0 8 0 a4 4 0 1 0 -8 0",
    "M-4 4 L0 -4 L4 4 Z",
    "M-3.5 -3.5 H3.5 V3.5 H-3.5 Z",
    "M0 -5 L5 0 L0 5 L-5 0 Z",
    "M-4 -4 L0 4 L4 -4 Z",
    "M-5 -1.5 H-1.5 V-5 H1.5 V-1.5 H5 V1.5 H1.5 V5 H-1.5 V1.5 H-5 Z",
  ];
  const path = { class: `bar series-${place}`, d: shapes[place], transform: `translate(${x} ${y})` };
  return svg("path", path, said ? svg("title", {}, said) : null);
}

/**
 * @param {Plot} plot
 * @param {number} top
 * @param {(value: number) => string} tick
 */
function lines(plot, top, tick) {
  return Array.from({ length: LINES + 1 }, (_, place) => {
    const y = plot.height - (place / LINES) * plot.height;
    return svg(
      "g",
      {},
      svg("line", { class: "line", x1: 0, x2: plot.width, y1: y, y2: y }),
      svg("text", { x: -6, y: y + 4, "text-anchor": "end" }, tick((top * place) / LINES)),
    );
  });
}

/**
 * @param {Plot} plot
 * @param {Chart["columns"]} columns
 */
function labels(plot, columns) {
  const step = plot.width / columns.length;
  const every = Math.ceil(LABEL_WIDTH / step);
  return columns.map(({ short }, column) => {
    if (column % every !== 0) return null;
    const x = column * step + step / 2;
    return svg("text", { x, y: plot.height + 18, "text-anchor": "middle" }, short);
  });
}

/**
 * A colour with a pattern upon it, so that nobody has to tell colours apart.
 *
 * @param {string} id
 * @param {number} place
 */
function pattern(id, place) {
  const marks = [
    "",
    "M0 8 L8 0 M-2 2 L2 -2 M6 10 L10 6",
    "M0 2 H8 M0 6 H8",
    "M2 2 h1.5 v1.5 h-1.5 z M6 6 h1.5 v1.5 h-1.5 z",
    "M2 0 V8 M6 0 V8",
    "M0 0 L8 8 M8 0 L0 8",
  ];
  return svg(
    "pattern",
    { id: `${id}-${place}`, width: 8, height: 8, patternUnits: "userSpaceOnUse" },
    svg("rect", { class: `series-${place}`, width: 8, height: 8 }),
    svg("path", { class: "marks", d: marks[place] }),
  );
}

/**
 * The next number that `LINES` lines divide evenly into parts that are short to write: 4, 8, 12, 16, 20, 24, 32, 40, 60…
 *
 * @param {number} value
 */
export function roundedUp(value) {
  if (value <= LINES) return LINES;
  const power = 10 ** Math.floor(Math.log10(value / LINES));
  const factor = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find(
    (step) => step * power * LINES >= value && Number.isInteger(step * power),
  );
  return (factor ?? 10) * power * LINES;
}
