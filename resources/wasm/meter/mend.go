package meter

// wazero 1.12 gets four kinds of operators wrong on amd64, now and then, when values
// live across a call in a loop: it computes in a register in several steps, and its
// allocator takes that register away in between, since it believes that it holds what
// was put there first (for select this is its issue 2534). These operators are
// written as others, of one step each, which give the same bits.

// choice is a select of two floats or vectors.
type choice struct {
	pos int
	typ byte
}

// needsMend tells what the locals of the meter are needed for.
type needsMend struct {
	floats, vectors bool
}

// mends notes that an operator which can be reached will be written as others.
func (b *body) mends(in instr, typ byte) {
	if b.cur < 0 || b.sw.noMends {
		return
	}
	if in.op == opSelect || in.op == opSelectTyped {
		b.choices = append(b.choices, choice{in.start, typ})
	}
	switch typ {
	case f32, f64:
		b.mend.floats = true
		b.floats = true // it takes their locals
	case v128:
		b.mend.vectors = true
		b.vectors = true
	default:
	}
}

// mended writes an operator that the engine gets wrong as others, and tells whether
// it was one.
func (e *emitter) mended(in instr) bool {
	if e.sw.noMends {
		return false
	}
	switch in.op {
	case opSelect, opSelectTyped:
		if e.chosen == len(e.choices) || e.choices[e.chosen].pos != in.start {
			return false
		}
		e.chosen++
		e.choose(e.choices[e.chosen-1].typ)
	case opF32Copysign:
		e.copysign(e.nan32, opI32OfF32, opF32OfI32, []byte{opI32Const, 0x80, 0x80, 0x80, 0x80, 0x78})
	case opF64Copysign:
		e.copysign(e.nan64, opI64OfF64, opF64OfI64, []byte{opI64Const, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f})
	case opV128Select:
		e.bitselect()
	case opF64x2Replace:
		if in.lane != 0 {
			return false
		}
		e.op(opI64OfF64)
		e.c = append(appendOp(e.c, opI64x2Replace), 0)
	default:
		return false
	}
	return true
}

// choose writes a select of floats or vectors.
func (e *emitter) choose(typ byte) {
	if typ == v128 {
		// All bits of the mask are those of the condition: 0 - 1 or 1 - 1.
		e.op(opI32Eqz)
		e.const32(1)
		e.op(opI32Sub)
		e.c = appendOp(e.c, opI32x4Splat)
		e.bitselect()
		return
	}
	temp, bits, float := e.nan64, byte(opI64OfF64), byte(opF64OfI64)
	if typ == f32 {
		temp, bits, float = e.nan32, opI32OfF32, opF32OfI32
	}
	e.with(opLocalSet, e.scratch)
	e.with(opLocalSet, temp)
	e.op(bits)
	e.with(opLocalGet, temp)
	e.op(bits)
	e.with(opLocalGet, e.scratch)
	e.op(opSelect, float)
}

// bitselect writes ((a xor b) and mask) xor b.
func (e *emitter) bitselect() {
	e.with(opLocalSet, e.mask)
	e.with(opLocalTee, e.vector)
	e.c = appendOp(e.c, opV128Xor)
	e.with(opLocalGet, e.mask)
	e.c = appendOp(e.c, opV128And)
	e.with(opLocalGet, e.vector)
	e.c = appendOp(e.c, opV128Xor)
}

// copysign writes (a and not sign) or (b and sign); sign pushes the lowest number.
func (e *emitter) copysign(temp uint32, bits, float byte, sign []byte) {
	and, or, xor, ones := byte(opI64And), byte(opI64Or), byte(opI64Xor), []byte{opI64Const, 0x7f}
	if float == opF32OfI32 {
		and, or, xor, ones = opI32And, opI32Or, opI32Xor, []byte{opI32Const, 0x7f}
	}
	e.with(opLocalSet, temp)
	e.op(bits)
	e.op(sign...)
	e.op(ones...)
	e.op(xor, and)
	e.with(opLocalGet, temp)
	e.op(bits)
	e.op(sign...)
	e.op(and, or, float)
}
