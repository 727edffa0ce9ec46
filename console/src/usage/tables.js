import { element } from "../elements.js";
import { milliseconds } from "../refine/report.js";
import { amount } from "../words.js";
import { byModel, sum } from "./series.js";

/** @typedef {import("./series.js").Sums} Sums */
/** @typedef {import("../types.js").DayOfUsage} DayOfUsage */

/** @type {[string, (sums: Sums) => string][]} */
const COLUMNS = [
  ["Calls", (sums) => amount(sums.calls)],
  ["Succeeded", (sums) => amount(sums.succeeded)],
  ["Failed", (sums) => amount(sums.failed)],
  ["Tokens in", (sums) => amount(sums.input_tokens)],
  ["Tokens out", (sums) => amount(sums.output_tokens)],
  ["Mean latency", (sums) => milliseconds(Math.round(sums.latency_ms.mean))],
  ["Longest latency", (sums) => milliseconds(sums.latency_ms.max)],
];

/**
 * A usage in figures: what each model comes to, and each day.
 *
 * @param {DayOfUsage[]} items
 */
export function tables(items) {
  const days = [...items].sort((a, b) => b.day.localeCompare(a.day));
  return element(
    "div",
    {},
    table(
      "By model",
      ["Model"],
      byModel(items).map(([model, sums]) => ({ heads: [model], sums })),
      sum(items),
    ),
    table(
      "By day and model",
      ["Day (UTC)", "Model"],
      days.map((item) => ({ heads: [item.day, item.model], sums: item })),
    ),
  );
}

/**
 * @param {string} caption
 * @param {string[]} heads
 * @param {{ heads: string[], sums: Sums }[]} rows
 * @param {Sums} [total]
 */
function table(caption, heads, rows, total) {
  return element(
    "div",
    // With a keyboard, only what can have the focus can be scrolled.
    { class: "card scrolled", tabindex: 0, role: "region", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", {}, caption),
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          ...heads.map((title) => element("th", { scope: "col", class: "name" }, title)),
          ...COLUMNS.map(([title]) => element("th", { scope: "col" }, title)),
        ),
      ),
      element("tbody", {}, ...rows.map((row) => line(row.heads, row.sums))),
      total && element("tfoot", {}, line(["All models"], total)),
    ),
  );
}

/**
 * @param {string[]} heads
 * @param {Sums} sums
 */
function line(heads, sums) {
  return element(
    "tr",
    {},
    ...heads.map((head) => element("th", { scope: "row", class: "name" }, element("bdi", {}, head))),
    ...COLUMNS.map(([, value]) => element("td", {}, value(sums))),
  );
}
