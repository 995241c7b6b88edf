package wasm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

func newExecutor(tb testing.TB, change ...func(*wasm.Config)) *wasm.Executor {
	tb.Helper()
	config := wasm.Config{Clock: time.Now, PrepareTimeout: time.Hour} // a busy machine compiles slowly
	for _, f := range change {
		f(&config)
	}
	e, err := wasm.New(config)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, e.Close()) })
	return e
}

func newTask(module []byte) (resources.Task, *resourcestest.Content) {
	content := &resourcestest.Content{}
	return resources.Task{Algorithm: content.Add(module), Limits: resources.DefaultLimits(), Content: content}, content
}

func run(tb testing.TB, e *wasm.Executor, task resources.Task) (string, resources.Result, error) {
	tb.Helper()
	prepared, err := e.Prepare(tb.Context(), task)
	require.NoError(tb, err)
	var stdout bytes.Buffer
	result, err := e.Run(tb.Context(), prepared, resources.IO{Stdout: &stdout})
	require.NoError(tb, prepared.Close())
	return stdout.String(), result, err
}

func TestConformance(t *testing.T) {
	t.Parallel()
	resourcestest.Run(t, resourcestest.Harness{
		New:             func(t *testing.T) resourcestest.Closer { t.Helper(); return newExecutor(t) },
		Echo:            wasmtest.Echo(),
		Args:            wasmtest.Args(),
		Exit3:           wasmtest.Exit(3),
		LoopForever:     wasmtest.LoopForever(),
		AllocateForever: wasmtest.AllocateForever(),
		PrintForever:    wasmtest.PrintForever(),
		Trap:            wasmtest.Trap(),
		ReadInput:       wasmtest.ReadInput(),
		NotProgram:      []byte("#!/bin/sh\necho no\n"),
		ForbiddenImport: wasmtest.ForbiddenImport(),
		ClockRandom:     wasmtest.ClockRandom(),
	})
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]wasm.Config{
		"no clock":      {},
		"negative runs": {Clock: time.Now, MaxRuns: -1},
		"workers":       {Clock: time.Now, CompileWorkers: 65},
		"timeout":       {Clock: time.Now, PrepareTimeout: time.Nanosecond},
		"cache":         {Clock: time.Now, CacheBytes: -1},
		"disk cache":    {Clock: time.Now, CacheDirBytes: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := wasm.New(config)
			require.ErrorIs(t, err, mman.ErrInvalid)
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := wasm.New(wasm.Config{Clock: time.Now, CacheDir: file})
	require.ErrorIs(t, err, mman.ErrHome)
}

func TestPublishedWorldOfGuests(t *testing.T) {
	t.Parallel()
	task, _ := newTask(wasmtest.ClockRandom())
	stdout, _, err := run(t, newExecutor(t), task)
	require.NoError(t, err)
	// 1 µs after 2025-01-01T00:00:00Z, 2 µs since the start, and ChaCha8.
	want := binary.LittleEndian.AppendUint64(nil, 1_735_689_600_000_001_000)
	want = binary.LittleEndian.AppendUint64(want, 2_000)
	random := make([]byte, 16)
	_, err = rand.NewChaCha8(sha256.Sum256(append([]byte("mman/wasm/random/1\x00"), make([]byte, 32)...))).Read(random)
	require.NoError(t, err)
	require.Equal(t, append(want, random...), []byte(stdout))
}

func TestRunsWaitForAPlace(t *testing.T) {
	t.Parallel()
	e := newExecutor(t, func(c *wasm.Config) { c.MaxRuns = 1 })
	task, content := newTask(wasmtest.Echo())
	var begun <-chan struct{}
	task.Stdin, begun = content.AddBlocked([]byte("x"))
	first, err := e.Prepare(t.Context(), task)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := e.Run(ctx, first, resources.IO{})
		ended <- err
	}()
	<-begun

	task.Stdin = mman.CID{}
	second, err := e.Prepare(t.Context(), task)
	require.NoError(t, err)
	short, stopShort := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stopShort()
	result, err := e.Run(short, second, resources.IO{})
	require.ErrorIs(t, err, mman.ErrCanceled)
	require.Zero(t, result.Usage, "waiting costs nothing")

	stop()
	require.ErrorIs(t, <-ended, mman.ErrCanceled)
	_, _, err = run(t, e, task)
	require.NoError(t, err)
}

