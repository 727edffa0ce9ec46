import { element, field, uniqueId } from "../elements.js";
import { KINDS, STATES } from "../words.js";
import { momentOf } from "./moments.js";

/**
 * Which records to look at.
 *
 * @param {import("../session.js").Session} session
 * @param {() => void} submit
 * @param {...Node} buttons More that can be done with the records.
 */
export function filters(session, submit, ...buttons) {
  const kind = select(KINDS);
  const status = select(STATES);
  const models = suggesting(256);
  const users = suggesting(128);
  const parent = text(36);
  const from = element("input", { type: "datetime-local", step: 1 });
  const to = element("input", { type: "datetime-local", step: 1 });
  const all = session.can("log:read:all");

  /** @returns {Record<string, string | null>} */
  function chosen() {
    return {
      kind: kind.value,
      status: status.value,
      model: models.input.value.trim(),
      user_id: users.input.value,
      parent_id: parent.value.trim(),
      from: momentOf(from.value),
      to: momentOf(to.value),
    };
  }

  const form = element(
    "form",
    {
      class: "card filters",
      "aria-labelledby": "history",
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        submit();
      },
    },
    element("h2", { id: "history" }, "History"),
    element(
      "div",
      { class: "fields" },
      field("Kind", kind),
      field("Status", status),
      field("Model", models.input),
      all && field("User", users.input),
      field("From", from),
      field("Before", to),
      field("Made from", parent, "The id of a refinement."),
    ),
    models.list,
    users.list,
    element(
      "div",
      { class: "row" },
      element("button", { type: "submit", class: "primary" }, "Show"),
      element("button", { type: "reset", onclick: () => setTimeout(submit) }, "Show all"),
      ...buttons,
    ),
  );

  return {
    element: form,
    /** @param {number} limit How many records a page has. */
    query(limit) {
      const given = Object.entries(chosen()).filter(([, value]) => value);
      return new URLSearchParams([["limit", String(limit)], .../** @type {[string, string][]} */ (given)]);
    },
    /** @returns {boolean} Whether anything narrows the records. */
    get narrow() {
      return Object.values(chosen()).some(Boolean);
    },
    /**
     * Offer what is in these records.
     *
     * @param {import("../types.js").AuditRecord[]} records
     */
    suggest(records) {
      for (const record of records) {
        models.offer(record.model);
        users.offer(record.user_id);
      }
    },
    /** @param {string} id */
    showMadeFrom(id) {
      form.reset();
      parent.value = id;
      submit();
      parent.focus();
    },
  };
}

/** @param {Record<string, string>} words By the value that the API has for it. */
function select(words) {
  const options = Object.entries(words).map(([value, word]) => element("option", { value }, word));
  return element("select", {}, element("option", { value: "" }, "All"), ...options);
}

/** @param {number} longest */
function text(longest) {
  return element("input", { type: "text", maxlength: longest, autocomplete: "off", spellcheck: "false", dir: "auto" });
}

/**
 * A field for any text, with some to choose from.
 *
 * @param {number} longest
 */
function suggesting(longest) {
  const list = element("datalist", { id: uniqueId() });
  const input = text(longest);
  input.setAttribute("list", list.id);
  const offered = new Set();
  return {
    input,
    list,
    /** @param {string | null} value */
    offer(value) {
      if (value === null || offered.has(value)) return;
      offered.add(value);
      list.append(element("option", { value }));
    },
  };
}
