package meter

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// value is an operand on the stack of the validation.
type value struct {
	typ byte
	// origin is where the value comes from, in body.origins, if it can be a NaN
	// with any bits; otherwise kept or harmless.
	origin int32
	// top is how many words the stack has with it.
	top int32
}

const (
	// kept: if it is a NaN, its bits are the same everywhere and must stay.
	kept int32 = -1
	// harmless: it is no NaN, or the canonical one.
	harmless int32 = -2
)

// frame is a block that is open.
type frame struct {
	op              int
	params, results []byte
	height          int
	// unreachable says that operands may come from nowhere, dead that the
	// block itself is never reached.
	unreachable, dead bool
	head, ifNode      int32 // of a loop and of an if
	pending           int32 // first of the nodes that branch to the end, in body.pending
	seen              int32 // the last br_table that named it
}

type pendingNode struct{ node, next int32 }

// body validates one function's code, and finds its control flow and where NaNs
// must be made canonical. It is used for one function after the other.
type body struct {
	m         *module
	operators *[operatorCount]operator
	index     int // of the function
	sig       funcType
	r         reader

	locals []byte
	groups []localGroup // as declared
	stack  []value
	frames []frame
	height int // the highest of the stack, words
	// localWords is what parameters and locals take.
	localWords int
	vectors    bool // some operator makes vectors with NaNs
	calls      bool
	bulk       bool // has operators that charge and check by themselves
	floats     bool
	cur        int32 // the node that the next operator belongs to, -1 if none can be reached
	graph      graph
	pending    []pendingNode
	tables     int32 // br_tables so far

	origins []origin
	flows   []flow
	nans    []localNaNs
	choices []choice
	mend    needsMend

	single [256]byte // the types, as slices of one

	sw switches
}

type localGroup struct {
	count uint32
	typ   byte
}

func newBody(m *module, ops *[operatorCount]operator, sw switches) *body {
	b := &body{m: m, operators: ops, sw: sw}
	for i := range b.single {
		b.single[i] = byte(i)
	}
	return b
}

// validate reads the code of the i-th function that is defined here.
func (b *body) validate(i int) error {
	b.index = b.m.imported[kindFunction] + i
	b.sig = b.m.types[b.m.funcs[b.index]]
	b.r = b.m.bodies[i]
	b.stack, b.frames, b.pending = b.stack[:0], b.frames[:0], b.pending[:0]
	b.origins, b.flows, b.choices = b.origins[:0], b.flows[:0], b.choices[:0]
	b.mend = needsMend{}
	b.height, b.calls, b.bulk, b.floats, b.vectors, b.tables = 0, false, false, false, false, 0
	b.readLocals()
	code := b.r
	b.graph.reset()
	b.cur = b.graph.add(code.pos)
	if !b.sw.noEntry {
		b.graph.nodes[0].cost = costEntry
	}
	b.frames = append(b.frames, frame{op: opCall, results: b.sig.results, pending: -1, head: -1, ifNode: -1})
	for len(b.frames) > 0 && b.r.err == nil {
		in := b.r.next(b.operators)
		if b.r.err == nil {
			b.step(in)
		}
		if !b.m.spend(1) {
			b.r.fail(in.start, errors.New("its types are too large for its size; use fewer parameters and results"))
		}
	}
	if b.r.err == nil && b.words() > StackWords {
		b.r.failf(code.pos, "it needs %d words of stack, %d are all that there are", b.words(), StackWords)
	}
	if err := b.r.finish(fmt.Sprintf("function %d", b.index)); err != nil {
		return err
	}
	b.r = code
	b.solveNaNs()
	return nil
}

// words is what one call of the function takes of the stack.
func (b *body) words() int { return FrameWords + b.localWords + b.height }

