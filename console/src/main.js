import { Api } from "./api.js";
import { element } from "./elements.js";
import { route } from "./router.js";
import { Session } from "./session.js";
import { signIn } from "./sign-in.js";
import { refineView } from "./views/refine.js";

/** @typedef {import("./types.js").View} View */

/** @type {View[]} */
const VIEWS = [refineView];

const session = new Session();
const services = { session, api: new Api(session) };
const door = signIn(session);
/** @type {Map<View, import("./types.js").ViewElement>} */
const made = new Map();
/** @type {View} */
let current = VIEWS[0];

const links = VIEWS.map((view) => element("a", { href: `#/${view.route}` }, view.title));
const leave = element("button", { type: "button", onclick: () => session.close({ expired: false }) }, "Sign out");
const main = element("main", { id: "main", tabindex: -1 }, door.element);
document.body.append(
  element("a", { href: "#main", class: "skip", onclick: skip }, "Skip to the content"),
  element(
    "header",
    {},
    element("h1", {}, "klamala"),
    element("nav", { "aria-label": "Views" }, ...links, element("a", { href: "docs" }, "API")),
    leave,
  ),
  main,
);

session.addEventListener("open", () => {
  door.hide();
  leave.hidden = false;
  show(current);
  main.focus();
});
session.addEventListener("close", () => {
  leave.hidden = true;
  // What was typed and what is running stays where the token ran out, and goes where the user did.
  if (!session.expired) location.reload();
  door.show();
});
leave.hidden = true;
route(VIEWS, show);
door.show();

/** @param {View} view */
function show(view) {
  current = view;
  document.title = `${view.title} · klamala`;
  VIEWS.forEach((each, place) => {
    if (each === view) links[place].setAttribute("aria-current", "page");
    else links[place].removeAttribute("aria-current");
    const there = made.get(each);
    if (there) there.element.hidden = each !== view;
  });
  if (!made.has(view)) {
    // Nothing to see before somebody has signed in.
    if (!session.isOpen) return;
    const fresh = view.make(services);
    made.set(view, fresh);
    main.append(fresh.element);
  }
  made.get(view)?.shown?.();
}

/** @param {Event} event */
function skip(event) {
  // The address names the view: it must stay.
  event.preventDefault();
  main.focus();
}
