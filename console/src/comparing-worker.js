import { compare, countWords } from "./comparing.js";

const MILLISECONDS = 2000;

// Two long texts can take seconds, in which a page could not even be scrolled.
self.addEventListener("message", ({ data: { id, left, right } }) => {
  const runs = compare(left, right, MILLISECONDS);
  self.postMessage({ id, runs, removed: countWords(runs, "left"), added: countWords(runs, "right") });
});
