import { NoAnswer, Problem } from "./problems.js";
import { answered, parsed, text } from "./requests.js";
import { sleep } from "./waiting.js";

/** @typedef {import("./session.js").Session} Session */
/** @typedef {{ status: number, headers: Headers, body: any, text: string }} Answer `text` is the body as it came. */
/** @typedef {{ body?: object, headers?: Record<string, string>, signal?: AbortSignal }} Options */

const LONGEST_WAIT = 60;
const MOST_TRIES = 5;

/** The service's API. Addresses are relative to the page, so that they are right below any prefix. */
export class Api {
  #session;

  /** @param {Session} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * @param {string} path Such as `strategies`: without a slash in front.
   * @param {Options} [options]
   */
  get(path, options) {
    return this.#ask("GET", path, options);
  }

  /**
   * @param {string} path
   * @param {Options} options
   */
  post(path, options) {
    return this.#ask("POST", path, options);
  }

  /**
   * Ask, with the token. One that is no longer good ends the session, and the request waits until somebody has signed in
   * again: what asked for it does not notice.
   *
   * @param {string} method
   * @param {string} path
   * @param {Options} [options]
   * @returns {Promise<Answer>}
   * @throws {Problem | NoAnswer | DOMException}
   */
  async #ask(method, path, { body, headers = {}, signal } = {}) {
    for (;;) {
      const authorization = await this.#session.authorization(signal);
      const request = new Request(path, {
        method,
        headers: { ...headers, Authorization: authorization, ...(body ? { "Content-Type": "application/json" } : {}) },
        body: body ? JSON.stringify(body) : undefined,
        credentials: "omit",
        cache: "no-store",
        signal,
      });
      const response = await answered(request);
      const sent = await text(response);
      const answer = parsed(sent);
      if (response.ok) return { status: response.status, headers: response.headers, body: answer, text: sent };
      const problem = new Problem(response, answer);
      if (problem.status !== 401) throw problem;
      // Another request may have found out before, and somebody may have signed in since.
      if (authorization === this.#session.current) this.#session.close({ expired: true });
    }
  }
}

/**
 * @param {Answer} answer To a request for a list.
 * @throws {NoAnswer} where the answer is somebody else's, such as the sign-in page of a network
 */
export function list(answer) {
  if (!Array.isArray(answer.body?.items)) throw new NoAnswer();
  return answer;
}

/** A name for one wish, under which it is granted once, however often it is sent: for the header `Idempotency-Key`. */
export function idempotencyKey() {
  // Not `crypto.randomUUID`, which a page without TLS does not have.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Ask until there is an answer that lasts. Only what may be sent twice: it is read, or has an `Idempotency-Key`.
 *
 * A lost connection is tried for as long as it takes, and so is a gateway that could not wait for the service. Where the
 * service says `Retry-After`, it is asked again then, a few times.
 *
 * @template T
 * @param {() => Promise<T>} ask
 * @param {{ signal: AbortSignal, waiting: (seconds: number, error: Error) => void }} how
 * @returns {Promise<T>}
 * @throws {Problem | DOMException}
 */
export async function persistently(ask, { signal, waiting }) {
  for (let lost = 0, refused = 0; ; ) {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof NoAnswer || (error instanceof Problem && isGateways(error))) {
        const wait = Math.min(2 ** lost++, 15);
        waiting(wait, error);
        await sleep(wait, signal, "online");
      } else if (error instanceof Problem && passes(error) && refused++ < MOST_TRIES) {
        waiting(error.retryAfter ?? 1, error);
        await sleep(error.retryAfter ?? 1, signal);
      } else {
        throw error;
      }
    }
  }
}

/**
 * Whether something in front of the service failed: what the service itself says has a code.
 *
 * @param {Problem} problem
 */
function isGateways({ status, code }) {
  return code === "" && status >= 500;
}

/** @param {Problem} problem */
function passes({ status, code, retryAfter }) {
  return [409, 429, 503].includes(status) && code !== "no-model" && retryAfter !== null && retryAfter <= LONGEST_WAIT;
}
