import { element } from "../elements.js";
import { Exporter } from "../history/export.js";
import { Filters } from "../history/filters.js";
import { RecordList } from "../history/list.js";

/** @type {import("../types.js").View} */
export const historyView = {
  route: "history",
  title: "History",
  scope: "log:read",
  make(services) {
    const filters = new Filters(services.session, () => list.show());
    const list = new RecordList(services, filters);
    const exporter = new Exporter(services.api, filters);
    filters.offer(exporter.button, exporter.element);
    let isSigningIn = false;
    services.session.addEventListener("close", () => {
      isSigningIn = true;
    });
    services.session.addEventListener("open", () => {
      isSigningIn = false;
    });
    return {
      element: element("div", {}, filters.element, list.element),
      shown() {
        // What was recorded meanwhile is wanted. Through a new sign-in, what was opened stays, and what is on its way.
        if (!isSigningIn && !list.isBusy) list.show();
      },
    };
  },
};
