/** @typedef {import("../types.js").Refinement} Refinement */
/**
 * @typedef {{ name: string, text: string, refinement: Refinement | null, parent: number }} Version The draft has no
 *   refinement; `parent` is the place of the version that it was made from.
 */

/** A draft and what has become of it, oldest first, and which two of them are compared. */
export class Versions {
  /** @type {Version[]} */
  all;
  left = 0;
  right = 0;

  /** @param {Refinement} refinement The first one. */
  constructor(refinement) {
    this.all = [{ name: "Draft", text: refinement.original_prompt, refinement: null, parent: 0 }];
    this.add(refinement, 0);
  }

  /**
   * @param {Refinement} refinement
   * @param {number} parent
   * @returns {Versions} these
   */
  add(refinement, parent) {
    const name = `Version ${this.all.length}`;
    this.all.push({ name, text: refinement.refined_prompt, refinement, parent });
    this.show(this.all.length - 1);
    return this;
  }

  get leftVersion() {
    return this.all[this.left];
  }

  get rightVersion() {
    return this.all[this.right];
  }

  /**
   * Compare a version with the one that it was made from.
   *
   * @param {number} place
   */
  show(place) {
    this.right = place;
    this.left = this.all[place].parent;
  }
}
