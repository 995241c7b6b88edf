package condition

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	mman "github.com/limboid/massive-man"
)

// tok is the kind of a token; operators and brackets are their own text.
type tok = string

const (
	tokEnd  tok = "the end"
	tokName tok = "a name"
	tokInt  tok = "a number"
	tokText tok = "a text"
)

type token struct {
	tok  tok
	text string // of a name, number or text (unescaped)
	pos  int    // byte offset
}

// scanner cuts a text into tokens.
type scanner struct {
	src string
	at  int
}

// next returns the next token. At the end it returns tokEnd for ever.
func (s *scanner) next() (token, error) {
	s.skip()
	start := s.at
	if start == len(s.src) {
		return token{tokEnd, "", start}, nil
	}
	c := s.src[start]
	switch {
	case letter(c):
		s.take(func(c byte) bool { return letter(c) || digit(c) })
		return s.word(start)
	case digit(c):
		return s.number()
	case c == '"' || c == '\'':
		return s.quoted(c)
	}
	for _, op := range []string{"||", "&&", "==", "!=", "<=", ">="} {
		if strings.HasPrefix(s.src[start:], op) {
			s.at += len(op)
			return token{op, "", start}, nil
		}
	}
	if strings.IndexByte("<>+-*/%!?:.,()[]{}", c) >= 0 {
		s.at++
		return token{s.src[start:s.at], "", start}, nil
	}
	r, _ := utf8.DecodeRuneInString(s.src[start:])
	return token{}, s.bad(start, mman.ErrInvalid, "the character %q has no meaning here", r)
}

func (s *scanner) bad(pos int, sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: column %d: %s", sentinel, utf8.RuneCountInString(s.src[:pos])+1, fmt.Sprintf(format, args...))
}

// skip passes over space and comments.
func (s *scanner) skip() {
	for s.at < len(s.src) {
		switch c := s.src[s.at]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			s.at++
		case strings.HasPrefix(s.src[s.at:], "//"):
			s.take(func(c byte) bool { return c != '\n' })
		default:
			return
		}
	}
}

func (s *scanner) take(while func(byte) bool) {
	for s.at < len(s.src) && while(s.src[s.at]) {
		s.at++
	}
}

func letter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func digit(c byte) bool { return c >= '0' && c <= '9' }

// word returns a name, or the operator "in".
func (s *scanner) word(start int) (token, error) {
	name := s.src[start:s.at]
	if s.at < len(s.src) && (s.src[s.at] == '"' || s.src[s.at] == '\'') {
		return token{}, s.bad(start, mman.ErrUnsupported, "raw texts and bytes are not supported, write the text in plain quotes")
	}
	switch name {
	case "in":
		return token{"in", "", start}, nil
	case "null":
		return token{}, s.bad(start, mman.ErrUnsupported, "there is no null, every word has a value or is unknown")
	case "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while":
		return token{}, s.bad(start, mman.ErrInvalid, "%q is a reserved word", name)
	}
	return token{tokName, name, start}, nil
}

// number returns a decimal or 0x number without its sign.
func (s *scanner) number() (token, error) {
	start := s.at
	s.take(func(c byte) bool { return letter(c) || digit(c) })
	text := s.src[start:s.at]
	hex, isHex := strings.CutPrefix(text, "0x")
	ok := hex != ""
	for i := range len(hex) {
		c := hex[i]
		ok = ok && (digit(c) || isHex && (c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'))
	}
	fraction := s.at+1 < len(s.src) && s.src[s.at] == '.' && digit(s.src[s.at+1])
	switch {
	case fraction || !isHex && strings.ContainsAny(text, "eE"):
		return token{}, s.bad(start, mman.ErrUnsupported, "numbers are whole, write money in uman and time in seconds or ms")
	case !ok:
		return token{}, s.bad(start, mman.ErrInvalid, "%.32q is no number", text)
	case len(text) > 1 && text[0] == '0' && !isHex:
		return token{}, s.bad(start, mman.ErrInvalid, "%.32q: leave the leading 0 out", text)
	}
	return token{tokInt, text, start}, nil
}

// quoted returns the text between quotes.
func (s *scanner) quoted(quote byte) (token, error) {
	start := s.at
	s.at++
	var b strings.Builder
	for s.at < len(s.src) {
		r, n := utf8.DecodeRuneInString(s.src[s.at:])
		switch {
		case r == rune(quote):
			s.at++
			return token{tokText, b.String(), start}, nil
		case r == '\\':
			r, err := s.escape()
			if err != nil {
				return token{}, err
			}
			b.WriteRune(r)
		case !unicode.IsPrint(r):
			return token{}, s.bad(s.at, mman.ErrInvalid, "the character %U cannot stand in a text, write it as \\u and four hex digits", r)
		default:
			b.WriteRune(r)
			s.at += n
		}
	}
	return token{}, s.bad(start, mman.ErrInvalid, "the text has no end")
}

// escape reads what stands behind a backslash.
func (s *scanner) escape() (rune, error) {
	const digits = 4
	start := s.at
	s.at += 2
	if s.at > len(s.src) {
		return 0, s.bad(start, mman.ErrInvalid, "the text has no end")
	}
	switch c := s.src[s.at-1]; c {
	case '\\', '\'', '"':
		return rune(c), nil
	case 'n':
		return '\n', nil
	case 't':
		return '\t', nil
	case 'u':
		var r rune
		for range digits {
			d := -1
			if s.at < len(s.src) {
				d = strings.IndexByte("0123456789abcdef", s.src[s.at]|0x20)
			}
			if d < 0 || s.src[s.at] < '0' {
				return 0, s.bad(start, mman.ErrInvalid, "\\u needs four hex digits")
			}
			r = r<<digits | rune(d)
			s.at++
		}
		if !utf8.ValidRune(r) || r == 0 {
			return 0, s.bad(start, mman.ErrInvalid, "\\u%04x is no character", r)
		}
		return r, nil
	default:
		return 0, s.bad(start, mman.ErrUnsupported, "this escape is not supported, use \\\\, \\', \\\", \\n, \\t or \\u and four hex digits")
	}
}
