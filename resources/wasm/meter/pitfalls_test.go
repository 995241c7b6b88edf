package meter_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero/api"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

// One test for each pitfall that is known of fuel by rewriting.

// 1: what names the meter's own globals, locals, labels, functions or types is
// invalid before rewriting and valid after it.
func TestPitfall1InvalidCodeDoesNotBecomeValid(t *testing.T) {
	t.Parallel()
	looping := func(code ...[]byte) []byte {
		return one(nil, nil, nil, cat(code...), loop(), c32(0), c32(0), c32(1), misc(11, 0))
	}
	for name, module := range map[string][]byte{
		"reads the used global":     looping(gget(0), drop()),
		"sets the used global":      looping(c64(0), gset(0)),
		"sets the limit global":     looping(c64(-1), gset(1)),
		"sets the stack global":     looping(c32(0), gset(2)),
		"sets the fuel local":       looping(c64(0), set(0)),
		"sets the scratch local":    looping(c32(0), set(1)),
		"leaves by the trap label":  looping(br(1)),
		"leaves by the real frame":  looping(br(2)),
		"br_if behind the frame":    looping(c32(0), brIf(1)),
		"br_table behind the frame": looping(c32(0), brTable(0, 1)),
		"calls a helper":            looping(c32(0), c32(0), c32(0), call(1)),
		"has a helper's type":       looping(structured(0x02, u(1))),
		"a missing operand":         looping(set(0)),
		"an operand too many":       looping(c32(0)),
		"a wrong type":              looping(c64(0), iff()),
		"else without if":           looping(block(els())),
		"not ended":                 {},
		"a helper as an element": func() []byte {
			b := &builder{}
			b.table(fref, 2, 2)
			b.fn("run", nil, nil, nil)
			b.elem(0, 1)
			return b.bytes()
		}(),
		"exports the used global": func() []byte {
			b := &builder{}
			b.fn("run", nil, nil, nil)
			b.export("mine", 3, 0)
			return b.bytes()
		}(),
	} {
		_, err := meter.Instrument(module, meter.Options{})
		require.ErrorIs(t, err, mman.ErrModule, name)
	}
}

// 2: a trap in the middle shows a lower bound of the fuel, the same on every
// engine; a host bills the whole budget.
func TestPitfall2TrapInTheMiddle(t *testing.T) {
	t.Parallel()
	module := instrument(t, one(nil, nil, []byte{i32}, times(0, 1000), c32(1), c32(0), ops(0x6d), drop()))
	a := compiler(t).invoke(t, module, noLimit, "run")
	b := interpreter(t).invoke(t, module, noLimit, "run")
	require.Contains(t, a.trap, "divide by zero")
	require.Equal(t, a, b)
	require.Less(t, a.used, uint64(5000), "the count was in a local")
	require.Zero(t, a.stop)
}

// 3: fuel that a host call sees is exact but for what is paid ahead, and what
// the host adds is kept.
func TestPitfall3HostCallsSeeAndAddFuel(t *testing.T) {
	t.Parallel()
	b := &builder{}
	host := b.importFunc("env", "host", nil, nil)
	b.fn("run", nil, nil, []byte{i32}, times(0, 10, call(host)))
	total := uint64(1 + 2 + 10*6)
	for _, e := range []engine{compiler(t), interpreter(t)} {
		var seen []uint64
		e.provide(t, func(_ context.Context, m api.Module) {
			used := global(m, meter.UsedGlobal)
			seen = append(seen, used.Get())
			used.Set(used.Get() + 1000)
		})
		got := e.invoke(t, instrument(t, b.bytes()), noLimit, "run")
		require.Equal(t, total+10*1000, got.used)
		require.Len(t, seen, 10)
		require.Equal(t, uint64(9006), seen[9]-seen[0]-uint64(48))

		// A host that adds too much stops the guest at its next check.
		seen = nil
		got = e.invoke(t, instrument(t, b.bytes()), 2500, "run")
		require.True(t, got.outOfFuel(2500))
		require.Len(t, seen, 3)
	}
}

// 4: a host's answers change the way through the code and so the fuel; the same
// answers give the same fuel.
func TestPitfall4HostAnswersChangeFuel(t *testing.T) {
	t.Parallel()
	b := &builder{}
	host := b.importFunc("env", "answer", nil, []byte{i32})
	b.fn("run", nil, nil, nil, call(host), iff(c32(1), drop()))
	e := compiler(t)
	answer := uint32(0)
	_, err := e.runtime.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(func() uint32 { return answer }).Export("answer").Instantiate(t.Context())
	require.NoError(t, err)
	module := instrument(t, b.bytes())
	no := e.invoke(t, module, noLimit, "run")
	answer = 1
	yes := e.invoke(t, module, noLimit, "run")
	require.Equal(t, uint64(3), no.used)
	require.Equal(t, uint64(4), yes.used)
	require.Equal(t, yes, e.invoke(t, module, noLimit, "run"))
}

