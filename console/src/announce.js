import { element } from "./elements.js";

const voice = element("div", { class: "for-readers", role: "status" });

/** Where screen readers listen: put into the page once. */
export const announcer = voice;

/**
 * Have screen readers say what others see.
 *
 * @param {string} text
 */
export function announce(text) {
  voice.textContent = text;
}
