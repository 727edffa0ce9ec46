import { element } from "../elements.js";
import { duration, inWords } from "../problems.js";

/** @typedef {import("../job.js").Job} Job */

/** How a job goes, with the time since it was begun, and a way to stop waiting for it. */
export class Progress {
  #state = element("p", { role: "status" });
  #clock = element("span", { role: "timer", "aria-label": "Elapsed time" });
  #cancel = element("button", { type: "button" }, "Stop waiting");
  element = element("div", { class: "card progress", hidden: true }, this.#state, this.#clock, this.#cancel);
  /** Whether what had the focus vanished with the last job. */
  hadFocus = false;

  /** @param {import("../session.js").Session} session */
  constructor(session) {
    session.addEventListener("close", () => this.#tell("Waiting until you have signed in again."));
    session.addEventListener("open", () => this.#tell("Going on."));
  }

  get isBusy() {
    return !this.element.hidden;
  }

  /**
   * Show how a job goes until it has ended.
   *
   * @param {Job} job
   * @param {() => void} accepted Called when the service has taken it on.
   * @returns {Promise<import("../types.js").Refinement | null>} null where the user stopped waiting
   */
  async follow(job, accepted) {
    const stop = new AbortController();
    this.#cancel.onclick = () => stop.abort();
    const halt = this.#startClock();
    this.element.hidden = false;
    try {
      return await job.done(stop.signal, (how) => {
        this.#tell(inText(how));
        if (how.state === "accepted") accepted();
      });
    } catch (error) {
      if (stop.signal.aborted) return null;
      throw error;
    } finally {
      halt();
      this.hadFocus = this.element.contains(document.activeElement);
      this.element.hidden = true;
    }
  }

  /** @returns {() => void} what halts it */
  #startClock() {
    const begun = Date.now();
    const tick = () => {
      this.#clock.textContent = duration(Math.floor((Date.now() - begun) / 1000));
    };
    tick();
    const timer = setInterval(tick, 1000);
    return () => clearInterval(timer);
  }

  /** @param {string} text */
  #tell(text) {
    // The same text again would be read out again.
    if (this.#state.textContent !== text) this.#state.textContent = text;
  }
}

/** @param {import("../job.js").Progress} progress */
function inText(progress) {
  if (progress.state === "sent") return "Sending the prompt.";
  if (progress.state === "accepted") return "The refinement is being made.";
  return `${inWords(progress.error).title}: trying again in ${progress.seconds} s. Nothing is paid twice.`;
}
