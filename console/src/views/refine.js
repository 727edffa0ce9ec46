import { element } from "../elements.js";
import { Job } from "../job.js";
import { errorNotice } from "../notice.js";
import { draftForm } from "../refine/draft-form.js";
import { progress } from "../refine/progress.js";

/** @type {import("../types.js").View} */
export const refineView = {
  route: "",
  title: "Refine",
  scope: "refine",
  make(services) {
    const form = draftForm(services, refine);
    const result = element("div");
    const work = progress(services.session);
    /** @param {import("../job.js").Wanted} wanted */
    async function refine(wanted) {
      try {
        const refinement = await work.follow(new Job(services.api, wanted));
        if (refinement)
          result.replaceChildren(element("pre", { class: "prompt", dir: "auto" }, refinement.refined_prompt));
      } catch (error) {
        result.replaceChildren(errorNotice(error));
      }
    }
    return { element: element("div", {}, form, work.element, result) };
  },
};
