import { element } from "../elements.js";
import { duration, inWords } from "../problems.js";

/** @typedef {import("../job.js").Job} Job */

/**
 * How a job goes, with the time since it was begun, and a way to stop waiting for it.
 *
 * @param {import("../session.js").Session} session
 */
export function progress(session) {
  const state = element("p", { role: "status" });
  const clock = element("span", { role: "timer", "aria-label": "Elapsed time" });
  const cancel = element("button", { type: "button" }, "Stop waiting");
  const box = element("div", { class: "card progress", hidden: true }, state, clock, cancel);
  let focused = false;

  /**
   * Show how a job goes until it has ended.
   *
   * @param {Job} job
   * @returns {Promise<import("../types.js").Refinement | null>} null where the user stopped waiting
   */
  async function follow(job) {
    const stop = new AbortController();
    const begun = Date.now();
    const tick = () => {
      clock.textContent = duration(Math.floor((Date.now() - begun) / 1000));
    };
    tick();
    const timer = setInterval(tick, 1000);
    cancel.onclick = () => stop.abort();
    box.hidden = false;
    try {
      return await job.done(stop.signal, (how) => {
        state.textContent = told(how);
      });
    } catch (error) {
      if (stop.signal.aborted) return null;
      throw error;
    } finally {
      clearInterval(timer);
      focused = box.contains(document.activeElement);
      box.hidden = true;
    }
  }

  session.addEventListener("close", () => {
    state.textContent = "Waiting until you have signed in again.";
  });
  session.addEventListener("open", () => {
    state.textContent = "Going on.";
  });
  return {
    element: box,
    follow,
    isBusy: () => !box.hidden,
    /** Whether what had the focus vanished with the last job. */
    hadFocus: () => focused,
  };
}

/** @param {import("../job.js").Progress} progress */
function told(progress) {
  if (progress.state === "sent") return "Sending the prompt.";
  if (progress.state === "accepted") return "The refinement is being made.";
  return `${inWords(progress.error).title}: trying again in ${progress.seconds} s. Nothing is paid twice.`;
}
