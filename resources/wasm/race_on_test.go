//go:build race

package wasm_test

// shadow is how many times as much memory the race detector takes.
const shadow = 5
