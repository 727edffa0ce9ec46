import { idempotencyKey, persistently } from "./api.js";
import { NoAnswer, Problem } from "./problems.js";
import { sleep } from "./waiting.js";

/** @typedef {import("./types.js").Refinement} Refinement */
/** @typedef {{ prompt?: string, parent_id?: string, instructions?: string, strategy?: string, model?: string }} Wanted */
/**
 * How it goes: it is being `sent`; it was `accepted` and is worked on; or there was no answer, or one that says to come
 * again, and in so many seconds it is tried again.
 *
 * @typedef {{ state: "sent" } | { state: "accepted" } | { state: "waiting", seconds: number, error: Error }} Progress
 */

// Where the service says nothing.
const LOOK_AGAIN_SECONDS = 2;

/**
 * A refinement that is wanted once. However often `done` is called, after a lost connection or a change of mind, it is
 * sent under one `Idempotency-Key`, so that the model is paid once.
 */
export class Job {
  #api;
  #wanted;
  #key = idempotencyKey();
  /** @type {string | null} */
  #id;

  /**
   * @param {import("./api.js").Api} api
   * @param {Wanted | null} wanted
   * @param {string | null} id Of a refinement that was asked for before, of which nothing more is known.
   */
  constructor(api, wanted, id = null) {
    this.#api = api;
    this.#wanted = wanted;
    this.#id = id;
  }

  /** The refinement's id, as soon as the service has given it one. */
  get id() {
    return this.#id;
  }

  /**
   * Ask for the refinement, and then for what has become of it, until it is made.
   *
   * @param {AbortSignal} signal Stops the asking; the service goes on.
   * @param {(progress: Progress) => void} report
   * @returns {Promise<Refinement>}
   * @throws {Problem | DOMException}
   */
  async done(signal, report) {
    const how = {
      signal,
      /** @type {(seconds: number, error: Error) => void} */
      waiting: (seconds, error) => report({ state: "waiting", seconds, error }),
    };
    report({ state: this.#id ? "accepted" : "sent" });
    let answer = await persistently(() => (this.#id ? this.#look(signal) : this.#send(signal)), how);
    for (;;) {
      this.#id = answer.body.id;
      if (answer.body.status !== "pending") return this.#settled(answer);
      report({ state: "accepted" });
      await sleep(Number(answer.headers.get("Retry-After")) || LOOK_AGAIN_SECONDS, signal);
      answer = await persistently(() => this.#look(signal), how);
    }
  }

  /** @param {AbortSignal} signal */
  async #send(signal) {
    const headers = { Prefer: "respond-async", "Idempotency-Key": this.#key };
    return whole(await this.#api.post("refine", { body: this.#wanted ?? {}, headers, signal }));
  }

  /** @param {AbortSignal} signal */
  async #look(signal) {
    return whole(await this.#api.get(`refine/${encodeURIComponent(String(this.#id))}`, { signal }));
  }

  /**
   * @param {import("./api.js").Answer} answer
   * @throws {Problem} the one that the refinement ended with
   */
  #settled({ headers, body }) {
    if (!body.error) return body;
    const problem = new Problem({ status: body.error.status, headers }, body.error);
    // The service has let go of the key: the next one to send it starts anew.
    if (this.mayBeSentAgain(problem)) this.#id = null;
    throw problem;
  }

  /**
   * Whether another try, under the same key, can end otherwise. After any other error the service would repeat itself.
   *
   * @param {unknown} error
   */
  mayBeSentAgain(error) {
    return this.#wanted !== null && error instanceof Problem && [409, 429, 503, 504].includes(error.status);
  }
}

/**
 * @param {import("./api.js").Answer} answer
 * @throws {NoAnswer} where the answer is somebody else's, such as the sign-in page of a network
 */
function whole(answer) {
  if (typeof answer.body?.id !== "string") throw new NoAnswer();
  return answer;
}
