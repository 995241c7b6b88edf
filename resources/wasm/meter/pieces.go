package meter

import (
	"encoding/binary"

	"github.com/limboid/massive-man/resources/wasm/leb128"
)

// piece describes a function that does an operator on a long range in pieces.
type piece struct {
	params []byte // what the operator takes: to, value or from, length
	size   uint32 // of a piece, in bytes or elements
	// target pushes the size of what is written, as an i64.
	target []byte
	// source pushes the size of what is read; nil for an operator that fills.
	source []byte
	// backward says that the ranges can overlap.
	backward bool
}

// pieceOf describes how an operator is cut; not needed for one that no range is
// too long for.
func (o *output) pieceOf(in instr) (p piece, needed bool) {
	m := o.m
	p.params, p.size = []byte{i32, i32, i32}, PieceBytes
	memory := func() []byte {
		b := append([]byte{opMemorySize, 0, opI64ExtendU, opI64Const}, 16)
		return append(b, opI64Shl)
	}
	table := func(i uint32) []byte { return append(tableSize(i), opI64ExtendU) }
	constant := func(n uint32) []byte { return leb128.AppendSigned([]byte{opI64Const}, int64(n)) }
	most := uint64(m.maxPages) << 16
	switch in.op {
	case opMemoryFill:
		p.target = memory()
	case opMemoryCopy:
		p.target, p.source, p.backward = memory(), memory(), true
	case opMemoryInit:
		p.target, p.source = memory(), constant(m.datas[in.a])
		most = min(most, uint64(m.datas[in.a]))
	case opTableFill:
		p.params[1] = m.tables[in.a].elem
		p.target = table(in.a)
		most = uint64(m.tables[in.a].max)
	case opTableCopy:
		p.target, p.source, p.backward = table(in.a), table(in.b), in.a == in.b
		most = uint64(min(m.tables[in.a].max, m.tables[in.b].max))
	default: // table.init
		p.target, p.source = table(in.b), constant(m.elems[in.a].count)
		most = uint64(min(m.tables[in.b].max, m.elems[in.a].count))
	}
	if in.op >= opTableInit {
		p.size = PieceElements
	}
	return p, most > uint64(p.size)
}

// helper returns the index of the function that does the operator in pieces.
func (o *output) helper(p piece, raw []byte) uint32 {
	key := string(raw)
	id, ok := o.helperIDs[key]
	if !ok {
		id = uint32(len(o.m.funcs) + len(o.helpers)) //nolint:gosec // maxItems and a few
		o.helpers = append(o.helpers, helper{o.typeIndex(funcType{params: p.params}), o.pieceBody(p, raw)})
		o.helperIDs[key] = id
	}
	return id
}

// appendPause lets the engine's host run for a moment: growing the memory by
// nothing changes nothing and is done by the host. A Go program that waits for
// its collector could not go on while a guest computes in silence.
func (o *output) appendPause(c []byte) []byte {
	if o.sw.noPauses {
		return c
	}
	o.pauses = true
	return append(c, opI32Const, 0, opMemoryGrow, 0, opDrop)
}

// appendLook traps when the fuel used is above the limit.
func (o *output) appendLook(c []byte) []byte {
	c = binary.AppendUvarint(append(c, opGlobalGet), uint64(o.used))
	c = binary.AppendUvarint(append(c, opGlobalGet), uint64(o.limit))
	return append(c, opI64GtU, opIf, noValue, opUnreachable, opEnd)
}

// pausing returns the index of the function that is called when the fuel used is
// above next: it pauses, looks at the limit, and sets next to the limit or to
// SliceFuel from here, whichever comes first. It gives back what it is given.
func (o *output) pausing(through []byte) uint32 {
	key := "pause" + string(through)
	id, ok := o.helperIDs[key]
	if ok {
		return id
	}
	c := []byte{0} // no locals
	if len(through) == 0 {
		c = o.appendSlice(o.appendLook(o.appendPause(c)))
	} else {
		c = binary.AppendUvarint(append(c, opCall), uint64(o.pausing(nil)))
		for i := range through {
			c = append(c, opLocalGet, byte(i))
		}
	}
	id = uint32(len(o.m.funcs) + len(o.helpers)) //nolint:gosec // maxItems and a few
	o.helpers = append(o.helpers, helper{o.typeIndex(funcType{params: through, results: through}), append(c, opEnd)})
	o.helperIDs[key] = id
	return id
}

// appendSlice sets next: limit - used > SliceFuel ? used + SliceFuel : limit.
func (o *output) appendSlice(c []byte) []byte {
	global := func(op byte, index uint32) {
		c = binary.AppendUvarint(append(c, op), uint64(index))
	}
	global(opGlobalGet, o.used)
	c = leb128.AppendSigned(append(c, opI64Const), SliceFuel)
	c = append(c, opI64Add)
	global(opGlobalGet, o.limit)
	global(opGlobalGet, o.limit)
	global(opGlobalGet, o.used)
	c = leb128.AppendSigned(append(c, opI64Sub, opI64Const), SliceFuel)
	c = append(c, opI64GtU, opSelect)
	global(opGlobalSet, o.next)
	return c
}

// pieceBody writes the function: parameters 0, where to, 1, what or where from,
// and 2, how many. Its fuel is paid.
func (o *output) pieceBody(p piece, raw []byte) []byte {
	var c []byte
	get := func(i byte) { c = append(c, opLocalGet, i) }
	whole := func() {
		get(0)
		get(1)
		get(2)
		c = append(c, raw...)
	}
	size := func() {
		c = append(c, opI32Const)
		c = leb128.AppendSigned(c, int64(p.size))
	}
	move := func(i, op byte) {
		get(i)
		size()
		c = append(c, op, opLocalSet, i)
	}
	beyond := func(i byte, end []byte) {
		get(i)
		c = append(c, opI64ExtendU)
		get(2)
		c = append(c, opI64ExtendU, opI64Add)
		c = append(c, end...)
		// A range that does not fit traps before anything is written: the
		// operator itself does that.
		c = append(c, opI64GtU, opIf, noValue)
		whole()
		c = append(c, opEnd)
	}
	check := func() { c = o.appendLook(o.appendPause(c)) }
	again := func() {
		get(2)
		size()
		c = append(c, opI32GtU, opBrIf, 0, opEnd)
	}
	c = append(c, 0) // no locals
	beyond(0, p.target)
	if p.source != nil {
		beyond(1, p.source)
	}
	if p.backward {
		get(1)
		get(0)
		c = append(c, opI32LtU, opIf, noValue, opLoop, noValue)
		check()
		move(2, opI32Sub)
		for i := range byte(2) {
			get(i)
			get(2)
			c = append(c, opI32Add)
		}
		size()
		c = append(c, raw...)
		again()
		c = append(c, opElse)
	}
	c = append(c, opLoop, noValue)
	check()
	get(0)
	get(1)
	size()
	c = append(c, raw...)
	move(0, opI32Add)
	if p.source != nil {
		move(1, opI32Add)
	}
	move(2, opI32Sub)
	again()
	if p.backward {
		c = append(c, opEnd)
	}
	whole()
	return append(c, opEnd)
}
