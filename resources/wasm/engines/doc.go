// Package engines holds the meter to three engines that have nothing in common:
// wazero, which the node runs, V8 by Node.js, and wasmtime. There is nothing to
// import. Its tests run real programs in C and Go, among them a database engine and
// an interpreter, as they were written and metered: they must write the same bytes
// everywhere, for the same fuel.
//
// It is a module of its own, so that the project's go.mod stays free of cgo:
// wasmtime comes as a C library, and SQLite, which is compiled for WASI here, as the
// source within a module that binds it. Run it with
//
//	go -C resources/wasm/engines test ./...
//
// It needs a C compiler, clang with wasi-libc, and Node.js.
package engines
