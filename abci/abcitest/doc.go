// Package abcitest runs the application without consensus: a chain of blocks
// within one test, recorded so that it can be replayed into another application
// and compared.
//
// It plays CometBFT's part as far as one honest validator goes: CheckTx, one
// proposal, the decision, the commit. It checks every invariant after every
// block. Workload makes random blocks from a seed; Chain.Accuse brings evidence.
// Only tests use it; a Chain is for one goroutine.
package abcitest
