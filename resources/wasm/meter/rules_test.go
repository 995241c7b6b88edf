package meter_test

import (
	"bytes"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

// one is a module with one exported function, run, and a memory of a page.
func one(params, results, locals []byte, code ...[]byte) []byte {
	b := (&builder{}).mem(1, 4)
	b.dataNote = true
	b.fn("run", params, results, locals, code...)
	return b.bytes()
}

// Totals that were counted by hand.
func TestPrices(t *testing.T) {
	t.Parallel()
	e := compiler(t)
	for name, tt := range map[string]struct {
		module []byte
		args   []uint64
		want   uint64
	}{
		"a function entry":      {one(nil, nil, nil), nil, 1},
		"free operators":        {one(nil, nil, nil, ops(0x01), block(), loop(), ret()), nil, 1},
		"drop is free":          {one(nil, nil, nil, c32(7), drop()), nil, 2},
		"arithmetic":            {one(nil, []byte{i32}, nil, c32(7), c32(8), add32()), nil, 4},
		"if taken":              {one([]byte{i32}, nil, nil, get(0), iff(ops(0x01), c32(1), drop())), []uint64{1}, 4},
		"if not taken":          {one([]byte{i32}, nil, nil, get(0), iff(ops(0x01), c32(1), drop())), []uint64{0}, 3},
		"else":                  {one([]byte{i32}, nil, nil, get(0), iff(c32(1), drop(), els(), c32(1), drop(), c32(1), drop())), []uint64{0}, 5},
		"a loop of ten":         {one(nil, nil, []byte{i32}, times(0, 10)), nil, 1 + 2 + 10*5},
		"br":                    {one(nil, nil, nil, block(br(0))), nil, 2},
		"code behind a br":      {one(nil, nil, nil, block(br(0), c32(1), drop())), nil, 2},
		"br_table":              {one([]byte{i32}, nil, nil, block(block(get(0), brTable(0, 1)), c32(1), drop())), []uint64{1}, 3},
		"br_table, first label": {one([]byte{i32}, nil, nil, block(block(get(0), brTable(0, 1)), c32(1), drop())), []uint64{0}, 4},
		"vectors":               {one(nil, nil, nil, cv128(1), cv128(2), simd(228), simd(77), drop()), nil, 5},
		"fill of nothing":       {one(nil, nil, nil, c32(0), c32(0), c32(0), misc(11, 0)), nil, 5},
		"fill of 1":             {one(nil, nil, nil, c32(0), c32(0), c32(1), misc(11, 0)), nil, 6},
		"fill of 64":            {one(nil, nil, nil, c32(0), c32(0), c32(64), misc(11, 0)), nil, 6},
		"fill of 65":            {one(nil, nil, nil, c32(0), c32(0), c32(65), misc(11, 0)), nil, 7},
		"copy of a page":        {one(nil, nil, nil, c32(0), c32(0), c32(65536), misc(10, 0, 0)), nil, 5 + 1024},
		"grow by nothing":       {one(nil, nil, nil, c32(0), ops(0x40, 0), drop()), nil, 3},
		"grow by 2 pages":       {one(nil, nil, nil, c32(2), ops(0x40, 0), drop()), nil, 3 + 2*meter.PageFuel},
		"grow above the maximum": {
			one(nil, []byte{i32}, nil, c32(4), ops(0x40, 0)), nil, 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := e.invoke(t, instrument(t, tt.module), noLimit, "run", tt.args...)
			require.Empty(t, got.trap)
			require.Equal(t, tt.want, got.used)
			naive := e.invoke(t, instrument(t, tt.module, meter.Switches{Naive: true}), noLimit, "run", tt.args...)
			require.Equal(t, tt.want, naive.used)
			for limit := range min(tt.want, 64) {
				short := e.invoke(t, instrument(t, tt.module), limit, "run", tt.args...)
				require.True(t, short.outOfFuel(limit), "limit %d of %d", limit, tt.want)
			}
		})
	}
	require.Equal(t, uint64(1), meter.Price(0x6a))
	require.Equal(t, uint64(1), meter.Price(0x200+228))
	require.Equal(t, uint64(0), meter.Price(0x0b))
}

