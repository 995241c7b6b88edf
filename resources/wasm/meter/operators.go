package meter

import "encoding/binary"

// The types of values, as a module writes them. anyType stands for a value that
// unreachable code takes from nowhere.
const (
	i32        byte = 0x7f
	i64        byte = 0x7e
	f32        byte = 0x7d
	f64        byte = 0x7c
	v128       byte = 0x7b
	funcref    byte = 0x70
	externref  byte = 0x6f
	noValue    byte = 0x40 // the type of a block without results
	functional byte = 0x60 // begins a function type
	anyType    byte = 0
)

// Operators that the meter has something to do with. Those behind the prefix
// 0xfc are numbered from prefixed, those on vectors, behind 0xfd, from vectorial.
const (
	opUnreachable  = 0x00
	opNop          = 0x01
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableGet     = 0x25
	opTableSet     = 0x26
	opFirstLoad    = 0x28
	opFirstStore   = 0x36
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32Eqz       = 0x45
	opI32Eq        = 0x46
	opI32LtU       = 0x49
	opI32GtU       = 0x4b
	opI32LeU       = 0x4d
	opI64GtU       = 0x56
	opI64LeU       = 0x58
	opF32Ge        = 0x60
	opF64Ge        = 0x66
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI32And       = 0x71
	opI32Or        = 0x72
	opI32Xor       = 0x73
	opI64Add       = 0x7c
	opI64Sub       = 0x7d
	opI64And       = 0x83
	opI64Or        = 0x84
	opI64Xor       = 0x85
	opI64Shl       = 0x86
	opI64ShrU      = 0x88
	opF32Copysign  = 0x98
	opF64Copysign  = 0xa6
	opI64ExtendU   = 0xad
	opI32OfF32     = 0xbc // the same bits
	opI64OfF64     = 0xbd
	opF32OfI32     = 0xbe
	opF64OfI64     = 0xbf
	opRefNull      = 0xd0
	opRefIsNull    = 0xd1
	opRefFunc      = 0xd2
	prefixMisc     = 0xfc
	prefixVector   = 0xfd

	prefixed     = 0x100
	opMemoryInit = prefixed + 8
	opDataDrop   = prefixed + 9
	opMemoryCopy = prefixed + 10
	opMemoryFill = prefixed + 11
	opTableInit  = prefixed + 12
	opElemDrop   = prefixed + 13
	opTableCopy  = prefixed + 14
	opTableGrow  = prefixed + 15
	opTableSize  = prefixed + 16
	opTableFill  = prefixed + 17
	miscCount    = 18

	vectorial      = 0x200
	opV128Const    = vectorial + 12
	opI32x4Splat   = vectorial + 17
	opI64x2Replace = vectorial + 30
	opF64x2Replace = vectorial + 34
	opF32x4Eq      = vectorial + 65
	opF64x2Eq      = vectorial + 71
	opV128And      = vectorial + 78
	opV128Xor      = vectorial + 81
	opV128Select   = vectorial + 82
	operatorCount  = vectorial + 0x100
)

// immediate says what follows an operator.
type immediate uint8

const (
	immUnknown immediate = iota // the operator is refused
	immNone
	immBlock
	immIndex
	immTwoIndexes
	immLabels
	immTypes
	immAccess
	immZero
	immZeroZero
	immIndexZero
	immI32
	immI64
	immF32
	immF64
	immRefType
	immVector
	immShuffle
	immLane
	immAccessLane
)

// nanClass says what an operator does with the bits of a NaN.
type nanClass uint8

const (
	// nanSees: the bits of an operand may come to light.
	nanSees nanClass = iota
	// nanBlind: the result is the same whatever NaN an operand is.
	nanBlind
	// nanMakes: blind, and the result may be any NaN.
	nanMakes
	// nanNever: the result is no NaN.
	nanNever
	// nanLanes32 and nanLanes64: the lanes of the result may be any NaNs. They are
	// made canonical at once, so that a vector's bits are the same everywhere.
	nanLanes32
	nanLanes64
)

