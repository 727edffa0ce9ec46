import assert from "node:assert/strict";
import { test } from "node:test";
import { Pages } from "../src/history/pages.js";
import { NoAnswer } from "../src/problems.js";

const how = { signal: new AbortController().signal, waiting: () => {} };

/**
 * An API that answers with these texts, one after the other, and notes what it was asked; null is a lost connection.
 *
 * @param {(string | null)[]} texts
 */
function scripted(texts) {
  /** @type {string[]} */
  const asked = [];
  /** @param {string} path */
  const get = async (path) => {
    asked.push(path);
    const text = texts.shift();
    if (typeof text !== "string") throw new NoAnswer();
    return { status: 200, headers: new Headers(), body: JSON.parse(text), text };
  };
  return { api: /** @type {any} */ ({ get }), asked };
}

/** @type {(item: string, cursor: string | null) => string} */
const page = (item, cursor) => `{"items":[${item}],"next_cursor":${JSON.stringify(cursor)}}`;

test("pages follow the cursor, with the query unchanged, until there is none", async () => {
  const { api, asked } = scripted([page('{"id":"1"}', "a+b&c"), page('{"id":"2"}', null)]);
  const pages = new Pages(api, new URLSearchParams({ limit: "1", model: "x y" }));
  assert.deepEqual(await pages.next(how), [{ id: "1" }]);
  assert.equal(pages.hasMore, true);
  assert.deepEqual(await pages.next(how), [{ id: "2" }]);
  assert.equal(pages.hasMore, false);
  assert.deepEqual(asked, ["log-request?limit=1&model=x+y", "log-request?limit=1&model=x+y&cursor=a%2Bb%26c"]);
});

test("a page that could not be had is the next one still", async () => {
  const { api, asked } = scripted([page('{"id":"1"}', "c"), page("", null)]);
  const pages = new Pages(api, new URLSearchParams());
  await pages.next(how);
  const stop = new AbortController();
  stop.abort();
  const { api: lost } = scripted([null]);
  const get = api.get;
  api.get = lost.get;
  await assert.rejects(pages.next({ signal: stop.signal, waiting: () => {} }));
  api.get = get;
  await pages.next(how);
  assert.deepEqual(asked, ["log-request?", "log-request?cursor=c"]);
});