func TestRuleEntriesCost(t *testing.T) {
	t.Parallel()
	b := &builder{}
	f := b.fn("", nil, nil, nil)
	b.fn("run", nil, nil, nil, call(f), call(f))
	e := compiler(t)
	require.Equal(t, uint64(3+2), e.invoke(t, instrument(t, b.bytes()), noLimit, "run").used)
	require.Equal(t, uint64(2), e.invoke(t, instrument(t, b.bytes(), meter.Switches{NoEntry: true}), noLimit, "run").used)
}

// What is paid ahead is less to do than paying at every block, and comes to the
// same.
func TestRuleBlocksArePaidTogether(t *testing.T) {
	t.Parallel()
	module := one([]byte{i32}, nil, nil, get(0), iff(c32(1), drop(), els(), c32(2), drop()), c32(3), drop())
	merged, err := meter.Instrument(module, meter.Options{})
	require.NoError(t, err)
	naive, err := meter.InstrumentWith(module, meter.Options{}, meter.Switches{Naive: true})
	require.NoError(t, err)
	require.Less(t, merged.Charges, naive.Charges)
	e := compiler(t)
	for _, way := range []uint64{0, 1} {
		require.Equal(t, e.invoke(t, naive.Module, noLimit, "run", way).used, e.invoke(t, merged.Module, noLimit, "run", way).used)
	}
}

// A start function runs when the host has set the limit, and is counted; without
// the rule it would run, or meet a limit of 0, before.
func TestRuleStartFunctionsAreTheHostsToCall(t *testing.T) {
	t.Parallel()
	started := func(code ...[]byte) []byte {
		b := (&builder{}).mem(1, 1)
		g := b.global(i32, true, c32(0))
		f := b.fn("", nil, nil, nil, cat(code...), c32(68), gset(g))
		b.fn("run", nil, []byte{i32}, nil, gget(g))
		b.start = u(f)
		return b.bytes()
	}
	e, slow := compiler(t), interpreter(t)
	for _, e := range []engine{e, slow} {
		m := e.instantiate(t, instrument(t, started()))
		require.Equal(t, []uint64{0}, invokeIn(t, m, noLimit, "run").results)
		require.Equal(t, uint64(2+1+2), invokeIn(t, m, noLimit, meter.StartFunction).used)
		require.Equal(t, []uint64{68}, invokeIn(t, m, noLimit, "run").results)

		endless := e.instantiate(t, instrument(t, started(loop(br(0)))))
		got := invokeIn(t, endless, 1000, meter.StartFunction)
		require.True(t, got.outOfFuel(1000))
		require.Less(t, got.used, uint64(1010))
	}
	_, err := e.runtime.InstantiateWithConfig(t.Context(), instrument(t, started(loop(br(0))), meter.Switches{NoStart: true}), wazero.NewModuleConfig().WithName(""))
	require.ErrorContains(t, err, "start")
	require.Nil(t, e.instantiate(t, instrument(t, one(nil, nil, nil))).ExportedFunction(meter.StartFunction))
}

func TestRuleRangesAreChargedBySize(t *testing.T) {
	t.Parallel()
	b := (&builder{}).mem(4, 4)
	b.fn("run", nil, nil, nil, c32(0), c32(1), c32(4*65536), misc(11, 0))
	e := compiler(t)
	with := e.invoke(t, instrument(t, b.bytes()), noLimit, "run")
	without := e.invoke(t, instrument(t, b.bytes(), meter.Switches{NoRange: true}), noLimit, "run")
	require.Equal(t, uint64(5+4*1024), with.used)
	require.Equal(t, uint64(5), without.used)
	require.Equal(t, without.memory, with.memory)
	stopped := e.invoke(t, instrument(t, b.bytes()), 5+4*1024-1, "run")
	require.True(t, stopped.outOfFuel(5+4*1024-1))
	require.NotEqual(t, with.memory, stopped.memory, "the operator ran before it was paid")
}

