import { NoAnswer } from "./problems.js";

/**
 * `fetch`, whose one error for a failed connection is named.
 *
 * @param {Request} request
 * @throws {NoAnswer}
 */
export async function answered(request) {
  try {
    return await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    throw new NoAnswer();
  }
}

/**
 * The body.
 *
 * @param {Response} response
 * @throws {NoAnswer}
 */
export async function text(response) {
  try {
    return await response.text();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new NoAnswer();
  }
}

/**
 * The body as JSON, or null: a gateway in front of the service may answer with a page of its own.
 *
 * @param {Response} response
 * @throws {NoAnswer}
 */
export async function json(response) {
  return parsed(await text(response));
}

/**
 * A text as JSON, or null.
 *
 * @param {string} text
 */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
