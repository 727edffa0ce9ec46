import { element, uniqueId } from "../elements.js";

/** @param {Record<string, string>} words What people read, by the API's value. */
export function select(words) {
  const options = Object.entries(words).map(([value, word]) => element("option", { value }, word));
  return element("select", {}, element("option", { value: "" }, "All"), ...options);
}

/** @param {number} longest In characters. */
export function text(longest) {
  return element("input", { type: "text", maxlength: longest, autocomplete: "off", spellcheck: "false", dir: "auto" });
}

/** A field for any text, with some to choose from. */
export class Suggesting {
  list = element("datalist", { id: uniqueId() });
  input;
  /** @type {Set<string>} */
  #suggested = new Set();

  /** @param {number} longest In characters. */
  constructor(longest) {
    this.input = text(longest);
    this.input.setAttribute("list", this.list.id);
  }

  /** @param {string | null} value */
  suggest(value) {
    if (value === null || this.#suggested.has(value)) return;
    this.#suggested.add(value);
    this.list.append(element("option", { value }));
  }
}