func TestProgressIsReportedWhileTheGuestRuns(t *testing.T) {
	t.Parallel()
	ticks := make(chan time.Time)
	var now sync.Mutex
	clock := time.Unix(0, 0)
	e := newExecutor(t, func(c *wasm.Config) {
		c.Clock = func() time.Time {
			now.Lock()
			defer now.Unlock()
			clock = clock.Add(1500 * time.Microsecond)
			return clock
		}
		c.Ticker = func(period time.Duration) (<-chan time.Time, func()) {
			require.Equal(t, 250*time.Millisecond, period)
			return ticks, func() {}
		}
	})
	task, content := newTask(wasmtest.Echo())
	var begun <-chan struct{}
	task.Stdin, begun = content.AddBlocked([]byte("12345"))
	prepared, err := e.Prepare(t.Context(), task)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	reports := make(chan resources.Usage, 2)
	go func() {
		<-begun
		ticks <- time.Time{}
		ticks <- time.Time{}
		stop()
	}()
	result, err := e.Run(ctx, prepared, resources.IO{Progress: func(u resources.Usage) { reports <- u }})
	require.ErrorIs(t, err, mman.ErrCanceled)
	for _, wall := range []uint64{2, 3} {
		got := <-reports
		require.Positive(t, got.Fuel)
		require.Equal(t, resources.Usage{Fuel: got.Fuel, WallMs: wall, InBytes: 5, CallCount: 1}, got)
	}
	require.Positive(t, result.Usage.Fuel)
	require.Equal(t, resources.Usage{Fuel: result.Usage.Fuel, WallMs: 5, InBytes: 5, CallCount: 1}, result.Usage)
}

func TestMemoryThatAGuestStartsWithIsChecked(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	task, _ := newTask((&wasmtest.Builder{MinPages: 17}).Command(0))
	task.Limits.MemoryBytes = 1 << 20
	_, err := e.Prepare(t.Context(), task)
	require.ErrorIs(t, err, mman.ErrMemory)
	task.Limits.MemoryBytes += 64 << 10
	_, _, err = run(t, e, task)
	require.NoError(t, err)
}

func TestExitCodesOfTheEngineMeanNothingSpecial(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	for _, code := range []int32{0, 1, -1, -0x10000001} { // wazero's own for a context that ended
		task, _ := newTask(wasmtest.Exit(code))
		_, result, err := run(t, e, task)
		require.NoError(t, err)
		require.Equal(t, uint32(code), result.ExitCode)
	}
}

// TestCompiledModulesAreKeptWithinTheirBound runs more modules than the cache
// holds, again and again, while some are in use.
func TestCompiledModulesAreKeptWithinTheirBound(t *testing.T) {
	t.Parallel()
	e := newExecutor(t, func(c *wasm.Config) { c.CacheBytes = 1 })
	held, _ := newTask(wasmtest.Exit(200))
	prepared, err := e.Prepare(t.Context(), held)
	require.NoError(t, err)
	var group sync.WaitGroup
	for i := range int32(24) {
		group.Go(func() {
			task, _ := newTask(wasmtest.Exit(i % 6))
			prepared, err := e.Prepare(t.Context(), task)
			if err != nil {
				t.Error(err)
				return
			}
			result, err := e.Run(t.Context(), prepared, resources.IO{})
			if err != nil || result.ExitCode != uint32(i%6) {
				t.Errorf("run %d: %v, %v", i, result, err)
			}
		})
	}
	group.Wait()
	result, err := e.Run(t.Context(), prepared, resources.IO{})
	require.NoError(t, err)
	require.EqualValues(t, 200, result.ExitCode)
}

func cacheFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}))
	return files
}

func TestDiskCache(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	config := func(c *wasm.Config) { c.CacheDir = dir }
	task, _ := newTask(wasmtest.Print("hello"))
	for range 2 {
		stdout, _, err := run(t, newExecutor(t, config), task)
		require.NoError(t, err)
		require.Equal(t, "hello", stdout)
		require.Len(t, cacheFiles(t, dir), 2, "the machine code and the sums")
	}

	for _, file := range cacheFiles(t, dir) {
		require.NoError(t, os.WriteFile(file, []byte("damaged"), 0o600))
	}
	stdout, _, err := run(t, newExecutor(t, config), task)
	require.NoError(t, err)
	require.Equal(t, "hello", stdout)

	other, _ := newTask(wasmtest.Print("world"))
	stdout, _, err = run(t, newExecutor(t, config, func(c *wasm.Config) { c.CacheDirBytes = 1 }), other)
	require.NoError(t, err)
	require.Equal(t, "world", stdout)
	require.Empty(t, cacheFiles(t, dir))
}

func TestPrepareHasATimeLimit(t *testing.T) {
	t.Parallel()
	e := newExecutor(t, func(c *wasm.Config) { c.PrepareTimeout = 20 * time.Millisecond })
	task, content := newTask(wasmtest.Echo())
	task.Algorithm, _ = content.AddBlocked(wasmtest.Nothing())
	_, err := e.Prepare(t.Context(), task)
	require.ErrorIs(t, err, mman.ErrTimeout)
}

// BenchmarkRunTrivial is the cost of a warm run: a module that is compiled
// already and returns at once.
func BenchmarkRunTrivial(b *testing.B) {
	e := newExecutor(b)
	task, _ := newTask(wasmtest.Nothing())
	b.ReportAllocs()
	for b.Loop() {
		prepared, err := e.Prepare(b.Context(), task)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.Run(b.Context(), prepared, resources.IO{}); err != nil {
			b.Fatal(err)
		}
	}
}
