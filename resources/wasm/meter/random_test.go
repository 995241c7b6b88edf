package meter_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/wasm/meter"
)

// program makes a random module that is valid: functions that call those before
// them, with control flow of every shape, on numbers of every type.
type program struct {
	*rand.Rand
	b       *builder
	sigs    []signature
	locals  []byte
	labels  []byte // the types of the open labels, the innermost last; nothin for none
	loops   []bool // of the labels
	result  []byte
	most    int // statements of a function
	budget  int
	slots   uint32 // of the table
	longest int    // of the longest ranges, bytes
	turns   int    // of the function's counted loops, which have a local each
	ranges  bool   // some code costs by a length
	grows   bool   // some by the pages it grows
	stays   bool   // the function does not return here
}

type signature struct{ params, results []byte }

func randomModule(seed uint64) []byte {
	module, _ := randomModuleOf(seed, 150, longRange, 1)
	return module
}

// longRange is done in pieces.
const longRange = 140_000

// randomModuleOf makes a module whose functions have up to 10 statements more
// than asked for. It also returns a fuel that needs so many operators at least.
func randomModuleOf(seed uint64, most, length int, operators uint64) (module []byte, fuel uint64) {
	p := &program{most: most, longest: length, Rand: rand.New(rand.NewPCG(seed, 7)), b: (&builder{}).mem(1, 3)}
	p.b.dataNote = true
	p.b.datas = [][]byte{cat([]byte{1}, blob(make([]byte, 100)))}
	for _, t := range numberTypes() {
		p.b.global(t, true, p.constant(t))
	}
	p.b.export("g0", 3, 0)
	p.b.export("g3", 3, 3)
	n := 1 + p.IntN(3)
	p.slots = uint32(n + 1)
	p.b.table(fref, p.slots, p.slots+50)
	for i := range n {
		p.function(i == n-1)
		if i < n-1 {
			p.b.elem(int64(i), uint32(i))
		}
	}
	// An operator costs 1, and a call 1 for the entry of its function.
	fuel = 2*operators + 2
	if p.ranges { // four operators for one range at least
		fuel += operators * uint64(length/meter.RangeUnit+4) / 4
	}
	if p.grows {
		fuel += 2 * meter.PageFuel
	}
	return p.b.bytes(), fuel
}

func numberTypes() []byte { return []byte{i32, i64, f32, f64, v128} }

// globalOf is the global that holds values of a type.
func globalOf(t byte) uint32 { return uint32(bytes.IndexByte(numberTypes(), t)) }

func (p *program) number() byte { return numberTypes()[p.IntN(5)] }

// load and store are the operators on memory for a type.
func load(t byte) []byte {
	return map[byte][]byte{i32: {0x28}, i64: {0x29}, f32: {0x2a}, f64: {0x2b}, v128: {0xfd, 0}}[t]
}

func store(t byte) []byte {
	return map[byte][]byte{i32: {0x36}, i64: {0x37}, f32: {0x38}, f64: {0x39}, v128: {0xfd, 11}}[t]
}

func (p *program) numbers(most int) []byte {
	t := make([]byte, p.IntN(most+1))
	for i := range t {
		t[i] = p.number()
	}
	return t
}

func (p *program) function(last bool) {
	sig := signature{p.numbers(3), p.numbers(2)}
	name := ""
	if last {
		sig, name = signature{[]byte{i32, f64}, []byte{i64, f64}}, "run"
	}
	own := p.numbers(6)
	p.locals = append(append([]byte{}, sig.params...), own...)
	p.labels, p.loops, p.result, p.turns = nil, nil, sig.results, 0
	var code []byte
	if last {
		// Most of the work, which nothing but a trap cuts short.
		p.stays, p.budget = true, 10+p.IntN(p.most)
		code = p.counted(25+p.IntN(50), func() []byte { return cat(p.statement(4), p.statement(4), p.statements(4)) })
		p.stays = false
	}
	p.budget = 10 + p.IntN(p.most)
	code = append(code, p.statements(4)...)
	if last && p.IntN(5) == 0 {
		code = append(code, p.trap()...)
	}
	for _, t := range sig.results {
		code = append(code, p.expr(t, 3)...)
	}
	p.b.fn(name, sig.params, sig.results, append(own, bytes.Repeat([]byte{i32}, p.turns)...), code)
	p.sigs = append(p.sigs, sig)
}

