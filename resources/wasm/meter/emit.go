package meter

import "encoding/binary"

// emitter writes one function's code, metered.
type emitter struct {
	*body
	out *output
	sw  switches
	c   []byte

	depth   uint32 // of the guest's open blocks
	local   bool   // the counter is cached in a local
	counted bool   // the call counts on the stack
	wrapped bool   // the guest's code stands in a block

	// The meter's own locals.
	fuel, scratch, nan32, nan64 uint32
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
	if e.counted || e.bulk {
		e.scratch = add(i32)
	}
	if e.floats {
		e.nan32, e.nan64 = add(f32), add(f64)
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
	e.c = appendSigned(e.c, v)
}

func (e *emitter) const64(v int64) {
	e.c = append(e.c, opI64Const)
	e.c = appendSigned(e.c, v)
}

// appendSigned appends a number in signed LEB128.
func appendSigned(b []byte, v int64) []byte {
	for {
		low := byte(v & 0x7f)
		v >>= 7
		if v == 0 && low&0x40 == 0 || v == -1 && low&0x40 != 0 {
			return append(b, low)
		}
		b = append(b, low|0x80)
	}
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
	}
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
	node, death, origin, live := 0, 0, 0, false
	for {
		if node < len(e.graph.nodes) && e.graph.nodes[node].pos == r.pos {
			live = true
			e.charge(node)
			node++
		}
		in := r.next(e.operators)
		if in.op == opEnd && e.depth == 0 {
			return
		}
		switch in.op {
		case opBlock, opLoop, opIf:
			e.depth++
		case opEnd:
			e.depth--
		default:
		}
		if live {
			e.operator(in)
		} else {
			e.copy(in)
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

// charge writes the charge and the check at the start of a node.
func (e *emitter) charge(n int) {
	x, check := e.graph.charge(n), e.graph.nodes[n].check
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
	e.with(opGlobalGet, e.out.next)
	e.op(opI64GtU, opIf, noValue)
	if e.local {
		e.store()
	}
	e.with(opCall, e.out.pausing())
	e.op(opEnd)
}

func (e *emitter) copy(in instr) { e.c = in.appendTo(e.c, e.m.b) }

// operator writes one operator that can be reached.
func (e *emitter) operator(in instr) {
	switch in.op {
	case opReturn:
		if e.wrapped {
			e.with(opBr, e.depth)
			return
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
	e.copy(in)
}

// canonicalise makes the value on top of the stack the canonical NaN if it is
// one and its bits come to light.
func (e *emitter) canonicalise(i int, in instr) {
	o := e.origins[i]
	typ, temp, ne, nan := f64, e.nan64, byte(opF64Ne), []byte{opF64Const, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f}
	if o.local >= 0 && e.locals[o.local] == f32 || o.local < 0 && e.operators[in.op].out == f32 {
		typ, temp, ne, nan = f32, e.nan32, opF32Ne, []byte{opF32Const, 0, 0, 0xc0, 0x7f}
	}
	if e.sw.otherNaNs && o.local < 0 {
		// What another processor might do.
		other := []byte{opF64Const, 0, 0, 0, 0, 0, 0, 0xfc, 0xff}
		if typ == f32 {
			other = []byte{opF32Const, 0, 0, 0xe0, 0xff}
		}
		e.replaceNaN(temp, ne, other)
	}
	if !e.sw.noNaN && e.canonical(i, e.sw.everyNaN) {
		e.out.canonical++
		e.replaceNaN(temp, ne, nan)
	}
}

func (e *emitter) replaceNaN(temp uint32, ne byte, nan []byte) {
	e.with(opLocalTee, temp)
	e.with(opLocalGet, temp)
	e.op(ne, opIf, noValue)
	e.c = append(e.c, nan...)
	e.with(opLocalSet, temp)
	e.op(opEnd)
	e.with(opLocalGet, temp)
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
