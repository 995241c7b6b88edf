package condition

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	mman "github.com/limboid/massive-man"
)

// Bounds of a condition.
const (
	// MaxBytes bounds its text.
	MaxBytes = 4 << 10
	// MaxDepth bounds the nesting of its brackets and of its syntax tree.
	MaxDepth = 24
	// MaxList bounds the elements of a list.
	MaxList = 64
)

// Condition is a checked condition. It is immutable and may be shared.
type Condition struct {
	root  *node
	words []Word
}

// Compile parses and checks a condition over the given words, which must be
// sorted by name. Errors name the column and wrap mman.ErrInvalid, ErrTooLarge,
// or ErrUnsupported for the parts of CEL that are left out.
func Compile(source string, words []Word) (*Condition, error) {
	if len(source) > MaxBytes {
		return nil, fmt.Errorf("%w: a condition of %d bytes, at most %d are allowed", mman.ErrTooLarge, len(source), MaxBytes)
	}
	if !utf8.ValidString(source) {
		return nil, fmt.Errorf("%w: a condition is UTF-8 text", mman.ErrInvalid)
	}
	p := &parser{scanner: scanner{src: source}, words: words}
	p.advance()
	root := p.expression()
	if p.err == nil && p.now.tok != tokEnd {
		p.fail(p.now.pos, mman.ErrInvalid, "%s cannot stand here, an operator is missing before it", p.now)
	}
	if p.err == nil && root.kind != Bool {
		p.fail(0, mman.ErrInvalid, "the condition is %s, a bool is needed: compare it with something", root.kind)
	}
	if p.err != nil {
		return nil, p.err
	}
	return &Condition{root, words}, nil
}

// Cost returns the cost of the worst evaluation, in steps of a few nanoseconds,
// at most MaxUint64.
func (c *Condition) Cost() uint64 { return c.root.cost }

// String returns the token as a message names it.
func (t token) String() string {
	switch t.tok {
	case tokName, tokInt:
		return strconv.Quote(t.text)
	case tokText:
		return "the text " + strconv.Quote(t.text)
	case tokEnd:
		return t.tok
	default:
		return strconv.Quote(t.tok)
	}
}

// parser is a recursive-descent parser that checks kinds and counts cost while
// it builds the tree. After the first error it sees only the end, so every loop
// stops; nodes are nil from then on.
type parser struct {
	scanner

	words []Word
	now   token
	err   error
	nest  int
	scope []variable
}

// variable is the element of a macro around the place being parsed.
type variable struct {
	name  string
	kind  Kind
	bytes int
}

func (p *parser) fail(pos int, sentinel error, format string, args ...any) *node {
	if p.err == nil {
		p.err = p.bad(pos, sentinel, format, args...)
	}
	p.now = token{tokEnd, "", len(p.src)}
	return nil
}

func (p *parser) advance() {
	if p.err != nil {
		return
	}
	t, err := p.next()
	if err != nil {
		p.err, t = err, token{tokEnd, "", len(p.src)}
	}
	p.now = t
}

// accept passes over the token when it is the one named.
func (p *parser) accept(t tok) bool {
	if p.now.tok != t || p.err != nil {
		return false
	}
	p.advance()
	return true
}

func (p *parser) expect(t tok) {
	if !p.accept(t) && p.err == nil {
		p.fail(p.now.pos, mman.ErrInvalid, "%q is missing before %s", t, p.now)
	}
}

// deeper guards the parser's own recursion; every call is paired with p.nest--.
func (p *parser) deeper() bool {
	p.nest++
	if p.nest > MaxDepth {
		p.fail(p.now.pos, mman.ErrTooLarge, "it nests deeper than %d", MaxDepth)
	}
	return p.err == nil
}

// expression parses a ternary or what binds closer.
func (p *parser) expression() *node {
	defer func() { p.nest-- }()
	if !p.deeper() {
		return nil
	}
	test := p.logical("||")
	pos := p.now.pos
	if !p.accept("?") {
		return test
	}
	yes := p.logical("||")
	p.expect(":")
	no := p.expression()
	return p.choice(pos, test, yes, no)
}