// counted makes a loop of so many turns, with a local of its own.
func (p *program) counted(turns int, body func() []byte) (code []byte) {
	counter := uint32(len(p.locals) + p.turns)
	p.turns++
	p.under(nothin, false, func() { p.under(nothin, true, func() { code = body() }) })
	// A branch to the loop counts as well, or it would not end.
	return cat(c32(int64(turns)), set(counter),
		block(loop(get(counter), ops(0x45), brIf(1), get(counter), c32(1), ops(0x6b), set(counter), code, br(0))))
}

// trap makes code that traps in one of the ways there are, now and then only for
// some values.
func (p *program) trap() []byte {
	far := cat(p.expr(i32, 1), c32(1<<20), ops(0x72)) // an address behind the memory
	switch p.IntN(9) {
	case 0:
		return ops(0x00)
	case 1:
		return cat(far, load(i64), ops(0), u(7), drop())
	case 2:
		return cat(far, p.expr(v128, 1), store(v128), ops(0), u(1<<31))
	case 3:
		return cat(p.expr(i32, 1), p.expr(i32, 2), c32(0), ops(0x71, p.pick(0x6d, 0x70)), drop())
	case 4:
		return cat(c64(-1<<63), c64(-1), ops(0x7f), drop())
	case 5:
		return cat(p.expr(f64, 2), ops([]byte{0xaa, 0xab, 0xb0, 0xb1}[p.IntN(4)]), drop())
	case 6:
		p.ranges = true
		return cat(far, p.expr(i32, 1), p.length(), misc(11, 0))
	case 7:
		return cat(c32(int64(p.slots)+60), ops(0x25, 0), drop())
	default:
		typ := p.b.typ([]byte{f32, f32, f32, f32}, nil)
		return cat(cf32(0), cf32(1), cf32(2), cf32(3), c32(int64(p.IntN(int(p.slots)+2))), callIndirect(typ))
	}
}

func (p *program) statements(depth int) []byte {
	var code []byte
	for range 1 + p.IntN(5) {
		if p.budget < 0 {
			break
		}
		code = append(code, p.statement(depth)...)
	}
	return code
}

func (p *program) under(typ byte, isLoop bool, body func()) {
	p.labels, p.loops = append(p.labels, typ), append(p.loops, isLoop)
	body()
	p.labels, p.loops = p.labels[:len(p.labels)-1], p.loops[:len(p.loops)-1]
}

// label picks a label without values.
func (p *program) label() (uint32, bool) {
	for range 4 {
		if len(p.labels) == 0 {
			break
		}
		i := p.IntN(len(p.labels))
		if p.labels[i] == nothin || p.loops[i] {
			return uint32(len(p.labels) - 1 - i), true
		}
	}
	return 0, false
}

func (p *program) local(t byte) (uint32, bool) {
	for range 8 {
		if len(p.locals) > 0 {
			if i := p.IntN(len(p.locals)); p.locals[i] == t {
				return uint32(i), true
			}
		}
	}
	return 0, false
}

