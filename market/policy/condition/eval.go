package condition

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Truth is a condition's answer.
type Truth uint8

// The answers: Unknown waits for a word that cannot be read yet, Failed has no
// value, for example because it divides by zero.
const (
	False Truth = iota
	True
	Undecided
	Failed
)

// String returns the answer in a word.
func (t Truth) String() string {
	switch t {
	case False:
		return "false"
	case True:
		return "true"
	case Undecided:
		return "unknown"
	case Failed:
		return "failed"
	default:
		return strconv.Itoa(int(t))
	}
}

// Result is an answer with what led to it.
type Result struct {
	Truth Truth
	// Reason says why it failed.
	Reason string
}

// Eval answers. It reads each word when it comes to it, in the order of the
// text; read is given the word's index. A value that breaks the word's declared
// bounds fails.
func (c *Condition) Eval(read func(word int) Value) Result {
	e := evaluation{words: c.words, read: read}
	switch v := e.eval(c.root); {
	case v.state == unknown:
		return Result{Truth: Undecided}
	case v.state == failed:
		return Result{Failed, v.text}
	case v.is(true):
		return Result{Truth: True}
	default:
		return Result{Truth: False}
	}
}

// Words returns the indexes of the words that the condition can read, sorted.
func (c *Condition) Words() []int {
	var found []int
	var walk func(n *node)
	walk = func(n *node) {
		if n.op == opWord {
			found = append(found, n.index)
		}
		for _, a := range n.args {
			walk(a)
		}
	}
	walk(c.root)
	slices.Sort(found)
	return slices.Compact(found)
}

type evaluation struct {
	words []Word
	read  func(int) Value
	scope []Value // elements of the macros around, outermost first
}

func (e *evaluation) eval(n *node) Value {
	switch n.op {
	case opLiteral:
		return n.value
	case opWord:
		return e.word(n.index)
	case opVariable:
		return e.scope[n.index]
	case opAnd, opOr:
		return e.junction(n)
	case opChoice:
		test := e.eval(n.args[0])
		switch {
		case test.state != known:
			return test
		case test.is(true):
			return e.eval(n.args[1])
		default:
			return e.eval(n.args[2])
		}
	case opExists, opAll:
		return e.quantified(n)
	case opList:
		return e.list(n)
	case opNot, opNegate, opSize:
		v := e.eval(n.args[0])
		if v.state != known {
			return v
		}
		return unary(n.op, v)
	case opEqual, opDiffer, opLess, opLessEqual, opIn, opAdd, opSubtract, opMultiply, opDivide, opRemainder, opStarts, opEnds, opContains:
		left := e.eval(n.args[0])
		if left.state == failed {
			return left
		}
		right := e.eval(n.args[1])
		if right.state != known {
			return right
		}
		if left.state != known {
			return left
		}
		return binary(n, left, right)
	default:
		return fail("the condition is broken")
	}
}

func (e *evaluation) word(i int) Value {
	v := e.read(i)
	if v.state == known && !e.words[i].fits(v) {
		return fail(e.words[i].Name + " is beyond its bounds")
	}
	return v
}

// junction folds && or ||: a deciding operand ends it, an unknown one is
// remembered before a failed one.
func (e *evaluation) junction(n *node) Value {
	deciding := n.op == opOr
	out := OfBool(!deciding)
	for _, a := range n.args {
		v := e.eval(a)
		if v.is(deciding) {
			return v
		}
		out = merge(out, v)
	}
	return out
}

func merge(out, v Value) Value {
	if v.state == unknown || v.state == failed && out.state == known {
		return v
	}
	return out
}

func (e *evaluation) quantified(n *node) Value {
	list := e.eval(n.args[0])
	if list.state != known {
		return list
	}
	deciding := n.op == opExists
	out := OfBool(!deciding)
	for i := range list.size() {
		e.scope = append(e.scope[:n.index], list.at(i))
		v := e.eval(n.args[1])
		if v.is(deciding) {
			return v
		}
		out = merge(out, v)
	}
	return out
}

func (e *evaluation) list(n *node) Value {
	out := Value{kind: n.kind}
	for _, a := range n.args {
		v := e.eval(a)
		if v.state == failed {
			return v
		}
		if v.state == unknown {
			out.state = unknown
		}
		out.texts, out.nums = push(out, v)
	}
	if out.state == unknown {
		return Unknown()
	}
	return out
}

func unary(what op, v Value) Value {
	switch {
	case what == opNot:
		return OfBool(v.num == 0)
	case what == opNegate && v.num == math.MinInt64:
		return overflow()
	case what == opNegate:
		return OfInt(-v.num)
	case v.kind == Text:
		return OfInt(int64(utf8.RuneCountInString(v.text)))
	default:
		return OfInt(int64(v.size()))
	}
}

func overflow() Value { return fail("a number is beyond the ints of 64 bits") }

func binary(n *node, left, right Value) Value {
	if n.op == opLess || n.op == opLessEqual {
		if n.index == 1 {
			left, right = right, left
		}
		order := cmp.Compare(left.num, right.num)
		if left.kind == Text {
			order = strings.Compare(left.text, right.text)
		}
		return OfBool(order < 0 || order == 0 && n.op == opLessEqual)
	}
	//exhaustive:ignore
	switch n.op {
	case opEqual:
		return OfBool(left.num == right.num && left.text == right.text)
	case opDiffer:
		return OfBool(left.num != right.num || left.text != right.text)
	case opIn:
		if left.kind == Int {
			return OfBool(slices.Contains(right.nums, left.num))
		}
		return OfBool(slices.Contains(right.texts, left.text))
	case opStarts:
		return OfBool(strings.HasPrefix(left.text, right.text))
	case opEnds:
		return OfBool(strings.HasSuffix(left.text, right.text))
	case opContains:
		return OfBool(strings.Contains(left.text, right.text))
	default:
		return arithmetic(n.op, left.num, right.num)
	}
}

// arithmetic computes as CEL does: toward zero, and it fails where the result is
// no int of 64 bits.
func arithmetic(what op, a, b int64) Value {
	//exhaustive:ignore
	switch what {
	case opAdd:
		if s := a + b; (s > a) == (b > 0) {
			return OfInt(s)
		}
	case opSubtract:
		if s := a - b; (s < a) == (b > 0) {
			return OfInt(s)
		}
	case opMultiply:
		return multiply(a, b)
	default:
		switch {
		case b == 0:
			return fail("it divides by zero")
		case a == math.MinInt64 && b == -1:
		case what == opDivide:
			return OfInt(a / b)
		default:
			return OfInt(a % b)
		}
	}
	return overflow()
}

func multiply(a, b int64) Value {
	magnitude := func(n int64) uint64 {
		if n < 0 {
			return -uint64(n) //nolint:gosec // two's complement: also right for the smallest
		}
		return uint64(n)
	}
	hi, lo := bits.Mul64(magnitude(a), magnitude(b))
	negative := (a < 0) != (b < 0)
	switch {
	case hi > 0 || lo > 1<<63 || lo == 1<<63 && !negative:
		return overflow()
	case negative:
		return OfInt(-int64(lo)) //nolint:gosec // 1<<63 stays the smallest
	default:
		return OfInt(int64(lo)) //nolint:gosec // below 1<<63
	}
}
