package console

import "io"

// TameAlways tames what goes to any writer, for tests, which have no terminal.
func TameAlways(w io.Writer) io.Writer { return &tamer{w: w} }

// Percent returns how much a heap of which live bytes are in use may grow.
func Percent(live uint64) int { return percent(live) }