func (p *program) statement(depth int) (code []byte) {
	p.budget--
	depth--
	if depth < 0 {
		return cat(p.expr(i32, 0), drop())
	}
	switch p.IntN(20) {
	case 0, 1, 2, 3:
		t := p.number()
		if l, ok := p.local(t); ok {
			return cat(p.expr(t, depth), set(l))
		}
		return cat(p.expr(t, depth), drop())
	case 4, 5:
		t := p.number()
		return cat(p.address(), p.expr(t, depth), store(t), ops(0), u(uint32(p.IntN(100))))
	case 6:
		t := p.number()
		return cat(p.expr(t, depth), gset(globalOf(t)))
	case 7, 8:
		cond := p.expr(i32, depth)
		p.under(nothin, false, func() {
			code = p.statements(depth)
			if p.IntN(2) == 0 {
				code = cat(code, els(), p.statements(depth))
			}
		})
		return cat(cond, iff(code))
	case 9, 10:
		p.under(nothin, false, func() { code = p.statements(depth) })
		return block(code)
	case 11, 12:
		switch p.IntN(12) {
		case 0: // ends when chance has it
			p.under(nothin, true, func() { code = cat(p.statements(depth), p.expr(i32, 1), brIf(0)) })
			return loop(code)
		case 1: // counts in a global, which others do as well
			p.under(nothin, true, func() { code = p.statements(depth) })
			return cat(c32(int64(p.IntN(6))), gset(0), loop(code, gget(0), c32(1), ops(0x6b), gset(0), gget(0), c32(0), ops(0x4a), brIf(0)))
		default:
			return p.counted(p.IntN(6), func() []byte { return p.statements(depth) })
		}
	case 13:
		if l, ok := p.label(); ok {
			return cat(p.expr(i32, depth), brIf(l))
		}
	case 14:
		if l, ok := p.label(); ok {
			m, _ := p.label()
			k, ok := p.label()
			if !ok {
				k = l
			}
			if _, ok := p.label(); !ok {
				m = l
			}
			if p.fits(m) && p.fits(k) {
				return cat(p.expr(i32, depth), iff(p.expr(i32, 1), brTable(l+1, k+1, m+1, l+1)))
			}
			return cat(p.expr(i32, depth), iff(br(l+1)))
		}
	case 15:
		if p.stays {
			break
		}
		for _, t := range p.result {
			code = append(code, p.expr(t, 1)...)
		}
		return cat(p.expr(i32, depth), iff(p.shifted(func() []byte { return cat(code, ret()) })))
	case 16:
		p.ranges = true
		return cat(p.address(), p.expr(i32, 0), p.length(), misc(11, 0))
	case 17:
		p.ranges = true
		return cat(p.address(), p.address(), p.length(), misc(10, 0, 0))
	case 18:
		switch p.IntN(6) {
		case 0:
			p.grows = true
			return cat(c32(int64(p.IntN(3))), ops(0x40, 0), drop())
		case 1:
			p.ranges = true
			return cat(ops(0xd0, fref), c32(int64(p.IntN(40))), misc(15, 0), drop())
		case 2:
			p.ranges = true
			return cat(p.address(), c32(int64(p.IntN(50))), c32(int64(p.IntN(60))), misc(8, 0, 0))
		case 3:
			return cat(p.expr(i32, depth), c32(1<<30), ops(0x46), iff(ops(0)))
		case 4:
			return cat(p.expr(i32, depth), ops(0x45), iff(ret0(p)))
		default:
		}
	default:
		return p.call(depth)
	}
	return ops(0x01)
}

// ret0 is dead code behind a trap that is never reached by much.
func ret0(p *program) []byte {
	if len(p.result) == 0 && !p.stays {
		return cat(ret(), block(c32(1), iff()))
	}
	return ops(0x01)
}

// shifted makes code inside one more block.
func (p *program) shifted(code func() []byte) (b []byte) {
	p.under(nothin, false, func() { b = code() })
	return b
}

// fits tells whether a label takes nothing.
func (p *program) fits(l uint32) bool {
	i := len(p.labels) - 1 - int(l)
	return i >= 0 && (p.labels[i] == nothin || p.loops[i])
}

func (p *program) address() []byte { return cat(p.expr(i32, 1), c32(0xffff-200), ops(0x71)) }

func (p *program) length() []byte {
	if p.IntN(8) == 0 {
		return c32(int64(p.IntN(p.longest)))
	}
	return c32(int64(p.IntN(200)))
}

