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

// TameTerminal is Tame for a writer that is a terminal, though not a file. What sets
// colours passes with colours, and is left out without.
func TameTerminal(w io.Writer, colours bool) io.Writer {
	return &tamer{w: w, draws: true, colours: colours}
}

// tamer knows the byte before, since a control character of the second set is
// two bytes in UTF-8: 0xc2 and 0x80 to 0x9f.
type tamer struct {
	w    io.Writer
	lead bool
	buf  []byte

	draws, colours bool
	seq            []byte // what may become a sequence that sets colours
}

// coloursMost bounds such a sequence.
const coloursMost = 32

// Write tames p. It is for one goroutine.
func (t *tamer) Write(p []byte) (int, error) {
	t.buf = t.buf[:0]
	for _, b := range p {
		if !t.paints(b) {
			t.take(b)
		}
	}
	if _, err := t.w.Write(t.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (t *tamer) take(b byte) {
	if (b < ' ' && b != '\n' && b != '\t') || b == 0x7f || (t.lead && b >= 0x80 && b < 0xa0) {
		b = '?'
	}
	t.lead = b == 0xc2
	t.buf = append(t.buf, b)
}

// paints reports whether a byte is of a sequence ESC [ … m, or may be. What was held
// back and is none is taken as it is.
func (t *tamer) paints(b byte) bool {
	switch n := len(t.seq); {
	case !t.draws:
		return false
	case n == 0 && b == escape, n == 1 && b == '[', n > 1 && n < coloursMost && (b >= '0' && b <= '9' || b == ';'):
		t.seq = append(t.seq, b)
		return true
	case n > 1 && b == 'm':
		if t.colours {
			t.buf = append(append(t.buf, t.seq...), b)
		}
		t.seq, t.lead = t.seq[:0], false
		return true
	}
	held := t.seq
	t.seq = nil
	for _, h := range held {
		t.take(h)
	}
	if b == escape {
		t.seq = append(t.seq, b)
		return true
	}
	return false
}
