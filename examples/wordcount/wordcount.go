package wordcount

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"strconv"
)

// topWords is how many words are listed.
const topWords = 10

// maxWordBytes bounds one word; the rest of a longer one is not kept.
const maxWordBytes = 64

// Count reads a text to its end and returns four kinds of lines: "lines N",
// "words N", "bytes N", and for each of the ten most frequent words "top N WORD",
// the most frequent first and equals in the order of their bytes.
//
// A line ends with a newline. A word is a run of letters, digits and apostrophes
// with at least one letter or digit, in lower case; bytes above 127 count as
// letters.
func Count(text io.Reader) ([]byte, error) {
	c := counter{words: map[string]uint64{}}
	buffer := make([]byte, 64<<10)
	for {
		n, err := text.Read(buffer)
		c.add(buffer[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	c.endWord()
	return c.report(), nil
}

type counter struct {
	lines, total, bytes uint64
	words               map[string]uint64
	word                []byte
	inWord              bool // the word has a letter or a digit
}

func (c *counter) add(text []byte) {
	c.bytes += uint64(len(text))
	for _, b := range text {
		letter := true
		switch {
		case b >= 'A' && b <= 'Z':
			b += 'a' - 'A'
		case b >= 'a' && b <= 'z', b >= '0' && b <= '9', b > 127:
		case b == '\'':
			letter = false
		default:
			if b == '\n' {
				c.lines++
			}
			c.endWord()
			continue
		}
		c.inWord = c.inWord || letter
		if len(c.word) < maxWordBytes {
			c.word = append(c.word, b)
		}
	}
}

func (c *counter) endWord() {
	if c.inWord {
		c.total++
		c.words[string(c.word)]++
	}
	c.word, c.inWord = c.word[:0], false
}

func (c *counter) report() []byte {
	type entry struct {
		word  string
		count uint64
	}
	entries := make([]entry, 0, len(c.words))
	for word, count := range c.words {
		entries = append(entries, entry{word, count})
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.word, b.word))
	})
	line := func(b []byte, name string, n uint64, rest string) []byte {
		b = append(b, name...)
		b = strconv.AppendUint(b, n, 10)
		return append(b, rest...)
	}
	b := line(nil, "lines ", c.lines, "\n")
	b = line(b, "words ", c.total, "\n")
	b = line(b, "bytes ", c.bytes, "\n")
	for _, e := range entries[:min(topWords, len(entries))] {
		b = line(b, "top ", e.count, " "+e.word+"\n")
	}
	return b
}
