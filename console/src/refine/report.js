import { element } from "../elements.js";

/** @typedef {import("../types.js").Refinement} Refinement */
/** @typedef {import("../types.js").Integrity} Integrity */

/**
 * What the service says of a refinement: what a program depends on, what was changed and why, what was taken for
 * granted, and what it cost.
 *
 * @param {Refinement} refinement
 */
export function report(refinement) {
  return element(
    "div",
    { class: "report" },
    section("What a program depends on", integrity(refinement.integrity)),
    section("Changes", changes(refinement.changes)),
    section("Assumptions", assumptions(refinement.assumptions)),
    section("Cost", facts(costs(refinement))),
  );
}

/**
 * @param {string} title
 * @param {Node} content
 */
export function section(title, content) {
  return element("section", { class: "card" }, element("h3", {}, title), content);
}

/** @param {string[]} texts */
export function assumptions(texts) {
  if (texts.length === 0) return element("p", {}, "None.");
  return element("ul", { dir: "auto" }, ...texts.map((text) => element("li", {}, text)));
}

/** @param {import("../types.js").Change[]} changes */
export function changes(changes) {
  if (changes.length === 0) return element("p", {}, "None.");
  const items = changes.map(({ reason, before, after }) =>
    element(
      "li",
      {},
      element("p", {}, reason),
      before && element("del", {}, before),
      before && after ? " " : null,
      after && element("ins", {}, after),
    ),
  );
  return element("ol", { class: "changes", dir: "auto" }, ...items);
}

/** @param {Integrity} integrity */
export function integrity({ ok, attempts, placeholders, code_blocks, urls, script_changed }) {
  const verdict = ok
    ? "Everything was kept."
    : "The model's text lost or made up what is marked here, and was rejected.";
  const blocks = code_blocks.kept + code_blocks.lost;
  return element(
    "div",
    { class: "integrity" },
    element("p", {}, verdict, attempts > 1 && ` The model was asked ${attempts} times.`),
    element(
      "ul",
      { class: "chips", "aria-label": "Placeholders and URLs" },
      ...chips(placeholders.kept, "kept"),
      ...chips(placeholders.lost, "lost"),
      ...chips(placeholders.added, "added"),
      ...chips(urls.lost, "lost"),
    ),
    placeholders.kept.length + placeholders.lost.length + placeholders.added.length === 0 &&
      element("p", {}, "No placeholders."),
    urls.kept > 0 && element("p", {}, `URLs kept: ${urls.kept}.`),
    blocks > 0 && element("p", {}, `Code blocks kept: ${code_blocks.kept} of ${blocks}.`),
    script_changed && element("p", {}, "The writing system changed."),
  );
}

/**
 * @param {string[]} texts One that stands there twice has one chip.
 * @param {"kept" | "lost" | "added"} fate
 */
function chips(texts, fate) {
  const counts = new Map();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return Array.from(counts, ([text, count]) =>
    element(
      "li",
      { class: `chip ${fate}` },
      element("span", {}, fate),
      " ",
      element("code", { dir: "auto" }, text),
      count > 1 && ` (${count})`,
    ),
  );
}

/** @param {Refinement} refinement */
function costs({ model, engine, strategy, usage, latency_ms, id }) {
  return {
    "Made by": engine === "offline" ? "built-in rules, no model" : model,
    Strategy: strategy,
    "Tokens in": usage?.input_tokens ?? "not counted",
    "Tokens out": usage?.output_tokens ?? "not counted",
    Latency: milliseconds(latency_ms),
    Id: id,
  };
}

/** @param {Record<string, string | number | null | undefined>} values By what they are; null is left out. */
export function facts(values) {
  const rows = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return element(
    "dl",
    {},
    ...rows.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, element("bdi", {}, String(value)))]),
  );
}

/** @param {number} count */
export function milliseconds(count) {
  return count < 1000 ? `${count} ms` : `${(count / 1000).toFixed(1)} s`;
}
