package meter

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/limboid/massive-man/resources/wasm/leb128"
)

// emitter writes one function's code, metered.
type emitter struct {
	*body
	out *output
	sw  switches
	c   []byte

	labels []label // the guest's open blocks, the function first
	nest   uint32  // how many blocks are open, with the meter's own
	// accesses are those to locals since the outermost open loop began.
	accesses []access
	loops    int  // that are open
	chosen   int  // of the body's choices
	atHead   bool // of the innermost loop
	local    bool // the counter is cached in a local
	counted  bool // the call counts on the stack
	wrapped  bool // the guest's code stands in a block

	// The meter's own locals.
	fuel, scratch, nan32, nan64, vector, mask uint32
}

// access is one to a local, or several of which the first reads it or not.
type access struct {
	local       uint32
	reads, sets bool
}

// label is an open block of the guest's.
type label struct {
	nest uint32 // how many blocks were open when it had been opened
	// pausing says that the meter's blocks are around it, for a loop; typ is
	// its type then, as the guest wrote it, and accesses where those in it begin.
	pausing  bool
	typ      []byte
	charge   int64 // what is paid at its head
	accesses int
}

// emit appends the function's code, with its size before it, to the code section.
func (b *body) emit(o *output, sw switches) {
	e := emitter{body: b, out: o, sw: sw, c: o.scratch[:0]}
	e.plan()
	e.declare()
	e.enter()
	e.guest()
	e.leave()
	o.scratch = e.c
	o.code = binary.AppendUvarint(o.code, uint64(len(e.c)))
	o.code = append(o.code, e.c...)
}

// plan decides what the function needs.
func (e *emitter) plan() {
	g := &e.graph
	g.merge(!e.sw.naive)
	e.local = g.loops && !e.sw.naive
	e.counted = (e.calls || e.words() > leafWords) && !e.sw.noStack
	if e.calls || g.total() > leafFuel {
		g.nodes[0].check = true
	}
	for i := range g.nodes {
		n := &g.nodes[i]
		n.check = n.check && !e.sw.noChecks
		if n.check {
			e.out.checks++
		}
	}
	e.wrapped = e.local || e.counted
	e.out.nodes += len(g.nodes)
}

// declare writes the locals: the guest's and then the meter's.
func (e *emitter) declare() {
	groups := e.groups
	next := uint32(len(e.locals)) //nolint:gosec // at most maxLocals
	add := func(t byte) uint32 {
		groups = append(groups, localGroup{1, t})
		next++
		return next - 1
	}
	if e.local {
		e.fuel = add(i64)
	}
	if e.counted || e.bulk || len(e.choices) > 0 {
		e.scratch = add(i32)
	}
	if e.floats {
		e.nan32, e.nan64 = add(f32), add(f64)
	}
	if e.vectors {
		e.vector = add(v128)
	}
	if e.mend.vectors {
		e.mask = add(v128)
	}
	e.groups = groups              // keeps the capacity; the next function starts anew
	e.index32(uint32(len(groups))) //nolint:gosec // below a function's bytes
	for _, g := range groups {
		e.index32(g.count)
		e.op(g.typ)
	}
}

func (e *emitter) op(ops ...byte) { e.c = append(e.c, ops...) }

func (e *emitter) index32(v uint32) { e.c = binary.AppendUvarint(e.c, uint64(v)) }

func (e *emitter) with(op byte, index uint32) {
	e.c = append(e.c, op)
	e.index32(index)
}

func (e *emitter) const32(v int64) {
	e.c = append(e.c, opI32Const)
	e.c = leb128.AppendSigned(e.c, v)
}

func (e *emitter) const64(v int64) {
	e.c = append(e.c, opI64Const)
	e.c = leb128.AppendSigned(e.c, v)
}

// enter writes what happens before the guest's code.
func (e *emitter) enter() {
	if e.counted {
		e.with(opGlobalGet, e.out.stack)
		e.const32(int64(e.words()))
		e.op(opI32Add)
		e.with(opLocalTee, e.scratch)
		e.with(opGlobalSet, e.out.stack)
		e.with(opLocalGet, e.scratch)
		e.const32(StackWords)
		e.op(opI32GtU)
		e.stopIf(StopStack)
	}
	if e.local {
		e.load()
	}
	if e.wrapped {
		e.op(opBlock)
		e.c = append(e.c, e.out.resultType(e.sig.results)...)
		e.nest++
	}
	e.labels = append(e.labels, label{nest: e.nest})
}