func (b *body) readLocals() {
	b.locals, b.groups, b.localWords = append(b.locals[:0], b.sig.params...), b.groups[:0], 0
	for _, t := range b.sig.params {
		b.localWords += width(t)
	}
	for range b.r.count() {
		start := b.r.pos
		n, t := b.r.u32(), b.r.valueType()
		if b.r.err != nil {
			return
		}
		if uint64(n)+uint64(len(b.locals)) > maxLocals && !b.sw.anySize || !b.m.spend(int(n)+1) {
			b.r.failf(start, "%d more locals; at most %d in a function are allowed, and less in a module of many", n, maxLocals)
			return
		}
		b.groups = append(b.groups, localGroup{n, t})
		b.localWords += int(n) * width(t)
		for range n {
			b.locals = append(b.locals, t)
		}
	}
}

func (b *body) failf(in instr, format string, args ...any) {
	b.r.failf(in.start, format, args...)
}

// push and pop work on the operand stack; a failed pop returns anyType.

func (b *body) push(t byte) { b.pushValue(value{typ: t, origin: kept}) }

func (b *body) pushValue(v value) {
	v.top = int32(width(v.typ)) //nolint:gosec // 1 or 2
	if n := len(b.stack); n > 0 {
		v.top += b.stack[n-1].top
	}
	b.stack = append(b.stack, v)
	if b.cur >= 0 {
		b.height = max(b.height, int(v.top))
	}
	if len(b.stack) > StackWords {
		b.r.failf(b.r.pos, "it has more than %d operands at a time", StackWords)
	}
}

func (b *body) pushAll(types []byte) {
	if !b.m.spend(len(types)) {
		return
	}
	for _, t := range types {
		b.push(t)
	}
}

func (b *body) pop(in instr, want byte) value {
	f := &b.frames[len(b.frames)-1]
	if len(b.stack) == f.height {
		if !f.unreachable {
			b.failf(in, "an operand is missing for operator %#x", in.op)
		}
		return value{typ: want, origin: kept}
	}
	v := b.stack[len(b.stack)-1]
	b.stack = b.stack[:len(b.stack)-1]
	if v.typ != want && v.typ != anyType && want != anyType {
		b.failf(in, "an operand of type %#x in place of %#x for operator %#x", v.typ, want, in.op)
	}
	return v
}

// use pops an operand whose bits come to light.
func (b *body) use(in instr, want byte) byte {
	v := b.pop(in, want)
	b.mark(v)
	return v.typ
}

func (b *body) useAll(in instr, types []byte) {
	if !b.m.spend(len(types)) {
		return
	}
	for _, t := range slices.Backward(types) {
		b.use(in, t)
	}
}

func (b *body) mark(v value) {
	if v.origin >= 0 {
		b.origins[v.origin].marked = true
	}
}

// makes pushes the result of an operator that may be a NaN with any bits.
func (b *body) makes(in instr, typ byte, local int32) {
	if b.cur < 0 {
		b.push(typ)
		return
	}
	b.origins = append(b.origins, origin{pos: in.start, local: local})
	b.pushValue(value{typ: typ, origin: int32(len(b.origins) - 1)}) //nolint:gosec // below a function's bytes
}

// constant pushes a constant number, which is harmless or an odd NaN.
func (b *body) constant(t byte, isHarmless bool) {
	v := value{typ: t, origin: kept}
	if isHarmless {
		v.origin = harmless
	}
	b.pushValue(v)
}

// unreachable drops what is on the stack since the block began: code from here
// on is not reached.
func (b *body) unreachable(in instr) {
	f := &b.frames[len(b.frames)-1]
	b.stack = b.stack[:f.height]
	f.unreachable = true
	if b.cur >= 0 {
		b.cur = -1
		b.graph.deaths = append(b.graph.deaths, in.end)
	}
}

