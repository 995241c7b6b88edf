package client

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/limboid/massive-man/cmd/internal/console"
)

// answer writes a verb's answer: v with -o json, otherwise the lines.
func (a *app) answer(v any, lines ...string) error {
	if a.output == formatJSON {
		return console.JSON(a.streams.Out, v)
	}
	if len(lines) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(a.streams.Out, strings.Join(lines, "\n")); err != nil {
		return console.Unwritten(err)
	}
	return nil
}

// note says on a terminal what is going on. Pipes stay quiet.
func (a *app) note(format string, args ...any) {
	if console.Terminal(a.streams.Err) {
		_, _ = fmt.Fprintf(a.streams.Err, "\r\033[K%s\n", console.Clean(fmt.Sprintf(format, args...))) // only a courtesy
	}
}

// tick is a note that the next one replaces.
func (a *app) tick(format string, args ...any) {
	if console.Terminal(a.streams.Err) {
		_, _ = fmt.Fprintf(a.streams.Err, "\r\033[K%s", console.Clean(fmt.Sprintf(format, args...))) // only a courtesy
	}
}

// table aligns rows below a header; cells are cleaned, an empty one is "-".
func table(header []string, rows [][]string) []string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = console.Clean(cell); cells[i] == "" {
				cells[i] = "-"
			}
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t")) // a strings.Builder takes all
	}
	_ = w.Flush()
	return strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
}

// facts aligns names and values, one pair a line; pairs without a value are
// left out.
func facts(pairs ...string) []string {
	width := 0
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			width = max(width, len(pairs[i]))
		}
	}
	var out []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, fmt.Sprintf("%-*s  %s", width, pairs[i], console.Clean(pairs[i+1])))
		}
	}
	return out
}
