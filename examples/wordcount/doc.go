// Package wordcount counts the lines, words and bytes of a text and finds its ten
// most frequent words.
//
// It is an example of an algorithm that reads standard input: cmd is its WASI
// command, wordcount.wasm the built module.
package wordcount

//go:generate env GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false "-ldflags=-s -w -buildid=" -o wordcount.wasm ./cmd