// stopIf ends the run, for a reason that the host finds, if the top of the stack
// says so.
func (e *emitter) stopIf(reason int64) {
	e.op(opIf, noValue)
	e.const32(reason)
	e.with(opGlobalSet, e.out.stop)
	e.op(opUnreachable, opEnd)
}

// load and store move the counter between its global and the local.
func (e *emitter) load() {
	e.with(opGlobalGet, e.out.used)
	e.with(opLocalSet, e.fuel)
}

func (e *emitter) store() {
	e.with(opLocalGet, e.fuel)
	e.with(opGlobalSet, e.out.used)
}

// leave writes what happens behind the guest's code.
func (e *emitter) leave() {
	if !e.wrapped {
		e.op(opEnd)
		return
	}
	e.op(opEnd)
	if e.local {
		e.store()
	}
	if e.counted {
		e.with(opGlobalGet, e.out.stack)
		e.const32(int64(e.words()))
		e.op(opI32Sub)
		e.with(opGlobalSet, e.out.stack)
	}
	e.op(opEnd)
}

// guest writes the guest's code with charges between.
func (e *emitter) guest() {
	r := e.r
	node, death, origin, live, last := 0, 0, 0, false, 0
	for {
		if node < len(e.graph.nodes) && e.graph.nodes[node].pos == r.pos {
			live = true
			e.atHead = last == opLoop
			e.charge(node)
			e.atHead = false
			node++
		}
		in := r.next(e.operators)
		if in.op == opEnd && len(e.labels) == 1 {
			return
		}
		last = in.op
		if !e.structure(in, live) {
			if live {
				e.operator(in)
				if class := e.operators[in.op].nan; class == nanLanes32 || class == nanLanes64 {
					e.canonicaliseLanes(class)
				}
			} else {
				e.copy(in)
			}
		}
		if origin < len(e.origins) && e.origins[origin].pos == in.start {
			e.canonicalise(origin, in)
			origin++
		}
		if death < len(e.graph.deaths) && e.graph.deaths[death] == in.end {
			live = false
			death++
		}
	}
}

// structure writes the operators that open and close blocks and those that
// branch, which the meter's own blocks are between; false for another operator.
func (e *emitter) structure(in instr, live bool) bool {
	switch in.op {
	case opBlock, opIf:
		e.copy(in)
		e.nest++
		e.labels = append(e.labels, label{nest: e.nest})
	case opLoop:
		e.openLoop(in, live)
	case opEnd:
		e.copy(in)
		l := e.labels[len(e.labels)-1]
		e.labels = e.labels[:len(e.labels)-1]
		e.nest--
		if l.pausing {
			e.closeLoop(l)
		}
	case opBr, opBrIf:
		e.with(byte(in.op), e.target(in.a))
	case opBrTable:
		e.op(opBrTable)
		e.index32(in.a)
		r := reader{b: e.r.b, pos: in.labels, end: in.end}
		for range in.a + 1 {
			e.index32(e.target(r.u32()))
		}
	case opReturn:
		if !live || !e.wrapped {
			return false
		}
		e.with(opBr, e.nest-e.labels[0].nest)
	default:
		return false
	}
	return true
}

// target returns the label that is depth blocks of the guest's away.
func (e *emitter) target(depth uint32) uint32 {
	return e.nest - e.labels[len(e.labels)-1-int(depth)].nest
}

// openLoop writes the start of a loop. Its head is where a guest pauses; the code
// for that stands outside of the loop and jumps to its start again, so that in the
// loop no register is given up for it:
//
//	block
//	  loop
//	    block
//	      loop: the guest's, with br_if 1 at its head for when a pause is due
//	      br 2
//	    end
//	    call of the pause
//	    br 0
func (e *emitter) openLoop(in instr, live bool) {
	typ := e.m.b[in.labels:in.end]
	l := label{typ: typ, accesses: len(e.accesses), pausing: live && !e.sw.noChecks && !e.takesParams(typ)}
	if l.pausing {
		e.op(opBlock)
		e.op(typ...)
		e.op(opLoop)
		e.op(typ...)
		e.op(opBlock, noValue)
		e.nest += 3
		e.loops++
	}
	e.copy(in)
	e.nest++
	l.nest = e.nest
	e.labels = append(e.labels, l)
}

// takesParams tells whether a block's type has parameters.
func (e *emitter) takesParams(typ []byte) bool {
	r := reader{b: typ, end: len(typ)}
	v := r.signed(33)
	return v >= 0 && len(e.m.types[v].params) > 0
}

