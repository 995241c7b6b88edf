package console

import "io"

// TameAlways tames what goes to any writer, for tests, which have no terminal.
func TameAlways(w io.Writer) io.Writer { return &tamer{w: w} }
