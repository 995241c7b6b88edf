// Runs the kernels that are named on the command line, as NAME=ROUNDS, of a module
// and prints for each its checksum and the fuel used so far, a line of JSON each.
import { readFileSync } from "node:fs";

const [file, ...kernels] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(file));
const used = instance.exports["mman.used"];
const limit = instance.exports["mman.limit"];
if (limit) limit.value = 1n << 62n;
for (const kernel of kernels) {
  const [name, rounds] = kernel.split("=");
  const checksum = instance.exports[name](Number(rounds)) >>> 0;
  console.log(JSON.stringify({ name, checksum, fuel: used ? Number(used.value) : 0 }));
}
