// Calls _start of a module that traps and prints why the meter stopped it and the
// number at an address: node deep.mjs FILE ADDRESS
import { readFileSync } from "node:fs";

const [file, address] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(file));
const { memory, _start, "mman.limit": limit, "mman.stop": stop } = instance.exports;
limit.value = 1n << 62n;
try {
  _start();
} catch (error) {
  if (!(error instanceof WebAssembly.RuntimeError)) console.log(String(error));
}
console.log(stop.value, new DataView(memory.buffer).getUint32(Number(address), true));
