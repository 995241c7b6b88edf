package wasm_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// typing is an Input that a test fills.
type typing struct {
	lines chan string
	end   error // of Read, once lines is closed
}

func newTyping() *typing { return &typing{lines: make(chan string), end: io.EOF} }

func (i *typing) Ready() bool { return false }

func (i *typing) Read(ctx context.Context, p []byte) (int, error) {
	select {
	case line, ok := <-i.lines:
		if !ok {
			return 0, i.end
		}
		return copy(p, line), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// answers takes what the guest writes.
type answers chan string

func (a answers) Write(p []byte) (int, error) {
	a <- string(p)
	return len(p), nil
}

type parted struct {
	result resources.Result
	err    error
}

// converse starts the module with input and credit.
func converse(t *testing.T, e *wasm.Executor, module []byte, in resources.Input, credit resources.Credit, change ...func(*resources.Task)) (answers, <-chan parted, context.CancelCauseFunc) {
	t.Helper()
	task, _ := newTask(module)
	for _, f := range change {
		f(&task)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	prepared, err := e.Prepare(ctx, task)
	require.NoError(t, err)
	out, done := make(answers, 16), make(chan parted, 1)
	go func() {
		result, err := e.Run(ctx, prepared, resources.IO{Stdout: out, Stdin: in, Credit: credit})
		done <- parted{result, err}
	}()
	return out, done, cancel
}

func TestConversation(t *testing.T) {
	t.Parallel()
	in := newTyping()
	out, done, _ := converse(t, newExecutor(t), wasmtest.Echo(), in, nil)
	for _, line := range []string{"hello", "again"} {
		in.lines <- line
		require.Equal(t, line, <-out)
	}
	close(in.lines)
	got := <-done
	require.NoError(t, got.err)
	require.EqualValues(t, 10, got.result.Usage.InBytes)
	require.EqualValues(t, 10, got.result.Usage.OutBytes)
}

// TestWaitingGuestsTakeNoPlace: many guests wait for input where one may compute,
// and another run is not held up by them.
func TestWaitingGuestsTakeNoPlace(t *testing.T) {
	t.Parallel()
	e := newExecutor(t, func(c *wasm.Config) { c.MaxRuns, c.MaxInteractive = 1, 20 })
	var ins []*typing
	var outs []answers
	var ends []<-chan parted
	for range 20 {
		in := newTyping()
		out, done, _ := converse(t, e, wasmtest.Echo(), in, nil)
		in.lines <- "ready"
		require.Equal(t, "ready", <-out)
		ins, outs, ends = append(ins, in), append(outs, out), append(ends, done)
	}
	_, done, _ := converse(t, e, wasmtest.Echo(), newTyping(), nil)
	require.ErrorIs(t, (<-done).err, mman.ErrBusy)
	task, _ := newTask(wasmtest.Print("hi"))
	text, _, err := run(t, e, task)
	require.NoError(t, err)
	require.Equal(t, "hi", text)
	for i, in := range ins {
		in.lines <- "bye"
		require.Equal(t, "bye", <-outs[i])
		close(in.lines)
		require.NoError(t, (<-ends[i]).err)
	}
}

func TestConversationEnds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		want error
		do   func(in *typing, cancel context.CancelCauseFunc)
		task func(*resources.Task)
	}{
		"canceled": {want: mman.ErrCanceled, do: func(_ *typing, cancel context.CancelCauseFunc) { cancel(nil) }},
		"unpaid":   {want: mman.ErrUnpaid, do: func(_ *typing, cancel context.CancelCauseFunc) { cancel(mman.ErrUnpaid) }},
		"idle": {want: mman.ErrIdle, do: func(in *typing, _ context.CancelCauseFunc) {
			in.end = mman.ErrIdle
			close(in.lines)
		}},
		"wall time":      {want: mman.ErrWall, do: func(*typing, context.CancelCauseFunc) {}, task: func(t *resources.Task) { t.Limits.WallMs = 30 }},
		"too much input": {want: mman.ErrInputLimit, do: func(in *typing, _ context.CancelCauseFunc) { in.lines <- "more" }, task: func(t *resources.Task) { t.Limits.InputBytes = 3 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := newTyping()
			change := tc.task
			if change == nil {
				change = func(*resources.Task) {}
			}
			_, done, cancel := converse(t, newExecutor(t), wasmtest.Echo(), in, nil, change)
			tc.do(in, cancel)
			require.ErrorIs(t, (<-done).err, tc.want)
		})
	}
}

// purse is a Credit that a test fills.
type purse struct {
	mu      sync.Mutex
	out     uint64 // bytes out that are paid
	fuel    uint64
	asked   chan resources.Usage // what was not covered
	changed chan struct{}
}

func newPurse(out, fuel uint64) *purse {
	return &purse{out: out, fuel: fuel, asked: make(chan resources.Usage, 16), changed: make(chan struct{})}
}

func (p *purse) Covers(used resources.Usage) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if used.OutBytes > p.out {
		p.asked <- used
		return false
	}
	return true
}

