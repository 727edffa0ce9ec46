/** @typedef {import("../types.js").Usage} Usage */
/** @typedef {import("../types.js").DayOfUsage} DayOfUsage */
/** @typedef {Omit<DayOfUsage, "day" | "model">} Sums */
/**
 * What a chart shows: one column a span of days, in each of them one value for each model, in the order of `models`;
 * null where the model had no call.
 *
 * @typedef {{ first: string, last: string, values: (Sums | null)[] }} Column
 * @typedef {{ models: string[], columns: Column[] }} Series
 */

const DAY = 24 * 60 * 60 * 1000;
export const OTHERS = "All others";

/**
 * A usage by days, also those without a call, and models, most called first.
 *
 * @param {Usage} usage
 * @param {number} mostColumns Where there are more days, several share a column.
 * @param {number} mostModels Where there are more models, those least called are summed up.
 * @returns {Series}
 */
export function series({ from, to, items }, mostColumns, mostModels) {
  const models = modelsOf(items, mostModels);
  const start = Date.parse(day(Date.parse(from)));
  const days = Math.max(1, Math.ceil((Date.parse(to) - start) / DAY));
  const span = Math.ceil(days / mostColumns);
  /** @type {DayOfUsage[][][]} */
  const cells = Array.from({ length: Math.ceil(days / span) }, () => models.map(() => []));
  for (const item of items) {
    const place = Math.floor((Date.parse(item.day) - start) / DAY / span);
    const model = models.indexOf(item.model);
    cells[place][model < 0 ? models.length - 1 : model].push(item);
  }
  const columns = cells.map((row, place) => ({
    first: day(start + place * span * DAY),
    last: day(start + Math.min((place + 1) * span, days) * DAY - DAY),
    values: row.map((found) => (found.length > 0 ? sum(found) : null)),
  }));
  return { models, columns };
}

/**
 * The models of a chart, in its order.
 *
 * @param {DayOfUsage[]} items
 * @param {number} most
 */
export function modelsOf(items, most) {
  const names = byModel(items).map(([name]) => name);
  return names.length <= most ? names : [...names.slice(0, most - 1), OTHERS];
}

/**
 * What each model comes to in all, most called first.
 *
 * @param {DayOfUsage[]} items
 * @returns {[string, Sums][]}
 */
export function byModel(items) {
  /** @type {Map<string, DayOfUsage[]>} */
  const found = new Map();
  for (const item of items) found.set(item.model, [...(found.get(item.model) ?? []), item]);
  const totals = Array.from(found, /** @returns {[string, Sums]} */ ([model, days]) => [model, sum(days)]);
  return totals.sort(([, a], [, b]) => b.calls - a.calls);
}

/**
 * @param {Sums[]} items
 * @returns {Sums}
 */
export function sum(items) {
  /** @param {(item: Sums) => number} value */
  const total = (value) => items.reduce((all, item) => all + value(item), 0);
  const calls = total((item) => item.calls);
  return {
    calls,
    succeeded: total((item) => item.succeeded),
    failed: total((item) => item.failed),
    input_tokens: total((item) => item.input_tokens),
    output_tokens: total((item) => item.output_tokens),
    latency_ms: {
      mean: calls > 0 ? total((item) => item.calls * item.latency_ms.mean) / calls : 0,
      max: Math.max(0, ...items.map((item) => item.latency_ms.max)),
    },
  };
}

/** @param {number} moment */
function day(moment) {
  return new Date(moment).toISOString().slice(0, 10);
}
