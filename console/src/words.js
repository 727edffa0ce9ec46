/** What people read for the API's values. */

export const KINDS = { refine: "Refinement", generate: "Generation", client: "Reported" };

export const STATES = { pending: "Pending", succeeded: "Succeeded", failed: "Failed", abandoned: "Abandoned" };

/**
 * @param {number} number
 * @param {string} one
 * @param {string} [more]
 */
export function counted(number, one, more = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : more}`;
}

const COMPACT = new Intl.NumberFormat("en", { notation: "compact" });

/** @param {number} number */
export function compact(number) {
  return COMPACT.format(number);
}

/** @param {number} number */
export function amount(number) {
  return number.toLocaleString("en");
}
