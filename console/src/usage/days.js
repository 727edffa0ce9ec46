const DAY = 24 * 60 * 60 * 1000;

/**
 * A day in UTC, as a `date` field has it.
 *
 * @param {number} days How many days before today.
 */
export function daysBefore(days) {
  return new Date(Date.now() - days * DAY).toISOString().slice(0, 10);
}

/** @param {string} day */
export function startOf(day) {
  return `${day}T00:00:00Z`;
}

/**
 * The moment at which a day is over.
 *
 * @param {string} day
 */
export function endOf(day) {
  return new Date(Date.parse(startOf(day)) + DAY).toISOString();
}