// step validates one operator and adds it to the graph.
func (b *body) step(in instr) {
	if b.cur >= 0 {
		n := &b.graph.nodes[b.cur]
		if due := n.reach+n.cost >= checkEvery; (due || b.sw.stepwise) && n.pos < in.start {
			// Straight code is checked now and then.
			b.newNode(in.start, due)
			n = &b.graph.nodes[b.cur]
		}
		n.cost += int64(Price(in.op)) //nolint:gosec // 0 or 1
	}
	if op := &b.operators[in.op]; op.typed {
		b.typed(in, op)
		if op.mended {
			b.mends(in, op.in[0])
		}
		return
	}
	switch in.op {
	case opNop:
	case opUnreachable:
		b.unreachable(in)
	case opBlock, opLoop, opIf:
		b.open(in)
	case opElse:
		b.otherwise(in)
	case opEnd:
		b.end(in)
	case opBr, opBrIf, opBrTable, opReturn:
		b.branch(in)
	case opCall, opCallIndirect:
		b.call(in)
	case opDrop:
		b.pop(in, anyType)
	case opSelect, opSelectTyped:
		b.choose(in)
	case opLocalGet, opLocalSet, opLocalTee:
		b.local(in)
	case opGlobalGet, opGlobalSet:
		b.global(in)
	case opMemorySize, opMemoryGrow, opMemoryInit, opMemoryCopy, opMemoryFill, opDataDrop:
		b.memory(in)
	case opI32Const:
		b.push(i32)
	case opI64Const:
		b.push(i64)
	case opF32Const:
		v := binary.LittleEndian.Uint32(b.r.b[in.start+1:])
		b.constant(f32, v&0x7fffffff <= 0x7f800000 || v == 0x7fc00000)
	case opF64Const:
		v := binary.LittleEndian.Uint64(b.r.b[in.start+1:])
		b.constant(f64, v&(1<<63-1) <= 0x7ff<<52 || v == 0x7ff8<<48)
	case opRefNull, opRefIsNull, opRefFunc:
		b.reference(in)
	default:
		b.table(in)
	}
}

// typed validates an operator that is described by its types.
func (b *body) typed(in instr, op *operator) {
	if op.lanes > 0 && in.lane >= op.lanes {
		b.failf(in, "lane %d of %d", in.lane, op.lanes)
	}
	if op.imm == immAccess || op.imm == immAccessLane {
		if b.m.memories == 0 {
			b.failf(in, "operator %#x without a memory", in.op)
		}
		if in.b > uint32(op.natural) {
			b.failf(in, "an access is aligned to 2^%d bytes, at most 2^%d are possible", in.b, op.natural)
		}
	}
	for _, t := range slices.Backward(op.in[:]) {
		if t == anyType {
			continue
		}
		if v := b.pop(in, t); op.nan == nanSees {
			b.mark(v)
		}
	}
	switch op.nan {
	case nanSees, nanBlind:
	case nanMakes:
		b.floats = true
		b.makes(in, op.out, -1)
		return
	case nanNever:
		b.pushValue(value{typ: op.out, origin: harmless})
		return
	case nanLanes32, nanLanes64:
		b.vectors = b.vectors || b.cur >= 0
	}
	if op.out != anyType {
		b.push(op.out)
	}
}

// blockType returns what a block takes and gives.
func (b *body) blockType(in instr) (params, results []byte) {
	r := reader{b: b.r.b, pos: in.labels, end: in.end}
	switch v := r.signed(33); {
	case v >= 0 && v < int64(len(b.m.types)):
		t := b.m.types[v]
		return t.params, t.results
	case v >= 0:
		b.failf(in, "a block has type %d of %d", v, len(b.m.types))
	case v == int64(noValue)-128:
	default:
		t := byte(v + 128) //nolint:gosec // checked next
		if err := checkType(t); v < -64 || err != nil {
			b.r.fail(in.start, cmp.Or(err, errNumber))
			return nil, nil
		}
		return nil, b.single[t : t+1]
	}
	return nil, nil
}

