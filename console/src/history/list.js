import { element } from "../elements.js";
import { errorNotice } from "../notice.js";
import { inWords } from "../problems.js";
import { counted } from "../words.js";
import { Pages } from "./pages.js";
import { recordItem } from "./record.js";

const PAGE = 20;

/**
 * Records, a page at a time.
 *
 * @param {import("../types.js").Services} services
 * @param {ReturnType<typeof import("./filters.js").filters>} filter
 */
export function recordList({ api, session }, filter) {
  const items = element("ol", { class: "records", "aria-label": "Records" });
  const state = element("p", { role: "status", class: "hint" });
  const errors = element("div");
  const more = element("button", { type: "button", onclick: () => load() }, "Load more");
  let pages = new Pages(api, filter.query(PAGE));
  let stop = new AbortController();
  let busy = false;

  function show() {
    stop.abort();
    stop = new AbortController();
    pages = new Pages(api, filter.query(PAGE));
    items.replaceChildren();
    busy = false;
    load();
  }

  async function load() {
    if (busy) return;
    busy = true;
    const { signal } = stop;
    errors.replaceChildren();
    state.textContent = "Loading.";
    try {
      const records = await pages.next({ signal, waiting });
      if (!signal.aborted) add(records);
    } catch (error) {
      if (signal.aborted) return;
      state.textContent = "";
      more.textContent = "Try again";
      errors.append(errorNotice(error));
    }
    busy = false;
  }

  /** @param {import("../types.js").AuditRecord[]} records */
  function add(records) {
    const fresh = records.map((record) => recordItem(record, session.can("log:read:all"), filter.showMadeFrom));
    const first = items.childElementCount === 0;
    const leaving = document.activeElement === more && !pages.hasMore;
    items.append(...fresh);
    filter.suggest(records);
    state.textContent = told(first ? 0 : records.length);
    more.textContent = "Load more";
    more.hidden = !pages.hasMore;
    // The button that had the focus is gone.
    if (leaving) fresh[0]?.querySelector("summary")?.focus();
  }

  /** @param {number} added How many came to those that were there. */
  function told(added) {
    const all = items.childElementCount;
    if (all === 0) return filter.narrow ? "No record is like this." : "Nothing has been recorded yet.";
    const news = added > 0 ? `${counted(added, "more record")}: ` : "";
    return `${news}${counted(all, "record")} shown, ${pages.hasMore ? "and there are more" : "and that is all"}.`;
  }

  /**
   * @param {number} seconds
   * @param {unknown} error
   */
  function waiting(seconds, error) {
    state.textContent = `${inWords(error).title}: trying again in ${seconds} s.`;
  }

  return {
    element: element("section", { "aria-label": "Records" }, state, items, errors, more),
    show,
    isBusy: () => busy,
  };
}