// closeLoop writes what stands behind a loop that pauses.
func (e *emitter) closeLoop(l label) {
	e.with(opBr, 2)
	e.op(opEnd)
	locals := e.changedSince(l.accesses)
	if e.local {
		e.store()
	}
	for _, i := range locals {
		e.with(opLocalGet, i)
	}
	types := make([]byte, 0, maxCarried)
	for _, i := range locals {
		types = append(types, e.locals[i])
	}
	e.with(opCall, e.out.pausing(types))
	for _, i := range slices.Backward(locals) {
		e.with(opLocalSet, i)
	}
	// The head will be paid once more.
	e.with(opGlobalGet, e.out.used)
	if l.charge > 0 {
		e.const64(l.charge)
		e.op(opI64Sub)
	}
	e.pay(false)
	e.with(opBr, 0)
	e.op(opEnd, opEnd)
	e.nest -= 3
	e.loops--
}

// changedSince returns the locals that a loop reads before it sets them, by their
// types. They are passed through the pause: a value that lives across a call is
// saved by engines where it is made, which would be once each turn of the loop.
// Too many are not worth it. It is for speed alone; what is forgotten here for the
// sake of time changes no result.
func (e *emitter) changedSince(from int) []uint32 {
	log := e.accesses[from:]
	slices.SortStableFunc(log, func(a, b access) int { return cmp.Compare(a.local, b.local) })
	kept := log[:0]
	for _, a := range log {
		if n := len(kept); n > 0 && kept[n-1].local == a.local {
			kept[n-1].sets = kept[n-1].sets || a.sets
			continue
		}
		kept = append(kept, a)
	}
	var locals []uint32
	for _, a := range kept {
		if a.reads && a.sets {
			locals = append(locals, a.local)
		}
	}
	e.accesses = e.accesses[:from+min(len(kept), maxAccesses)]
	if len(locals) > maxCarried {
		return nil
	}
	slices.SortStableFunc(locals, func(a, b uint32) int { return cmp.Compare(e.locals[a], e.locals[b]) })
	return locals
}

// charge writes the charge and the check at the start of a node.
func (e *emitter) charge(n int) {
	x, check := e.graph.charge(n), e.graph.nodes[n].check
	if e.atHead {
		e.labels[len(e.labels)-1].charge = x
	}
	if x > 0 {
		e.out.charges++
		e.counter()
		e.const64(x)
		e.op(opI64Add)
		e.pay(check)
		return
	}
	if check {
		e.counter()
		e.exceeds()
	}
}

// counter pushes the fuel used so far.
func (e *emitter) counter() {
	if e.local {
		e.with(opLocalGet, e.fuel)
	} else {
		e.with(opGlobalGet, e.out.used)
	}
}

// pay makes the top of the stack the fuel used so far and, if wanted, has the
// limit looked at.
func (e *emitter) pay(check bool) {
	switch {
	case !e.local:
		e.with(opGlobalSet, e.out.used)
		if check {
			e.counter()
		}
	case check:
		e.with(opLocalTee, e.fuel)
	default:
		e.with(opLocalSet, e.fuel)
	}
	if check {
		e.exceeds()
	}
}

// exceeds has the limit looked at if the fuel on top of the stack is above the
// place where that is due.
func (e *emitter) exceeds() {
	if head := &e.labels[len(e.labels)-1]; head.pausing && e.atHead {
		e.with(opGlobalGet, e.out.next)
		e.op(opI64GtU)
		e.with(opBrIf, 1)
		return
	}
	e.with(opGlobalGet, e.out.next)
	e.op(opI64GtU, opIf, noValue)
	if e.local {
		e.store()
	}
	e.with(opCall, e.out.pausing(nil))
	e.op(opEnd)
}

func (e *emitter) copy(in instr) { e.c = in.appendTo(e.c, e.m.b) }

// operator writes one operator that can be reached.
func (e *emitter) operator(in instr) {
	switch in.op {
	case opLocalGet, opLocalSet, opLocalTee:
		if e.loops > 0 {
			e.accesses = append(e.accesses, access{in.a, in.op == opLocalGet, in.op != opLocalGet})
		}
	case opCall, opCallIndirect:
		if e.local {
			e.store()
			e.copy(in)
			e.load()
			return
		}
	case opMemoryGrow, opTableGrow:
		e.grow(in)
		return
	case opMemoryFill, opMemoryCopy, opMemoryInit, opTableFill, opTableCopy, opTableInit:
		e.ranged(in)
		return
	default:
	}
	if !e.mended(in) {
		e.copy(in)
	}
}

