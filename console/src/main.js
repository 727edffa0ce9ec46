import { announcer } from "./announce.js";
import { Api } from "./api.js";
import { element } from "./elements.js";
import { route } from "./router.js";
import { Session } from "./session.js";
import { signIn } from "./sign-in.js";
import { historyView } from "./views/history.js";
import { refineView } from "./views/refine.js";
import { usageView } from "./views/usage.js";

/** @typedef {import("./types.js").View} View */

/** @type {View[]} */
const VIEWS = [refineView, historyView, usageView];

const session = new Session();
const services = { session, api: new Api(session) };
const door = signIn(session);
/** @type {Map<View, import("./types.js").ViewElement>} */
const made = new Map();

const links = new Map(VIEWS.map((view) => [view, element("a", { href: `#/${view.route}` }, view.title)]));
const leave = element(
  "button",
  { type: "button", class: "leave", hidden: true, onclick: () => session.close({ expired: false }) },
  "Sign out",
);
const refusal = element("p", { class: "card", hidden: true });
const main = element("main", { id: "main", tabindex: -1 }, door.element, refusal);
document.body.replaceChildren(
  element("a", { href: "#main", class: "skip", onclick: skip }, "Skip to the content"),
  element(
    "header",
    {},
    element("h1", {}, "klamala"),
    element("nav", { "aria-label": "Views" }, ...links.values(), element("a", { href: "docs" }, "API")),
    leave,
  ),
  main,
  announcer,
);

session.addEventListener("open", () => {
  leave.hidden = false;
  showAgain();
  door.hide();
});
session.addEventListener("close", () => {
  // Who leaves takes everything along; where only the token ran out, what was typed and what is running stays.
  if (!session.expired) return leaveNothing();
  leave.hidden = true;
  door.show();
});
const showAgain = route(VIEWS, show);
door.show();

/**
 * @param {View} view
 * @param {string} what
 */
function show(view, what) {
  document.title = `${view.title} · klamala`;
  for (const [each, link] of links) {
    if (each === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (session.isOpen && session.can(view.scope) && !made.has(view)) {
    const fresh = view.make(services);
    made.set(view, fresh);
    main.append(fresh.element);
  }
  for (const [each, { element }] of made) element.hidden = each !== view;
  refusal.hidden = !session.isOpen || made.has(view);
  refusal.textContent = `This client may not do this: it needs the scope ${view.scope}, which its operator can give it.`;
  if (session.isOpen) made.get(view)?.shown?.(what);
}

/** The next one at this page may be somebody else. */
function leaveNothing() {
  history.replaceState(null, "", location.pathname);
  location.reload();
}

/** @param {Event} event */
function skip(event) {
  // The address names the view, and has to go on doing so.
  event.preventDefault();
  main.focus();
}
