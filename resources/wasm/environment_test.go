package wasm_test

import (
	"context"
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/environment"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// dripping is an input that comes in pieces of a size.
type dripping struct {
	rest []byte
	size int
}

func (d *dripping) Ready() bool { return d.size%2 == 0 }

func (d *dripping) Read(_ context.Context, p []byte) (int, error) {
	n := copy(p, d.rest[:min(d.size, len(d.rest))])
	if d.rest = d.rest[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// requests are a reset of n carts and some steps.
func requests(n uint32, steps int) []byte {
	le := binary.LittleEndian
	reset := le.AppendUint32(nil, n)
	for i := range n {
		reset = le.AppendUint64(append(reset, 2), uint64(i))
	}
	all := environment.AppendFrame(nil, environment.FrameReset, reset)
	for s := range steps {
		step := le.AppendUint32(nil, n)
		for range n {
			step = le.AppendUint64(step, uint64(s%2))
		}
		all = environment.AppendFrame(all, environment.FrameStep, step)
	}
	return environment.AppendFrame(all, environment.FrameClose, nil)
}

func isEnvironment(task *resources.Task) { task.Environment = true }

// TestEnvironmentIsTheSameAgain: the same requests have the same output and the same
// usage, however they come.
func TestEnvironmentIsTheSameAgain(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	var first resources.Usage
	var said string
	for i, size := range []int{1 << 20, 1, 7, 4096} {
		task, _ := newTask(examples.CartPoleModule())
		isEnvironment(&task)
		prepared, err := e.Prepare(t.Context(), task)
		require.NoError(t, err)
		var out written
		got, err := e.Run(t.Context(), prepared, resources.IO{Stdin: &dripping{requests(3, 40), size}, Stdout: &out})
		require.NoError(t, err)
		require.NoError(t, prepared.Close())
		require.EqualValues(t, 120, got.Usage.Steps)
		got.Usage.WallMs = 0
		if i == 0 {
			first, said = got.Usage, string(out)
		}
		require.Equal(t, first, got.Usage, "in pieces of %d", size)
		require.Equal(t, said, string(out), "in pieces of %d", size)
	}
}

type written []byte

func (w *written) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

// TestProgramsThatAreNoEnvironments end with a sentence, and cost what they used.
func TestProgramsThatAreNoEnvironments(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	for name, one := range map[string]struct {
		module []byte
		says   string
	}{
		"it prints":         {wasmtest.Print("hello, world"), "the first is its spec"},
		"it waits at once":  {wasmtest.Echo(), "before it has said what it is"},
		"it prints forever": {wasmtest.PrintForever(), "the first is its spec"},
	} {
		task, _ := newTask(one.module)
		isEnvironment(&task)
		prepared, err := e.Prepare(t.Context(), task)
		require.NoError(t, err, name)
		var out written
		got, err := e.Run(t.Context(), prepared, resources.IO{Stdin: &dripping{requests(1, 1), 64}, Stdout: &out})
		require.ErrorIs(t, err, mman.ErrEnvironment, name)
		require.ErrorContains(t, err, one.says, name)
		require.Empty(t, out, name)
		require.Positive(t, got.Usage.Fuel, name)
		require.Zero(t, got.Usage.Steps, name)
		require.NoError(t, prepared.Close())
	}
	task, _ := newTask(examples.CartPoleModule())
	isEnvironment(&task)
	prepared, err := e.Prepare(t.Context(), task)
	require.NoError(t, err)
	_, err = e.Run(t.Context(), prepared, resources.IO{})
	require.ErrorIs(t, err, mman.ErrInvalid, "nobody steps it")
	require.NoError(t, prepared.Close())
}
