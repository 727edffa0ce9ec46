/**
 * Until an event comes.
 *
 * @param {EventTarget} target
 * @param {string} type
 * @param {AbortSignal} [signal] Gives up: the promise is rejected with its reason.
 * @returns {Promise<void>}
 */
export function once(target, type, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = () => {
      target.removeEventListener(type, come);
      reject(signal?.reason);
    };
    const come = () => {
      signal?.removeEventListener("abort", abort);
      resolve();
    };
    signal?.addEventListener("abort", abort, { once: true });
    target.addEventListener(type, come, { once: true });
  });
}

/**
 * @param {number} seconds
 * @param {AbortSignal} signal Gives up, as in `once`.
 * @param {string} [type] An event of the window that ends the wait before its time.
 * @returns {Promise<void>}
 */
export async function sleep(seconds, signal, type) {
  const over = new EventTarget();
  const end = () => over.dispatchEvent(new Event("over"));
  const timer = setTimeout(end, seconds * 1000);
  if (type) window.addEventListener(type, end);
  try {
    await once(over, "over", signal);
  } finally {
    clearTimeout(timer);
    if (type) window.removeEventListener(type, end);
  }
}
