package meter_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero/api"

	"github.com/limboid/massive-man/resources/wasm/meter"
)

// endless are guests that never end by themselves, one for each shape.
func endless() map[string][]byte {
	guests := map[string][]byte{
		"br":       one(nil, nil, nil, loop(br(0))),
		"br_if":    one(nil, nil, nil, loop(c32(1), brIf(0))),
		"br_table": one(nil, nil, []byte{i32}, loop(block(get(0), brTable(0, 1, 1)), get(0), c32(1), add32(), c32(1), ops(0x71), set(0), br(0))),
		"outer":    one(nil, nil, nil, loop(block(loop(br(2))))),
		"empty":    one(nil, nil, nil, loop(block(), br(0))),
		"fill":     one(nil, nil, nil, loop(c32(0), c32(1), c32(65536), misc(11, 0), br(0))),
	}
	b := &builder{}
	// Two calls at each level: the stack stays low, the time does not end.
	b.fn("run", []byte{i32}, nil, nil, get(0), ops(0x45), iff(ret()), get(0), c32(1), ops(0x6b), call(0), get(0), c32(1), ops(0x6b), call(0))
	guests["recursion"] = b.bytes()

	b = &builder{}
	b.table(fref, 1, 1)
	f := b.typ([]byte{i32}, nil)
	b.fn("run", []byte{i32}, nil, nil, get(0), ops(0x45), iff(ret()), get(0), c32(1), ops(0x6b), c32(0), callIndirect(f), get(0), c32(1), ops(0x6b), c32(0), callIndirect(f))
	b.elem(0, 0)
	guests["call_indirect"] = b.bytes()

	b = (&builder{}).mem(1000, 1000)
	b.fn("run", []byte{i32}, nil, nil, loop(c32(0), c32(1), c32(1000*65536), misc(11, 0), c32(8), c32(0), c32(999*65536), misc(10, 0, 0), br(0)))
	guests["long ranges"] = b.bytes()

	// Straight code that calls straight code: no loop, and millions of operators
	// for each call.
	b = &builder{}
	work := repeat(cat(c32(1), drop()), 20_000)
	b.fn("", nil, nil, nil, work)
	b.fn("", nil, nil, nil, repeat(call(0), 20_000))
	b.fn("", nil, nil, nil, repeat(call(1), 20_000))
	b.fn("run", []byte{i32}, nil, nil, repeat(call(2), 1000))
	guests["straight code"] = b.bytes()
	return guests
}

// A guest of any shape stops when another goroutine lowers its limit.
func TestStopFromOutside(t *testing.T) {
	t.Parallel()
	e := compiler(t)
	for name, plain := range endless() {
		m := e.instantiate(t, instrument(t, plain))
		setLimit(m, noLimit)
		f := m.ExportedFunction("run")
		var args []uint64
		if len(f.Definition().ParamTypes()) > 0 {
			args = []uint64{1000}
		}
		begun, ended := make(chan struct{}), make(chan time.Time)
		go func() {
			close(begun)
			_, err := f.Call(t.Context(), args...)
			if err == nil {
				t.Error(name, "came to an end")
			}
			ended <- time.Now()
		}()
		<-begun
		// The guest takes no notice of the host; a second run, stopped by its
		// own limit, takes long enough for the first to be under way.
		other := e.instantiate(t, instrument(t, one(nil, nil, nil, loop(br(0)))))
		require.NotEmpty(t, invokeIn(t, other, 50_000_000, "run").trap)
		asked := time.Now()
		setLimit(m, 0)
		late := (<-ended).Sub(asked)
		t.Logf("%s: stopped after %v", name, late)
		require.Less(t, late, 10*time.Second, "%s: a loaded machine is slow, but not like this", name)
		require.Positive(t, global(m, meter.UsedGlobal).Get(), name)
		require.NoError(t, m.Close(t.Context()))
	}
}