func (p *purse) change() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *purse) Await(ctx context.Context, used resources.Usage) error {
	for {
		changed := p.change()
		if p.Covers(used) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *purse) Fuel() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fuel
}

func (p *purse) MoreFuel(ctx context.Context, than uint64) (uint64, error) {
	for {
		changed := p.change()
		if fuel := p.Fuel(); fuel > than {
			return fuel, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (p *purse) fill(out, fuel uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out, p.fuel = out, fuel
	close(p.changed)
	p.changed = make(chan struct{})
}

// TestPausedForMoney: a guest whose window is empty rests in its next call to the
// host, at nobody's cost, and goes on when it is filled.
func TestPausedForMoney(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Unix(0, 0)
	pass := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	e := newExecutor(t, func(c *wasm.Config) {
		c.MaxRuns = 1
		c.Clock = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	in, p := newTyping(), newPurse(3, 1<<40)
	out, done, _ := converse(t, e, wasmtest.Echo(), in, p)
	in.lines <- "four"
	require.Equal(t, "four", <-out)
	asked := <-p.asked // more than three were written: the guest's next call waits
	require.EqualValues(t, 4, asked.OutBytes)
	pass(time.Hour)
	task, _ := newTask(wasmtest.Print("hi"))
	text, _, err := run(t, e, task) // its place is free meanwhile
	require.NoError(t, err)
	require.Equal(t, "hi", text)
	p.fill(100, 1<<40)
	in.lines <- "goes on"
	require.Equal(t, "goes on", <-out)
	close(in.lines)
	got := <-done
	require.NoError(t, got.err)
	require.Less(t, got.result.Usage.WallMs, uint64(1000), "a rest costs nothing")
}

// TestSilentGuest: a guest that computes without a word stops at what is paid
// for, which may be more by then.
func TestSilentGuest(t *testing.T) {
	t.Parallel()
	p := newPurse(1, 1_000_000)
	_, done, _ := converse(t, newExecutor(t), wasmtest.LoopForever(), newTyping(), p)
	got := <-done
	require.ErrorIs(t, got.err, mman.ErrUnpaid)
	require.EqualValues(t, 1_000_000, got.result.Usage.Fuel)

	// The limit of a guest that runs is raised: it goes on to its own.
	const limit = 2_000_000_000
	p = newPurse(1, 1_000_000_000)
	_, done, _ = converse(t, newExecutor(t), wasmtest.LoopForever(), newTyping(), p, func(t *resources.Task) { t.Limits.Fuel = limit })
	p.fill(1, 1<<40)
	got = <-done
	require.ErrorIs(t, got.err, mman.ErrFuel)
	require.EqualValues(t, limit, got.result.Usage.Fuel)
}
