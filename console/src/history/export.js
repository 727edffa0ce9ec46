import { element } from "../elements.js";
import { errorNotice } from "../notice.js";
import { inWords } from "../problems.js";
import { counted } from "../words.js";
import { Pages } from "./pages.js";

const BEGIN = "Export as NDJSON";

/**
 * Saves all records that the filters select as NDJSON (https://github.com/ndjson/ndjson-spec): a record a line.
 *
 * @param {import("../api.js").Api} api
 * @param {() => URLSearchParams} query
 */
export function exporter(api, query) {
  const button = element("button", { type: "button", onclick: () => (stop ? stop.abort() : start()) }, BEGIN);
  const state = element("p", { role: "status", class: "hint" });
  const outcome = element("div");
  /** @type {AbortController | null} */
  let stop = null;
  let address = "";

  function start() {
    follow(new Export(api, query()));
  }

  /** @param {Export} job */
  async function follow(job) {
    stop = new AbortController();
    button.textContent = "Cancel the export";
    outcome.replaceChildren();
    try {
      save(await job.done(stop.signal, tell), job.count);
    } catch (error) {
      state.textContent = `Nothing is saved: ${counted(job.count, "record")} had come.`;
      if (!stop.signal.aborted) outcome.append(errorNotice(error), goOn(job));
    }
    stop = null;
    button.textContent = BEGIN;
  }

  /** @param {string} text */
  function tell(text) {
    state.textContent = text;
  }

  /** @param {Export} job */
  function goOn(job) {
    const again = () => {
      button.focus();
      follow(job);
    };
    return element("button", { type: "button", onclick: again }, "Go on with the export");
  }

  /**
   * @param {Blob} file
   * @param {number} count
   */
  function save(file, count) {
    URL.revokeObjectURL(address);
    address = URL.createObjectURL(file);
    const name = `klamala-log-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}Z.ndjson`;
    const link = element("a", { href: address, download: name }, `Save ${name}`);
    tell(`${counted(count, "record")} exported.`);
    outcome.append(link);
    link.click();
  }

  return { button, element: element("div", { class: "export" }, state, outcome) };
}

/** Records on their way into a file. After an error it can go on where it was. */
class Export {
  #pages;
  /** @type {Blob[]} */
  #parts = [];

  count = 0;

  /**
   * @param {import("../api.js").Api} api
   * @param {URLSearchParams} query
   */
  constructor(api, query) {
    this.#pages = new Pages(api, query);
  }

  /**
   * @param {AbortSignal} signal
   * @param {(text: string) => void} tell
   * @throws {import("../problems.js").Problem | DOMException}
   */
  async done(signal, tell) {
    /** @type {import("./pages.js").How["waiting"]} */
    const waiting = (seconds, error) => tell(`${inWords(error).title}: going on in ${seconds} s. ${this.#progress}`);
    while (this.#pages.hasMore) {
      tell(this.#progress);
      const records = await this.#pages.next({ signal, waiting });
      this.count += records.length;
      // What is in a Blob is the browser's to keep, on the disk where it is much.
      this.#parts.push(new Blob(records.map((record) => `${JSON.stringify(record)}\n`)));
    }
    return new Blob(this.#parts, { type: "application/x-ndjson" });
  }

  get #progress() {
    return `Exporting: ${counted(this.count, "record")} so far.`;
  }
}
