import { element, field } from "./elements.js";
import { errorNotice } from "./notice.js";

/**
 * The form that exchanges an API key for a token. The key leaves the page with that one request.
 *
 * @param {import("./session.js").Session} session
 */
export function signIn(session) {
  const key = element("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true });
  // A header can carry nothing else.
  key.pattern = "\\s*[!-~]+\\s*";
  key.title = "An API key is made of letters, digits and marks, without spaces.";
  const user = element("input", { type: "text", autocomplete: "off", spellcheck: "false", maxlength: 128 });
  const errors = element("div", { class: "errors" });
  const button = element("button", { type: "submit", class: "primary" }, "Sign in");
  const why = element("p", { role: "status" });
  /** @type {Element | null} */
  let before = null;
  let busy = false;

  /** @param {SubmitEvent} event */
  async function submit(event) {
    event.preventDefault();
    if (busy) return;
    // A disabled button would lose the focus.
    busy = true;
    errors.replaceChildren();
    try {
      await session.open(key.value.trim(), user.value);
      key.value = "";
    } catch (error) {
      errors.append(errorNotice(error));
      key.select();
    } finally {
      busy = false;
    }
  }

  const form = element(
    "form",
    { class: "card sign-in", "aria-labelledby": "sign-in", onsubmit: submit },
    element("h2", { id: "sign-in" }, "Sign in"),
    why,
    field(
      "API key",
      key,
      "It is exchanged for a token, which this page keeps until it is closed or reloaded. The key is not kept.",
    ),
    field("End user (optional)", user, "On whose behalf to ask. Empty: the client itself."),
    errors,
    button,
  );
  return {
    element: form,
    /** Ask for a key, and say why. Who is typing a prompt just then is not interrupted. */
    show() {
      form.hidden = false;
      why.textContent = session.expired
        ? "The token is no longer good. What you typed, and what was running, is kept: sign in to go on. Another client or user starts anew."
        : "klamala turns the rough draft of a prompt into a better one, and says what it changed and why.";
      before = document.activeElement;
      if (!(before instanceof HTMLTextAreaElement)) key.focus();
    },
    /** Once somebody has signed in, the focus goes back to where it was. */
    hide() {
      const asked = form.contains(document.activeElement);
      form.hidden = true;
      if (asked && before instanceof HTMLElement && before !== document.body) before.focus();
      else if (asked) document.querySelector("main")?.focus();
    },
  };
}