func (b *body) open(in instr) {
	params, results := b.blockType(in)
	if in.op == opIf {
		b.use(in, i32)
	}
	b.useAll(in, params)
	if len(b.frames) >= maxDepth {
		b.failf(in, "blocks are nested more than %d deep", maxDepth)
		return
	}
	f := frame{
		op: in.op, params: params, results: results, height: len(b.stack),
		dead: b.cur < 0, head: -1, ifNode: -1, pending: -1,
	}
	if !f.dead {
		switch in.op {
		case opLoop:
			b.graph.loops = true
			f.head = b.newNode(in.end, true)
		case opIf:
			f.ifNode = b.cur
			b.newNode(in.end, false)
		default: // a block starts no node
		}
	}
	b.frames = append(b.frames, f)
	b.pushAll(params)
}

// newNode begins a node that follows the current one.
func (b *body) newNode(pos int, check bool) int32 {
	n := b.graph.add(pos)
	b.graph.nodes[n].check = check
	b.graph.connect(b.cur, n)
	b.cur = n
	return n
}

func (b *body) wait(f *frame) {
	b.pending = append(b.pending, pendingNode{b.cur, f.pending})
	f.pending = int32(len(b.pending) - 1) //nolint:gosec // below a function's bytes
}

// close checks that the block leaves what it should.
func (b *body) close(in instr) {
	f := &b.frames[len(b.frames)-1]
	b.useAll(in, f.results)
	if len(b.stack) != f.height && b.r.err == nil {
		b.failf(in, "a block leaves %d operands too many", len(b.stack)-f.height)
	}
}

func (b *body) otherwise(in instr) {
	f := &b.frames[len(b.frames)-1]
	if f.op != opIf {
		b.failf(in, "an else without its if")
		return
	}
	b.close(in)
	f.op, f.unreachable = opElse, false
	if !f.dead {
		if b.cur >= 0 {
			b.wait(f)
		}
		b.cur = b.graph.add(in.end)
		b.graph.connect(f.ifNode, b.cur)
	}
	b.pushAll(f.params)
}

func (b *body) end(in instr) {
	b.close(in)
	f := b.frames[len(b.frames)-1]
	if f.op == opIf && string(f.params) != string(f.results) {
		b.failf(in, "an if without else must give back what it takes")
	}
	b.frames = b.frames[:len(b.frames)-1]
	if !f.dead && f.op != opLoop {
		b.join(in, &f)
	}
	b.pushAll(f.results)
	if len(b.frames) == 0 && b.r.more() {
		b.r.fail(b.r.pos, errors.New("there are operators behind its end"))
	}
}

// join begins the node after a block, if something else than the code before its
// end leads to it.
func (b *body) join(in instr, f *frame) {
	if f.pending < 0 && f.op != opIf && len(b.frames) > 0 {
		return
	}
	from := b.cur
	j := b.graph.add(in.end)
	for p := f.pending; p >= 0; p = b.pending[p].next {
		b.graph.connect(b.pending[p].node, j)
	}
	if f.op == opIf { // and no else
		b.graph.connect(f.ifNode, j)
	}
	if from >= 0 {
		b.graph.connect(from, j)
	}
	b.cur = j
}

// label returns the frame that a branch goes to, and what the branch takes.
func (b *body) label(in instr, depth uint32) (*frame, []byte) {
	if uint64(depth) >= uint64(len(b.frames)) {
		b.failf(in, "label %d of %d", depth, len(b.frames))
		return nil, nil
	}
	f := &b.frames[len(b.frames)-1-int(depth)]
	if f.op == opLoop {
		return f, f.params
	}
	return f, f.results
}

// edgeTo adds the way to a label.
func (b *body) edgeTo(f *frame) {
	switch {
	case b.cur < 0:
	case f.op == opLoop:
		b.graph.connect(b.cur, f.head)
	default:
		b.wait(f)
	}
}

func (b *body) branch(in instr) {
	switch in.op {
	case opBrTable:
		b.branchTable(in)
		return
	case opReturn:
		in.a = uint32(len(b.frames) - 1) //nolint:gosec // at most maxDepth
	case opBrIf:
		b.use(in, i32)
	default:
	}
	f, types := b.label(in, in.a)
	if f == nil {
		return
	}
	b.useAll(in, types)
	b.edgeTo(f)
	if in.op != opBrIf {
		b.unreachable(in)
		return
	}
	b.pushAll(types)
	if b.cur >= 0 {
		b.newNode(in.end, false)
	}
}

