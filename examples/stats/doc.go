// Package stats summarises a table: for each group of rows the count, mean,
// minimum and maximum of every numeric column, computed with integers, so that
// the answer has the same bytes on every machine. With a seed it summarises a
// bootstrap sample of the rows instead, drawn by splitmix64.
//
// It is an example of an algorithm that travels to the data: cmd is its WASI
// command, stats.wasm the built module. The demo calls Summarize natively and
// compares the answers. It imports little, for what it imports is in the module.
package stats

//go:generate env GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false "-ldflags=-s -w -buildid=" -o stats.wasm ./cmd