// call calls a function before this one and drops what it gives.
func (p *program) call(depth int) []byte {
	if len(p.sigs) == 0 {
		return ops(0x01)
	}
	f := p.IntN(len(p.sigs))
	var code []byte
	for _, t := range p.sigs[f].params {
		code = append(code, p.expr(t, depth)...)
	}
	if p.IntN(3) == 0 {
		// Sometimes the wrong function, or none.
		code = cat(code, c32(int64(p.IntN(len(p.sigs)+1))), callIndirect(p.b.typ(p.sigs[f].params, p.sigs[f].results)))
		if p.IntN(8) > 0 {
			code = cat(code[:len(code)-2-len(u(p.b.typ(p.sigs[f].params, p.sigs[f].results)))-2], c32(int64(f)), callIndirect(p.b.typ(p.sigs[f].params, p.sigs[f].results)))
		}
	} else {
		code = cat(code, call(uint32(f)))
	}
	return cat(code, repeat(drop(), len(p.sigs[f].results)))
}

func (p *program) constant(t byte) []byte {
	switch t {
	case i32:
		return c32([]int64{0, 1, -1, 7, 1 << 30, -1 << 31, int64(p.IntN(1 << 16))}[p.IntN(7)])
	case i64:
		return c64([]int64{0, 1, -1, -1 << 63, int64(p.Uint64())}[p.IntN(5)])
	case f32:
		return cf32([]uint32{0, 0x80000000, 0x3f800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffa00001, p.Uint32()}[p.IntN(8)])
	case v128:
		lanes := make([]byte, 0, 16)
		for len(lanes) < 16 {
			lanes = append(lanes, p.constant(f64)[1:]...)
			if p.IntN(2) == 0 {
				lanes = cat(lanes[:len(lanes)-8], p.constant(f32)[1:], p.constant(f32)[1:])
			}
		}
		return simd(12, lanes...)
	default:
		return cat([]byte{0x44}, cf64(0)[1:1], le64([]uint64{0, 1 << 63, 0x3ff << 52, 0x7ff << 52, 0xfff << 52, 0x7ff8 << 48, 0xfff4000000000001, p.Uint64()}[p.IntN(8)]))
	}
}

func le64(v uint64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
	return b
}

// expr makes code that pushes a value.
func (p *program) expr(t byte, depth int) (code []byte) {
	p.budget--
	if depth <= 0 || p.budget < 0 {
		if l, ok := p.local(t); ok && p.IntN(3) > 0 {
			return get(l)
		}
		return p.constant(t)
	}
	depth--
	switch p.IntN(9) {
	case 0:
		return gget(globalOf(t))
	case 1:
		return cat(p.address(), load(t), ops(0), u(uint32(p.IntN(100))))
	case 2:
		if l, ok := p.local(t); ok {
			return cat(p.expr(t, depth), tee(l))
		}
	case 3:
		return cat(p.expr(t, depth), p.expr(t, depth), p.expr(i32, depth), ops(0x1b))
	case 4:
		p.under(t, false, func() {
			code = cat(p.expr(t, depth), els(), p.expr(t, depth))
		})
		return cat(p.expr(i32, depth), structured(0x04, []byte{t}, code))
	case 5:
		p.under(t, false, func() {
			code = cat(p.statements(depth), p.expr(t, depth), p.expr(i32, 0), brIf(0))
		})
		return structured(0x02, []byte{t}, code)
	default:
	}
	return p.operator(t, depth)
}

func (p *program) pick(from, to int) byte { return byte(from + p.IntN(to-from+1)) }

