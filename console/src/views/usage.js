import { list, persistently } from "../api.js";
import { element } from "../elements.js";
import { errorNotice } from "../notice.js";
import { inWords } from "../problems.js";
import { charts } from "../usage/charts.js";
import { Period } from "../usage/period.js";
import { sum } from "../usage/series.js";
import { tables } from "../usage/tables.js";
import { counted } from "../words.js";

/** @type {import("../types.js").View} */
export const usageView = {
  route: "usage",
  title: "Usage",
  scope: "log:read",
  make({ api, session }) {
    const period = new Period(session, show);
    const state = element("p", { role: "status", class: "hint" });
    const outcome = element("div");
    let stop = new AbortController();

    async function show() {
      if (!period.element.reportValidity()) return;
      stop.abort();
      stop = new AbortController();
      const { signal } = stop;
      state.textContent = "Loading.";
      try {
        const ask = async () => list(await api.get(`usage?${period.query}`, { signal }));
        const { body } = await persistently(ask, { signal, waiting });
        state.textContent = told(body.items);
        outcome.replaceChildren(...(body.items.length > 0 ? [charts(body), tables(body.items)] : []));
      } catch (error) {
        if (signal.aborted) return;
        state.textContent = "";
        outcome.replaceChildren(errorNotice(error));
      }
    }

    /**
     * @param {number} seconds
     * @param {unknown} error
     */
    function waiting(seconds, error) {
      state.textContent = `${inWords(error).title}: trying again in ${seconds} s.`;
    }

    return { element: element("div", { class: "usage" }, period.element, state, outcome), shown: show };
  },
};

/** @param {import("../types.js").DayOfUsage[]} items */
function told(items) {
  const { calls } = sum(items);
  return calls > 0 ? `${counted(calls, "finished call")}.` : "No refinement or generation ended in these days.";
}
