// Command stats prints the summary of a CSV table, by default /data/0, where a
// WASI executor mounts the first input.
package main

import (
	"os"

	"github.com/limboid/massive-man/examples/stats"
)

func main() {
	if err := run(); err != nil {
		_, _ = os.Stderr.WriteString("stats: " + err.Error() + "\n")
		os.Exit(2) //nolint:forbidigo // this is a main package
	}
}

func run() error {
	options, err := stats.ParseArgs(os.Args[1:])
	if err != nil {
		return err
	}
	csv, err := os.ReadFile(options.Path)
	if err != nil {
		return err
	}
	summary, err := stats.Summarize(csv, options)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(summary)
	return err
}
