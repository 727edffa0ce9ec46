/**
 * What a `datetime-local` field says, which is in the zone of whoever looks at it, as RFC 3339 in UTC.
 *
 * @param {string} local Empty where nothing was entered, as is the answer then.
 */
export function momentOf(local) {
  return local && new Date(local).toISOString();
}

const SHOWN = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/**
 * A moment as whoever looks at it reads a clock.
 *
 * @param {string} moment RFC 3339.
 */
export function shown(moment) {
  return SHOWN.format(new Date(moment));
}
