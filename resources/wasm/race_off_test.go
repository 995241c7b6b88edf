//go:build !race

package wasm_test

// shadow is 1 without the race detector, which would take as much again some times.
const shadow = 1
