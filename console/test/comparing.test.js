import assert from "node:assert/strict";
import { test } from "node:test";
import { compare, countWords } from "../src/comparing.js";

const AMPLE = 60_000;

/** @type {[string, string][]} */
const PAIRS = [
  ["", "new"],
  ["old", ""],
  ["same", "same"],
  ["one\ntwo\nthree\n", "one\n2\nthree"],
  ["hey can you write a mail??", "Write a mail to {{name}}."],
  ["猫の詩\r\nを書く", "犬の詩\nを書く"],
  ["a\u0000b", "a\tb  c\n\n\n"],
  ["x ".repeat(2000), "y x ".repeat(1500)],
];

/** @type {(runs: import("../src/comparing.js").Run[], side: "left" | "right") => string} */
const side = (runs, side) =>
  runs
    .filter((run) => run.in === "both" || run.in === side)
    .map((run) => run.text)
    .join("");

test("whatever is compared, and however little time there is, both texts come back whole", () => {
  for (const [left, right] of PAIRS) {
    for (const milliseconds of [AMPLE, 0]) {
      const runs = compare(left, right, milliseconds);
      assert.equal(side(runs, "left"), left);
      assert.equal(side(runs, "right"), right);
    }
  }
});

test("what is equal is not marked", () => {
  assert.deepEqual(compare("a b\n", "a b\n", AMPLE), [{ text: "a b\n", in: "both" }]);
});

test("neighbouring changes with a space between them are one", () => {
  assert.deepEqual(compare("say a b now", "say c d now", AMPLE), [
    { text: "say ", in: "both" },
    { text: "a b", in: "left" },
    { text: "c d", in: "right" },
    { text: " now", in: "both" },
  ]);
});

test("without time, all is replaced by all", () => {
  assert.deepEqual(compare("one two", "one three", 0), [
    { text: "one two", in: "left" },
    { text: "one three", in: "right" },
  ]);
});

test("words are counted, not spaces and marks", () => {
  const runs = compare("", "Write a mail, {{name}}!", AMPLE);
  assert.equal(countWords(runs, "right"), 4);
  assert.equal(countWords(runs, "left"), 0);
});
