/** @typedef {{ runs: import("./comparing.js").Run[], removed: number, added: number }} Comparison */

/** @type {Worker | undefined} */
let worker;
let count = 0;

/**
 * Compare two texts beside the page's own work.
 *
 * @param {string} left
 * @param {string} right
 * @returns {Promise<Comparison>}
 */
export function comparison(left, right) {
  worker ??= new Worker(workerAddress());
  const [asked, id] = [worker, ++count];
  return new Promise((resolve, reject) => {
    /** @param {MessageEvent} message */
    const receive = ({ data }) => {
      if (data.id !== id) return;
      stop();
      resolve(data);
    };
    const fail = () => {
      stop();
      reject(new Error("The texts could not be compared."));
    };
    const stop = () => {
      asked.removeEventListener("message", receive);
      asked.removeEventListener("error", fail);
    };
    asked.addEventListener("message", receive);
    asked.addEventListener("error", fail);
    asked.postMessage({ id, left, right });
  });
}

/** The build puts its address, which changes with the content, into the page's head. */
function workerAddress() {
  const meta = /** @type {HTMLMetaElement} */ (document.querySelector("meta[name=comparing-worker]"));
  // The page's policy lets nothing but this become a script (Trusted Types), where the browser knows of it.
  const { trustedTypes } = /** @type {any} */ (window);
  return trustedTypes
    ? trustedTypes.createPolicy("klamala", { createScriptURL: () => meta.content }).createScriptURL("")
    : meta.content;
}