func (p *program) operator(t byte, depth int) []byte {
	two := func(t byte) []byte { return cat(p.expr(t, depth), p.expr(t, depth)) }
	one := func(t byte) []byte { return p.expr(t, depth) }
	switch t {
	case v128:
		return p.vector(depth)
	case i32:
		switch p.IntN(11) {
		case 9:
			return cat(one(v128), simd([]uint32{83, 99, 100, 131, 132, 163, 164, 195, 196}[p.IntN(9)]))
		case 10:
			return cat(one(v128), []([]byte){simd(21, p.pick(0, 15)), simd(25, p.pick(0, 7)), simd(27, p.pick(0, 3))}[p.IntN(3)])
		case 0:
			return cat(two(i32), ops(p.pick(0x46, 0x4f)))
		case 1:
			return cat(two(i64), ops(p.pick(0x51, 0x5a)))
		case 2:
			return cat(two(f32), ops(p.pick(0x5b, 0x60)))
		case 3:
			return cat(two(f64), ops(p.pick(0x61, 0x66)))
		case 4:
			return cat(one(f32), ops(0xbc))
		case 5:
			return cat(one(f64), misc(p.pick(2, 3)))
		case 6:
			return cat(one(i32), ops([]byte{0x45, 0x67, 0x68, 0x69, 0xc0, 0xc1}[p.IntN(6)]))
		case 7:
			return cat(one(i64), ops(0xa7))
		default:
			return cat(two(i32), p.divides(i32, p.pick(0x6a, 0x78)))
		}
	case i64:
		switch p.IntN(5) {
		case 3:
			return cat(one(v128), simd(29, p.pick(0, 1)))
		case 0:
			return cat(one(i32), ops(p.pick(0xac, 0xad)))
		case 1:
			return cat(one(f64), ops(0xbd))
		case 2:
			return cat(one(f32), misc(p.pick(4, 5)))
		default:
			return cat(two(i64), p.divides(i64, p.pick(0x7c, 0x8a)))
		}
	case f32:
		switch p.IntN(6) {
		case 5:
			return cat(one(v128), simd(31, p.pick(0, 3)))
		case 0:
			return cat(one(f64), ops(0xb6))
		case 1:
			return cat(one(i32), ops([]byte{0xb2, 0xb3, 0xbe}[p.IntN(3)]))
		case 2:
			return cat(one(f32), ops(p.pick(0x8b, 0x91)))
		default:
			return cat(two(f32), ops(p.pick(0x92, 0x98)))
		}
	default:
		switch p.IntN(6) {
		case 5:
			return cat(one(v128), simd(33, p.pick(0, 1)))
		case 0:
			return cat(one(f32), ops(0xbb))
		case 1:
			return cat(one(i64), ops([]byte{0xb9, 0xba, 0xbf}[p.IntN(3)]))
		case 2:
			return cat(one(f64), ops(p.pick(0x99, 0x9f)))
		default:
			return cat(two(f64), ops(p.pick(0xa0, 0xa6)))
		}
	}
}

// divides is an operator on integers; a divisor is seldom 0, or few would come far.
func (p *program) divides(t, op byte) []byte {
	switch {
	case p.IntN(16) == 0:
	case t == i32 && op >= 0x6d && op <= 0x70:
		return cat(c32(1), ops(0x72, op))
	case t == i64 && op >= 0x7f && op <= 0x82:
		return cat(c64(1), ops(0x84, op))
	}
	return ops(op)
}

