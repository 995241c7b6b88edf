// Package kernel holds the programs that the meter is measured with: real
// algorithms in C, compiled to one WebAssembly module, and the same in Go, which
// is what the processor does without WebAssembly. Tests of the meter and
// mman-node bench wasm use them; no run of a user does.
//
// An Instance is one of the module, plain or metered, on the same engine with the
// same settings as the executor's, but with no WASI, cache, deadlines or limits
// around it, so that nothing but the code is timed. The package reads no clock.
//
// Every kernel returns a checksum, which is the same in all forms.
package kernel
