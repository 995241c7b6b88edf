// Package resources says what a Resource is and how one runs: manifests, ports,
// usage, limits, tasks, and the Executor interface that every driver under
// resources/ implements.
//
// It is pure: no I/O, no clock, no goroutine. It knows nothing of money, the
// network or the ledger. The market and the node build on it; drivers implement
// it and pass the conformance suite in resources/resourcestest.
package resources
