package examples

import _ "embed" // the files below

// Penguins returns a real dataset as CSV, see penguins/SOURCE.md. The caller owns
// the slice.
func Penguins() []byte { return []byte(penguins) }

// Book returns a text in the public domain, see BOOK.md. The caller owns the
// slice.
func Book() []byte { return []byte(book) }

// StatsModule returns the algorithm of the package stats, built for WASI. The
// caller owns the slice.
func StatsModule() []byte { return []byte(statsModule) }

// WordcountModule returns the algorithm of the package wordcount, built for WASI.
// The caller owns the slice.
func WordcountModule() []byte { return []byte(wordcountModule) }

// CartPoleModule returns the environment of the package cartpole, built for WASI. The
// caller owns the slice.
func CartPoleModule() []byte { return []byte(cartPoleModule) }

// MinimumModule returns the output gate of the package minimum, built for WASI. The
// caller owns the slice.
func MinimumModule() []byte { return []byte(minimumModule) }

// Strings, for they cannot be changed by who gets them.
var (
	//go:embed penguins/penguins.csv
	penguins string
	//go:embed book.txt
	book string
	//go:embed stats/stats.wasm
	statsModule string
	//go:embed wordcount/wordcount.wasm
	wordcountModule string
	//go:embed cartpole/cartpole.wasm
	cartPoleModule string
	//go:embed minimum/minimum.wasm
	minimumModule string
)
