// Package wasm runs WebAssembly algorithms: WASI preview 1 command modules, on
// wazero. It implements resources.Executor for the facet wasm.
//
// A guest gets a small, closed world that is the same on every machine: its
// arguments, standard input, the inputs read-only under /data, a clock that
// starts at ClockEpoch and moves only when it is looked at, and randomness from
// the task's seed. There is no environment and no network. It writes to the two
// output streams and to its own files under /tmp, which are in memory, bounded,
// and gone with the run. So a run can be replayed by whoever has the blocks. The host functions are this package's own, not wazero's: theirs answer
// from the machine in places, and let a guest make the host allocate.
//
// What a stranger's module may cost is bounded before wazero sees it (admit.go):
// every count is checked against the bytes that are there, tables get a maximum,
// custom sections are dropped. Limits are enforced, not asked of the guest.
//
// A module is compiled when it first arrives. A fault of the compiler's ends one module
// and not the program: here one thread compiles, which recovers; with Config.Compile
// another process does so first, with all processors.
//
// The package does not meter fuel, does not fetch content and knows no prices.
// The node's worker calls it; so does a client that replays a run.
//
// Invariants: at most Config.MaxRuns guests run and Config.CompileWorkers
// modules compile at a time; nothing is read from a task's content outside the
// contexts of its Prepare and Run; a guest ends within its wall time also when it
// is blocked in a host call.
package wasm