// 5: a start function would run before the host sets the limit. It becomes one that
// the host calls; and until the host has set the limit, there is no fuel.
func TestPitfall5NothingRunsBeforeTheLimitIsSet(t *testing.T) {
	t.Parallel()
	b := &builder{start: u(0)}
	b.fn("run", nil, nil, nil, loop(br(0)))
	m := compiler(t).instantiate(t, instrument(t, b.bytes()))
	require.Zero(t, global(m, meter.UsedGlobal).Get())
	_, err := m.ExportedFunction(meter.StartFunction).Call(t.Context())
	require.Error(t, err)
	require.Equal(t, uint64(0), global(m, meter.LimitGlobal).Get())
	require.Positive(t, global(m, meter.UsedGlobal).Get())
}

// 6: a host that calls back during a call keeps one count, each instance has its
// own, and a small function can end above the limit, so that the host must look.
func TestPitfall6ReentrancyAndInstances(t *testing.T) {
	t.Parallel()
	b := &builder{}
	host := b.importFunc("env", "host", nil, nil)
	b.fn("run", nil, nil, []byte{i32}, times(0, 5, call(host)))
	b.fn("small", nil, nil, nil, c32(1), drop())
	for _, e := range []engine{compiler(t), interpreter(t)} {
		e.provide(t, func(ctx context.Context, m api.Module) {
			_, err := m.ExportedFunction("small").Call(ctx)
			require.NoError(t, err)
		})
		module := instrument(t, b.bytes())
		first, second := e.instantiate(t, module), e.instantiate(t, module)
		require.Equal(t, uint64(1+2+5*6+5*2), invokeIn(t, first, noLimit, "run").used)
		require.Zero(t, global(second, meter.UsedGlobal).Get())
		require.Zero(t, global(first, meter.StackGlobal).Get())

		got := invokeIn(t, second, 1, "small")
		require.Empty(t, got.trap, "a leaf is not checked")
		require.True(t, got.outOfFuel(1))
		got = invokeIn(t, second, 1, "run")
		require.NotEmpty(t, got.trap)
	}
}

// 7: each distinct label of a br_table is one way.
func TestPitfall7BranchTables(t *testing.T) {
	t.Parallel()
	work := func(n int) []byte { return repeat(cat(c32(1), drop()), n) }
	b := (&builder{}).mem(1, 1)
	// Labels that are named twice, the loop's head among them, with a value.
	b.fn("run", []byte{i32}, []byte{i32}, []byte{i32}, loop(
		get(1), c32(1), add32(), set(1),
		block(block(block(get(0), get(1), add32(), brTable(0, 1, 2, 1, 3, 0, 2)), work(1), br(2)), work(20)), work(3), get(1), c32(50), ops(0x49), brIf(0),
	), get(1))
	equalTotals(t, b.bytes(), "run", 0, 1, 2, 3, 4, 5, 100)
}

// 8: back edges to outer loops, code behind loops, dead code with blocks in it,
// if without else.
func TestPitfall8ShapesOfControlFlow(t *testing.T) {
	t.Parallel()
	count := cat(get(1), c32(1), add32(), tee(1))
	for name, code := range map[string][]byte{
		"to an outer loop":        loop(count, c32(30), ops(0x49), iff(loop(get(1), c32(3), ops(0x70), brIf(2), count, c32(2), ops(0x70), brIf(0), get(1), c32(25), ops(0x49), brIf(2)))),
		"several back edges":      loop(count, c32(10), ops(0x49), brIf(0), get(1), c32(20), ops(0x49), brIf(0), get(1), c32(40), ops(0x49), brIf(0)),
		"behind a loop":           cat(loop(count, c32(9), ops(0x49), brIf(0)), repeat(count, 3), drop(), drop(), drop()),
		"dead blocks":             cat(block(br(0), block(loop(c32(1), iff(els()), br(1))), ret()), count, drop()),
		"dead else":               cat(get(0), iff(br(0), loop(), els(), count, drop()), count, drop()),
		"both arms leave":         cat(block(get(0), iff(br(1), els(), br(1)), count, drop()), count, drop()),
		"if without else":         cat(get(0), iff(count, drop()), get(0), iff(), count, drop()),
		"a block nobody leaves":   cat(block(block(count, drop())), count, drop()),
		"an end in dead code":     cat(block(block(get(1), ret())), count, drop()),
		"a loop that ends itself": cat(loop(count, c32(5), ops(0x4f), iff(get(1), ret()), br(0))),
		"unreachable in one arm":  cat(get(0), iff(count, drop(), els(), get(1), iff(ops(0)), count, drop())),
	} {
		b := (&builder{}).mem(1, 1)
		b.fn("run", []byte{i32}, []byte{i32}, []byte{i32}, code, get(1))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			equalTotals(t, b.bytes(), "run", 0, 1)
		})
	}
	// Loops with parameters and blocks with several results, early returns
	// with operands below.
	b := (&builder{}).mem(1, 1)
	sum := b.typ([]byte{i32, i32}, []byte{i32, i32})
	b.fn("run", []byte{i32}, []byte{i32, i32}, []byte{i32}, c64(9), c32(0), c32(7),
		structured(0x03, u(sum), set(1), c32(1), add32(), get(1), get(0),
			structured(0x04, u(sum), c32(1), add32(), els(), ret()), get(1), c32(3), ops(0x49), brIf(0)), ret())
	equalTotals(t, b.bytes(), "run", 0, 1)
}

