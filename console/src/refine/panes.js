import { announce } from "../announce.js";
import { comparison } from "../comparison.js";
import { element } from "../elements.js";

/** @typedef {import("./versions.js").Version} Version */
/** @typedef {import("../comparing.js").Run} Run */

/**
 * Two versions side by side: what only the left one has is marked as deleted there, what only the right one has as
 * inserted. Until the comparison is made, they stand there unmarked.
 *
 * @param {Version} left
 * @param {Version} right
 */
export function panes(left, right) {
  const summary = element("p", { class: "hint" }, "Comparing.");
  const texts = { left: pane(left), right: pane(right) };
  comparison(left.text, right.text)
    .then(({ runs, removed, added }) => {
      texts.left.replaceChildren(...marked(runs, "left", "del"));
      texts.right.replaceChildren(...marked(runs, "right", "ins"));
      const same = left.text === right.text;
      summary.textContent = same ? "The two are the same." : `${words(removed)} removed, ${words(added)} added.`;
      announce(`${right.name} beside ${left.name}. ${summary.textContent}`);
    })
    .catch((error) => {
      summary.textContent = error.message;
    });
  return element(
    "div",
    { class: "panes" },
    summary,
    element("div", { class: "pair" }, column(left, texts.left), column(right, texts.right)),
  );
}

/** @param {Version} version */
function pane({ name, text }) {
  // With a keyboard, only what can have the focus can be scrolled.
  return element(
    "pre",
    { class: "prompt", dir: "auto", tabindex: 0, role: "region", "aria-label": `Text of ${name}` },
    text,
  );
}

/**
 * @param {Version} version
 * @param {HTMLElement} text
 */
function column(version, text) {
  const copy = element(
    "button",
    { type: "button", onclick: () => copyText(version, text) },
    "Copy ",
    element("span", {}, version.name),
  );
  return element(
    "section",
    { "aria-label": version.name },
    element("div", { class: "row" }, element("h3", {}, version.name), copy),
    text,
  );
}

/**
 * @param {Run[]} runs
 * @param {"left" | "right"} side
 * @param {"del" | "ins"} mark
 */
function marked(runs, side, mark) {
  return runs
    .filter((run) => run.in === "both" || run.in === side)
    .map((run) => (run.in === "both" ? run.text : element(mark, {}, run.text)));
}

/**
 * @param {Version} version
 * @param {HTMLElement} shown
 */
async function copyText({ name, text }, shown) {
  try {
    await navigator.clipboard.writeText(text);
    announce(`${name} is copied.`);
  } catch {
    // Without TLS, or without leave, a page has no clipboard: the keyboard has.
    getSelection()?.selectAllChildren(shown);
    shown.focus();
    announce(`${name} is selected: copy it with the keyboard.`);
  }
}

/** @param {number} count */
function words(count) {
  return count === 1 ? "1 word" : `${count} words`;
}
