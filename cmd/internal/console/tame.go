package console

import "io"

// Tame returns a writer that hands on to w what cannot steer a terminal when w
// is one: control characters other than newline and tab become "?". Any other
// writer is returned as it is, so that a pipe gets every byte.
func Tame(w io.Writer) io.Writer {
	if Terminal(w) {
		return &tamer{w: w}
	}
	return w
}

// TameTerminal is Tame for a writer that is a terminal, though not a file.
func TameTerminal(w io.Writer) io.Writer { return &tamer{w: w} }

// tamer knows the byte before, since a control character of the second set is
// two bytes in UTF-8: 0xc2 and 0x80 to 0x9f.
type tamer struct {
	w    io.Writer
	lead bool
	buf  []byte
}

// Write tames p. It is for one goroutine.
func (t *tamer) Write(p []byte) (int, error) {
	t.buf = t.buf[:0]
	for _, b := range p {
		if (b < ' ' && b != '\n' && b != '\t') || b == 0x7f || (t.lead && b >= 0x80 && b < 0xa0) {
			b = '?'
		}
		t.lead = b == 0xc2
		t.buf = append(t.buf, b)
	}
	if _, err := t.w.Write(t.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}