func TestRuleStackIsCounted(t *testing.T) {
	t.Parallel()
	b := &builder{}
	// Counts its own calls, in a global, for ever.
	b.global(i32, true, c32(0))
	b.export("depth", 3, 0)
	b.fn("run", nil, nil, nil, gget(0), c32(1), add32(), gset(0), call(0))
	e := compiler(t)
	got := e.invoke(t, instrument(t, b.bytes()), noLimit, "run")
	require.NotEmpty(t, got.trap)
	require.Equal(t, uint64(meter.StopStack), got.stop)

	m := e.instantiate(t, instrument(t, b.bytes()))
	invokeIn(t, m, noLimit, "run")
	words := meter.FrameWords + 2 // two operands
	require.Equal(t, uint64(meter.StackWords/words), m.ExportedGlobal("depth").Get())

	without := e.invoke(t, instrument(t, b.bytes(), meter.Switches{NoStack: true}), noLimit, "run")
	require.Zero(t, without.stop, "the engine's own limit is met")
	require.Contains(t, without.trap, "stack overflow")

	// The count is back at 0 after a return, by every way out.
	for name, way := range map[string][]byte{"end": nil, "return": ret(), "branch": br(0), "branch from inside": block(br(1))} {
		b := &builder{}
		b.fn("leaf", nil, nil, nil)
		b.fn("run", nil, nil, nil, call(0), way)
		m := e.instantiate(t, instrument(t, b.bytes()))
		o := invokeIn(t, m, noLimit, "run")
		require.Empty(t, o.trap, name)
		require.Zero(t, m.ExportedGlobal(meter.StackGlobal).Get(), name)
	}
}

func TestRuleVectorsTakeTwoWords(t *testing.T) {
	t.Parallel()
	b := &builder{}
	g := b.global(i32, true, c32(0))
	b.export("depth", 3, g)
	b.fn("run", []byte{v128}, nil, repeat([]byte{v128}, 40), gget(g), c32(1), add32(), gset(g), cv128(0), cv128(0), simd(80), call(0))
	for _, e := range []engine{compiler(t), interpreter(t)} {
		m := e.instantiate(t, instrument(t, b.bytes()))
		got := invokeIn(t, m, noLimit, "run", 0, 0)
		require.Equal(t, uint64(meter.StopStack), got.stop)
		require.Equal(t, uint64(meter.StackWords/(meter.FrameWords+2*41+4)), m.ExportedGlobal("depth").Get())
	}
}

func TestRuleWideFramesCountWithoutCalls(t *testing.T) {
	t.Parallel()
	b := &builder{}
	wide := make([]byte, 49_000)
	for i := range wide {
		wide[i] = i64
	}
	b.fn("", nil, nil, wide)
	b.fn("", nil, nil, wide, call(0))
	b.fn("run", nil, nil, nil, call(1))
	got := compiler(t).invoke(t, instrument(t, b.bytes()), noLimit, "run")
	require.Equal(t, uint64(meter.StopStack), got.stop)
}

func TestRuleGrowThatTheHostRefusesStopsTheRun(t *testing.T) {
	t.Parallel()
	b := (&builder{}).mem(1, 100)
	b.fn("run", []byte{i32}, []byte{i32}, nil, get(0), ops(0x40, 0))
	metered, err := meter.Instrument(b.bytes(), meter.Options{})
	require.NoError(t, err)
	require.Equal(t, uint32(1), metered.MinPages)
	require.Equal(t, uint32(100), metered.MaxPages)
	e := compiler(t)
	for name, tt := range map[string]struct {
		module     []byte
		pages      uint64
		want, stop uint64
		trap       bool
	}{
		"granted":                     {metered.Module, 9, 1, 0, false},
		"above the module's maximum":  {metered.Module, 100, math.MaxUint32, 0, false},
		"refused by the host":         {metered.Module, 10, 0, meter.StopMemory, true},
		"refused, without the rule":   {instrument(t, b.bytes(), meter.Switches{NoGrow: true}), 10, math.MaxUint32, 0, false},
		"far above, as a signed size": {metered.Module, math.MaxUint32, math.MaxUint32, 0, false},
	} {
		m := e.withMemory(t, tt.module, 10)
		got := invokeIn(t, m, noLimit, "run", tt.pages)
		require.Equal(t, tt.stop, got.stop, name)
		require.Equal(t, tt.trap, got.trap != "", name)
		if !tt.trap {
			require.Equal(t, []uint64{tt.want}, got.results, name)
		}
	}
}