func (b *body) branchTable(in instr) {
	b.use(in, i32)
	b.tables++
	r := reader{b: b.r.b, pos: in.labels, end: in.end}
	arity := -1
	for range in.a + 1 {
		f, types := b.label(in, r.u32())
		if f == nil {
			return
		}
		if f.seen == b.tables {
			continue
		}
		f.seen = b.tables
		if arity >= 0 && len(types) != arity {
			b.failf(in, "a br_table's labels take %d and %d operands", arity, len(types))
			return
		}
		arity = len(types)
		b.fits(in, types)
		b.edgeTo(f)
	}
	b.unreachable(in)
}

// fits checks the top of the stack against types and leaves it.
func (b *body) fits(in instr, types []byte) {
	if !b.m.spend(len(types)) {
		return
	}
	f := &b.frames[len(b.frames)-1]
	for i := 1; i <= len(types); i++ {
		at := len(b.stack) - i
		if at < f.height {
			if !f.unreachable {
				b.failf(in, "an operand is missing for a br_table")
			}
			return
		}
		v, want := b.stack[at], types[len(types)-i]
		if v.typ != want && v.typ != anyType {
			b.failf(in, "an operand of type %#x in place of %#x for a br_table", v.typ, want)
			return
		}
		b.mark(v)
	}
}

func (b *body) call(in instr) {
	var t funcType
	if in.op == opCall {
		if uint64(in.a) >= uint64(len(b.m.funcs)) {
			b.failf(in, "a call of function %d of %d", in.a, len(b.m.funcs))
			return
		}
		t = b.m.types[b.m.funcs[in.a]]
	} else {
		if uint64(in.a) >= uint64(len(b.m.types)) {
			b.failf(in, "a call of type %d of %d", in.a, len(b.m.types))
			return
		}
		if b.tableType(in, in.b) == externref {
			b.failf(in, "a call through table %d, which holds no functions", in.b)
		}
		t = b.m.types[in.a]
		b.use(in, i32)
	}
	b.useAll(in, t.params)
	b.pushAll(t.results)
	b.calls = b.calls || b.cur >= 0
}

func (b *body) choose(in instr) {
	b.use(in, i32)
	if in.op == opSelectTyped {
		t := byte(in.a) //nolint:gosec // read as a byte
		if err := checkType(t); err != nil {
			b.r.fail(in.start, err)
		}
		b.use(in, t)
		b.use(in, t)
		b.chosen(in, t)
		return
	}
	second := b.use(in, anyType)
	first := b.use(in, anyType)
	if isReference(first) || isReference(second) {
		b.failf(in, "select of references; give it a type")
	}
	if first != second && first != anyType && second != anyType {
		b.failf(in, "select of types %#x and %#x", first, second)
	}
	b.chosen(in, max(first, second)) // anyType is 0
}

// chosen pushes what a select yields.
func (b *body) chosen(in instr, t byte) {
	b.push(t)
	if t == f32 || t == f64 || t == v128 {
		b.mends(in, t)
	}
}

func (b *body) local(in instr) {
	if uint64(in.a) >= uint64(len(b.locals)) {
		b.failf(in, "local %d of %d", in.a, len(b.locals))
		return
	}
	t, l := b.locals[in.a], int32(in.a) //nolint:gosec // at most maxLocals
	if in.op == opLocalGet {
		if t == f32 || t == f64 {
			b.makes(in, t, l)
		} else {
			b.push(t)
		}
		return
	}
	v := b.pop(in, t)
	if (t == f32 || t == f64) && b.cur >= 0 {
		b.flows = append(b.flows, flow{origin: v.origin, local: l})
	}
	if in.op == opLocalTee {
		b.pushValue(value{typ: t, origin: v.origin})
	}
}

