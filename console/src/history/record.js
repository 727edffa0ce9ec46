import { element } from "../elements.js";
import { assumptions, changes, facts, integrity, milliseconds, section } from "../refine/report.js";
import { KINDS, STATES } from "../words.js";
import { shown } from "./moments.js";

/** @typedef {import("../types.js").AuditRecord} AuditRecord */

const EXCERPT = 160;
// Of a record's detail; the rest stands among the facts under its own name.
const SHOWN_ABOVE = new Set([
  "strategy",
  "parent_id",
  "instructions",
  "refined",
  "changes",
  "assumptions",
  "integrity",
  "rejected",
]);

/**
 * A record as a line, which opens to all that there is of it.
 *
 * @param {AuditRecord} record
 * @param {import("../session.js").Session} session
 * @param {(id: string) => void} showMadeFrom
 */
export function recordItem(record, session, showMadeFrom) {
  const open = () => {
    // A record may be long: nothing is made of it before somebody looks.
    if (details.open && details.childElementCount === 1)
      details.append(opened(record), rounds(record, session, showMadeFrom));
  };
  const details = element("details", { ontoggle: open }, summary(record, session.can("log:read:all")));
  return element("li", {}, details);
}

/**
 * @param {AuditRecord} record
 * @param {boolean} ofManyUsers
 */
function summary({ timestamp, kind, status, model, user_id, prompt }, ofManyUsers) {
  return element(
    "summary",
    {},
    element("time", { datetime: timestamp }, shown(timestamp)),
    " ",
    element("span", {}, KINDS[kind]),
    " ",
    element("span", { class: `state ${status}` }, STATES[status]),
    " ",
    model !== null && element("bdi", { class: "model" }, model),
    " ",
    ofManyUsers && element("bdi", { class: "user" }, user_id),
    " ",
    element("span", { class: "excerpt", dir: "auto" }, excerpt(prompt)),
  );
}

/** @param {string} text */
function excerpt(text) {
  // A character takes two units at most, so that these hold one more than is shown, or all that there are.
  const beginning = Array.from(text.trimStart().slice(0, 2 * EXCERPT + 1));
  return beginning.length > EXCERPT ? `${beginning.slice(0, EXCERPT).join("")}…` : beginning.join("");
}

/**
 * The rounds before and after a refinement, and a way to the next one.
 *
 * @param {AuditRecord} record
 * @param {import("../session.js").Session} session
 * @param {(id: string) => void} showMadeFrom
 */
function rounds({ id, kind, status, user_id, client_id }, session, showMadeFrom) {
  if (kind !== "refine" || status !== "succeeded") return "";
  // A token that reads all users' records is the client's own, and goes on from the client's own refinements alone.
  const own = !session.can("log:read:all") || user_id === client_id;
  return element(
    "div",
    { class: "row rounds" },
    own && session.can("refine") && element("a", { href: `#/refine/${id}` }, "Open it in Refine"),
    element("button", { type: "button", onclick: () => showMadeFrom(id) }, "Show what was made from it"),
  );
}

/** @param {AuditRecord} record */
function opened(record) {
  const { detail, metadata, error } = record;
  return element(
    "div",
    { class: "opened" },
    error && failure(error),
    element("div", { class: "pair" }, text("Prompt", record.prompt), response(record)),
    detail.instructions && text("Instructions", detail.instructions),
    detail.rejected && text("Rejected text of the model", detail.rejected),
    metadata && text("Metadata", JSON.stringify(metadata, null, 2)),
    element(
      "div",
      { class: "report" },
      detail.integrity && section("What a program depends on", integrity(detail.integrity)),
      detail.changes && section("Changes", changes(detail.changes)),
      detail.assumptions && section("Assumptions", assumptions(detail.assumptions)),
      section("The call", facts(factsOf(record))),
    ),
  );
}

/** @param {NonNullable<AuditRecord["error"]>} error */
function failure({ title, detail, type, status }) {
  return element(
    "div",
    { class: "notice error" },
    element("strong", { dir: "auto" }, title),
    element("p", { dir: "auto" }, detail),
    element("p", { class: "hint" }, `${status}, `, element("code", {}, type)),
  );
}

/** @param {AuditRecord} record */
function response({ kind, detail, response }) {
  if (response === null) return element("p", { class: "hint" }, "No response.");
  if (kind !== "refine") return text("Response", response);
  return text(detail.refined === false ? "Response: the draft, unchanged" : "Response: the refined prompt", response);
}

/**
 * @param {string} name
 * @param {string} content
 */
function text(name, content) {
  return element(
    "section",
    { class: "text" },
    element("h3", {}, name),
    // With a keyboard, only what can have the focus can be scrolled. No landmark: several records may be open.
    element("pre", { class: "prompt", dir: "auto", tabindex: 0, role: "group", "aria-label": name }, content),
  );
}

/** @param {AuditRecord} record */
function factsOf({ detail, usage, latency_ms, completed_at, ...record }) {
  const rest = Object.entries(detail).filter(([name, value]) => !SHOWN_ABOVE.has(name) && value !== null);
  return {
    "Made by": record.engine === "offline" ? "built-in rules, no model" : record.model,
    Strategy: detail.strategy,
    "Made from": detail.parent_id,
    "Tokens in": usage?.input_tokens,
    "Tokens out": usage?.output_tokens,
    Latency: latency_ms === null ? null : milliseconds(latency_ms),
    User: record.user_id,
    Client: record.client_id,
    Begun: record.timestamp,
    Ended: completed_at,
    "Request id": record.request_id,
    Id: record.id,
    ...Object.fromEntries(rest.map(([name, value]) => [name.replaceAll("_", " "), String(value)])),
  };
}
