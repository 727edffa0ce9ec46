import { diffArrays } from "diff";

/**
 * A run of text that stands in both versions, or in one of them only.
 *
 * @typedef {{ text: string, in: "both" | "left" | "right" }} Run
 */

const WORDS = new Intl.Segmenter(undefined, { granularity: "word" });

/**
 * Compare two texts, line by line and then, where lines differ, word by word. Words are those of Unicode (UAX #29), so
 * that scripts without spaces have words too. What takes longer than the time given is compared less finely.
 *
 * @param {string} left
 * @param {string} right
 * @param {number} milliseconds
 * @returns {Run[]}
 */
export function compare(left, right, milliseconds) {
  const end = Date.now() + milliseconds;
  const coarse = differences(lines(left), lines(right), milliseconds / 2);
  const fine = changedBlocks(coarse).flatMap((block) =>
    "text" in block ? [block] : differences(words(block.left), words(block.right), end - Date.now()),
  );
  return joined(fine);
}

/** @param {string} text */
function lines(text) {
  return text.split(/(?<=\n)/);
}

/** @param {string} text */
function words(text) {
  return Array.from(WORDS.segment(text), ({ segment }) => segment);
}

/**
 * @param {string[]} left
 * @param {string[]} right
 * @param {number} milliseconds
 * @returns {Run[]} As one replaced by the other, where the time was too short.
 */
function differences(left, right, milliseconds) {
  const changes = milliseconds > 0 ? diffArrays(left, right, { timeout: milliseconds }) : undefined;
  if (!changes) return replaced(left.join(""), right.join(""));
  return changes.map(({ value, added, removed }) => ({
    text: value.join(""),
    in: added ? "right" : removed ? "left" : "both",
  }));
}

/**
 * @param {string} left
 * @param {string} right
 * @returns {Run[]}
 */
function replaced(left, right) {
  return [
    { text: left, in: "left" },
    { text: right, in: "right" },
  ];
}

/**
 * Bring what was removed and what was added in one place together.
 *
 * @param {Run[]} runs
 * @returns {(Run | { left: string, right: string })[]}
 */
function changedBlocks(runs) {
  /** @type {(Run | { left: string, right: string })[]} */
  const blocks = [];
  for (const run of runs) {
    const last = blocks.at(-1);
    if (run.in === "both") blocks.push(run);
    else if (last && "left" in last) last[run.in] += run.text;
    else blocks.push({ left: "", right: "", [run.in]: run.text });
  }
  return blocks;
}

/**
 * Let changes that have only a space between them be one: "a b" for "c d" reads better than "a" for "c", "b" for "d".
 *
 * @param {Run[]} runs
 * @returns {Run[]}
 */
function joined(runs) {
  const bridged = runs.flatMap((run, place) => {
    const between = runs[place - 1]?.in !== "both" && runs[place + 1]?.in !== "both" && place < runs.length - 1;
    return run.in === "both" && place > 0 && between && /^[ \t]+$/.test(run.text)
      ? replaced(run.text, run.text)
      : [run];
  });
  return changedBlocks(bridged)
    .flatMap((block) => ("text" in block ? [block] : replaced(block.left, block.right)))
    .filter(({ text }) => text !== "");
}

/**
 * How many words stand in runs of one kind.
 *
 * @param {Run[]} runs
 * @param {Run["in"]} side
 */
export function countWords(runs, side) {
  return runs
    .filter((run) => run.in === side)
    .reduce((sum, { text }) => sum + Array.from(WORDS.segment(text)).filter(({ isWordLike }) => isWordLike).length, 0);
}