// vector makes code that pushes a vector; of numbers more often than of integers.
func (p *program) vector(depth int) []byte {
	among := func(ranges ...[2]int) []byte {
		r := ranges[p.IntN(len(ranges))]
		return simd(uint32(p.pick(r[0], r[1])))
	}
	one := func(t byte) []byte { return p.expr(t, depth) }
	switch p.IntN(10) {
	case 0:
		t := numberTypes()[p.IntN(4)]
		return cat(one(t), simd(map[byte]uint32{i32: 15 + uint32(p.IntN(3)), i64: 18, f32: 19, f64: 20}[t]))
	case 1:
		t := numberTypes()[p.IntN(4)]
		return cat(one(v128), one(t), map[byte][]byte{
			i32: simd(23, p.pick(0, 15)), i64: simd(30, p.pick(0, 1)), f32: simd(32, p.pick(0, 3)), f64: simd(34, p.pick(0, 1)),
		}[t])
	case 2:
		return cat(one(v128), one(v128), one(v128), simd(82))
	case 3:
		return cat(one(v128), one(i32), among([2]int{107, 109}, [2]int{139, 141}, [2]int{171, 173}, [2]int{203, 205}))
	case 4:
		lanes := make([]byte, 16)
		for i := range lanes {
			lanes[i] = p.pick(0, 31)
		}
		return cat(one(v128), one(v128), simd(13, lanes...))
	case 5: // of one, integers
		return cat(one(v128), among([2]int{77, 77}, [2]int{96, 98}, [2]int{124, 129}, [2]int{135, 138}, [2]int{160, 161}, [2]int{167, 170}, [2]int{192, 193}, [2]int{199, 202}))
	case 6: // of one, numbers
		return cat(one(v128), among([2]int{94, 95}, [2]int{103, 106}, [2]int{116, 117}, [2]int{148, 148}, [2]int{224, 225}, [2]int{227, 227}, [2]int{236, 237}, [2]int{239, 239}, [2]int{248, 255}))
	case 7: // of two, integers
		return cat(one(v128), one(v128), among([2]int{14, 14}, [2]int{35, 64}, [2]int{78, 81}, [2]int{101, 102}, [2]int{110, 115}, [2]int{118, 121}, [2]int{133, 134}, [2]int{142, 147}, [2]int{149, 153}, [2]int{155, 159}, [2]int{181, 186}, [2]int{213, 223}))
	default: // of two, numbers
		return cat(one(v128), one(v128), among([2]int{65, 76}, [2]int{228, 235}, [2]int{240, 247}))
	}
}

// tally counts how random programs end.
type tally struct{ ended, trapped, exhausted, long, seeds, plain int }

// checkProgram compares a random program in all the ways there are.
func checkProgram(t *testing.T, fast, slow engine, seed uint64, sum *tally) {
	t.Helper()
	const limit = 20_000
	plain := randomModule(seed)
	args := []uint64{seed, 0x400921fb54442d18}
	metered := instrument(t, plain)
	require.Equal(t, metered, instrument(t, plain), "seed %d", seed)
	got := fast.invoke(t, metered, limit, "run", args...)
	require.Equal(t, got, slow.invoke(t, metered, limit, "run", args...), "seed %d: engines", seed)
	other := fast.invoke(t, instrument(t, plain, meter.Switches{OtherNaNs: true}), limit, "run", args...)
	require.Equal(t, got, other, "seed %d: another processor", seed)
	every := fast.invoke(t, instrument(t, plain, meter.Switches{OtherNaNs: true, EveryNaN: true}), limit, "run", args...)
	require.Equal(t, got, every, "seed %d: canonical everywhere", seed)
	naive := fast.invoke(t, instrument(t, plain, meter.Switches{Naive: true}), limit, "run", args...)
	if got.used >= 100 {
		sum.long++
	}
	if got.outOfFuel(limit) {
		sum.exhausted++
		return
	}
	if got.trap != "" {
		sum.trapped++
		same(t, got, naive, "seed %d: naive", seed)
	} else {
		sum.ended++
		require.Equal(t, got, naive, "seed %d: naive", seed)
		require.Equal(t, got, fast.invoke(t, metered, got.used, "run", args...), "seed %d: its total is enough", seed)
		if got.used > 0 {
			require.True(t, slow.invoke(t, metered, got.used-1, "run", args...).outOfFuel(got.used-1), "seed %d: less is not", seed)
		}
	}
	comparePlain(t, slow, plain, limit, args, seed)
}

func TestRandomPrograms(t *testing.T) {
	t.Parallel()
	fast, slow := compiler(t), interpreter(t)
	var sum tally
	for seed := range uint64(300) {
		checkProgram(t, fast, slow, seed, &sum)
	}
	t.Logf("%+v", sum)
	require.Greater(t, sum.long, 50)
	require.Greater(t, sum.ended, 50)
}

