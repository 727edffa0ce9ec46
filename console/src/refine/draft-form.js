import { element, field } from "../elements.js";
import { errorNotice } from "../notice.js";

/** @typedef {import("../types.js").Choice} Choice */

/**
 * The draft, and how to refine it.
 *
 * @param {import("../types.js").Services} services
 * @param {(wanted: import("../job.js").Wanted) => void} submit
 */
export function draftForm({ api }, submit) {
  const prompt = element("textarea", { rows: 8, required: true, dir: "auto", spellcheck: "false" });
  const instructions = element("textarea", { rows: 2, maxlength: 4000, dir: "auto" });
  const strategy = element("select");
  const model = element("select");
  const errors = element("div");
  const form = element(
    "form",
    {
      class: "card",
      onsubmit: (/** @type {SubmitEvent} */ event) => {
        event.preventDefault();
        submit({
          prompt: prompt.value,
          strategy: strategy.value,
          model: model.value,
          ...(instructions.value.trim() ? { instructions: instructions.value } : {}),
        });
      },
    },
    field("Prompt", prompt),
    field("Instructions (optional)", instructions, "What to change, in plain words."),
    element("div", { class: "row" }, field("Strategy", strategy), field("Model", model)),
    errors,
    element("button", { type: "submit", class: "primary" }, "Refine"),
  );
  Promise.all([offer(strategy, "strategies"), offer(model, "models")]).catch((error) =>
    errors.append(errorNotice(error)),
  );
  return form;

  /**
   * @param {HTMLSelectElement} select
   * @param {string} path
   */
  async function offer(select, path) {
    const { body } = await api.get(path);
    /** @type {Choice[]} */
    const choices = body.items;
    select.append(...choices.map((choice) => new Option(choice.id, choice.id, choice.default, choice.default)));
  }
}
