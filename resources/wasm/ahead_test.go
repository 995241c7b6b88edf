package wasm_test

import (
	"bytes"
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm"
)

// TestAhead: a module is compiled when it comes and before any task is prepared, once,
// whoever else wants it meanwhile; the runs that follow compile nothing.
func TestAhead(t *testing.T) {
	t.Parallel()
	task := newLargeTask()
	begun, goOn := make(chan struct{}, 16), make(chan struct{})
	e := newExecutor(t, func(c *wasm.Config) {
		c.CacheDir, c.CompileWorkers = filepath.Join(t.TempDir(), "cache"), 4
		c.Compile = func(ctx context.Context, folder string, module []byte) error {
			begun <- struct{}{}
			<-goOn
			return wasm.CompileInto(ctx, folder, bytes.NewReader(module))
		}
	})
	came := func() {
		e.Ahead(t.Context(), task.Algorithm, func(ctx context.Context) (resources.Blob, error) { return task.Content.Open(ctx, task.Algorithm) })
	}
	came()
	<-begun // and nobody has asked for a run
	came()
	var runs sync.WaitGroup
	for range 3 {
		runs.Go(func() {
			prepared, err := e.Prepare(t.Context(), task)
			if err != nil {
				t.Error(err)
				return
			}
			if err := prepared.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	close(goOn)
	runs.Wait()
	stdout, _, err := run(t, e, task)
	require.NoError(t, err)
	require.Contains(t, stdout, "top 2 a")
	require.NoError(t, e.Close())
	came()
	require.Empty(t, begun, "compiled once")
}

// TestAheadIsBounded: one module at a time, a few that wait, and Close ends them all.
func TestAheadIsBounded(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	var now, most, opened atomic.Int64
	first := make(chan struct{})
	for i := range 100 {
		e.Ahead(t.Context(), mman.SumCID(mman.CodecRaw, []byte{byte(i)}), func(ctx context.Context) (resources.Blob, error) {
			most.Store(max(most.Load(), now.Add(1)))
			if opened.Add(1) == 1 {
				close(first)
			}
			<-ctx.Done()
			now.Add(-1)
			return nil, context.Cause(ctx)
		})
	}
	<-first
	require.NoError(t, e.Close())
	require.Equal(t, int64(1), most.Load())
	require.LessOrEqual(t, opened.Load(), int64(16))
}
