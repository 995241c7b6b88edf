package condition

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Kind is the kind of a word or value.
type Kind uint8

// The kinds.
const (
	Bool Kind = iota + 1
	Int
	Text
	Ints
	Texts
)

// String returns the kind as messages name it.
func (k Kind) String() string {
	switch k {
	case Bool:
		return "a bool"
	case Int:
		return "an int"
	case Text:
		return "a text"
	case Ints:
		return "a list of ints"
	case Texts:
		return "a list of texts"
	default:
		return "nothing"
	}
}

// elem returns the kind of a list's elements, 0 for what is no list.
func (k Kind) elem() Kind {
	switch k {
	case Ints:
		return Int
	case Texts:
		return Text
	case Bool, Int, Text:
		return 0
	default:
		return 0
	}
}

// Word is a name that a condition may read.
type Word struct {
	// Name has the form "group.field".
	Name string
	Kind Kind
	// Bytes bounds a text, or each text of a list.
	Bytes int
	// Count bounds the elements of a list; at most MaxList.
	Count int
	// About says in a few words what it is.
	About string
}

// state says whether there is a value.
type state uint8

const (
	known state = iota
	unknown
	failed
)

// Value is what a word holds, or the result of a part of a condition. The zero
// Value is false.
type Value struct {
	state state
	kind  Kind
	num   int64  // an int; 1 for true
	text  string // a text; the reason of a failure
	texts []string
	nums  []int64
}

// OfBool returns a bool.
func OfBool(b bool) Value {
	v := Value{kind: Bool}
	if b {
		v.num = 1
	}
	return v
}

// OfInt returns an int.
func OfInt(n int64) Value { return Value{kind: Int, num: n} }

// OfUint returns an int; what is above the largest one becomes the largest.
func OfUint(n uint64) Value { return OfInt(int64(min(n, math.MaxInt64))) }

// OfText returns a text.
func OfText(s string) Value { return Value{kind: Text, text: s} }

// OfTexts returns a list of texts. It keeps the slice.
func OfTexts(list []string) Value { return Value{kind: Texts, texts: list} }

// OfInts returns a list of ints. It keeps the slice.
func OfInts(list []int64) Value { return Value{kind: Ints, nums: list} }

// Unknown returns the value of a word that cannot be read yet.
func Unknown() Value { return Value{state: unknown} }

// IsUnknown reports whether v is the value of a word that cannot be read yet.
func (v Value) IsUnknown() bool { return v.state == unknown }

func fail(reason string) Value { return Value{state: failed, text: reason} }

func (v Value) is(b bool) bool { return v.state == known && v.kind == Bool && (v.num == 1) == b }

func (v Value) size() int { return len(v.texts) + len(v.nums) }

func (v Value) at(i int) Value {
	if v.kind == Ints {
		return OfInt(v.nums[i])
	}
	return OfText(v.texts[i])
}

// String returns the value as a condition would write it.
func (v Value) String() string {
	switch v.state {
	case unknown:
		return "unknown"
	case failed:
		return "failed: " + v.text
	case known:
	}
	switch v.kind {
	case Int:
		return strconv.FormatInt(v.num, 10)
	case Text:
		return strconv.Quote(v.text)
	case Ints, Texts:
		parts := make([]string, v.size())
		for i := range parts {
			parts[i] = v.at(i).String()
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case Bool:
		return strconv.FormatBool(v.num == 1)
	default:
		return "false"
	}
}

// fits reports whether a value keeps the bounds that its word declares, on
// which the cost of a condition rests.
func (w Word) fits(v Value) bool {
	tooLong := func(s string) bool { return len(s) > w.Bytes }
	return v.kind == w.Kind && (v.kind != Text || !tooLong(v.text)) && v.size() <= w.Count && !slices.ContainsFunc(v.texts, tooLong)
}
