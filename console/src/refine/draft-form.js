import { announce } from "../announce.js";
import { persistently } from "../api.js";
import { element, field } from "../elements.js";
import { errorNotice } from "../notice.js";
import { acceptsText } from "./text-input.js";

/** @typedef {import("../types.js").Choice} Choice */

/**
 * The draft, and how to refine it.
 *
 * @param {import("../types.js").Services} services
 * @param {(wanted: import("../job.js").Wanted) => void} submit
 */
export function draftForm({ api }, submit) {
  const prompt = element("textarea", { rows: 6, required: true, dir: "auto", spellcheck: "false", oninput: count });
  const counted = element("p", { class: "hint" });
  const instructions = element("textarea", { rows: 2, maxlength: 4000, dir: "auto" });
  const strategy = select("Strategy");
  const model = select("Model");
  const errors = element("div", { class: "errors" });
  const file = acceptsText(prompt, {
    take(text, name) {
      prompt.value = text;
      count();
      announce(`${name} is the prompt now.`);
      prompt.focus();
    },
    refuse(reason) {
      errors.replaceChildren(element("div", { class: "notice error", role: "alert" }, reason));
    },
  });

  /** @param {SubmitEvent} event */
  function send(event) {
    event.preventDefault();
    errors.replaceChildren();
    const wish = instructions.value.trim() ? { instructions: instructions.value } : {};
    submit({ prompt: prompt.value, ...wish, ...chosen() });
  }

  function count() {
    const characters = Array.from(prompt.value).length;
    counted.textContent = `${characters.toLocaleString("en")} characters. Paste, type, or drop a text file.`;
  }

  /** What was not yet offered is left to the service. */
  function chosen() {
    return { strategy: strategy.control.value || undefined, model: model.control.value || undefined };
  }

  count();
  Promise.all([offer(strategy, "strategies"), offer(model, "models")]).catch((error) =>
    errors.append(errorNotice(error)),
  );
  return {
    element: element(
      "form",
      { class: "card draft", onsubmit: send },
      field("Prompt", prompt),
      element("div", { class: "row" }, counted, file),
      field("Instructions (optional)", instructions, "What to change, in plain words."),
      element("div", { class: "row choices" }, strategy.element, model.element),
      errors,
      element("button", { type: "submit", class: "primary" }, "Refine"),
    ),
    chosen,
  };

  /**
   * @param {ReturnType<typeof select>} target
   * @param {string} path
   */
  async function offer(target, path) {
    const { body } = await persistently(() => api.get(path), { signal: new AbortController().signal, waiting() {} });
    target.offer(body.items);
  }
}

/**
 * A choice whose hint describes what is chosen.
 *
 * @param {string} label
 */
function select(label) {
  /** @type {Choice[]} */
  let choices = [];
  const control = element("select", { onchange: describe });
  const box = field(label, control, " ");
  const hint = /** @type {HTMLElement} */ (box.lastElementChild);
  function describe() {
    hint.textContent = choices[control.selectedIndex]?.description ?? "";
  }
  return {
    element: box,
    control,
    /** @param {Choice[]} items */
    offer(items) {
      choices = items;
      control.replaceChildren(...items.map((item) => new Option(item.id, item.id, item.default, item.default)));
      describe();
    },
  };
}
