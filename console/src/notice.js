import { element } from "./elements.js";
import { inWords } from "./problems.js";

/**
 * An error in words, with the request id by which the operator finds it in the log. Screen readers read it at once.
 *
 * @param {unknown} error
 * @param {HTMLElement | null} [remedy] A button that may help.
 */
export function errorNotice(error, remedy) {
  const { title, lines, requestId } = inWords(error);
  return element(
    "div",
    { class: "notice error", role: "alert" },
    element("strong", {}, title),
    ...lines.map((line) => element("p", {}, line)),
    requestId && element("p", { class: "hint" }, "Request id: ", element("code", {}, requestId)),
    remedy,
  );
}