func (b *body) global(in instr) {
	if uint64(in.a) >= uint64(len(b.m.globals)) {
		b.failf(in, "global %d of %d", in.a, len(b.m.globals))
		return
	}
	g := b.m.globals[in.a]
	if in.op == opGlobalGet {
		b.push(g.value)
		return
	}
	if !g.mutable {
		b.failf(in, "global %d is constant and is set", in.a)
	}
	b.use(in, g.value)
}

func (b *body) memory(in instr) {
	if b.m.memories == 0 && in.op != opDataDrop {
		b.failf(in, "operator %#x without a memory", in.op)
		return
	}
	if in.op == opMemoryInit || in.op == opDataDrop {
		if b.m.dataCount < 0 || uint64(in.a) >= uint64(b.m.dataCount) {
			b.failf(in, "data segment %d of %d that are declared", in.a, max(b.m.dataCount, 0))
		}
	}
	switch in.op {
	case opMemorySize:
		b.push(i32)
	case opMemoryGrow:
		b.use(in, i32)
		b.push(i32)
		b.bulk = b.bulk || b.cur >= 0
	case opDataDrop:
	default:
		b.use(in, i32)
		b.use(in, i32)
		b.use(in, i32)
		b.bulk = b.bulk || b.cur >= 0
	}
}

func (b *body) reference(in instr) {
	switch in.op {
	case opRefNull:
		t := byte(in.a) //nolint:gosec // read as a byte
		if !isReference(t) {
			b.failf(in, "ref.null of type %#x", t)
		}
		b.push(t)
	case opRefIsNull:
		if t := b.use(in, anyType); !isReference(t) && t != anyType {
			b.failf(in, "ref.is_null of a value of type %#x", t)
		}
		b.push(i32)
	default:
		if uint64(in.a) >= uint64(len(b.m.funcs)) || !b.m.declared[in.a] {
			b.failf(in, "ref.func of function %d, which no segment, export or global names", in.a)
		}
		b.push(funcref)
	}
}

// tableType returns what a table holds, externref after an error.
func (b *body) tableType(in instr, table uint32) byte {
	if uint64(table) >= uint64(len(b.m.tables)) {
		b.failf(in, "table %d of %d", table, len(b.m.tables))
		return externref
	}
	return b.m.tables[table].elem
}

func (b *body) elemType(in instr, segment uint32) byte {
	if uint64(segment) >= uint64(len(b.m.elems)) {
		b.failf(in, "element segment %d of %d", segment, len(b.m.elems))
		return externref
	}
	return b.m.elems[segment].value
}

// table validates the operators on tables and element segments.
func (b *body) table(in instr) {
	switch in.op {
	case opTableGet:
		t := b.tableType(in, in.a)
		b.use(in, i32)
		b.push(t)
	case opTableSet:
		b.use(in, b.tableType(in, in.a))
		b.use(in, i32)
	case opTableSize:
		b.tableType(in, in.a)
		b.push(i32)
	case opElemDrop:
		b.elemType(in, in.a)
	case opTableGrow:
		b.use(in, i32)
		b.use(in, b.tableType(in, in.a))
		b.push(i32)
		b.bulk = b.bulk || b.cur >= 0
	case opTableFill:
		b.use(in, i32)
		b.use(in, b.tableType(in, in.a))
		b.use(in, i32)
		b.bulk = b.bulk || b.cur >= 0
	case opTableInit, opTableCopy:
		// The immediates are the segment and the table, or both tables, the
		// one that is written to first.
		from := b.tableType
		source, target := in.b, in.a
		if in.op == opTableInit {
			from, source, target = b.elemType, in.a, in.b
		}
		if f, t := from(in, source), b.tableType(in, target); f != t {
			b.failf(in, "references of type %#x for a table of type %#x", f, t)
		}
		b.use(in, i32)
		b.use(in, i32)
		b.use(in, i32)
		b.bulk = b.bulk || b.cur >= 0
	default:
		b.failf(in, "operator %#x has no rule", in.op)
	}
}
