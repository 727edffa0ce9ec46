// Unpacks the browser of the tests into node_modules, once, and prints where it is and where its libraries are.
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";

const folder = join(import.meta.dirname, "node_modules", ".chromium");
await mkdir(folder, { recursive: true });
// The package unpacks into the temporary folder, which it asks for when it is imported.
process.env.TMPDIR = folder;
const { default: chromium, inflate } = await import("@sparticuz/chromium");
const executable = await chromium.executablePath();
const libraries = join(folder, "al2023", "lib");
if (!existsSync(libraries)) {
  await inflate(join(import.meta.dirname, "node_modules", "@sparticuz", "chromium", "bin", "al2023.tar.br"));
}
console.log(JSON.stringify({ executable, libraries }));
