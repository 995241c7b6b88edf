// Package prepare is what drivers do alike before a task runs: they learn the sizes of
// what it reads, and hold what it runs until it has run once. Invariant: a task that
// reads more than its limit is refused before anything is loaded for it.
package prepare
