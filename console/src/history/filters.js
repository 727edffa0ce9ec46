import { element, field } from "../elements.js";
import { KINDS, STATES } from "../words.js";
import { Suggesting, select, text } from "./inputs.js";
import { momentOf } from "./moments.js";

/** Which records to look at: the parameters of `GET /log-request`, as a form. */
export class Filters {
  #submit;
  #kind = select(KINDS);
  #status = select(STATES);
  #models = new Suggesting(256);
  #users = new Suggesting(128);
  #parent = text(36);
  #from = element("input", { type: "datetime-local", step: 1 });
  #to = element("input", { type: "datetime-local", step: 1 });
  #buttons = element(
    "div",
    { class: "row" },
    element("button", { type: "submit", class: "primary" }, "Show"),
    // A form is reset after the click.
    element("button", { type: "reset", onclick: () => setTimeout(() => this.#submit()) }, "Show all"),
  );
  element;

  /**
   * @param {import("../session.js").Session} session
   * @param {() => void} submit
   */
  constructor(session, submit) {
    this.#submit = submit;
    this.element = element(
      "form",
      { class: "card filters", "aria-labelledby": "history", onsubmit: this.#send },
      element("h2", { id: "history" }, "History"),
      element(
        "div",
        { class: "fields" },
        field("Kind", this.#kind),
        field("Status", this.#status),
        field("Model", this.#models.input),
        session.can("log:read:all") && field("User", this.#users.input),
        field("From", this.#from),
        field("Before", this.#to),
        field("Made from", this.#parent, "The id of a refinement."),
      ),
      this.#models.list,
      this.#users.list,
      this.#buttons,
    );
  }

  /**
   * Something else that can be done with the records.
   *
   * @param {HTMLElement} button
   * @param {HTMLElement} outcome
   */
  offer(button, outcome) {
    this.#buttons.append(button);
    this.element.append(outcome);
  }

  /** @param {number} limit How many records a page has. */
  query(limit) {
    const query = new URLSearchParams({ limit: String(limit) });
    for (const [name, value] of this.#given) query.set(name, value);
    return query;
  }

  /** Whether anything narrows the records. */
  get isNarrow() {
    return this.#given.length > 0;
  }

  /**
   * Let the fields suggest what is in these records.
   *
   * @param {import("../types.js").AuditRecord[]} records
   */
  suggest(records) {
    for (const record of records) {
      this.#models.suggest(record.model);
      this.#users.suggest(record.user_id);
    }
  }

  /** @param {string} id */
  showMadeFrom(id) {
    this.element.reset();
    this.#parent.value = id;
    this.#submit();
    this.#parent.focus();
  }

  get #given() {
    /** @type {[string, string][]} */
    const all = [
      ["kind", this.#kind.value],
      ["status", this.#status.value],
      ["model", this.#models.input.value.trim()],
      ["user_id", this.#users.input.value],
      ["parent_id", this.#parent.value.trim()],
      ["from", momentOf(this.#from.value)],
      ["to", momentOf(this.#to.value)],
    ];
    return all.filter(([, value]) => value !== "");
  }

  /** @param {Event} event */
  #send = (event) => {
    event.preventDefault();
    this.#submit();
  };
}
