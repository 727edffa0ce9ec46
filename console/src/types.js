/**
 * The API's answers, as far as this page reads them. `GET /openapi.json` describes them in full.
 *
 * @typedef {{ reason: string, before: string, after: string }} Change
 *
 * @typedef {object} Integrity
 * @property {boolean} ok
 * @property {number} attempts
 * @property {{ kept: string[], lost: string[], added: string[] }} placeholders
 * @property {{ kept: number, lost: number }} code_blocks
 * @property {{ kept: number, lost: string[] }} urls
 * @property {boolean} script_changed
 *
 * @typedef {{ input_tokens: number | null, output_tokens: number | null }} Tokens
 *
 * @typedef {object} Refinement
 * @property {string} id
 * @property {boolean} refined
 * @property {string} original_prompt
 * @property {string} refined_prompt
 * @property {Change[]} changes
 * @property {string[]} assumptions
 * @property {Integrity} integrity
 * @property {string | null} model
 * @property {string | null} engine
 * @property {string} strategy
 * @property {string | null} parent_id
 * @property {Tokens} usage
 * @property {number} latency_ms
 * @property {string} created_at
 *
 * @typedef {{ generated_text: string, model: string | null, finish_reason: "stop" | "length", usage: Tokens,
 *   latency_ms: number }} Generation
 *
 * @typedef {{ id: string, description: string, default: boolean }} Choice
 */

/**
 * What a part of the page is given.
 *
 * @typedef {{ session: import("./session.js").Session, api: import("./api.js").Api }} Services
 */

/**
 * A view: what the address names (`#/history`), the scope it takes, and how its element is made, the first time that it
 * is shown. `shown` is called each time, with what the address says behind the view's name.
 *
 * @typedef {{ route: string, title: string, scope: string, make: (services: Services) => ViewElement }} View
 * @typedef {{ element: HTMLElement, shown?: (what: string) => void }} ViewElement
 */
export {};
