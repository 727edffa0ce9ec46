import { element, field } from "../elements.js";
import { panes } from "./panes.js";
import { report } from "./report.js";
import { trial } from "./trial.js";

/** @typedef {import("./versions.js").Versions} Versions */
/** @typedef {{ strategy?: string, model?: string }} Chosen */

/**
 * A refinement and those before it: any two side by side, and a way to go on from one.
 *
 * @param {import("../types.js").Services} services
 * @param {() => Chosen} chosen
 * @param {(instructions: string, parent: number) => void} refineAgain
 */
export function result(services, chosen, refineAgain) {
  const title = element("h2", { tabindex: -1 });
  const steps = element("div", { class: "versions" });
  const body = element("div");
  const box = element("section", { class: "result", hidden: true, "aria-label": "Result" }, title, steps, body);

  /** @param {Versions} versions */
  function show(versions) {
    const [left, right] = [versions.all[versions.left], versions.all[versions.right]];
    box.hidden = false;
    title.textContent = versions.right === 0 ? right.name : `${right.name} of ${versions.all.length - 1}`;
    // One version and its draft are all there is to compare.
    steps.hidden = versions.all.length === 2;
    steps.replaceChildren(
      element(
        "div",
        { class: "comparing" },
        step("Earlier", versions.right - 1, versions),
        step("Later", versions.right + 1, versions),
      ),
      element(
        "div",
        { class: "comparing" },
        field("Compare", choice(versions, "left")),
        field("with", choice(versions, "right")),
      ),
    );
    const { refinement } = right;
    body.replaceChildren(
      ...(refinement && !refinement.refined ? [unrefined()] : []),
      panes(left, right),
      ...(refinement ? [report(refinement), feedback(versions)] : []),
      trial(services, chosen, left, right),
    );
  }

  /**
   * @param {string} name
   * @param {number} place
   * @param {Versions} versions
   */
  function step(name, place, versions) {
    const possible = place > 0 && place < versions.all.length;
    const go = () => {
      if (!possible) return;
      versions.show(place);
      show(versions);
      // The button was made anew.
      [...steps.querySelectorAll("button")].find((button) => button.textContent === name)?.focus();
    };
    return element("button", { type: "button", "aria-disabled": possible ? null : "true", onclick: go }, name);
  }

  /**
   * @param {Versions} versions
   * @param {"left" | "right"} side
   */
  function choice(versions, side) {
    const change = () => {
      versions[side] = select.selectedIndex;
      show(versions);
      steps.querySelectorAll("select")[side === "left" ? 0 : 1].focus();
    };
    const select = element(
      "select",
      { onchange: change },
      ...versions.all.map(({ name }) => element("option", {}, name)),
    );
    select.selectedIndex = versions[side];
    return select;
  }

  /** @param {Versions} versions */
  function feedback(versions) {
    const wish = element("textarea", { rows: 2, maxlength: 4000, required: true, dir: "auto" });
    /** @param {SubmitEvent} event */
    const submit = (event) => {
      event.preventDefault();
      refineAgain(wish.value, versions.right);
    };
    return element(
      "form",
      { class: "card", onsubmit: submit },
      field(`What should change in ${versions.all[versions.right].name}?`, wish),
      element("button", { type: "submit" }, "Refine again"),
    );
  }

  return { element: box, show, focus: () => title.focus() };
}

function unrefined() {
  return element(
    "div",
    { class: "notice warning" },
    element("strong", {}, "The draft is unchanged"),
    element(
      "p",
      {},
      "No text of the model kept what a program depends on. Name what was lost in the instructions, or try another model.",
    ),
  );
}
