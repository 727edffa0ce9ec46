import { element } from "../elements.js";
import { errorNotice } from "../notice.js";
import { inWords } from "../problems.js";
import { counted } from "../words.js";
import { Pages } from "./pages.js";
import { recordItem } from "./record.js";

/** @typedef {import("../types.js").AuditRecord} AuditRecord */

const PAGE = 20;

/** Records, a page at a time. */
export class RecordList {
  #services;
  #filters;
  #items = element("ol", { class: "records", "aria-label": "Records" });
  #state = element("p", { role: "status", class: "hint" });
  #errors = element("div");
  #more = element("button", { type: "button", hidden: true, onclick: () => this.#load() });
  element = element("section", { "aria-label": "Records" }, this.#state, this.#items, this.#errors, this.#more);

  #pages;
  #stop = new AbortController();
  isBusy = false;

  /**
   * @param {import("../types.js").Services} services
   * @param {import("./filters.js").Filters} filters
   */
  constructor(services, filters) {
    this.#services = services;
    this.#filters = filters;
    this.#pages = new Pages(services.api, filters.query(PAGE));
  }

  /** Begin anew, with what the filters select now. */
  show() {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#pages = new Pages(this.#services.api, this.#filters.query(PAGE));
    this.#items.replaceChildren();
    this.#more.hidden = true;
    this.isBusy = false;
    this.#load();
  }

  async #load() {
    if (this.isBusy) return;
    this.isBusy = true;
    const { signal } = this.#stop;
    this.#errors.replaceChildren();
    this.#tell("Loading.");
    try {
      const records = await this.#pages.next({ signal, waiting: this.#wait });
      if (signal.aborted) return;
      this.#add(records);
    } catch (error) {
      if (signal.aborted) return;
      this.#tell("");
      this.#errors.append(errorNotice(error));
      this.#offer("Try again");
    }
    this.isBusy = false;
  }

  /** @param {AuditRecord[]} records */
  #add(records) {
    const { session } = this.#services;
    const before = this.#items.childElementCount;
    const fresh = records.map((record) => recordItem(record, session, (id) => this.#filters.showMadeFrom(id)));
    const hadFocus = document.activeElement === this.#more;
    this.#items.append(...fresh);
    this.#filters.suggest(records);
    this.#tell(this.#summary(before > 0 ? records.length : 0));
    this.#offer("Load more");
    this.#more.hidden = !this.#pages.hasMore;
    // The button that had the focus is gone.
    if (hadFocus && this.#more.hidden) fresh[0]?.querySelector("summary")?.focus();
  }

  /** @param {number} added How many came to those that were there. */
  #summary(added) {
    const all = this.#items.childElementCount;
    if (all === 0) return this.#filters.isNarrow ? "No record is like this." : "Nothing has been recorded yet.";
    const news = added > 0 ? `${counted(added, "more record")}: ` : "";
    return `${news}${counted(all, "record")} shown, ${this.#pages.hasMore ? "and there are more" : "and that is all"}.`;
  }

  /** @param {string} name */
  #offer(name) {
    this.#more.textContent = name;
    this.#more.hidden = false;
  }

  /** @type {import("./pages.js").How["waiting"]} */
  #wait = (seconds, error) => this.#tell(`${inWords(error).title}: trying again in ${seconds} s.`);

  /** @param {string} text */
  #tell(text) {
    this.#state.textContent = text;
  }
}
