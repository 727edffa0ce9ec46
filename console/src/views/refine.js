import { element } from "../elements.js";
import { Job } from "../job.js";
import { errorNotice } from "../notice.js";
import { draftForm } from "../refine/draft-form.js";
import { Progress } from "../refine/progress.js";
import { Result } from "../refine/result.js";
import { Versions } from "../refine/versions.js";

/** @typedef {import("../types.js").Refinement} Refinement */
/** @typedef {import("../types.js").Services} Services */
/** @typedef {(refinement: Refinement) => Versions} Keep What becomes of a refinement that was made. */

class RefineView {
  #services;
  #work;
  #made;
  #outcome = element("div");
  /** The refinement that the address names. */
  #id = "";

  /** @param {Services} services */
  constructor(services) {
    this.#services = services;
    const form = draftForm(services, (wanted) => this.#refine(wanted, (made) => new Versions(made)));
    this.#work = new Progress(services.session);
    this.#made = new Result(services, form.chosen, (versions, instructions) => {
      const parent = versions.right;
      const wanted = { parent_id: versions.all[parent].refinement?.id, instructions, ...form.chosen() };
      this.#refine(wanted, (made) => versions.add(made, parent));
    });
    this.element = element("div", {}, form.element, this.#work.element, this.#outcome, this.#made.element);
  }

  /** @param {string} id Of an earlier refinement, or nothing. */
  shown(id) {
    if (id && id !== this.#id && !this.#work.isBusy) {
      this.#follow(new Job(this.#services.api, null, id), (made) => new Versions(made));
    }
  }

  /**
   * @param {import("../job.js").Wanted} wanted
   * @param {Keep} keep
   */
  #refine(wanted, keep) {
    // One at a time: what is on its way is shown, and can be given up.
    if (!this.#work.isBusy) this.#follow(new Job(this.#services.api, wanted), keep);
  }

  /**
   * @param {Job} job
   * @param {Keep} keep
   */
  async #follow(job, keep) {
    this.#outcome.replaceChildren();
    const again = (/** @type {string} */ name) =>
      element("button", { type: "button", onclick: () => this.#follow(job, keep) }, name);
    try {
      const refinement = await this.#work.follow(job, () => this.#remember(job));
      if (refinement) {
        this.#remember(job);
        this.#made.show(keep(refinement));
        this.#made.reveal();
      } else {
        this.#outcome.append(stopped(again("Wait for it again")));
      }
    } catch (error) {
      this.#outcome.append(errorNotice(error, job.mayBeSentAgain(error) ? again("Try again") : null));
    }
    // The button that had the focus is gone.
    if (this.#work.hadFocus) (this.#outcome.querySelector("button") ?? this.#made).focus();
  }

  /**
   * Keep the id in the address: who loads the page again finds the refinement again.
   *
   * @param {Job} job
   */
  #remember(job) {
    this.#id = job.id ?? "";
    // Unless the user has gone to another view in the meantime.
    if (/^(#\/?(refine(\/.*)?)?)?$/.test(location.hash)) history.replaceState(null, "", `#/refine/${this.#id}`);
  }
}

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

/** @type {import("../types.js").View} */
export const refineView = {
  route: "refine",
  title: "Refine",
  scope: "refine",
  make: (services) => new RefineView(services),
};