// atLeast is how many operators a random program must execute to be counted.
const atLeast = 100

// operators returns how many of a run's operators were executed, without those that
// cost nothing: fuel that is paid operator by operator, without what ranges and
// entries of functions cost beside.
func operators(t *testing.T, e engine, module []byte, limit uint64, args []uint64) uint64 {
	t.Helper()
	sw := meter.Switches{Naive: true, EveryNaN: true, NoRange: true, NoEntry: true, Stepwise: true}
	return e.invoke(t, instrument(t, module, sw), limit, "run", args...).used
}

// checkQuickly compares a random program with itself, metered in the other way on
// the other engine, if it executes enough operators.
func checkQuickly(t *testing.T, fast, slow engine, seed uint64, sum *tally) {
	t.Helper()
	limit, length, most := uint64(5_000), 500, 3+3*int(seed%4) // large ones take long to compile
	if seed%256 == 0 {
		limit, length, most = 80_000, longRange, 150
	}
	// Of a range, and of what is paid between two checks.
	over := uint64(length/meter.RangeUnit + 4096)
	module, enough := randomModuleOf(seed, most, length, atLeast)
	args := []uint64{seed, 0x400921fb54442d18}
	want := slow.invoke(t, instrument(t, module, meter.Switches{Naive: true, EveryNaN: true, Stepwise: true}), limit, "run", args...)
	// That was paid operator by operator, so that a little more is enough.
	if want.used < enough && operators(t, slow, module, limit, args) < atLeast {
		return
	}
	got := fast.invoke(t, instrument(t, module), limit, "run", args...)
	sum.long++
	switch {
	case got.outOfFuel(limit):
		sum.exhausted++
		require.Less(t, got.used, limit+over, "seed %d", seed)
		// What is paid ahead may find the fuel out before a trap.
		require.True(t, want.trap != "" || want.outOfFuel(limit), "seed %d", seed)
	case got.trap != "":
		sum.trapped++
		same(t, want, got, "seed %d", seed)
	default:
		sum.ended++
		require.Equal(t, want, got, "seed %d", seed)
	}
	if seed%plainEach == 0 && comparePlain(t, slow, module, limit, args, seed) {
		sum.plain++
	}
}

// plainEach is of how many modules one is compared with its plain form, too: that takes
// as long as all the rest.
const plainEach = 8

// comparePlain compares a metered module, without the rule on NaNs, which the plain one
// does not know, with the plain module, both on one engine, since engines make different
// NaNs; not one that runs out of fuel, for the plain one may have no end.
func comparePlain(t *testing.T, e engine, module []byte, limit uint64, args []uint64, seed uint64) bool {
	t.Helper()
	bare := e.invoke(t, instrument(t, module, meter.Switches{NoNaN: true}), limit, "run", args...)
	if bare.outOfFuel(limit) { // other NaNs may take another way
		return false
	}
	same(t, e.invoke(t, module, limit, "run", args...), bare, "seed %d: not metered", seed)
	return true
}

// many runs random programs until enough of them counted.
type many struct {
	from   uint64 // the first seed
	part   uint64 // seeds that one goroutine takes at a time
	wanted int

	mu   sync.Mutex
	next uint64
	sum  tally
}

// take returns the next seeds to try, unless there were enough.
func (m *many) take() (from uint64, more bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from = m.next
	m.next += m.part
	return from, m.sum.long < m.wanted
}

