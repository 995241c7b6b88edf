// Command wordcount counts the words of standard input.
package main

import (
	"os"

	"github.com/limboid/massive-man/examples/wordcount"
)

func main() {
	if err := run(); err != nil {
		_, _ = os.Stderr.WriteString("wordcount: " + err.Error() + "\n")
		os.Exit(2) //nolint:forbidigo // this is a main package
	}
}

func run() error {
	counts, err := wordcount.Count(os.Stdin)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(counts)
	return err
}
