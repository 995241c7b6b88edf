package lm

import (
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Token is a piece of text: below 256 a byte, above a word with the space before it
// or another character of the text that the model has read.
type Token uint32

const bytesFirst = 256

// Model continues texts. It does not change after New and is safe for concurrent use.
type Model struct {
	pieces []string
	ids    map[string]Token
	next   map[[2]Token][]Token // what followed two tokens, as often as it did
	after  map[Token][]Token    // what followed one
	all    []Token
}

// New reads a text.
func New(text string) *Model {
	m := &Model{ids: map[string]Token{}, next: map[[2]Token][]Token{}, after: map[Token][]Token{}}
	for _, p := range split(text) {
		if _, ok := m.ids[p]; !ok {
			m.ids[p] = Token(bytesFirst + len(m.pieces)) //nolint:gosec // fewer than the text has bytes
			m.pieces = append(m.pieces, p)
		}
		m.all = append(m.all, m.ids[p])
	}
	for i := 1; i < len(m.all); i++ {
		m.after[m.all[i-1]] = append(m.after[m.all[i-1]], m.all[i])
		if i > 1 {
			two := [2]Token{m.all[i-2], m.all[i-1]}
			m.next[two] = append(m.next[two], m.all[i])
		}
	}
	return m
}

// split cuts a text into words, each with one space before it, and characters.
func split(text string) (out []string) {
	for len(text) > 0 {
		begin := 0
		if text[0] == ' ' {
			begin = 1
		}
		end := begin
		for end < len(text) {
			r, n := utf8.DecodeRuneInString(text[end:])
			if !unicode.IsLetter(r) {
				break
			}
			end += n
		}
		if end == begin {
			_, end = utf8.DecodeRuneInString(text)
		}
		out = append(out, text[:end])
		text = text[end:]
	}
	return out
}

// Encode returns the tokens of a text: a piece that the model never read is one for
// each of its bytes.
func (m *Model) Encode(text string) (out []Token) {
	for _, p := range split(text) {
		if id, ok := m.ids[p]; ok {
			out = append(out, id)
			continue
		}
		for _, b := range []byte(p) {
			out = append(out, Token(b))
		}
	}
	return out
}

// Decode returns the text of a token.
func (m *Model) Decode(t Token) string {
	if t < bytesFirst {
		return string([]byte{byte(t)})
	}
	return m.pieces[t-bytesFirst]
}

// Continue calls emit with one token after the other until that says no or there are
// enough. The same prompt and seed give the same text.
func (m *Model) Continue(prompt []Token, seed uint64, most int, emit func(Token) bool) {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secrets are made of it
	var last [2]Token
	for _, t := range prompt {
		last = [2]Token{last[1], t}
	}
	for range most {
		from := m.next[last]
		if len(from) == 0 {
			from = m.after[last[1]]
		}
		if len(from) == 0 {
			from = m.all
		}
		t := from[random.IntN(len(from))]
		if !emit(t) {
			return
		}
		last = [2]Token{last[1], t}
	}
}

// Dimensions is the length of an embedding.
const Dimensions = 64

// Embed returns how often each of 64 classes of words is in a text.
func (m *Model) Embed(text string) []float32 {
	out := make([]float32, Dimensions)
	for _, p := range split(strings.ToLower(text)) {
		h := fnv.New32a()
		_, _ = h.Write([]byte(strings.TrimSpace(p))) // it never fails
		out[h.Sum32()%Dimensions]++
	}
	return out
}
