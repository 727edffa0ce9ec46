import assert from "node:assert/strict";
import { test } from "node:test";
import { duration, inWords, NoAnswer, Problem } from "../src/problems.js";

/** @type {(status: number, document: object | null, headers?: Record<string, string>) => Problem} */
const problem = (status, document, headers = {}) => new Problem({ status, headers: new Headers(headers) }, document);

test("a problem document is said in its own words, with its request id", () => {
  const document = {
    type: "/problems/storage-unavailable",
    title: "Storage unavailable",
    detail: "Gone.",
    request_id: "r1",
  };
  const said = inWords(problem(503, document, { "X-Request-Id": "r1", "Retry-After": "5" }));
  assert.equal(said.title, "Storage unavailable");
  assert.equal(said.requestId, "r1");
  assert.equal(said.lines[0], "Gone.");
  assert.equal(said.lines.at(-1), "Try again in 5 s.");
});

test("each wrong field is named", () => {
  const errors = [{ field: "prompt", message: "must not be blank" }];
  const said = inWords(problem(422, { type: "/problems/invalid-request", title: "Invalid request", errors }));
  assert.deepEqual(said.lines, ["prompt: must not be blank"]);
});

test("an OAuth error has words too", () => {
  const said = inWords(problem(401, { error: "invalid_client", error_description: "Not valid." }));
  assert.equal(said.title, "Not signed in");
  assert.equal(said.lines[0], "Not valid.");
});

test("a gateway's page has only its status", () => {
  assert.deepEqual(inWords(problem(502, null)), {
    title: "The service answered 502",
    lines: ["It did not say why."],
    requestId: null,
  });
});

test("no answer is no fault of the page", () => {
  assert.equal(inWords(new NoAnswer()).title, "No connection");
});

test("a duration is said in the unit that fits", () => {
  assert.deepEqual([5, 119, 600, 86_400].map(duration), ["5 s", "119 s", "10 minutes", "24 hours"]);
});