// logical parses operands of || or && side by side: they nest nothing.
func (p *parser) logical(op tok) *node {
	operand := func() *node {
		if op == "||" {
			return p.logical("&&")
		}
		return p.relation()
	}
	first := operand()
	if p.now.tok != op {
		return first
	}
	pos := p.now.pos
	operands := []*node{first}
	for p.accept(op) {
		operands = append(operands, operand())
	}
	return p.junction(pos, op, operands)
}

func (p *parser) relation() *node {
	left := p.sum()
	for {
		op := p.now
		switch op.tok {
		case "==", "!=", "<", "<=", ">", ">=", "in":
		default:
			return left
		}
		p.advance()
		left = p.compare(op.pos, op.tok, left, p.sum())
	}
}

func (p *parser) sum() *node {
	left := p.product()
	for {
		op := p.now
		if !p.accept("+") && !p.accept("-") {
			return left
		}
		left = p.arithmetic(op.pos, op.tok, left, p.product())
	}
}

func (p *parser) product() *node {
	left := p.unary()
	for {
		op := p.now
		if !p.accept("*") && !p.accept("/") && !p.accept("%") {
			return left
		}
		left = p.arithmetic(op.pos, op.tok, left, p.unary())
	}
}

func (p *parser) unary() *node {
	op := p.now
	switch {
	case p.accept("!"):
		return p.not(op.pos, p.member())
	case p.accept("-"):
		if p.now.tok == tokInt {
			n := p.number("-")
			return p.after(n)
		}
		return p.negative(op.pos, p.member())
	default:
		return p.member()
	}
}

// member parses a primary and the calls behind it.
func (p *parser) member() *node { return p.after(p.primary()) }

func (p *parser) after(n *node) *node {
	for p.err == nil {
		pos := p.now.pos
		switch {
		case p.accept("."):
			name := p.now
			p.expect(tokName)
			if p.now.tok != "(" {
				return p.fail(name.pos, mman.ErrInvalid, "%s has no field %s", n.kind, name)
			}
			n = p.method(name, n)
		case p.now.tok == "[":
			return p.fail(pos, mman.ErrUnsupported, "lists have no index, use in, exists or all")
		case p.now.tok == "{":
			return p.fail(pos, mman.ErrUnsupported, "messages are not supported")
		default:
			return n
		}
	}
	return nil
}

func (p *parser) primary() *node {
	t := p.now
	switch t.tok {
	case tokInt:
		return p.number("")
	case tokText:
		p.advance()
		return p.literal(OfText(t.text), len(t.text))
	case tokName:
		p.advance()
		return p.named(t)
	case "(":
		p.advance()
		n := p.expression()
		p.expect(")")
		return n
	case "[":
		return p.list()
	case "{":
		return p.fail(t.pos, mman.ErrUnsupported, "maps are not supported")
	case "!", "-":
		return p.fail(t.pos, mman.ErrInvalid, "write %s once, or use brackets", t)
	default:
		return p.fail(t.pos, mman.ErrInvalid, "a value is missing before %s", t)
	}
}

func (p *parser) number(sign string) *node {
	t := p.now
	n, err := strconv.ParseInt(sign+t.text, 0, 64)
	if err != nil {
		return p.fail(t.pos, mman.ErrInvalid, "%.40s%.40s is beyond the ints of 64 bits", sign, t.text)
	}
	p.advance()
	return p.literal(OfInt(n), 0)
}

func (p *parser) list() *node {
	defer func() { p.nest-- }()
	start := p.now.pos
	p.advance()
	if !p.deeper() {
		return nil
	}
	var elems []*node
	for p.now.tok != "]" || len(elems) == 0 {
		if p.now.tok == "]" {
			return p.fail(start, mman.ErrUnsupported, "an empty list holds nothing to compare with")
		}
		elems = append(elems, p.expression())
		if len(elems) > MaxList {
			return p.fail(p.now.pos, mman.ErrTooLarge, "a list has at most %d elements", MaxList)
		}
		if !p.accept(",") {
			break
		}
	}
	p.expect("]")
	return p.elements(start, elems)
}

