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
 *
 * @typedef {object} AuditRecord
 * @property {string} id
 * @property {"refine" | "generate" | "client"} kind
 * @property {"pending" | "succeeded" | "failed" | "abandoned"} status
 * @property {string} user_id
 * @property {string} client_id
 * @property {string} request_id
 * @property {string} prompt
 * @property {string | null} response
 * @property {object | null} metadata
 * @property {Partial<RecordDetail>} detail
 * @property {string | null} model
 * @property {string | null} engine
 * @property {Tokens | null} usage
 * @property {{ type: string, title: string, status: number, detail: string } | null} error
 * @property {number | null} latency_ms
 * @property {string} timestamp
 * @property {string | null} completed_at
 *
 * @typedef {object} RecordDetail What belongs to the kind, and to how it ended.
 * @property {string} strategy
 * @property {string | null} instructions
 * @property {string | null} parent_id
 * @property {boolean} refined
 * @property {Change[]} changes
 * @property {string[]} assumptions
 * @property {Integrity} integrity
 * @property {string | null} rejected
 *
 * @typedef {object} DayOfUsage
 * @property {string} day
 * @property {string} model
 * @property {number} calls
 * @property {number} succeeded
 * @property {number} failed
 * @property {number} input_tokens
 * @property {number} output_tokens
 * @property {{ mean: number, max: number }} latency_ms
 *
 * @typedef {{ from: string, to: string, items: DayOfUsage[] }} Usage
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