// add counts a part, and says how far the run has come.
func (m *many) add(t *testing.T, part tally) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sum = tally{
		m.sum.ended + part.ended, m.sum.trapped + part.trapped, m.sum.exhausted + part.exhausted,
		m.sum.long + part.long, m.sum.seeds + part.seeds, m.sum.plain + part.plain,
	}
	share := func(n, of int) float64 { return 100 * float64(n) / float64(max(of, 1)) }
	t.Logf("%d modules that executed at least %d operators, %.1f %% of %d seeds from %d on: %.1f %% ended, %.1f %% trapped, %.1f %% ran out of fuel; %d compared with the plain module; %s",
		m.sum.long, atLeast, share(m.sum.long, m.sum.seeds), m.sum.seeds, m.from,
		share(m.sum.ended, m.sum.long), share(m.sum.trapped, m.sum.long), share(m.sum.exhausted, m.sum.long), m.sum.plain, time.Now().UTC().Format(time.DateTime))
}

// TestManyRandomPrograms runs MMAN_MODULES random modules that execute at least 100
// operators, 500 by default, from MMAN_SEED on, 1,000,000 by default. It says what it
// counted after each part, so that runs from different seeds can be added up.
func TestManyRandomPrograms(t *testing.T) { //nolint:tparallel // its parts take turns on one engine
	t.Parallel()
	number := func(name string, value uint64) uint64 {
		if text := os.Getenv(name); text != "" {
			var err error
			value, err = strconv.ParseUint(text, 10, 64)
			require.NoError(t, err, name)
		}
		return value
	}
	m := &many{from: number("MMAN_SEED", 1_000_000), wanted: int(number("MMAN_MODULES", 500))}
	workers := runtime.GOMAXPROCS(0)
	m.next, m.part = m.from, uint64(min(5000, max(50, m.wanted/workers/4)))
	t.Run("all", func(t *testing.T) {
		for w := range workers {
			t.Run(strconv.Itoa(w), func(t *testing.T) {
				t.Parallel()
				for from, more := m.take(); more && !t.Failed(); from, more = m.take() {
					t.Run(strconv.FormatUint(from, 10), func(t *testing.T) {
						// An engine keeps a little of every module: each part has new ones.
						fast, slow := compiler(t), interpreter(t)
						part := tally{seeds: int(m.part)}
						for i := range m.part {
							checkQuickly(t, fast, slow, from+i, &part)
						}
						m.add(t, part)
					})
				}
			})
		}
	})
	sum := m.sum
	require.GreaterOrEqual(t, sum.long, m.wanted)
	require.GreaterOrEqual(t, 10*sum.long, 9*sum.seeds, "seeds that count")
	require.GreaterOrEqual(t, 10*sum.ended, 3*sum.long)
	require.GreaterOrEqual(t, 10*sum.trapped, sum.long)
	require.GreaterOrEqual(t, 2*plainEach*sum.plain, sum.long, "compared with the plain module")
}

func FuzzRandomPrograms(f *testing.F) {
	fast, slow := compiler(f), interpreter(f)
	for seed := range uint64(10) {
		f.Add(seed + 1000)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { checkProgram(t, fast, slow, seed, &tally{}) })
}

func FuzzInstrument(f *testing.F) {
	fast, slow := compiler(f), interpreter(f)
	for seed := range uint64(20) {
		f.Add(randomModule(seed))
	}
	for _, module := range nanWitnesses() {
		f.Add(module)
	}
	f.Fuzz(func(t *testing.T, module []byte) {
		m, err := meter.Instrument(module, meter.Options{})
		if err != nil || m.MinPages > 16 {
			return
		}
		_, err = fast.runtime.CompileModule(t.Context(), module)
		require.NoError(t, err, "it takes what the engine does not")
		compiled, err := fast.runtime.CompileModule(t.Context(), m.Module)
		require.NoError(t, err)
		if len(compiled.ImportedFunctions()) > 0 {
			return
		}
		for name, function := range compiled.ExportedFunctions() {
			args := make([]uint64, len(function.ParamTypes()))
			got := fast.invoke(t, m.Module, 10_000, name, args...)
			other := slow.invoke(t, m.Module, 10_000, name, args...)
			if other.trap == got.trap { // the interpreter ends deep calls sooner
				require.Equal(t, got, other)
			}
		}
	})
}
