import { element } from "../elements.js";
import { Job } from "../job.js";
import { errorNotice } from "../notice.js";
import { draftForm } from "../refine/draft-form.js";
import { progress } from "../refine/progress.js";
import { result } from "../refine/result.js";
import { Versions } from "../refine/versions.js";

/** @typedef {import("../types.js").Refinement} Refinement */

/** @type {import("../types.js").View} */
export const refineView = {
  route: "",
  title: "Refine",
  scope: "refine",
  make(services) {
    /** @type {Versions} */
    let versions;
    const form = draftForm(services, (wanted) =>
      refine(wanted, (refinement) => {
        versions = new Versions(refinement);
      }),
    );
    const work = progress(services.session);
    const made = result(services, form.chosen, (instructions, parent) => {
      const { strategy, model } = form.chosen();
      const wanted = { parent_id: versions.all[parent].refinement?.id, instructions, strategy, model };
      return refine(wanted, (refinement) => versions.add(refinement, parent));
    });
    const outcome = element("div");

    /**
     * @param {import("../job.js").Wanted} wanted
     * @param {(refinement: Refinement) => void} keep
     */
    function refine(wanted, keep) {
      // One at a time: what is on its way is shown, and can be given up.
      if (!work.isBusy()) follow(new Job(services.api, wanted), keep);
    }

    /**
     * @param {Job} job
     * @param {(refinement: Refinement) => void} keep
     */
    async function follow(job, keep) {
      const again = (/** @type {string} */ name) =>
        element("button", { type: "button", onclick: () => follow(job, keep) }, name);
      outcome.replaceChildren();
      try {
        const refinement = await work.follow(job);
        if (refinement) {
          keep(refinement);
          made.show(versions);
        } else {
          outcome.append(stopped(again("Wait for it again")));
        }
      } catch (error) {
        const notice = errorNotice(error);
        if (job.mayBeSentAgain(error)) notice.append(again("Try again"));
        outcome.append(notice);
      }
      // The button that had the focus is gone.
      if (work.hadFocus()) (outcome.querySelector("button") ?? made).focus();
    }
    return { element: element("div", {}, form.element, work.element, outcome, made.element) };
  },
};

/** @param {HTMLElement} again */
function stopped(again) {
  return element(
    "div",
    { class: "notice", role: "status" },
    element("strong", {}, "Not waiting any more"),
    element("p", {}, "If the prompt had arrived, the service goes on with it, and the log will have what comes of it."),
    again,
  );
}