// The sum of two infinities of different sign is a NaN whose sign depends on the
// processor; its bits are looked at in every way there is.
func nanWitnesses() map[string][]byte {
	inf := cat(cf64(math.Inf(1)), cf64(math.Inf(-1)), ops(0xa0))
	inf32 := cat(cf32(0x7f800000), cf32(0xff800000), ops(0x92))
	bits := ops(0xbd)
	run := func(code ...[]byte) []byte { return one(nil, []byte{i64}, []byte{f64, f64, f32}, code...) }
	other := func(params, results []byte, code ...[]byte) (b *builder, f uint32) {
		b = (&builder{}).mem(1, 1)
		return b, b.fn("", params, results, nil, code...)
	}
	witnesses := map[string][]byte{
		"reinterpret":         run(inf, bits),
		"store":               run(c32(0), inf, access(0x39), c32(0), access(0x29)),
		"store of an f32":     run(c32(0), inf32, access(0x38), c32(0), access(0x28), ops(0xad)),
		"local":               run(inf, set(0), get(0), bits),
		"tee":                 run(inf, tee(0), drop(), get(0), bits),
		"value of a tee":      run(inf, tee(0), bits),
		"local of a local":    run(inf, set(0), get(0), set(1), get(1), bits),
		"negated":             run(inf, ops(0x9a), bits),
		"sign by copysign":    run(cf64(1), inf, ops(0xa6), bits),
		"body by copysign":    run(inf, cf64(1), ops(0xa6), bits),
		"select":              run(inf, cf64(1), c32(1), ops(0x1b), bits),
		"select, the second":  run(cf64(1), inf, c32(0), ops(0x1b), bits),
		"block result":        run(structured(0x02, []byte{f64}, inf), bits),
		"branch":              run(structured(0x02, []byte{f64}, inf, br(0)), bits),
		"branch by table":     run(structured(0x02, []byte{f64}, inf, c32(0), brTable(0, 0)), bits),
		"branch not taken":    run(structured(0x02, []byte{f64}, inf, c32(0), brIf(0)), bits),
		"promoted":            run(inf32, ops(0xbb), bits),
		"demoted":             run(inf, ops(0xb6), ops(0xbc), ops(0xad)),
		"square root":         run(cf64(-1), ops(0x9f), bits),
		"computed twice":      run(inf, cf64(1), ops(0xa0), bits),
		"lanes of 32 bits":    run(cf32(0x7f800000), simd(19), cf32(0xff800000), simd(19), simd(228), simd(29, 1)),
		"lanes of 64 bits":    run(cf64(math.Inf(1)), simd(20), cf64(math.Inf(-1)), simd(20), simd(240), simd(29, 1)),
		"lanes, demoted":      run(cv128(0x7ff0_0000_0000_0000), cv128(0xfff0_0000_0000_0000), simd(240), simd(94), simd(29, 0)),
		"lanes, promoted":     run(cv128(0x7f80_0000_7f80_0000), cv128(0xff80_0000_ff80_0000), simd(228), simd(95), simd(29, 0)),
		"lanes, square roots": run(cv128(0xbf80_0000_bf80_0000), simd(227), simd(29, 0)),
		"lanes, rounded":      run(cv128(0x7ff4_0000_0000_0001), simd(116), simd(29, 0)),
		"a lane":              run(cv128(0x7ff0_0000_0000_0000), cv128(0xfff0_0000_0000_0000), simd(240), simd(33, 1), bits),
		"a splat":             run(inf, simd(20), simd(29, 0)),
		"a splat of an f32":   run(inf32, simd(19), simd(29, 0)),
		"a replaced lane":     run(cv128(0), inf, simd(34, 1), simd(29, 1)),
		"lanes, stored":       run(c32(0), cv128(0x7ff0_0000_0000_0000), cv128(0xfff0_0000_0000_0000), simd(240), simd(11, 0, 0), c32(8), access(0x29)),
		"set later in a loop": run(c64(0), ops(0x1a), cf64(1), set(1), c32(2), ops(0x1a),
			loop(get(1), set(0), get(1), get(1), ops(0x62), ops(0x45), iff(inf, set(1), br(1))), get(0), get(1), ops(0xa0), drop(), get(0), bits),
	}
	// Values whose bits must stay, through the same locals.
	odd := cat(c64(0x7ff4_0000_0000_0001), ops(0xbf))
	mixed := func(code ...[]byte) []byte {
		return run(cat(odd, set(0), get(0), set(1), get(1), bits, inf, set(0), get(0), set(1)), cat(code...), ops(0x85))
	}
	witnesses["mixed"] = mixed(get(0), bits)
	witnesses["mixed, a copy"] = mixed(get(1), bits)
	b := (&builder{}).mem(1, 1)
	g := b.global(f64, true, cf64(0))
	b.fn("run", nil, []byte{i64}, nil, inf, gset(g), gget(g), bits)
	witnesses["global"] = b.bytes()
	b, f := other([]byte{f64, i32}, []byte{i64}, get(0), bits)
	b.fn("run", nil, []byte{i64}, nil, inf, c32(1), call(f))
	witnesses["argument"] = b.bytes()
	b, f = other(nil, []byte{f64}, inf)
	b.fn("run", nil, []byte{i64}, nil, call(f), bits)
	witnesses["result"] = b.bytes()
	b, f = other(nil, []byte{f64}, inf, ret())
	b.fn("run", nil, []byte{i64}, nil, call(f), bits)
	witnesses["returned"] = b.bytes()
	b, f = other(nil, []byte{f64, i32}, inf, c32(1))
	b.fn("run", nil, []byte{i64}, nil, call(f), drop(), bits)
	witnesses["one of two results"] = b.bytes()
	b = (&builder{}).mem(1, 1)
	b.fn("run", nil, []byte{f64}, nil, inf)
	witnesses["result for the host"] = b.bytes()
	return witnesses
}

