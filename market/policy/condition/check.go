package condition

import (
	"math/bits"

	mman "github.com/limboid/massive-man"
)

// op is what a node does.
type op uint8

const (
	opLiteral op = iota + 1
	opWord
	opVariable
	opList
	opNot
	opNegate
	opAnd
	opOr
	opChoice
	opEqual
	opDiffer
	opLess
	opLessEqual
	opIn
	opAdd
	opSubtract
	opMultiply
	opDivide
	opRemainder
	opSize
	opStarts
	opEnds
	opContains
	opExists
	opAll
)

// node is a part of a checked condition.
type node struct {
	op    op
	kind  Kind
	args  []*node
	value Value // of a literal
	index int   // of a word or variable
	bytes int   // the longest text, or text in a list
	count int   // the longest list
	depth int
	cost  uint64
}

// bytesPerStep is how many bytes of text are compared or searched in a step.
const bytesPerStep = 16

func steps(bytes int) uint64 { return uint64(bytes)/bytesPerStep + 1 } //nolint:gosec // bounded by MaxBytes and the words

// build makes a node of checked arguments: 1 step for itself, own for its work,
// and what the arguments cost.
func (p *parser) build(pos int, n node, own uint64, args ...*node) *node {
	if p.err != nil {
		return nil
	}
	n.args, n.depth = args, 1
	n.cost = add(1, own)
	for _, a := range args {
		n.depth = max(n.depth, a.depth+1)
		n.cost = add(n.cost, a.cost)
	}
	if n.depth > MaxDepth {
		return p.fail(pos, mman.ErrTooLarge, "it nests deeper than %d", MaxDepth)
	}
	return &n
}

func add(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	if carry > 0 {
		return ^uint64(0)
	}
	return s
}

func times(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi > 0 {
		return ^uint64(0)
	}
	return lo
}

func (p *parser) literal(v Value, size int) *node {
	return p.build(0, node{op: opLiteral, kind: v.kind, value: v, bytes: size}, 0)
}

func (p *parser) word(i int) *node {
	w := p.words[i]
	return p.build(0, node{op: opWord, kind: w.Kind, index: i, bytes: w.Bytes, count: w.Count}, uint64(w.Count)) //nolint:gosec // at most MaxList
}

func (p *parser) variable(i int) *node {
	v := p.scope[i]
	return p.build(0, node{op: opVariable, kind: v.kind, index: i, bytes: v.bytes}, 0)
}

// elements makes a list; one of literals only is a literal itself.
func (p *parser) elements(pos int, elems []*node) *node {
	if p.err != nil {
		return nil
	}
	n := node{op: opList, kind: Ints, count: len(elems)}
	if elems[0].kind == Text {
		n.kind = Texts
	}
	constant := true
	for _, e := range elems {
		if e.kind != n.kind.elem() {
			return p.fail(pos, mman.ErrInvalid, "a list holds ints or texts, all alike; one element is %s, the first is %s", e.kind, elems[0].kind)
		}
		n.bytes = max(n.bytes, e.bytes)
		constant = constant && e.op == opLiteral
		n.value.texts, n.value.nums = push(n.value, e.value)
	}
	if !constant {
		n.value = Value{}
		return p.build(pos, n, uint64(len(elems)), elems...)
	}
	n.op, n.value.kind = opLiteral, n.kind
	return p.build(pos, n, 0)
}

// push adds an element to the right slice of a list.
func push(list, v Value) ([]string, []int64) {
	if v.kind == Text {
		return append(list.texts, v.text), list.nums
	}
	return list.texts, append(list.nums, v.num)
}

// want checks the kind of an operand.
func (p *parser) want(pos int, name string, n *node, kind Kind) {
	if p.err == nil && n.kind != kind {
		p.fail(pos, mman.ErrInvalid, "%s needs %s, this is %s", name, kind, n.kind)
	}
}

func (p *parser) not(pos int, n *node) *node {
	p.want(pos, "!", n, Bool)
	return p.build(pos, node{op: opNot, kind: Bool}, 0, n)
}

func (p *parser) negative(pos int, n *node) *node {
	p.want(pos, "-", n, Int)
	return p.build(pos, node{op: opNegate, kind: Int}, 0, n)
}

