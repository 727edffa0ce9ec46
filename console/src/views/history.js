import { element } from "../elements.js";
import { exporter } from "../history/export.js";
import { filters } from "../history/filters.js";
import { recordList } from "../history/list.js";

const EXPORT_PAGE = 100;

/** @type {import("../types.js").View} */
export const historyView = {
  route: "history",
  title: "History",
  scope: "log:read",
  make(services) {
    const download = exporter(services.api, () => filter.query(EXPORT_PAGE));
    const filter = filters(services.session, () => list.show(), download.button);
    const list = recordList(services, filter);
    return {
      element: element("div", { class: "history" }, filter.element, download.element, list.element),
      // What has been recorded meanwhile is wanted; what is on its way is not disturbed.
      shown: () => list.isBusy() || list.show(),
    };
  },
};
