import { persistently } from "../api.js";
import { element, field } from "../elements.js";
import { errorNotice } from "../notice.js";
import { inWords } from "../problems.js";
import { charts } from "../usage/charts.js";
import { daysBefore, endOf, startOf } from "../usage/days.js";
import { tables } from "../usage/tables.js";
import { counted } from "../words.js";

const DAYS = 30;

/** @type {import("../types.js").View} */
export const usageView = {
  route: "usage",
  title: "Usage",
  scope: "log:read",
  make({ api, session }) {
    const from = element("input", { type: "date", required: true, value: daysBefore(DAYS - 1) });
    const to = element("input", { type: "date", required: true, value: daysBefore(0) });
    const user = element("input", { type: "text", maxlength: 128, autocomplete: "off", spellcheck: "false" });
    const state = element("p", { role: "status", class: "hint" });
    const outcome = element("div");
    const form = element(
      "form",
      { class: "card", "aria-labelledby": "usage", onsubmit: submit },
      element("h2", { id: "usage" }, "Usage"),
      element(
        "div",
        { class: "fields" },
        field("First day (UTC)", from),
        field("Last day (UTC)", to),
        session.can("log:read:all") && field("User", user, "Empty: all of the client's."),
      ),
      element("button", { type: "submit", class: "primary" }, "Show"),
    );
    let stop = new AbortController();

    /** @param {Event} event */
    function submit(event) {
      event.preventDefault();
      show();
    }

    async function show() {
      stop.abort();
      stop = new AbortController();
      const { signal } = stop;
      state.textContent = "Loading.";
      try {
        const { body } = await persistently(() => api.get(`usage?${query()}`, { signal }), { signal, waiting });
        state.textContent = told(body);
        outcome.replaceChildren(...(body.items.length > 0 ? [charts(body), tables(body.items)] : []));
      } catch (error) {
        if (signal.aborted) return;
        state.textContent = "";
        outcome.replaceChildren(errorNotice(error));
      }
    }

    function query() {
      const query = new URLSearchParams({ from: startOf(from.value), to: endOf(to.value) });
      if (user.value) query.set("user_id", user.value);
      return query;
    }

    /**
     * @param {number} seconds
     * @param {unknown} error
     */
    function waiting(seconds, error) {
      state.textContent = `${inWords(error).title}: trying again in ${seconds} s.`;
    }

    return { element: element("div", { class: "usage" }, form, state, outcome), shown: show };
  },
};

/** @param {import("../types.js").Usage} usage */
function told({ items }) {
  const calls = items.reduce((all, item) => all + item.calls, 0);
  return calls > 0 ? `${counted(calls, "finished call")}.` : "No refinement or generation ended in these days.";
}
