// Package wasmtest assembles small WASI command modules, for tests: programs
// with one behaviour each, and a Builder for more. It is no part of the product
// and knows no engine; tests of the executor, of the node and of whatever else
// runs algorithms use it, so that no compiler is needed to make a fixture.
package wasmtest
