/** An error that the service answered: a problem document (RFC 9457), or an OAuth error of `/token` (RFC 6749 §5.2). */
export class Problem extends Error {
  /**
   * @param {{ status: number, headers: Headers }} response
   * @param {any} document The body, where it was JSON.
   */
  constructor(response, document) {
    super(document?.detail ?? document?.error_description ?? "");
    this.status = response.status;
    /** The machine-readable code: the last part of `type`, such as `rate-limited`. */
    this.code = String(document?.type ?? document?.error ?? "")
      .split("/")
      .pop();
    this.title = document?.title ?? "";
    /** @type {{ field: string, message: string }[]} */
    this.errors = document?.errors ?? [];
    this.requestId = response.headers.get("X-Request-Id") ?? document?.request_id ?? null;
    /** In seconds, or null. */
    this.retryAfter = seconds(response.headers.get("Retry-After"));
  }
}

/** No answer came: the connection failed, or was lost. */
export class NoAnswer extends Error {}

/** @param {string | null} header */
function seconds(header) {
  return header && /^\d+$/.test(header) ? Number(header) : null;
}

/** What a person should know beyond what the service says, by the problem's code. */
const ADVICE = {
  invalid_client: "Check the API key: it begins with klm_ and has a dot in it. It may have been replaced or disabled.",
  "insufficient-scope": "This client may not do that. Its operator can give it the scope.",
  "rate-limited": "Too many requests in a short time.",
  "budget-exhausted": "The tokens for today are used up.",
  "upstream-unavailable": "The model's server is overloaded or away. Nothing was changed: try again later.",
  "model-timeout": "The model took too long. A shorter prompt, or another try, may help.",
  "unusable-answer": "The model's answer was no refinement. Another try may go better.",
  "storage-unavailable": "The service could not reach its storage, so the model was not asked.",
  abandoned: "The service stopped in the middle of it.",
  "no-model": "The service has no language model: its built-in rules can refine, and nothing more.",
};

/**
 * An error in words.
 *
 * @param {unknown} error
 * @returns {{ title: string, lines: string[], requestId: string | null }}
 */
export function inWords(error) {
  if (error instanceof NoAnswer) {
    return {
      title: "No connection",
      lines: ["The service did not answer. Is it running, and are you online?"],
      requestId: null,
    };
  }
  if (!(error instanceof Problem)) {
    return { title: "This page has a fault", lines: [String(error)], requestId: null };
  }
  const fields = error.errors.map(({ field, message }) => `${field}: ${message}`);
  const lines = fields.length > 0 ? fields : [error.message];
  lines.push(ADVICE[/** @type {keyof typeof ADVICE} */ (error.code)] ?? "");
  if (error.retryAfter !== null) lines.push(`Try again in ${duration(error.retryAfter)}.`);
  const said = lines.filter((line) => line !== "");
  return {
    title: error.title || (error.code === "invalid_client" ? "Not signed in" : `The service answered ${error.status}`),
    lines: said.length > 0 ? said : ["It did not say why."],
    requestId: error.requestId,
  };
}

/**
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 120) return `${seconds} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} minutes` : `${Math.round(seconds / 3600)} hours`;
}