// operator describes an operator whose types depend on nothing but itself.
type operator struct {
	imm immediate
	// in and out are the operands, the last on top, and the result; anyType for
	// none.
	in      [3]byte
	out     byte
	typed   bool // in and out say all
	mended  bool // it is written as others, which need locals
	nan     nanClass
	natural uint8 // alignment of an access, as a power of 2
	lanes   uint8 // of what an immediate lane is chosen from
}

// operators returns the description of every operator of WebAssembly 2.0.
func operators() *[operatorCount]operator {
	var t [operatorCount]operator
	for op, imm := range map[int]immediate{
		opUnreachable: immNone, opNop: immNone, opBlock: immBlock, opLoop: immBlock, opIf: immBlock, opElse: immNone,
		opEnd: immNone, opBr: immIndex, opBrIf: immIndex, opBrTable: immLabels, opReturn: immNone, opCall: immIndex,
		opCallIndirect: immTwoIndexes, opDrop: immNone, opSelect: immNone, opSelectTyped: immTypes, opLocalGet: immIndex,
		opLocalSet: immIndex, opLocalTee: immIndex, opGlobalGet: immIndex, opGlobalSet: immIndex, opTableGet: immIndex,
		opTableSet: immIndex, opMemorySize: immZero, opMemoryGrow: immZero, opI32Const: immI32, opI64Const: immI64,
		opF32Const: immF32, opF64Const: immF64, opRefNull: immRefType, opRefIsNull: immNone, opRefFunc: immIndex,
		opMemoryInit: immIndexZero, opDataDrop: immIndex, opMemoryCopy: immZeroZero, opMemoryFill: immZero,
		opTableInit: immTwoIndexes, opElemDrop: immIndex, opTableCopy: immTwoIndexes, opTableGrow: immIndex,
		opTableSize: immIndex, opTableFill: immIndex,
	} {
		t[op].imm = imm
	}
	for i, a := range []struct {
		value   byte
		natural uint8
	}{
		{i32, 2},
		{i64, 3},
		{f32, 2},
		{f64, 3},
		{i32, 0},
		{i32, 0},
		{i32, 1},
		{i32, 1}, // loads
		{i64, 0},
		{i64, 0},
		{i64, 1},
		{i64, 1},
		{i64, 2},
		{i64, 2},
		{i32, 2},
		{i64, 3},
		{f32, 2},
		{f64, 3},
		{i32, 0},
		{i32, 1},
		{i64, 0},
		{i64, 1},
		{i64, 2}, // stores
	} {
		op := operator{imm: immAccess, in: [3]byte{i32}, out: a.value, typed: true, natural: a.natural}
		if opFirstLoad+i >= opFirstStore {
			op.in, op.out = [3]byte{i32, a.value}, anyType
		}
		t[opFirstLoad+i] = op //nolint:gosec // the list is as long as the range of opcodes
	}
	for _, f := range []struct {
		first, last int
		in          [2]byte
		out         byte
		nan         nanClass
	}{
		{0x45, 0x45, [2]byte{i32}, i32, nanSees},
		{0x46, 0x4f, [2]byte{i32, i32}, i32, nanSees},
		{0x50, 0x50, [2]byte{i64}, i32, nanSees},
		{0x51, 0x5a, [2]byte{i64, i64}, i32, nanSees},
		{0x5b, 0x60, [2]byte{f32, f32}, i32, nanBlind},
		{0x61, 0x66, [2]byte{f64, f64}, i32, nanBlind},
		{0x67, 0x69, [2]byte{i32}, i32, nanSees},
		{0x6a, 0x78, [2]byte{i32, i32}, i32, nanSees},
		{0x79, 0x7b, [2]byte{i64}, i64, nanSees},
		{0x7c, 0x8a, [2]byte{i64, i64}, i64, nanSees},
		{0x8b, 0x8c, [2]byte{f32}, f32, nanSees},
		{0x8d, 0x91, [2]byte{f32}, f32, nanMakes},
		{0x92, 0x97, [2]byte{f32, f32}, f32, nanMakes},
		{0x98, 0x98, [2]byte{f32, f32}, f32, nanSees},
		{0x99, 0x9a, [2]byte{f64}, f64, nanSees},
		{0x9b, 0x9f, [2]byte{f64}, f64, nanMakes},
		{0xa0, 0xa5, [2]byte{f64, f64}, f64, nanMakes},
		{0xa6, 0xa6, [2]byte{f64, f64}, f64, nanSees},
		{0xa7, 0xa7, [2]byte{i64}, i32, nanSees},
		{0xa8, 0xa9, [2]byte{f32}, i32, nanBlind},
		{0xaa, 0xab, [2]byte{f64}, i32, nanBlind},
		{0xac, 0xad, [2]byte{i32}, i64, nanSees},
		{0xae, 0xaf, [2]byte{f32}, i64, nanBlind},
		{0xb0, 0xb1, [2]byte{f64}, i64, nanBlind},
		{0xb2, 0xb3, [2]byte{i32}, f32, nanNever},
		{0xb4, 0xb5, [2]byte{i64}, f32, nanNever},
		{0xb6, 0xb6, [2]byte{f64}, f32, nanMakes},
		{0xb7, 0xb8, [2]byte{i32}, f64, nanNever},
		{0xb9, 0xba, [2]byte{i64}, f64, nanNever},
		{0xbb, 0xbb, [2]byte{f32}, f64, nanMakes},
		{0xbc, 0xbc, [2]byte{f32}, i32, nanSees},
		{0xbd, 0xbd, [2]byte{f64}, i64, nanSees},
		{0xbe, 0xbe, [2]byte{i32}, f32, nanSees},
		{0xbf, 0xbf, [2]byte{i64}, f64, nanSees},
		{0xc0, 0xc1, [2]byte{i32}, i32, nanSees},
		{0xc2, 0xc4, [2]byte{i64}, i64, nanSees},
		{prefixed + 0, prefixed + 1, [2]byte{f32}, i32, nanBlind},
		{prefixed + 2, prefixed + 3, [2]byte{f64}, i32, nanBlind},
		{prefixed + 4, prefixed + 5, [2]byte{f32}, i64, nanBlind},
		{prefixed + 6, prefixed + 7, [2]byte{f64}, i64, nanBlind},
	} {
		for op := f.first; op <= f.last; op++ {
			t[op] = operator{imm: immNone, in: [3]byte{f.in[0], f.in[1]}, out: f.out, typed: true, nan: f.nan}
		}
	}
	addVectors(t[vectorial:])
	for _, op := range []int{opF32Copysign, opF64Copysign, opV128Select} {
		t[op].mended = true
	}
	return &t
}

