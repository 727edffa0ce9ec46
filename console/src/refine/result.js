import { element, field } from "../elements.js";
import { panes } from "./panes.js";
import { report } from "./report.js";
import { trial } from "./trial.js";

/** @typedef {import("./versions.js").Versions} Versions */
/** @typedef {{ strategy?: string, model?: string }} Chosen */

/** A refinement and those before it: any two side by side, and a way to go on from one. */
export class Result {
  #services;
  #chosen;
  #refineAgain;
  #title = element("h2", { tabindex: -1 });
  #steps = element("div", { class: "versions" });
  #body = element("div");
  element = element(
    "section",
    { class: "result", hidden: true, "aria-label": "Result" },
    this.#title,
    this.#steps,
    this.#body,
  );

  /**
   * @param {import("../types.js").Services} services
   * @param {() => Chosen} chosen
   * @param {(versions: Versions, instructions: string) => void} refineAgain Goes on from the version on the right.
   */
  constructor(services, chosen, refineAgain) {
    this.#services = services;
    this.#chosen = chosen;
    this.#refineAgain = refineAgain;
  }

  focus() {
    this.#title.focus();
  }

  reveal() {
    this.#title.scrollIntoView();
  }

  /** @param {Versions} versions */
  show(versions) {
    const { leftVersion: left, rightVersion: right } = versions;
    this.element.hidden = false;
    this.#title.textContent = versions.right === 0 ? right.name : `${right.name} of ${versions.all.length - 1}`;
    // One version and its draft are all there is to compare.
    this.#steps.hidden = versions.all.length === 2;
    this.#steps.replaceChildren(
      row(this.#step("Earlier", versions, -1), this.#step("Later", versions, +1)),
      row(field("Compare", this.#choice(versions, "left")), field("with", this.#choice(versions, "right"))),
    );
    const { refinement } = right;
    this.#body.replaceChildren(
      ...(refinement && !refinement.refined ? [unrefined()] : []),
      panes(left, right),
      ...(refinement ? [report(refinement), this.#feedback(versions)] : []),
      trial(this.#services, this.#chosen, left, right),
    );
  }

  /**
   * @param {string} name
   * @param {Versions} versions
   * @param {-1 | 1} direction
   */
  #step(name, versions, direction) {
    const place = versions.right + direction;
    const possible = place > 0 && place < versions.all.length;
    const go = () => {
      if (!possible) return;
      versions.show(place);
      this.show(versions);
      // This button was made anew.
      [...this.#steps.querySelectorAll("button")].find((button) => button.textContent === name)?.focus();
    };
    return element("button", { type: "button", "aria-disabled": possible ? null : "true", onclick: go }, name);
  }

  /**
   * @param {Versions} versions
   * @param {"left" | "right"} side
   */
  #choice(versions, side) {
    const change = () => {
      versions[side] = select.selectedIndex;
      this.show(versions);
      this.#steps.querySelectorAll("select")[side === "left" ? 0 : 1].focus();
    };
    const options = versions.all.map(({ name }) => element("option", {}, name));
    const select = element("select", { onchange: change }, ...options);
    select.selectedIndex = versions[side];
    return select;
  }

  /** @param {Versions} versions */
  #feedback(versions) {
    const wish = element("textarea", { rows: 2, maxlength: 4000, required: true, dir: "auto" });
    /** @param {SubmitEvent} event */
    const submit = (event) => {
      event.preventDefault();
      this.#refineAgain(versions, wish.value);
    };
    return element(
      "form",
      { class: "card", onsubmit: submit },
      field(`What should change in ${versions.rightVersion.name}?`, wish),
      element("button", { type: "submit" }, "Refine again"),
    );
  }
}

/** @param {...HTMLElement} children */
function row(...children) {
  return element("div", { class: "comparing" }, ...children);
}

function unrefined() {
  const advice =
    "No text of the model kept what a program depends on. Name what was lost in the instructions, or try another model.";
  return element(
    "div",
    { class: "notice warning" },
    element("strong", {}, "The draft is unchanged"),
    element("p", {}, advice),
  );
}
