// Package minimum is an output gate: of a table of groups it lets those through that
// have a minimum number of members (k-suppression), as CSV or JSON. Built for WASI it
// is minimum.wasm, which an owner names under release in a policy.
//
// It believes the counts that the algorithm wrote: which algorithms may run is the
// policy's to say, and how much they may tell in all, its bits.
package minimum

//go:generate env GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false "-ldflags=-s -w -buildid=" -o minimum.wasm ./cmd