// Price returns the fuel that version 1 takes for one operator, by its opcode;
// an operator behind the prefix 0xfc has the opcode 0x100 plus its number, one on
// vectors, behind 0xfd, 0x200 plus its number.
// Operators on whole ranges cost more, by their size: see the package's text.
func Price(op int) uint64 {
	switch op {
	case opUnreachable, opNop, opBlock, opLoop, opElse, opEnd, opReturn, opDrop:
		return 0
	default:
		return 1
	}
}

// refusal names the feature that an unknown opcode belongs to.
func refusal(op byte) string {
	switch {
	case op >= 0x06 && op <= 0x0a, op == 0x18, op == 0x19, op == 0x1f:
		return "exceptions"
	case op == 0x12, op == 0x13:
		return "tail calls"
	case op == 0x14, op == 0x15, op >= 0xd3 && op <= 0xd6:
		return "typed function references"
	case op == 0xfb:
		return "garbage collection"
	case op == 0xfe:
		return "threads"
	default:
		return "nothing that is known"
	}
}

// instr is one operator of a function's code, with its immediates.
type instr struct {
	op         int
	start, end int // in the module
	rest       int // where what follows the opcode begins
	// a and b are the immediates: indexes, the offset of an access, or for a
	// br_table the number of labels before the default one.
	a, b uint32
	lane uint8
	// labels is where a br_table's labels, or a block's type, begin.
	labels int
}

