package meter

import "encoding/binary"

// addVectors describes the operators on vectors, by their numbers behind the
// prefix. Those that WebAssembly 2.0 has not given out stay unknown.
func addVectors(t []operator) {
	one, two := [3]byte{v128}, [3]byte{v128, v128}
	for _, f := range []struct {
		first, last int
		in          [3]byte
		out         byte
		nan         nanClass
	}{
		{14, 14, two, v128, nanSees}, // swizzle
		{15, 17, [3]byte{i32}, v128, nanSees},
		{18, 18, [3]byte{i64}, v128, nanSees},
		{19, 19, [3]byte{f32}, v128, nanSees},
		{20, 20, [3]byte{f64}, v128, nanSees}, // splats
		{35, 76, two, v128, nanSees},          // comparisons
		{77, 77, one, v128, nanSees},
		{78, 81, two, v128, nanSees},
		{82, 82, [3]byte{v128, v128, v128}, v128, nanSees},
		{83, 83, one, i32, nanSees},
		{94, 94, one, v128, nanLanes32},
		{95, 95, one, v128, nanLanes64},
		{96, 98, one, v128, nanSees},
		{99, 100, one, i32, nanSees},
		{101, 102, two, v128, nanSees},
		{103, 106, one, v128, nanLanes32},
		{107, 109, [3]byte{v128, i32}, v128, nanSees},
		{110, 115, two, v128, nanSees},
		{116, 117, one, v128, nanLanes64},
		{118, 121, two, v128, nanSees},
		{122, 122, one, v128, nanLanes64},
		{123, 123, two, v128, nanSees},
		{124, 129, one, v128, nanSees},
		{130, 130, two, v128, nanSees},
		{131, 132, one, i32, nanSees},
		{133, 134, two, v128, nanSees},
		{135, 138, one, v128, nanSees},
		{139, 141, [3]byte{v128, i32}, v128, nanSees},
		{142, 147, two, v128, nanSees},
		{148, 148, one, v128, nanLanes64},
		{149, 153, two, v128, nanSees},
		{155, 159, two, v128, nanSees},
		{160, 161, one, v128, nanSees},
		{163, 164, one, i32, nanSees},
		{167, 170, one, v128, nanSees},
		{171, 173, [3]byte{v128, i32}, v128, nanSees},
		{174, 174, two, v128, nanSees},
		{177, 177, two, v128, nanSees},
		{181, 186, two, v128, nanSees},
		{188, 191, two, v128, nanSees},
		{192, 193, one, v128, nanSees},
		{195, 196, one, i32, nanSees},
		{199, 202, one, v128, nanSees},
		{203, 205, [3]byte{v128, i32}, v128, nanSees},
		{206, 206, two, v128, nanSees},
		{209, 209, two, v128, nanSees},
		{213, 223, two, v128, nanSees},
		{224, 225, one, v128, nanSees},
		{227, 227, one, v128, nanLanes32},
		{228, 233, two, v128, nanLanes32},
		{234, 235, two, v128, nanSees}, // pmin and pmax move what they are given
		{236, 237, one, v128, nanSees},
		{239, 239, one, v128, nanLanes64},
		{240, 245, two, v128, nanLanes64},
		{246, 247, two, v128, nanSees},
		{248, 255, one, v128, nanSees},
	} {
		for op := f.first; op <= f.last; op++ {
			t[op] = operator{imm: immNone, in: f.in, out: f.out, typed: true, nan: f.nan}
		}
	}
	t[12] = operator{imm: immVector, out: v128, typed: true}
	t[13] = operator{imm: immShuffle, in: two, out: v128, typed: true, lanes: 32}
	for i, natural := range []uint8{4, 3, 3, 3, 3, 3, 3, 0, 1, 2, 3} {
		t[i] = operator{imm: immAccess, in: [3]byte{i32}, out: v128, typed: true, natural: natural}
	}
	t[11] = operator{imm: immAccess, in: [3]byte{i32, v128}, typed: true, natural: 4}
	for i := range 2 { // of 32 and 64 bits, with zeros
		t[92+i] = operator{imm: immAccess, in: [3]byte{i32}, out: v128, typed: true, natural: uint8(2 + i)}
	}
	for i := range 4 { // of 8 to 64 bits
		lanes, natural := uint8(16>>i), uint8(i)
		t[84+i] = operator{imm: immAccessLane, in: [3]byte{i32, v128}, out: v128, typed: true, natural: natural, lanes: lanes}
		t[88+i] = operator{imm: immAccessLane, in: [3]byte{i32, v128}, typed: true, natural: natural, lanes: lanes}
	}
	for _, l := range []struct {
		extract, last int
		value         byte
		lanes         uint8
	}{{21, 23, i32, 16}, {24, 26, i32, 8}, {27, 28, i32, 4}, {29, 30, i64, 2}, {31, 32, f32, 4}, {33, 34, f64, 2}} {
		for op := l.extract; op < l.last; op++ {
			t[op] = operator{imm: immLane, in: one, out: l.value, typed: true, lanes: l.lanes}
		}
		t[l.last] = operator{imm: immLane, in: [3]byte{v128, l.value}, out: v128, typed: true, lanes: l.lanes}
	}
}

// width returns how many words of the stack a value takes.
func width(t byte) int {
	if t == v128 {
		return 2
	}
	return 1
}

// canonicaliseLanes makes the NaNs in a vector on top of the stack canonical.
func (e *emitter) canonicaliseLanes(class nanClass) {
	if e.sw.otherNaNs {
		e.replaceLanes(class, 0xffe00000, 0xfffc<<48)
	}
	if !e.sw.noNaN {
		e.out.canonical++
		e.replaceLanes(class, 0x7fc00000, 0x7ff8<<48)
	}
}

// replaceLanes writes nan32 or nan64 into the lanes that are no numbers: those are
// not equal to themselves.
func (e *emitter) replaceLanes(class nanClass, nan32 uint32, nan64 uint64) {
	equal, lanes := opF32x4Eq, uint64(nan32)<<32|uint64(nan32)
	if class == nanLanes64 {
		equal, lanes = opF64x2Eq, nan64
	}
	e.with(opLocalTee, e.vector)
	e.c = appendOp(e.c, opV128Const)
	e.c = binary.LittleEndian.AppendUint64(e.c, lanes)
	e.c = binary.LittleEndian.AppendUint64(e.c, lanes)
	e.with(opLocalGet, e.vector)
	e.with(opLocalGet, e.vector)
	e.c = appendOp(e.c, equal)
	e.c = appendOp(e.c, opV128Select)
}
