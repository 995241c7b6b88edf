// Package examples holds what a first run needs, embedded, so that the demo works
// from the single binary: a real dataset, a text, two algorithms and an environment
// built for WASI from the packages below it.
//
// The modules are committed and reproducible: go generate writes the same bytes
// with the same Go from any folder.
package examples
