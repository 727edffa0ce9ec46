// Unpacks the browser of the tests into node_modules, once, and prints where it is, its libraries and its fonts.
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
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
// Without a single font the browser stops, and a bare machine has none. Those of the machine come first.
const fonts = join(folder, "fonts.conf");
await writeFile(
  fonts,
  `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir>${join(folder, "fonts", "fonts")}</dir>
  <cachedir>${join(folder, "fonts-cache")}</cachedir>
</fontconfig>
`,
);
console.log(JSON.stringify({ executable, libraries, fonts }));
