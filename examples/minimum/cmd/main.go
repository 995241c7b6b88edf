// Command minimum reads a table of groups from standard input and prints those that
// are large enough.
package main

import (
	"io"
	"os"

	"github.com/limboid/massive-man/examples/minimum"
)

func main() {
	if err := run(); err != nil {
		_, _ = os.Stderr.WriteString("minimum: " + err.Error() + "\n")
		os.Exit(2) //nolint:forbidigo // this is a main package
	}
}

func run() error {
	options, err := minimum.ParseArgs(os.Args[1:])
	if err != nil {
		return err
	}
	table, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	kept, err := minimum.Filter(table, options)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(kept)
	return err
}
