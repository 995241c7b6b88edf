// Runs a WASI command with Node.js's own WASI: node plain.mjs FILE [ARGUMENT...]
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";

const [file, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: ["algorithm", ...args] });
const { instance } = await WebAssembly.instantiate(readFileSync(file), { wasi_snapshot_preview1: wasi.wasiImport });
wasi.start(instance);
