import { element } from "../elements.js";

const LARGEST_BYTES = 1024 * 1024;

/**
 * Let a text file be dropped onto a text area, or opened with a button, as a keyboard can.
 *
 * @param {HTMLTextAreaElement} area
 * @param {{ take: (text: string, name: string) => void, refuse: (reason: string) => void }} what
 */
export function acceptsFile(area, { take, refuse }) {
  const input = element("input", { type: "file", hidden: true, onchange: () => read(input.files?.[0]) });

  /** @param {DragEvent} event */
  function over(event) {
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
  }

  /** @param {DragEvent} event */
  function drop(event) {
    const file = event.dataTransfer?.files[0];
    // Text that is dragged, the browser puts in by itself.
    if (!file) return;
    event.preventDefault();
    read(file);
  }

  /** @param {File | undefined} file */
  async function read(file) {
    input.value = "";
    if (!file) return;
    if (file.size > LARGEST_BYTES) return refuse(`${file.name} is too large for a prompt.`);
    try {
      take(new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()), file.name);
    } catch {
      refuse(`${file.name} is not a text file in UTF-8.`);
    }
  }

  area.addEventListener("dragover", over);
  area.addEventListener("drop", drop);
  return element("span", {}, element("button", { type: "button", onclick: () => input.click() }, "Open a file"), input);
}