func (p *parser) junction(pos int, name tok, operands []*node) *node {
	what := opAnd
	if name == "||" {
		what = opOr
	}
	for _, n := range operands {
		p.want(pos, name, n, Bool)
	}
	return p.build(pos, node{op: what, kind: Bool}, 0, operands...)
}

func (p *parser) choice(pos int, test, yes, no *node) *node {
	p.want(pos, "?", test, Bool)
	if p.err != nil {
		return nil
	}
	if yes.kind != no.kind {
		return p.fail(pos, mman.ErrInvalid, "both sides of : must be alike, these are %s and %s", yes.kind, no.kind)
	}
	return p.build(pos, node{op: opChoice, kind: yes.kind, bytes: max(yes.bytes, no.bytes), count: max(yes.count, no.count)}, 0, test, yes, no)
}

func (p *parser) compare(pos int, name tok, left, right *node) *node {
	if p.err != nil {
		return nil
	}
	if name == "in" {
		if left.kind != right.kind.elem() || right.kind.elem() == 0 {
			return p.fail(pos, mman.ErrInvalid, "in needs a list of what it looks for, this is %s in %s", left.kind, right.kind)
		}
		return p.build(pos, node{op: opIn, kind: Bool}, times(uint64(right.count), steps(min(left.bytes, right.bytes))), left, right) //nolint:gosec // at most MaxList
	}
	if left.kind != right.kind {
		return p.fail(pos, mman.ErrInvalid, "%q compares what is alike, these are %s and %s", name, left.kind, right.kind)
	}
	if left.kind.elem() != 0 {
		return p.fail(pos, mman.ErrUnsupported, "lists are not compared, use in, exists or all")
	}
	n := node{op: opEqual, kind: Bool}
	switch name {
	case "!=":
		n.op = opDiffer
	case "<", ">":
		n.op = opLess
	case "<=", ">=":
		n.op = opLessEqual
	}
	if left.kind == Bool && (n.op == opLess || n.op == opLessEqual) {
		return p.fail(pos, mman.ErrUnsupported, "bools have no order")
	}
	if name == ">" || name == ">=" {
		n.index = 1 // swapped: the sides are still read from left to right
	}
	return p.build(pos, n, steps(min(left.bytes, right.bytes)), left, right)
}

func (p *parser) arithmetic(pos int, name tok, left, right *node) *node {
	if p.err == nil && left.kind == right.kind && left.kind != Int {
		return p.fail(pos, mman.ErrUnsupported, "%q is for ints, these are %s and %s", name, left.kind, right.kind)
	}
	p.want(pos, name, left, Int)
	p.want(pos, name, right, Int)
	n := node{op: opAdd, kind: Int}
	switch name {
	case "-":
		n.op = opSubtract
	case "*":
		n.op = opMultiply
	case "/":
		n.op = opDivide
	case "%":
		n.op = opRemainder
	}
	return p.build(pos, n, 0, left, right)
}

func (p *parser) sized(pos int, n *node) *node {
	if n.kind != Text && n.kind.elem() == 0 {
		return p.fail(pos, mman.ErrInvalid, "size needs a list or a text, this is %s", n.kind)
	}
	return p.build(pos, node{op: opSize, kind: Int}, steps(n.bytes), n)
}

func (p *parser) search(pos int, name string, on, what *node) *node {
	p.want(pos, name, on, Text)
	p.want(pos, name, what, Text)
	if p.err != nil {
		return nil
	}
	n, work := node{op: opStarts, kind: Bool}, steps(min(on.bytes, what.bytes))
	switch name {
	case "endsWith":
		n.op = opEnds
	case "contains":
		n.op, work = opContains, add(steps(on.bytes), steps(what.bytes))
	}
	return p.build(pos, n, work, on, what)
}

func (p *parser) quantified(pos int, name string, on, body *node) *node {
	p.want(pos, name, body, Bool)
	if p.err != nil {
		return nil
	}
	n := node{op: opExists, kind: Bool, index: len(p.scope)}
	if name == "all" {
		n.op = opAll
	}
	// The body is built once and paid for with every element.
	work := times(uint64(max(0, on.count-1)), add(body.cost, 1))
	return p.build(pos, n, work, on, body)
}