// 9: a function with several results needs a type for the block around it.
func TestPitfall9SeveralResults(t *testing.T) {
	t.Parallel()
	b := (&builder{}).mem(1, 1)
	b.fn("run", []byte{i32}, []byte{i32, i64, f64}, []byte{i32}, times(1, 3), get(0), iff(c32(1), c64(2), cf64(3), ret()),
		block(get(0), brIf(0), c32(4), c64(5), cf64(6), br(1)), c32(7), c64(8), cf64(9))
	equalTotals(t, b.bytes(), "run", 0, 1)
	// A type like the one that is needed is used again.
	b = (&builder{}).mem(1, 1)
	b.typ(nil, []byte{i32, i32})
	b.fn("run", nil, []byte{i32, i32}, []byte{i32}, times(0, 3), c32(1), c32(2))
	metered := instrument(t, b.bytes())
	require.Equal(t, byte(3), metered[10], "one of the guest's and two of the pauses")
	require.Equal(t, []uint64{1, 2}, compiler(t).invoke(t, metered, noLimit, "run").results)
}

// 11: the depth of calls does not depend on the engine.
func TestPitfall11DepthIsTheSameOnEveryEngine(t *testing.T) {
	t.Parallel()
	// Frames of more than 33 words, so that the interpreter's 2,000 calls are
	// not the limit.
	b := &builder{}
	g := b.global(i32, true, c32(0))
	b.export("depth", 3, g)
	b.fn("run", nil, nil, repeat([]byte{i64}, 40), gget(g), c32(1), add32(), gset(g), call(0))
	module := instrument(t, b.bytes())
	var depths []uint64
	for _, e := range []engine{compiler(t), interpreter(t)} {
		m := e.instantiate(t, module)
		got := invokeIn(t, m, noLimit, "run")
		require.Equal(t, uint64(meter.StopStack), got.stop, e.name)
		depths = append(depths, m.ExportedGlobal("depth").Get())
	}
	require.Equal(t, depths[0], depths[1])
	require.Equal(t, uint64(meter.StackWords/(meter.FrameWords+40+2)), depths[0])
}

// 12: what grows beyond what engines accept is refused.
func TestPitfall12OutputHasABound(t *testing.T) {
	t.Parallel()
	b := (&builder{}).mem(4, 8)
	b.fn("run", nil, nil, nil, repeat(cat(c32(0), c32(0), c32(1), misc(11, 0)), 100_000))
	m, err := meter.Instrument(b.bytes(), meter.Options{})
	require.NoError(t, err)
	require.Less(t, len(m.Module), 7_654_321)
	b = (&builder{}).mem(4, 8)
	b.fn("run", nil, nil, nil, c32(0), repeat(ops(0x40, 0), 500_000), drop())
	_, err = meter.Instrument(b.bytes(), meter.Options{})
	require.ErrorContains(t, err, "split it")
	require.ErrorIs(t, err, mman.ErrModule)
}

// provide gives the guest env.host.
func (e engine) provide(tb testing.TB, f func(context.Context, api.Module)) {
	tb.Helper()
	_, err := e.runtime.NewHostModuleBuilder("env").NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, _ []uint64) { f(ctx, m) }), nil, nil).
		Export("host").Instantiate(tb.Context())
	require.NoError(tb, err)
}

// equalTotals checks that a module gives the same metered and not, on both
// engines, that its fuel is that of the naive count, and that it completes with
// its total and not with less.
func equalTotals(t *testing.T, plain []byte, name string, args ...uint64) {
	t.Helper()
	fast, slow := compiler(t), interpreter(t)
	metered, naive := instrument(t, plain), instrument(t, plain, meter.Switches{Naive: true})
	for _, arg := range args {
		want := fast.invoke(t, plain, noLimit, name, arg)
		got := fast.invoke(t, metered, noLimit, name, arg)
		same(t, want, got, "argument %d", arg)
		require.Equal(t, got, slow.invoke(t, metered, noLimit, name, arg), "argument %d", arg)
		if want.trap != "" {
			continue
		}
		require.Equal(t, fast.invoke(t, naive, noLimit, name, arg).used, got.used, "argument %d", arg)
		require.Equal(t, got, fast.invoke(t, metered, got.used, name, arg), "argument %d", arg)
		require.True(t, fast.invoke(t, metered, got.used-1, name, arg).outOfFuel(got.used-1), "argument %d", arg)
		require.True(t, slow.invoke(t, metered, got.used/2, name, arg).outOfFuel(got.used/2), "argument %d", arg)
		require.Equal(t, fast.invoke(t, metered, got.used/2, name, arg), slow.invoke(t, metered, got.used/2, name, arg), "argument %d", arg)
	}
}
