import { element, field } from "../elements.js";
import { daysBefore, endOf, startOf } from "./days.js";

const DAYS = 30;

/** Of which days, and whose: the parameters of `GET /usage`, as a form. */
export class Period {
  #first = element("input", { type: "date", required: true, value: daysBefore(DAYS - 1) });
  #last = element("input", { type: "date", required: true, value: daysBefore(0) });
  #user = element("input", { type: "text", maxlength: 128, autocomplete: "off", spellcheck: "false", dir: "auto" });
  element;

  /**
   * @param {import("../session.js").Session} session
   * @param {() => void} submit
   */
  constructor(session, submit) {
    /** @param {Event} event */
    const send = (event) => {
      event.preventDefault();
      submit();
    };
    this.element = element(
      "form",
      { class: "card", "aria-labelledby": "usage", onsubmit: send },
      element("h2", { id: "usage" }, "Usage"),
      element(
        "div",
        { class: "fields" },
        field("First day (UTC)", this.#first),
        field("Last day (UTC)", this.#last),
        session.can("log:read:all") && field("User", this.#user, "Empty: all of the client's."),
      ),
      element("button", { type: "submit", class: "primary" }, "Show"),
    );
  }

  get query() {
    const query = new URLSearchParams({ from: startOf(this.#first.value), to: endOf(this.#last.value) });
    if (this.#user.value) query.set("user_id", this.#user.value);
    return query;
  }
}
