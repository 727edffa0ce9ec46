// Bundles the console into dist/: files whose names change with their content, the page that refers to them, and which
// packages are in them, with their licences. `--watch` does it again at each change of a source.
import { readFile, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { context } from "esbuild";

const DIST = "dist";

/** @type {import("esbuild").Plugin} */
const page = {
  name: "page",
  setup(build) {
    build.onStart(() => rm(DIST, { recursive: true, force: true }));
    build.onEnd(async ({ errors, metafile }) => {
      if (errors.length > 0 || !metafile) return;
      // From `src/main.js`, as it stands in index.html, to the file's place beside the page: `console/main-….js`.
      const places = Object.entries(metafile.outputs).map(([file, output]) => [
        output.entryPoint ?? Object.keys(output.inputs)[0],
        `console/${basename(file)}`,
      ]);
      let html = await readFile("index.html", "utf-8");
      for (const [source, place] of places) html = html.replaceAll(`"${source}"`, `"${place}"`);
      await writeFile(`${DIST}/index.html`, html);
      await writeFile(`${DIST}/packages.json`, `${JSON.stringify(await packages(Object.keys(metafile.inputs)))}\n`);
    });
  },
};

/** @param {string[]} files */
async function packages(files) {
  const folders = files.map((file) => file.match(/^node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0]).filter(Boolean);
  return Promise.all(
    [...new Set(folders)].sort().map(async (folder) => {
      const { name, version, license } = JSON.parse(await readFile(`${folder}/package.json`, "utf-8"));
      return { name, version, license, text: await readFile(`${folder}/LICENSE`, "utf-8") };
    }),
  );
}

const bundle = await context({
  entryPoints: ["src/main.js", "src/comparing-worker.js", "src/style.css", "src/icon.svg"],
  outdir: DIST,
  entryNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  metafile: true,
  format: "esm",
  target: "es2022",
  loader: { ".svg": "copy" },
  logLevel: "warning",
  plugins: [page],
});
if (process.argv.includes("--watch")) {
  await bundle.watch();
} else {
  await bundle.rebuild();
  await bundle.dispose();
}
