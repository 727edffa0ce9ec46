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
 * The body as JSON, or null: a gateway in front of the service may answer with a page of its own.
 *
 * @param {Response} response
 * @throws {NoAnswer}
 */
export async function json(response) {
  let text;
  try {
    text = await response.text();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new NoAnswer();
  }
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