// next reads an operator. It is used for code before and after validation; what
// it refuses has no form at all.
func (r *reader) next(t *[operatorCount]operator) instr {
	in := instr{start: r.pos}
	b := r.u8()
	in.op = int(b)
	switch b {
	case prefixMisc:
		n := r.u32()
		if n >= miscCount {
			r.failf(in.start, "operator 0xfc %d is not one of WebAssembly 2.0", n)
			return in
		}
		in.op = prefixed + int(n)
	case prefixVector:
		n := r.u32()
		if n >= operatorCount-vectorial && r.lax {
			n = 14 // swizzle, of which the first is the relaxed form
		}
		if n >= operatorCount-vectorial {
			r.failf(in.start, "operator 0xfd %d is one of relaxed vectors (SIMD), which processors do differently", n)
			return in
		}
		in.op = vectorial + int(n)
	}
	in.rest = r.pos
	switch t[in.op].imm {
	case immNone:
	case immBlock:
		in.labels = r.pos
		r.signed(33)
	case immIndex:
		in.a = r.u32()
	case immTwoIndexes:
		in.a, in.b = r.u32(), r.u32()
	case immLabels:
		in.a = uint32(r.count()) //nolint:gosec // below a function's bytes
		in.labels = r.pos
		for range in.a + 1 {
			r.u32()
		}
	case immTypes:
		if n := r.count(); n != 1 && r.err == nil {
			r.failf(in.start, "select with %d types; one is allowed", n)
		}
		in.a = uint32(r.u8())
	case immAccess:
		in.b, in.a = r.u32(), r.u32()
	case immZero:
		r.zero(in.start)
	case immZeroZero:
		r.zero(in.start)
		r.zero(in.start)
	case immIndexZero:
		in.a = r.u32()
		r.zero(in.start)
	case immI32:
		r.signed(32)
	case immI64:
		r.signed(64)
	case immF32:
		r.take(4)
	case immF64:
		r.take(8)
	case immRefType:
		in.a = uint32(r.u8())
	case immVector:
		r.take(16)
	case immShuffle:
		for _, lane := range r.take(16) {
			in.lane = max(in.lane, lane)
		}
	case immLane:
		in.lane = r.u8()
	case immAccessLane:
		in.b, in.a = r.u32(), r.u32()
		in.lane = r.u8()
	case immUnknown:
		r.failf(in.start, "operator %#x belongs to %s; use the features of WebAssembly 2.0", b, refusal(b))
	}
	in.end = r.pos
	return in
}

// appendTo appends the operator as it stands in the module, but for its opcode,
// which some engines only know in its shortest form.
func (in *instr) appendTo(b, module []byte) []byte {
	b = appendOp(b, in.op)
	return append(b, module[in.rest:in.end]...)
}

// appendOp appends an operator's opcode.
func appendOp(b []byte, op int) []byte {
	switch {
	case op >= vectorial:
		return binary.AppendUvarint(append(b, prefixVector), uint64(op-vectorial))
	case op >= prefixed:
		return append(b, prefixMisc, byte(op-prefixed))
	default:
		return append(b, byte(op)) //nolint:gosec // below prefixed
	}
}

// zero reads the index of the only memory.
func (r *reader) zero(start int) {
	if v := r.u8(); v != 0 && r.err == nil {
		r.failf(start, "memory %d; one memory is supported", v)
	}
}
