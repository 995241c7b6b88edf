package console

import (
	"io"
	"maps"
	"slices"
)

// Screen hands on to a terminal what a program with a terminal of its own may say:
// text, colours, the cursor's moves and the question where it is, erasing, the second
// screen. What could read the terminal out, put words into its input, set its title or
// clipboard, or drive a printer is dropped, however it is cut into writes. It follows
// the terminal's language, ECMA-48 as xterm speaks it. For one goroutine.
type Screen struct {
	w     io.Writer
	plain bool
	modes map[string]bool // those that the program set
	state screenState
	seq   []byte // of the sequence that is not whole
	lead  bool   // the last byte was 0xc2
	out   []byte
}

// NewScreen returns a Screen before w; plain drops colours too.
func NewScreen(w io.Writer, plain bool) *Screen {
	return &Screen{w: w, plain: plain, modes: map[string]bool{}}
}

// Close undoes what the program left set.
func (s *Screen) Close() error {
	var b []byte
	for _, m := range slices.Sorted(maps.Keys(s.modes)) {
		final := "l"
		if usual(m) {
			final = "h"
		}
		b = append(b, "\x1b[?"+m+final...)
	}
	clear(s.modes)
	if !s.plain {
		b = append(b, "\x1b[0m"...)
	}
	_, err := s.w.Write(b)
	return err
}

type screenState int

const (
	inText screenState = iota
	afterEscape
	afterCharset // one byte follows
	inControl    // ESC [
	inString     // ESC ], P, X, ^ or _, to its end
	inStringEscape
)

const (
	escape = 0x1b
	bell   = 0x07
	// sequenceMost bounds a sequence that is passed on.
	sequenceMost = 64
)

// Write passes p on as far as it is harmless.
func (s *Screen) Write(p []byte) (int, error) {
	s.out = s.out[:0]
	for _, b := range p {
		s.take(b)
	}
	if len(s.out) > 0 {
		if _, err := s.w.Write(s.out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (s *Screen) take(b byte) {
	if s.state != inText && (b == 0x18 || b == 0x1a) { // they cancel a sequence
		s.state = inText
		return
	}
	switch s.state {
	case inText:
		s.text(b)
	case afterEscape:
		s.escaped(b)
	case afterCharset:
		s.state = inText
	case inControl:
		s.control(b)
	case inString:
		switch b {
		case bell:
			s.state = inText
		case escape:
			s.state = inStringEscape
		}
	case inStringEscape:
		s.state = inText
		if b != '\\' {
			s.state = afterEscape
			s.escaped(b)
		}
	}
}

// text takes a byte outside of any sequence.
func (s *Screen) text(b byte) {
	lead := s.lead
	s.lead = b == 0xc2
	switch {
	case b == escape:
		s.state = afterEscape
	case lead && b >= 0x80 && b < 0xa0: // control characters of the second set
		s.out = append(s.out, '?')
	case b >= ' ' && b != 0x7f, b == '\n', b == '\r', b == '\t', b == '\b', b == bell:
		s.out = append(s.out, b)
	}
}

// escaped takes the byte after an escape.
func (s *Screen) escaped(b byte) {
	s.state = inText
	switch b {
	case '[':
		s.state, s.seq = inControl, append(s.seq[:0], escape, '[')
	case ']', 'P', 'X', '^', '_':
		s.state = inString
	case '(', ')', '*', '+', '#', ' ', '%', '-', '.', '/':
		s.state = afterCharset
	case escape:
		s.state = afterEscape
	case '7', '8', 'D', 'E', 'M', '=', '>':
		s.out = append(s.out, escape, b)
	}
}

// control takes a byte of a control sequence.
func (s *Screen) control(b byte) {
	switch {
	case b == escape:
		s.state = afterEscape
		return
	case b < ' ' || b >= 0x7f: // no part of one
		return
	case len(s.seq) < sequenceMost:
		s.seq = append(s.seq, b)
	default:
		s.seq = s.seq[:1] // too long: dropped at its end
	}
	if b < '@' {
		return
	}
	s.state = inText
	if len(s.seq) > 2 && s.seq[len(s.seq)-1] == b && s.harmless(s.seq[2:len(s.seq)-1], b) {
		s.out = append(s.out, s.seq...)
	}
}

// harmless reports whether a control sequence only draws.
func (s *Screen) harmless(parameters []byte, final byte) bool {
	private := len(parameters) > 0 && parameters[0] == '?'
	for i, b := range parameters {
		if (b < '0' || b > '9') && b != ';' && b != ':' && (i > 0 || b != '?') {
			return false
		}
	}
	switch final {
	case 'n':
		// Where the cursor is, which editors of lines ask: some wait for the answer
		// after each line. It holds two numbers and ends no line.
		return string(parameters) == "6"
	case 'm':
		return !private && !s.plain
	case 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'f', 'd', 'J', 'K', 'L', 'M', 'P', '@', 'X', 'S', 'T', 'r', 's', 'u', 'I', 'Z', '`', 'a', 'e', 'b', 'g':
		return !private
	case 'h', 'l':
		if !private || !mode(string(parameters[1:])) {
			return false
		}
		if m := string(parameters[1:]); (final == 'h') == usual(m) {
			delete(s.modes, m)
		} else {
			s.modes[m] = true
		}
		return true
	default:
		return false
	}
}

// usual reports whether a mode is set when nobody touched it: wrapping, and that the
// cursor shows.
func usual(number string) bool { return number == "7" || number == "25" }

// mode reports whether a program may set a mode of the terminal: the cursor's keys,
// wrapping, the cursor's blinking and showing, the second screen, bracketed paste.
func mode(number string) bool {
	switch number {
	case "1", "7", "12", "25", "47", "1047", "1048", "1049", "2004":
		return true
	default:
		return false
	}
}