// TestRuleNextIsLookedAt: a guest whose limit is lowered goes on to its next pause,
// unless its host asks it to look at once.
func TestRuleNextIsLookedAt(t *testing.T) {
	t.Parallel()
	b := &builder{}
	host := b.importFunc("env", "host", nil, nil)
	b.fn("run", nil, nil, []byte{i32}, call(host), times(0, 1000))
	e := compiler(t)
	atOnce := false
	e.provide(t, func(_ context.Context, m api.Module) {
		setLimit(m, 0)
		if atOnce {
			global(m, meter.NextGlobal).Set(0)
		}
	})
	module := instrument(t, b.bytes())
	got := e.invoke(t, module, noLimit, "run")
	require.Empty(t, got.trap)
	require.Equal(t, uint64(2+2+1000*5), got.used)
	atOnce = true
	got = e.invoke(t, module, noLimit, "run")
	require.NotEmpty(t, got.trap)
	require.Less(t, got.used, uint64(20))
}

// TestRulePauses: on one processor, another goroutine runs only when the guest lets
// it, at the heads of its loops and between the pieces of a long range.
func TestRulePauses(t *testing.T) { //nolint:paralleltest // it sets GOMAXPROCS
	const size = 512 << 20 // of which nothing is written until the range is
	fill := (&builder{}).mem(size>>16, size>>16)
	fill.fn("run", nil, nil, nil, c32(0), c32(1), c32(size), misc(11, 0))
	e := compiler(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for name, tt := range map[string]struct {
		module []byte
		limit  uint64
		stops  bool
	}{
		"a loop":                         {instrument(t, endless()["br_if"]), noLimit, true},
		"a loop, without the rule":       {instrument(t, endless()["br_if"], meter.Switches{NoPauses: true}), 1 << 28, false},
		"a long range":                   {instrument(t, fill.bytes()), noLimit, true},
		"a long range, without the rule": {instrument(t, fill.bytes(), meter.Switches{NoPieces: true}), noLimit, false},
	} {
		m := e.instantiate(t, tt.module)
		setLimit(m, tt.limit)
		done := make(chan struct{})
		runtime.Gosched() // a new slice of time
		go func() {
			defer close(done)
			setLimit(m, 0)
		}()
		_, _ = m.ExportedFunction("run").Call(t.Context()) // ends by a limit, or the range does
		last := byte(0)
		if m.Memory().Size() == size {
			last, _ = m.Memory().ReadByte(size - 1)
		}
		require.Equal(t, tt.stops, global(m, meter.UsedGlobal).Get() <= tt.limit && last == 0, name)
		<-done
		require.NoError(t, m.Close(t.Context()))
	}
}

func TestRuleLoopsAreChecked(t *testing.T) {
	t.Parallel()
	plain := one(nil, nil, []byte{i32}, times(0, 1000))
	e := compiler(t)
	with := e.invoke(t, instrument(t, plain), 100, "run")
	without := e.invoke(t, instrument(t, plain, meter.Switches{NoChecks: true}), 100, "run")
	require.NotEmpty(t, with.trap)
	require.Less(t, with.used, uint64(110))
	require.Empty(t, without.trap)
	require.Equal(t, uint64(1+2+1000*5), without.used)
}

// Between two looks at the limit there is a bounded amount of work, whatever the
// shape of the code.
func TestStopIsNeverLate(t *testing.T) {
	t.Parallel()
	e := compiler(t)
	for name, plain := range endless() {
		m := e.instantiate(t, instrument(t, plain))
		const limit = 1_000_000
		var args []uint64
		f := m.ExportedFunction("run")
		if len(f.Definition().ParamTypes()) > 0 {
			args = []uint64{1000}
		}
		got := invokeIn(t, m, limit, "run", args...)
		require.NotEmpty(t, got.trap, name)
		require.Zero(t, got.stop, name)
		require.Greater(t, got.used, uint64(limit), name)
		over := uint64(4096)
		if name == "long ranges" {
			over = 1000 * 1024
		}
		if name == "straight code" {
			over = 3 * 40_000 // what is certain to run is paid ahead
		}
		require.Less(t, got.used, limit+over, name)
		require.NoError(t, m.Close(t.Context()))
	}
}
