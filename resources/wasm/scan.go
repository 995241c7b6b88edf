package wasm

import (
	"errors"
	"fmt"
)

// shape is what decides how long a function takes to compile.
type shape struct {
	nodes uint64 // operators at which control divides or joins
	loops uint64 // how deep loops are nested
}

// cost estimates the most that compiling a function takes, in units of some 30 ns
// as measured. The compiler's passes are quadratic in the nodes; a local may have
// to be looked up through all of them, and each loop may carry each local. Without
// a bound, 60 KB of well-formed code keep it busy for minutes.
func (s shape) cost(locals uint64) uint64 {
	return s.nodes*s.nodes + 256*s.nodes*locals + 1024*s.loops*locals + 4*locals*locals
}

// scanFunction reads a function's code and returns the number of its locals and
// the cost of compiling it.
func (r *reader) scanFunction(params uint64) (locals, cost uint64) {
	r.each(func() {
		locals += uint64(r.u32())
		r.u8()
	})
	return locals, r.scanBody().cost(locals + params)
}

// scanBody reads a function's operators, behind its locals, without judging their
// types. It knows the operators of WebAssembly 2.0.
func (r *reader) scanBody() shape {
	var s shape
	loops := uint64(0)
	open := []byte{0x02}
	for r.err == nil {
		op := r.u8()
		switch op {
		case 0x02, 0x03, 0x04: // block, loop, if
			r.leb(5)
			open = append(open, op)
			s.nodes++
			if op == 0x03 {
				loops++
				s.loops = max(s.loops, loops)
			}
		case 0x0b: // end
			if open[len(open)-1] == 0x03 {
				loops--
			}
			open = open[:len(open)-1]
			if len(open) > 0 {
				continue
			}
			if len(r.b) > 0 {
				r.fail(errors.New("there are operators behind its end"))
			}
			return s
		case 0x05, 0x0d, 0x0e: // else, br_if, br_table
			s.nodes++
			r.skipImmediates(op)
		default:
			r.skipImmediates(op)
		}
	}
	return s
}

// skipImmediates reads what follows an operator that opens and closes nothing.
func (r *reader) skipImmediates(op byte) {
	switch {
	case op <= 0x01, op == 0x05, op == 0x0f, op == 0x1a, op == 0x1b, op >= 0x45 && op <= 0xc4, op == 0xd1:
	case op == 0x0c, op == 0x0d, op == 0x10, op >= 0x20 && op <= 0x26, op == 0x41, op == 0xd2:
		r.leb(5)
	case op == 0x0e: // br_table
		r.each(func() { r.u32() })
		r.u32()
	case op == 0x11, op >= 0x28 && op <= 0x3e: // call_indirect, loads and stores
		r.leb(5)
		r.leb(5)
	case op == 0x1c: // select with types
		r.each(func() { r.u8() })
	case op == 0x3f, op == 0x40, op == 0xd0:
		r.u8()
	case op == 0x42:
		r.leb(10)
	case op == 0x43:
		r.take(4)
	case op == 0x44:
		r.take(8)
	case op == 0xfc:
		r.skipMisc(r.u32())
	case op == 0xfd:
		r.skipVector(r.u32())
	default:
		r.fail(fmt.Errorf("operator %#x is not of WebAssembly 2.0", op))
	}
}

// skipMisc reads the immediates of saturating conversions and of the operators on
// whole memories and tables.
func (r *reader) skipMisc(op uint32) {
	switch {
	case op <= 7:
	case op == 9, op == 11, op == 13, op >= 15 && op <= 17:
		r.leb(5)
	case op == 8, op == 10, op == 12, op == 14:
		r.leb(5)
		r.leb(5)
	default:
		r.fail(fmt.Errorf("operator 0xfc %d is not of WebAssembly 2.0", op))
	}
}

// skipVector reads the immediates of SIMD operators.
func (r *reader) skipVector(op uint32) {
	switch {
	case op <= 11, op == 92, op == 93:
		r.leb(5)
		r.leb(5)
	case op == 12, op == 13:
		r.take(16)
	case op >= 21 && op <= 34:
		r.u8()
	case op >= 84 && op <= 91:
		r.leb(5)
		r.leb(5)
		r.u8()
	case op > 255:
		r.fail(fmt.Errorf("operator 0xfd %d is not of WebAssembly 2.0", op))
	}
}
