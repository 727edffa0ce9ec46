import assert from "node:assert/strict";
import { test } from "node:test";
import { roundedUp } from "../src/chart.js";
import { daysBefore, endOf, startOf } from "../src/usage/days.js";
import { byModel, OTHERS, series, sum } from "../src/usage/series.js";

/** @type {(day: string, model: string, calls?: number, mean?: number) => import("../src/types.js").DayOfUsage} */
const used = (day, model, calls = 1, mean = 100) => ({
  day,
  model,
  calls,
  succeeded: calls - 1,
  failed: 1,
  input_tokens: 10 * calls,
  output_tokens: calls,
  latency_ms: { mean, max: 2 * mean },
});

/** @type {(items: import("../src/types.js").DayOfUsage[], days: number) => import("../src/types.js").Usage} */
const usage = (items, days) => ({
  from: "2026-03-28T00:00:00.000Z",
  to: new Date(Date.parse("2026-03-28T00:00:00Z") + days * 24 * 60 * 60 * 1000).toISOString(),
  items,
});

/** @type {(made: import("../src/usage/series.js").Series) => (number | null)[][]} */
const calls = ({ columns }) => columns.map(({ values }) => values.map((sums) => sums?.calls ?? null));

test("days without a call are there, and have no value", () => {
  const made = series(usage([used("2026-03-28", "a"), used("2026-03-30", "b", 2)], 4), 100, 6);
  assert.deepEqual(made.models, ["b", "a"]);
  assert.deepEqual(calls(made), [
    [null, 1],
    [null, null],
    [2, null],
    [null, null],
  ]);
  assert.deepEqual(
    made.columns.map(({ first }) => first),
    ["2026-03-28", "2026-03-29", "2026-03-30", "2026-03-31"],
  );
});

test("a period that begins and ends within a day has both days", () => {
  const items = [used("2026-03-28", "a"), used("2026-03-30", "a")];
  const part = { from: "2026-03-28T22:00:00.000Z", to: "2026-03-30T01:00:00.000Z", items };
  assert.deepEqual(calls(series(part, 100, 6)), [[1], [null], [1]]);
});

test("more days than there is room for share a column, and none is lost", () => {
  const items = Array.from({ length: 10 }, (_, day) => used(daysAfter(day), "a", day + 1));
  const made = series(usage(items, 10), 4, 6);
  assert.deepEqual(calls(made), [[1 + 2 + 3], [4 + 5 + 6], [7 + 8 + 9], [10]]);
  assert.deepEqual(made.columns.at(-1)?.first, "2026-04-06");
  assert.deepEqual(made.columns.at(0)?.last, "2026-03-30");
  assert.deepEqual(made.columns.at(-1)?.last, "2026-04-06");
});

test("the models that are called least are one, so that no call is lost", () => {
  const items = "abcdefgh".split("").map((model, place) => used("2026-03-28", model, 8 - place));
  const made = series(usage(items, 1), 100, 3);
  assert.deepEqual(made.models, ["a", "b", OTHERS]);
  assert.deepEqual(calls(made), [[8, 7, 6 + 5 + 4 + 3 + 2 + 1]]);
});

test("a model of any name is one like any other", () => {
  const items = ["__proto__", "constructor", "1"].map((model) => used("2026-03-28", model));
  assert.deepEqual(
    byModel(items).map(([model, { calls }]) => [model, calls]),
    [
      ["__proto__", 1],
      ["constructor", 1],
      ["1", 1],
    ],
  );
});

test("a mean is weighted by the calls", () => {
  const { calls, failed, latency_ms } = sum([used("2026-03-28", "a", 3, 100), used("2026-03-29", "a", 1, 500)]);
  assert.deepEqual({ calls, failed, latency_ms }, { calls: 4, failed: 2, latency_ms: { mean: 200, max: 1000 } });
  assert.deepEqual(sum([]).latency_ms, { mean: 0, max: 0 });
});

test("an axis ends at the highest value or a little above, in four whole parts", () => {
  for (const value of [0, 1, 4, 5, 9, 16, 17, 99, 250, 1001, 4200, 123_456, 9_999_999]) {
    const top = roundedUp(value);
    assert.ok(top >= value && Number.isInteger(top / 4), `${value}: ${top}`);
    assert.ok(value < 4 || top < 2 * value, `${value}: ${top}`);
  }
});

test("a day begins at its first moment in UTC and ends with the next one's, in leap years too", () => {
  assert.equal(startOf("2028-02-28"), "2028-02-28T00:00:00Z");
  assert.equal(endOf("2028-02-28"), "2028-02-29T00:00:00.000Z");
  assert.equal(endOf("2026-12-31"), "2027-01-01T00:00:00.000Z");
  assert.match(daysBefore(0), /^\d{4}-\d\d-\d\d$/);
});

/** @param {number} days */
function daysAfter(days) {
  return new Date(Date.parse("2026-03-28T00:00:00Z") + days * 24 * 60 * 60 * 1000).toISOString().slice(0, 10);
}
