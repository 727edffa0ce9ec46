import { Problem } from "./problems.js";
import { answered, json } from "./requests.js";
import { once } from "./waiting.js";

/**
 * Who is signed in: the access token, which lives in this object and nowhere else. A reload of the page forgets it.
 *
 * Dispatches `open`, and `close` when the token is given up or no longer good.
 */
export class Session extends EventTarget {
  #token = "";
  /** @type {Set<string>} */
  #scopes = new Set();
  /** The client and the user that it was issued for. */
  #owner = "";

  get isOpen() {
    return this.#token !== "";
  }

  /** Why the last session ended: the service refused the token, or the user left. */
  expired = false;

  /** @param {string} scope */
  can(scope) {
    return this.#scopes.has(scope) || (scope === "log:read" && this.#scopes.has("log:read:all"));
  }

  /**
   * Exchange an API key for an access token (OAuth 2.0 client credentials, RFC 6749 §4.4). The key is not kept.
   *
   * What waits for a new token is its owner's: to anybody else the session ends, and nothing is exchanged.
   *
   * @param {string} apiKey
   * @param {string} userId The end user on whose behalf to ask; empty for the client itself.
   * @throws {Problem | import("./problems.js").NoAnswer}
   */
  async open(apiKey, userId) {
    const owner = JSON.stringify([apiKey.split(".")[0], userId]);
    if (this.expired && owner !== this.#owner) return this.#end({ expired: false });
    const parameters = new URLSearchParams({ grant_type: "client_credentials" });
    if (userId) parameters.set("user_id", userId);
    const request = new Request("token", {
      method: "POST",
      headers: { "X-API-Key": apiKey },
      body: parameters,
      // A refusal challenges with HTTP Basic, for which the browser would show a login box of its own.
      credentials: "omit",
    });
    const response = await answered(request);
    const body = await json(response);
    if (!response.ok || typeof body?.access_token !== "string") throw new Problem(response, body);
    this.#token = body.access_token;
    this.#owner = owner;
    this.#scopes = new Set(String(body.scope).split(" "));
    this.expired = false;
    this.dispatchEvent(new Event("open"));
  }

  /** The same, without waiting: null while nobody is signed in. */
  get current() {
    return this.isOpen ? `Bearer ${this.#token}` : null;
  }

  /** @param {{ expired: boolean }} why */
  close({ expired }) {
    if (this.isOpen) this.#end({ expired });
  }

  /** @param {{ expired: boolean }} why */
  #end({ expired }) {
    this.#token = "";
    this.expired = expired;
    this.dispatchEvent(new Event("close"));
  }

  /**
   * The header that proves who asks, as soon as somebody is signed in.
   *
   * @param {AbortSignal} [signal]
   * @returns {Promise<string>}
   */
  async authorization(signal) {
    while (!this.isOpen) await once(this, "open", signal);
    return `Bearer ${this.#token}`;
  }
}
