// Package lint refuses nondeterminism in the state machine.
//
// Analyzer reads the packages that every node must run alike (market, genesis,
// the packages below abci, resources and the root) and reports what could make
// two nodes disagree: clocks, unsorted map ranges, floats, goroutines, locks,
// foreign randomness, I/O, addresses of memory in texts. scope.go is the table
// of packages, rules.go the rules. Test files are free.
//
// It is not a proof. It does not see a float inside an any (so nothing of the
// state machine decodes JSON into any), an order that leaks through a callee
// outside the table, or an int whose width matters.
//
// There is no directive to silence it: code that it refuses belongs elsewhere.
// The command mmanlint runs it under go vet; this package's test runs it over
// the whole module, so that go test fails when a rule is broken.
package lint
