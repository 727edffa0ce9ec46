import { list, persistently } from "../api.js";

/** @typedef {import("../types.js").AuditRecord} AuditRecord */
/** @typedef {Parameters<typeof persistently>[1]} How */

/**
 * The records that a query selects, a page at a time, newest first. A page that did not come can be asked for again:
 * no record is skipped, and none comes twice.
 */
export class Pages {
  #api;
  #query;
  /** @type {string | null} */
  #cursor = null;

  hasMore = true;

  /**
   * @param {import("../api.js").Api} api
   * @param {URLSearchParams} query As for `GET /log-request`, without `cursor`.
   */
  constructor(api, query) {
    this.#api = api;
    this.#query = query;
  }

  /**
   * @param {How} how
   * @returns {Promise<AuditRecord[]>}
   * @throws {import("../problems.js").Problem | DOMException}
   */
  async next(how) {
    const query = new URLSearchParams(this.#query);
    if (this.#cursor !== null) query.set("cursor", this.#cursor);
    const { signal } = how;
    const { text } = await persistently(async () => list(await this.#api.get(`log-request?${query}`, { signal })), how);
    const page = JSON.parse(text, /** @type {any} */ (exactly));
    this.#cursor = page.next_cursor;
    this.hasMore = page.next_cursor !== null;
    return page.items;
  }
}

/**
 * Keeps a number that JavaScript would write otherwise, such as 12345678901234567890, as it stands in the text, where
 * the browser can (https://tc39.es/proposal-json-parse-with-source/). Such numbers are in `metadata` alone.
 *
 * @param {string} _name
 * @param {unknown} value
 * @param {{ source?: string }} [context]
 */
function exactly(_name, value, context) {
  const { rawJSON } = /** @type {any} */ (JSON);
  if (typeof value !== "number" || !rawJSON || !context?.source) return value;
  return String(value) === context.source ? value : rawJSON(context.source);
}
