import { idempotencyKey, persistently } from "../api.js";
import { element, field } from "../elements.js";
import { errorNotice } from "../notice.js";
import { milliseconds } from "./report.js";

/** @typedef {import("./versions.js").Version} Version */
/** @typedef {import("../types.js").Services} Services */
/** @typedef {import("./result.js").Chosen} Chosen */

/**
 * Runs either of two versions through `/generate`, and shows the answers side by side.
 *
 * @param {Services} services
 * @param {() => Chosen} chosen
 * @param {Version} left
 * @param {Version} right
 */
export function trial(services, chosen, left, right) {
  if (!services.session.can("generate")) {
    return element("p", { class: "hint" }, "To run a version, this client needs the scope generate.");
  }
  const length = element("input", { type: "number", min: 1, value: 150, required: true });
  const sides = [left, right].map((version) => run(services, chosen, version, length));
  const runBoth = () => {
    for (const { start } of sides) start();
  };
  const both = element("button", { type: "button", onclick: runBoth }, "Run both");
  return element(
    "section",
    { class: "card trial", "aria-label": "Try them" },
    element("h3", {}, "Try them"),
    element("div", { class: "row" }, field("Answer length, in tokens", length), both),
    element("div", { class: "pair" }, ...sides.map((side) => side.element)),
  );
}

/**
 * @param {Services} services
 * @param {() => Chosen} chosen
 * @param {Version} version
 * @param {HTMLInputElement} length
 */
function run({ api }, chosen, { name, text }, length) {
  const state = element("p", { role: "status", class: "hint" });
  const answer = element("div");
  const button = element("button", { type: "button", onclick: () => (running ? running.abort() : start()) });
  /** @type {AbortController | null} */
  let running = null;
  rest();

  function rest() {
    running = null;
    button.textContent = `Run ${name}`;
  }

  async function start() {
    if (running || !length.reportValidity()) return;
    running = new AbortController();
    const { signal } = running;
    button.textContent = `Stop ${name}`;
    state.textContent = "Running.";
    answer.replaceChildren();
    try {
      const body = { prompt: text, max_length: length.valueAsNumber, model: chosen().model };
      const made = await generated(api, body, signal, (seconds) => {
        state.textContent = `No answer yet: trying again in ${seconds} s.`;
      });
      answer.append(outputPane(name, made.generated_text));
      state.textContent = told(made);
    } catch (error) {
      state.textContent = signal.aborted ? "Not waiting any more. The log will have what comes of it." : "";
      if (!signal.aborted) answer.append(errorNotice(error));
    }
    rest();
  }
  return { element: element("div", {}, button, state, answer), start };
}

/**
 * @param {import("../api.js").Api} api
 * @param {{ prompt: string, max_length: number, model?: string }} body
 * @param {AbortSignal} signal
 * @param {(seconds: number) => void} waiting
 * @returns {Promise<import("../types.js").Generation>}
 */
async function generated(api, body, signal, waiting) {
  const headers = { "Idempotency-Key": idempotencyKey() };
  return (await persistently(() => api.post("generate", { body, headers, signal }), { signal, waiting })).body;
}

/**
 * @param {string} name
 * @param {string} text
 */
function outputPane(name, text) {
  const attributes = { class: "prompt", dir: "auto", tabindex: 0, role: "region", "aria-label": `Answer to ${name}` };
  return element("pre", attributes, text);
}

/** @param {import("../types.js").Generation} made */
function told({ model, usage, latency_ms, finish_reason }) {
  const cut = finish_reason === "length" ? ", cut at this length" : "";
  const tokens = usage.output_tokens === null ? "tokens not counted" : `${usage.output_tokens} tokens`;
  return `${model}: ${tokens}${cut}, ${milliseconds(latency_ms)}.`;
}
