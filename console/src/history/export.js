import { element } from "../elements.js";
import { errorNotice } from "../notice.js";
import { inWords } from "../problems.js";
import { counted } from "../words.js";
import { Pages } from "./pages.js";

const PAGE = 100;
const BEGIN = "Export as NDJSON";

/** Saves all records that the filters select as NDJSON (https://github.com/ndjson/ndjson-spec): a record a line. */
export class Exporter {
  #start;
  #state = element("p", { role: "status", class: "hint" });
  #outcome = element("div");
  /** @type {AbortController | null} */
  #stop = null;
  #address = "";

  button = element("button", { type: "button", onclick: () => this.#press() }, BEGIN);
  element = element("div", { class: "export" }, this.#state, this.#outcome);

  /**
   * @param {import("../api.js").Api} api
   * @param {import("./filters.js").Filters} filters
   */
  constructor(api, filters) {
    this.#start = () => this.#follow(new Export(api, filters.query(PAGE)));
  }

  #press() {
    if (this.#stop) this.#stop.abort();
    else this.#start();
  }

  /** @param {Export} job */
  async #follow(job) {
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    this.button.textContent = "Cancel the export";
    this.#outcome.replaceChildren();
    try {
      this.#save(await job.done(signal, (text) => this.#tell(text)), job.count);
    } catch (error) {
      this.#tell(`Nothing is saved: ${counted(job.count, "record")} had come.`);
      if (!signal.aborted) this.#outcome.append(errorNotice(error, this.#goOn(job)));
    }
    this.#stop = null;
    this.button.textContent = BEGIN;
  }

  /** @param {Export} job */
  #goOn(job) {
    const again = () => {
      this.button.focus();
      this.#follow(job);
    };
    return element("button", { type: "button", onclick: again }, "Go on with the export");
  }

  /**
   * @param {Blob} file
   * @param {number} count
   */
  #save(file, count) {
    URL.revokeObjectURL(this.#address);
    this.#address = URL.createObjectURL(file);
    const name = `klamala-log-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}Z.ndjson`;
    const link = element("a", { href: this.#address, download: name }, `Save ${name}`);
    this.#tell(`${counted(count, "record")} exported.`);
    this.#outcome.append(link);
    link.click();
  }

  /** @param {string} text */
  #tell(text) {
    this.#state.textContent = text;
  }
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
