import { element } from "../elements.js";

const LARGEST_BYTES = 1024 * 1024;
// From here on, Chromium takes seconds to insert a pasted text of many lines. Setting it costs the way back by Ctrl+Z.
const LONG_CHARACTERS = 20_000;

/**
 * Let a text file be dropped onto or pasted into a text area, or opened with a button, as a keyboard can. And let a long
 * text be pasted without a pause.
 *
 * @param {HTMLTextAreaElement} area
 * @param {{ take: (text: string, name: string) => void, refuse: (reason: string) => void }} what
 */
export function acceptsText(area, { take, refuse }) {
  const input = element("input", { type: "file", hidden: true, onchange: () => read(input.files?.[0]) });

  /** @param {DragEvent} event */
  function over(event) {
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
  }

  /** @param {Event & { dataTransfer?: DataTransfer | null, clipboardData?: DataTransfer | null }} event */
  function bring(event) {
    const brought = event.dataTransfer ?? event.clipboardData;
    const text = brought?.getData("text/plain") ?? "";
    if (brought?.files.length) read(brought.files[0]);
    else if (text.length >= LONG_CHARACTERS) {
      area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
      area.dispatchEvent(new Event("input"));
    } else return;
    event.preventDefault();
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
  area.addEventListener("drop", bring);
  area.addEventListener("paste", bring);
  return element("span", {}, element("button", { type: "button", onclick: () => input.click() }, "Open a file"), input);
}