// named parses what a name begins: a constant, a call, a variable or a word.
func (p *parser) named(t token) *node {
	switch {
	case t.text == "true" || t.text == "false":
		return p.literal(OfBool(t.text == "true"), 0)
	case p.now.tok == "(":
		return p.function(t)
	}
	if i := slices.IndexFunc(p.scope, func(v variable) bool { return v.name == t.text }); i >= 0 {
		return p.variable(i)
	}
	if !p.accept(".") {
		return p.fail(t.pos, mman.ErrInvalid, "the word %s is not known%s", t, p.nearby(t.text+"."))
	}
	field := p.now
	p.expect(tokName)
	if p.err != nil {
		return nil
	}
	name := t.text + "." + field.text
	i, ok := slices.BinarySearchFunc(p.words, name, func(w Word, name string) int { return strings.Compare(w.Name, name) })
	if !ok {
		return p.fail(t.pos, mman.ErrInvalid, "the word %.64q is not known%s", name, p.nearby(t.text+"."))
	}
	return p.word(i)
}

// nearby lists the words of a group, or the groups.
func (p *parser) nearby(group string) string {
	var fields, groups []string
	for _, w := range p.words {
		head, field, _ := strings.Cut(w.Name, ".")
		if head+"." == group {
			fields = append(fields, w.Name)
		}
		if field != "" && !slices.Contains(groups, head) {
			groups = append(groups, head)
		}
	}
	if len(fields) > 0 {
		return ", there are " + strings.Join(fields, ", ")
	}
	return ", words begin with " + strings.Join(groups, ", ")
}

// arguments parses the list behind a call's name.
func (p *parser) arguments() []*node {
	p.expect("(")
	var args []*node
	for p.err == nil && p.now.tok != ")" {
		args = append(args, p.expression())
		if !p.accept(",") {
			break
		}
	}
	p.expect(")")
	return args
}

func (p *parser) function(name token) *node {
	if name.text != "size" {
		return p.fail(name.pos, mman.ErrUnsupported, "the function %s is not supported, there is size", name)
	}
	args := p.arguments()
	if p.err == nil && len(args) != 1 {
		return p.fail(name.pos, mman.ErrInvalid, "size takes one list or text")
	}
	if p.err != nil {
		return nil
	}
	return p.sized(name.pos, args[0])
}

func (p *parser) method(name token, on *node) *node {
	switch name.text {
	case "exists", "all":
		return p.macro(name, on)
	case "size", "startsWith", "endsWith", "contains":
	case "matches":
		return p.fail(name.pos, mman.ErrUnsupported, "regular expressions are not supported, use startsWith, endsWith or contains")
	case "exists_one", "map", "filter":
		return p.fail(name.pos, mman.ErrUnsupported, "%s is not supported, use exists or all", name)
	default:
		return p.fail(name.pos, mman.ErrUnsupported, "the call %s is not supported; texts have startsWith, endsWith, contains and size, lists have exists, all and size", name)
	}
	args := p.arguments()
	switch {
	case p.err != nil:
		return nil
	case name.text == "size" && len(args) == 0:
		return p.sized(name.pos, on)
	case name.text == "size" || len(args) != 1:
		return p.fail(name.pos, mman.ErrInvalid, "size takes no argument, %s takes one text", name)
	}
	return p.search(name.pos, name.text, on, args[0])
}

// macro parses list.exists(x, condition) and list.all(x, condition).
func (p *parser) macro(name token, on *node) *node {
	p.expect("(")
	v := p.now
	p.expect(tokName)
	p.expect(",")
	if p.err != nil {
		return nil
	}
	if err := p.free(v.text); err != nil {
		return p.fail(v.pos, mman.ErrInvalid, "the variable %s %v", v, err)
	}
	if on.kind.elem() == 0 {
		return p.fail(name.pos, mman.ErrInvalid, "%s needs a list, this is %s", name, on.kind)
	}
	p.scope = append(p.scope, variable{v.text, on.kind.elem(), on.bytes})
	body := p.expression()
	p.scope = p.scope[:max(0, len(p.scope)-1)]
	p.expect(")")
	return p.quantified(name.pos, name.text, on, body)
}

// free reports why a name cannot be a variable's.
func (p *parser) free(name string) error {
	const longest = 32
	taken := func(w Word) bool { return strings.HasPrefix(w.Name, name+".") }
	switch {
	case len(name) > longest || name[0] == '_':
		return errors.New("has 1 to 32 letters and digits and begins with a letter")
	case name == "true" || name == "false" || name == "size":
		return errors.New("has a meaning of its own, choose another")
	case slices.ContainsFunc(p.words, taken) || slices.ContainsFunc(p.scope, func(v variable) bool { return v.name == name }):
		return errors.New("is in use here, choose another")
	}
	return nil
}
