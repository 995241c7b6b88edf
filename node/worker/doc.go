// Package worker carries out runs: it hands a task to the executor of its
// facet, streams what the guest writes, keeps the output under its CID, and
// says how the run ended in terms that can be billed.
//
// It knows no lease and no money: node/provider asks it, with a task that is
// already admitted.
package worker
