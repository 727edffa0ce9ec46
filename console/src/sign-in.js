import { element, field } from "./elements.js";
import { errorNotice } from "./notice.js";

/**
 * The form that exchanges an API key for a token. The key leaves the page with that one request.
 *
 * @param {import("./session.js").Session} session
 */
export function signIn(session) {
  const key = element("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const user = element("input", { type: "text", autocomplete: "off", spellcheck: "false", maxlength: 128 });
  const errors = element("div");
  const button = element("button", { type: "submit", class: "primary" }, "Sign in");
  const why = element("p");

  /** @param {SubmitEvent} event */
  async function submit(event) {
    event.preventDefault();
    errors.replaceChildren();
    button.disabled = true;
    try {
      await session.open(key.value.trim(), user.value);
      key.value = "";
    } catch (error) {
      errors.append(errorNotice(error));
      key.select();
    } finally {
      button.disabled = false;
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
    /** Ask for a key, and say why. */
    show() {
      why.textContent = session.expired
        ? "The token is no longer good. What you typed, and what was running, is kept: sign in to go on."
        : "Which program asks? Its operator has the API key.";
      form.hidden = false;
      key.focus();
    },
    hide() {
      form.hidden = true;
    },
  };
}
