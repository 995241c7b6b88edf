// Command paramdoc writes docs/parameters.md from the table of parameters.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/limboid/massive-man/genesis"
)

func main() {
	var b strings.Builder
	b.WriteString("# Parameters\n\nWhat all nodes of a chain agree on: written into its genesis, read from state.\nGenerated from `genesis/defaults.go` by `go generate ./genesis`.\n\n")
	b.WriteString("| parameter | unit | local | public | bounds | why |\n|---|---|---|---|---|---|\n")
	for _, p := range genesis.Table() {
		fmt.Fprintf(&b, "| `%s` | %s | %d | %d | %d – %d | %s |\n", p.Name, p.Unit, p.Local, p.Public, p.Min, p.Max, p.Reason)
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "paramdoc: name the file to write")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(b.String()), 0o600); err != nil { //nolint:gosec // the file that its caller names
		fmt.Fprintln(os.Stderr, "paramdoc:", err)
		os.Exit(1)
	}
}