func TestRuleNaNsAreTheSameOnEveryProcessor(t *testing.T) {
	t.Parallel()
	e := compiler(t)
	for name, module := range nanWitnesses() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := e.invoke(t, instrument(t, module), noLimit, "run")
			other := e.invoke(t, instrument(t, module, meter.Switches{OtherNaNs: true}), noLimit, "run")
			same(t, want, other, "another processor")
			every := e.invoke(t, instrument(t, module, meter.Switches{OtherNaNs: true, EveryNaN: true}), noLimit, "run")
			require.Equal(t, want.results, every.results, "canonical where it is made")
			without := e.invoke(t, instrument(t, module, meter.Switches{NoNaN: true, OtherNaNs: true}), noLimit, "run")
			require.NotEqual(t, want.results, without.results, "the rule is needed")
		})
	}
}

// What is no result of arithmetic keeps its bits, as the specification says.
func TestNaNsThatAreOnlyMovedStay(t *testing.T) {
	t.Parallel()
	odd, nan := cat(c64(0x7ff4_0000_0000_0001), ops(0xbf)), cat(cf64(0), cf64(0), ops(0xa3))
	for name, code := range map[string][]byte{
		"a local that holds sums too": cat(nan, set(0), odd, set(0), get(0)),
		"a copy of it":                cat(nan, set(0), odd, set(0), get(0), set(1), get(1)),
		"negated":                     cat(c64(-0xb_ffff_ffff_ffff), ops(0xbf, 0x9a)),
		"a sign on a computed one":    cat(nan, cf64(-1), ops(0xa6), set(0), c64(0x7ff4_0000_0000_0001), get(0), ops(0xbd), c64(-0x8_0000_0000_0000), ops(0x52), iff(ops(0)), ops(0xbf)),
	} {
		got := compiler(t).invoke(t, instrument(t, one(nil, []byte{f64}, []byte{f64, f64}, code)), noLimit, "run")
		require.Equal(t, []uint64{0x7ff4_0000_0000_0001}, got.results, name)
	}
}