// canonicalise makes the value on top of the stack the canonical NaN if it is
// one and its bits come to light.
func (e *emitter) canonicalise(i int, in instr) {
	o := e.origins[i]
	typ, temp, ge, nan := f64, e.nan64, byte(opF64Ge), []byte{opF64Const, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f}
	if o.local >= 0 && e.locals[o.local] == f32 || o.local < 0 && e.operators[in.op].out == f32 {
		typ, temp, ge, nan = f32, e.nan32, opF32Ge, []byte{opF32Const, 0, 0, 0xc0, 0x7f}
	}
	if e.sw.otherNaNs && o.local < 0 {
		// What another processor might do.
		other := []byte{opF64Const, 0, 0, 0, 0, 0, 0, 0xfc, 0xff}
		if typ == f32 {
			other = []byte{opF32Const, 0, 0, 0xe0, 0xff}
		}
		e.replaceNaN(temp, typ, ge, other)
	}
	if !e.sw.noNaN && e.canonical(i, e.sw.everyNaN) {
		e.out.canonical++
		e.replaceNaN(temp, typ, ge, nan)
	}
}

// replaceNaN writes nan in the place of any NaN on top of the stack. Only a NaN is
// not at least itself; engines make one jump of that, and two of being unequal.
func (e *emitter) replaceNaN(temp uint32, typ, ge byte, nan []byte) {
	e.with(opLocalTee, temp)
	e.with(opLocalGet, temp)
	e.op(ge, opIf, typ)
	e.with(opLocalGet, temp)
	e.op(opElse)
	e.c = append(e.c, nan...)
	e.op(opEnd)
}

// perUnits pushes the charge for the number in scratch, rounded up.
func (e *emitter) perUnits() {
	e.with(opLocalGet, e.scratch)
	e.op(opI64ExtendU)
	e.const64(RangeUnit - 1)
	e.op(opI64Add)
	e.const64(rangeShift)
	e.op(opI64ShrU)
}

// ranged writes an operator on a range of a memory or a table, whose length is on
// top of the stack: charged first, and done in pieces if it is long.
func (e *emitter) ranged(in instr) {
	e.with(opLocalTee, e.scratch)
	if !e.sw.noRange {
		e.out.charges++
		e.counter()
		e.perUnits()
		e.op(opI64Add)
		e.pay(!e.sw.noChecks)
	}
	p, needed := e.out.pieceOf(in)
	if !needed || e.sw.noPieces {
		e.copy(in)
		return
	}
	e.with(opLocalGet, e.scratch)
	e.const32(int64(p.size))
	e.op(opI32LeU, opIf)
	e.c = append(e.c, e.out.paramType(p.params)...)
	e.copy(in)
	e.op(opElse)
	if e.local {
		e.store()
	}
	e.with(opCall, e.out.helper(p, in.appendTo(nil, e.m.b)))
	e.op(opEnd)
}

// grow writes memory.grow and table.grow, with the number on top of the stack. It
// is charged for, and tried, only within the maximum; a host that then refuses
// ends the run.
func (e *emitter) grow(in instr) {
	size, most, blockType := []byte{opMemorySize, 0}, e.m.maxPages, []byte{i32}
	if in.op == opTableGrow {
		t := e.m.tables[in.a]
		size, most = tableSize(in.a), t.max
		blockType = e.out.typeOf(funcType{[]byte{t.elem}, []byte{i32}})
	}
	e.with(opLocalTee, e.scratch)
	e.op(opI64ExtendU)
	e.c = append(e.c, size...)
	e.op(opI64ExtendU, opI64Add)
	e.const64(int64(most))
	e.op(opI64LeU, opIf)
	e.c = append(e.c, blockType...)
	if !e.sw.noRange {
		e.out.charges++
		e.counter()
		if in.op == opMemoryGrow {
			e.with(opLocalGet, e.scratch)
			e.op(opI64ExtendU)
			e.const64(pageShift)
			e.op(opI64Shl)
		} else {
			e.perUnits()
		}
		e.op(opI64Add)
		e.pay(!e.sw.noChecks)
	}
	e.with(opLocalGet, e.scratch)
	e.copy(in)
	if !e.sw.noGrow {
		e.with(opLocalTee, e.scratch)
		e.const32(-1)
		e.op(opI32Eq)
		e.stopIf(StopMemory)
		e.with(opLocalGet, e.scratch)
	}
	e.op(opElse)
	if in.op == opTableGrow {
		e.op(opDrop)
	}
	e.const32(-1)
	e.op(opEnd)
}

// tableSize is the operator that pushes a table's size.
func tableSize(table uint32) []byte {
	return binary.AppendUvarint([]byte{prefixMisc, opTableSize - prefixed}, uint64(table))
}