func TestRuleNaNsThatNobodySeesCostNothing(t *testing.T) {
	t.Parallel()
	nan := cat(cf64(0), cf64(0), ops(0xa3))
	for name, code := range map[string][]byte{
		"compared":              cat(nan, nan, ops(0x61), drop()),
		"dropped":               cat(nan, drop()),
		"truncated":             cat(nan, misc(2), drop()),
		"a sum":                 cat(nan, set(0), times(1, 3, get(0), cf64(1), ops(0xa0), set(0)), get(0), nan, ops(0x63), drop()),
		"from memory to memory": cat(c32(0), c32(8), access(0x2b), access(0x39)),
	} {
		m, err := meter.Instrument(one(nil, nil, []byte{f64, i32}, code), meter.Options{})
		require.NoError(t, err)
		require.Zero(t, m.Canonicalised, name)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	withImport := func(entry ...byte) []byte {
		return (&builder{before: section(2, cat([]byte{1, 1, 'm', 1, 'n'}, entry))}).bytes()
	}
	huge := &builder{}
	huge.fn("", nil, nil, nil, make([]byte, 1<<20))
	exporting := func(name string) []byte {
		b := &builder{}
		b.global(i64, true, c64(0))
		b.export(name, 3, 0)
		return b.bytes()
	}
	start := &builder{start: u(0)}
	start.fn("", nil, []byte{i32}, nil, c32(0))
	started := start.bytes()
	importing := &builder{}
	importing.importFunc("env", "mman.used", nil, nil)
	unknown := &builder{}
	unknown.importFunc("env", "open", nil, nil)
	deep := &builder{}
	deep.fn("", nil, nil, nil, cat(repeat(ops(0x02, 0x40), 70_000), repeat(ops(0x0b), 70_000)))
	tall := &builder{}
	tall.fn("", nil, nil, nil, cat(repeat(c32(0), 70_000), repeat(drop(), 70_000)))
	body := func(code ...[]byte) []byte { return one(nil, nil, nil, code...) }
	for name, tt := range map[string]struct {
		module []byte
		want   error
		text   string
	}{
		"nothing":              {nil, mman.ErrModule, "does not begin"},
		"a component":          {[]byte("\x00asm\x0d\x00\x01\x00"), mman.ErrModule, "component"},
		"relaxed vectors":      {body(cv128(0), cv128(0), simd(0x100), drop()), mman.ErrModule, "relaxed vectors (SIMD)"},
		"an unknown vector":    {body(cv128(0), simd(154), drop()), mman.ErrModule, "nothing that is known"},
		"a lane too high":      {body(cv128(0), simd(27, 4), drop()), mman.ErrModule, "lane 4 of 4"},
		"a shuffle too high":   {body(cv128(0), cv128(0), simd(13, append(make([]byte, 15), 32)...), drop()), mman.ErrModule, "lane 32 of 32"},
		"threads":              {body(ops(0xfe, 3, 0)), mman.ErrModule, "threads"},
		"a shared memory":      {(&builder{memory: []byte{1, 3, 1, 2}}).bytes(), mman.ErrModule, "threads"},
		"a 64-bit memory":      {(&builder{memory: []byte{1, 4, 1}}).bytes(), mman.ErrModule, "memory64"},
		"two memories":         {(&builder{memory: []byte{2, 0, 1, 0, 1}}).bytes(), mman.ErrModule, "second memory"},
		"another memory":       {body(ops(0x3f, 1), drop()), mman.ErrModule, "memory 1"},
		"tail calls":           {body(ops(0x12, 0)), mman.ErrModule, "tail calls"},
		"exceptions":           {body(ops(0x06, 0x40), ops(0x0b)), mman.ErrModule, "exceptions"},
		"a tag section":        {(&builder{before: section(13, u(0))}).bytes(), mman.ErrModule, "section of kind 13"},
		"garbage collection":   {body(ops(0xfb, 0)), mman.ErrModule, "garbage collection"},
		"an unknown operator":  {body(ops(0x27)), mman.ErrModule, "0x27"},
		"an unknown long one":  {body(misc(18)), mman.ErrModule, "0xfc 18"},
		"a start with results": {started, mman.ErrModule, "which has parameters or results"},
		"a start of nothing":   {(&builder{start: u(0)}).bytes(), mman.ErrModule, "function 0 of 0"},
		"two starts":           {cat((&builder{start: u(0), types: [][]byte{{0x60, 0, 0}}, funcs: [][]byte{{0}}}).bytes(), section(8, u(0))), mman.ErrModule, "out of order or there twice"},
		"a reserved export":    {exporting(meter.LimitGlobal), mman.ErrModule, "meter's"},
		"a reserved prefix":    {exporting("mman.anything"), mman.ErrModule, "meter's"},
		"a reserved import":    {importing.bytes(), mman.ErrImport, "meter's"},
		"an unknown import":    {unknown.bytes(), mman.ErrImport, "not provided"},
		"an imported global":   {withImport(3, i32, 0), mman.ErrImport, "not a function"},
		"an imported memory":   {withImport(2, 0, 1), mman.ErrImport, "not a function"},
		"an imported table":    {withImport(1, fref, 0, 1), mman.ErrImport, "not a function"},
		"a long function":      {huge.bytes(), mman.ErrModule, "1048576"},
		"a large module":       {make([]byte, meter.ModuleMaxBytes+1), mman.ErrModule, "33554433"},
		"a metered module":     {instrument(t, body()), mman.ErrModule, "meter's"},
		"many locals":          {(&builder{types: [][]byte{{0x60, 0, 0}}, funcs: [][]byte{{0}}, code: [][]byte{blob(cat([]byte{1}, u(1<<31), []byte{i32, 0x0b}))}}).bytes(), mman.ErrModule, "locals"},
		"deep nesting":         {deep.bytes(), mman.ErrModule, "nested"},
		"a tall operand stack": {tall.bytes(), mman.ErrModule, "operands"},
		"a segment beside":     {beside(), mman.ErrModule, "does not fit"},
		"a data segment beside": {func() []byte {
			b := (&builder{}).mem(1, 1)
			b.datas = [][]byte{cat([]byte{0}, c32(65536), []byte{0x0b}, blob([]byte{1}))}
			return b.bytes()
		}(), mman.ErrModule, "does not fit"},
	} {
		_, err := meter.Instrument(tt.module, meter.Options{Known: func(_, name string) bool { return name != "open" }})
		require.ErrorIs(t, err, tt.want, name)
		require.ErrorContains(t, err, tt.text, name)
	}
	// Without its rule each of these is not refused, or for another reason.
	many := one(nil, nil, bytes.Repeat([]byte{i32}, 50_001))
	for name, tt := range map[string]struct {
		module []byte
		text   string
		off    meter.Switches
	}{
		"threads":            {body(ops(0xfe, 3, 0)), "threads", meter.Switches{Threads: true}},
		"a shared memory":    {(&builder{memory: []byte{1, 3, 1, 2}}).bytes(), "threads", meter.Switches{Threads: true}},
		"relaxed vectors":    {body(cv128(0), cv128(0), simd(0x100), drop()), "relaxed", meter.Switches{Threads: true}},
		"a reserved export":  {exporting(meter.LimitGlobal), "meter's", meter.Switches{AnyName: true}},
		"a reserved import":  {importing.bytes(), "meter's", meter.Switches{AnyName: true}},
		"an imported global": {withImport(3, i32, 0), "not a function", meter.Switches{AnyImport: true}},
		"an imported memory": {withImport(2, 0, 1), "not a function", meter.Switches{AnyImport: true}},
		"an imported table":  {withImport(1, fref, 0, 1), "not a function", meter.Switches{AnyImport: true}},
		"a long function":    {huge.bytes(), "1048576", meter.Switches{AnySize: true}},
		"a large module":     {make([]byte, meter.ModuleMaxBytes+1), "33554433", meter.Switches{AnySize: true}},
		"many locals":        {many, "locals", meter.Switches{AnySize: true}},
	} {
		_, err := meter.Instrument(tt.module, meter.Options{})
		require.ErrorContains(t, err, tt.text, name)
		if _, err := meter.InstrumentWith(tt.module, meter.Options{}, tt.off); err != nil {
			require.NotContains(t, err.Error(), tt.text, name)
		}
	}
	_, err := meter.Instrument(body(ops(0x01), ops(0x6a)), meter.Options{})
	require.EqualError(t, err, "meter the module: not a runnable module: function 0, byte 51: an operand is missing for operator 0x6a")
	require.NotErrorIs(t, err, mman.ErrImport)
}

func beside() []byte {
	b := &builder{}
	b.table(fref, 1, 1)
	f := b.fn("", nil, nil, nil)
	b.elem(1, f)
	return b.bytes()
}

func repeat(b []byte, n int) []byte {
	out := make([]byte, 0, n*len(b))
	for range n {
		out = append(out, b...)
	}
	return out
}

// Opcodes behind a prefix may be written at length; not every engine knows that.
func TestLongOpcodes(t *testing.T) {
	t.Parallel()
	plain := one(nil, []byte{i32}, nil, c32(0), c32(7), c32(1), ops(0xfc, 0x8b, 0x80, 0, 0), c32(0), access(0x2d))
	for _, e := range []engine{compiler(t), interpreter(t)} {
		got := e.invoke(t, instrument(t, plain), noLimit, "run")
		require.Equal(t, []uint64{7}, got.results)
	}
}

func TestCustomSections(t *testing.T) {
	t.Parallel()
	custom := func(name string, body ...byte) []byte { return section(0, cat(blob([]byte(name)), body)) }
	module := func(sections ...[]byte) []byte {
		b := &builder{after: cat(sections...), before: custom("producers", 1, 2)}
		b.fn("run", nil, nil, nil)
		return b.bytes()
	}
	names := custom("name", cat([]byte{0, 2, 1, 'm'}, []byte{1, 4, 1, 0, 1, 'f'})...)
	bare := instrument(t, module())
	require.Equal(t, cat(bare, names), instrument(t, module(names, custom(".debug_info", 1, 2, 3))))
	for what, broken := range map[string][]byte{
		"cut short":                 custom("name", 0, 9, 1, 'm'),
		"a function there is not":   custom("name", 1, 4, 1, 1, 1, 'f'),
		"more names than bytes":     custom("name", 1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"a name that is not UTF-8":  custom("name", 0, 2, 1, 0xff),
		"nothing":                   custom("name"),
		"sections out of order":     custom("name", 1, 1, 0, 0, 2, 1, 'm'),
		"names of locals, not kept": custom("name", 2, 1, 0),
	} {
		require.Equal(t, bare, instrument(t, module(broken)), what)
	}
}

// TestRuleMends: operators whose operands live across a call of the engine's in a
// loop, on an engine that loses what it has computed of them.
func TestRuleMends(t *testing.T) {
	t.Parallel()
	fast, slow := compiler(t), interpreter(t)
	number := func(typ byte, v float64) []byte {
		switch typ {
		case f32:
			return cf32(math.Float32bits(float32(v)))
		case f64:
			return cf64(v)
		default:
			return cv128(math.Float64bits(v))
		}
	}
	for name, tt := range map[string]struct {
		typ, second byte
		// Locals 3 and 4 are the operands, 1 is 0 and 5 a vector of zeros.
		code []byte
		lost bool // without the rule, on amd64
	}{
		"select f32":              {f32, f32, cat(get(3), get(4), get(1), ops(0x1b)), true},
		"select f64":              {f64, f64, cat(get(3), get(4), get(1), ops(0x1b)), true},
		"select v128":             {v128, v128, cat(get(3), get(4), get(1), ops(0x1b)), true},
		"select f64, typed":       {f64, f64, cat(get(3), get(4), get(1), ops(0x1c, 1, f64)), true},
		"select f64, the first":   {f64, f64, cat(get(3), get(4), get(1), ops(0x45, 0x1b)), false},
		"select v128, the first":  {v128, v128, cat(get(3), get(4), get(1), ops(0x45, 0x1b)), false},
		"copysign f32":            {f32, f32, cat(get(4), get(3), ops(0x98)), false},
		"copysign f64":            {f64, f64, cat(get(4), get(3), ops(0xa6)), false},
		"bitselect":               {v128, v128, cat(cv128(0x1111), get(4), cv128(0), simd(82)), true},
		"bitselect, the first":    {v128, v128, cat(get(3), cv128(0x1111), get(5), simd(77, 0xfd, 82)), false},
		"f64x2.replace_lane":      {v128, f64, cat(get(3), get(4), simd(34, 0)), true},
		"f64x2.replace_lane high": {v128, f64, cat(get(3), get(4), simd(34, 1)), false},
	} {
		b := (&builder{}).mem(1, 1)
		// Constants would be made anew where they are used.
		known := func(typ byte, v float64) []byte {
			return cat(c32(0), number(typ, v), store(typ), ops(0, 32), c32(0), load(typ), ops(0, 32))
		}
		kept := cat(known(tt.typ, 3.25), set(3), known(tt.second, -1.5), set(4))
		turn := cat(c32(7), get(0), c32(24), misc(10, 0, 0), c32(0), tt.code, store(tt.typ), ops(0, 64))
		b.fn("run", []byte{i32, i32}, nil, []byte{i32, tt.typ, tt.second, v128}, kept, c32(3), set(2),
			block(loop(get(2), ops(0x45), brIf(1), get(2), c32(1), ops(0x6b), set(2), turn, br(0))))
		run := func(e engine, sw meter.Switches) outcome {
			got := e.invoke(t, instrument(t, b.bytes(), sw), noLimit, "run", 128, 0)
			require.Empty(t, got.trap, name)
			return got
		}
		want := run(slow, meter.Switches{NoMends: true})
		require.Equal(t, want, run(fast, meter.Switches{}), name)
		require.Equal(t, want, run(slow, meter.Switches{}), name)
		if tt.lost && runtime.GOARCH == "amd64" {
			require.NotEqual(t, want, run(fast, meter.Switches{NoMends: true}), "%s: the engine is right by itself: the rule is not needed any more", name)
		}
	}
}
