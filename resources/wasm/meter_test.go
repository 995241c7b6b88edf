package wasm_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// TestFuelIsTheSameEveryTime runs a Go program MMAN_FUEL_RUNS times, 40 by
// default, several at a time beside guests that never pause by themselves, on one
// and on two processors, on a new and on a cached compiled module.
func TestFuelIsTheSameEveryTime(t *testing.T) { //nolint:paralleltest // it sets GOMAXPROCS
	runs := 40
	if text := os.Getenv("MMAN_FUEL_RUNS"); text != "" {
		var err error
		runs, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	content := &resourcestest.Content{}
	task := resources.Task{
		Algorithm: content.Add(examples.WordcountModule()), Stdin: content.Add(examples.Book()[:20_000]),
		Limits: resources.DefaultLimits(), Content: content,
	}
	busy, _ := newTask(wasmtest.LoopForever())
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	fuel := map[uint64]int{}
	for _, processors := range []int{1, 2} {
		runtime.GOMAXPROCS(processors)
		dir := filepath.Join(t.TempDir(), "cache")
		for restarted := range 2 { // a new module, and one from the folder
			written := len(cacheFiles(t, dir))
			require.Equal(t, restarted == 1, written > 0)
			e := newExecutor(t, func(c *wasm.Config) { c.CacheDir = dir })
			ctx, stop := context.WithCancel(t.Context())
			var load, work sync.WaitGroup
			prepared, err := e.Prepare(t.Context(), busy)
			require.NoError(t, err)
			load.Go(func() { _, _ = e.Run(ctx, prepared, resources.IO{}) }) // ends with stop
			var mu sync.Mutex
			for range 2 {
				work.Go(func() {
					for range runs / 8 {
						prepared, err := e.Prepare(t.Context(), task)
						if err != nil {
							t.Error(err)
							return
						}
						result, err := e.Run(t.Context(), prepared, resources.IO{})
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						fuel[result.Usage.Fuel]++
						mu.Unlock()
					}
				})
			}
			work.Wait()
			stop()
			load.Wait()
			require.NoError(t, e.Close())
		}
	}
	t.Logf("fuel of %d runs under load, on 1 and 2 processors, each a half before and after a restart: %v", runs/8*8, fuel)
	require.Len(t, fuel, 1)
}

// hostile are guests that do one bad thing without end. Each has the limit that it
// ends at.
func hostile() map[string]struct {
	module []byte
	want   error
	text   string
} {
	builder := func() *wasmtest.Builder { return &wasmtest.Builder{MinPages: 1} }
	write := builder()
	flood := write.ImportWASI("fd_write", 4)
	clock := builder()
	probe := clock.Import(wasmtest.WASI, "clock_time_get", []byte{wasmtest.I32, wasmtest.I64, wasmtest.I32}, []byte{wasmtest.I32})
	poll := builder()
	sleep := poll.ImportWASI("poll_oneoff", 4)
	type guest = struct {
		module []byte
		want   error
		text   string
	}
	// 0xfc 0x0f is table.grow, here by one reference to nothing.
	growTable := []byte{0xd0, 0x70, 0x41, 1, 0xfc, 0x0f, 0, 0x1a}
	zeros := append([]byte{0xfd, 12}, make([]byte, 16)...) // v128.const
	indirect := &wasmtest.Builder{MinPages: 1, Table: 1}
	return map[string]guest{
		"br":           {builder().Command(0, wasmtest.Loop(wasmtest.Br(0))), mman.ErrFuel, "1000000000"},
		"br_if":        {builder().Command(0, wasmtest.Loop(wasmtest.Const(1), wasmtest.BrIf(0))), mman.ErrFuel, "1000000000"},
		"br_table":     {builder().Command(0, wasmtest.Loop(wasmtest.Const(7), []byte{0x0e, 1, 0, 0})), mman.ErrFuel, "1000000000"},
		"recursion":    {builder().Command(0, wasmtest.Call(0)), mman.ErrGuestTrap, "words of stack"},
		"huge locals":  {builder().Command(5000, wasmtest.Call(0)), mman.ErrGuestTrap, "words of stack"},
		"indirect":     {indirect.Command(0, wasmtest.Const(0), []byte{0x11, 0, 0}), mman.ErrGuestTrap, "words of stack"},
		"start":        {(&wasmtest.Builder{MinPages: 1, Raw: wasmtest.Section(8, []byte{0})}).Command(0, wasmtest.Loop(wasmtest.Br(0))), mman.ErrFuel, "1000000000"},
		"start, deep":  {(&wasmtest.Builder{MinPages: 1, Raw: wasmtest.Section(8, []byte{0})}).Command(0, wasmtest.Call(0)), mman.ErrGuestTrap, "words of stack"},
		"vectors":      {builder().Command(0, wasmtest.Loop(zeros, zeros, []byte{0xfd, 0xe4, 1}, wasmtest.Drop(), wasmtest.Br(0))), mman.ErrFuel, "1000000000"},
		"deep nesting": {builder().Command(0, nested([]byte{0x02, 0x40}, 10_000), wasmtest.Loop(wasmtest.Br(0))), mman.ErrFuel, "1000000000"},
		"memory":       {builder().Command(0, wasmtest.Loop(wasmtest.Grow(16), wasmtest.Drop(), wasmtest.Br(0))), mman.ErrMemory, "asked for more"},
		"memory fills": {(&wasmtest.Builder{MinPages: 256}).Command(0, wasmtest.Loop(wasmtest.Const(0), wasmtest.Const(1), wasmtest.Const(1<<24), []byte{0xfc, 0x0b, 0}, wasmtest.Br(0))), mman.ErrFuel, "1000000000"},
		"table": {
			(&wasmtest.Builder{MinPages: 1, Table: 1}).Command(0, wasmtest.Loop(growTable, wasmtest.Br(0))), mman.ErrFuel, "1000000000",
		},
		"output":   {write.Command(0, wasmtest.Loop(wasmtest.CallWASI(flood, 1, 16, 1, 32), wasmtest.Br(0))), mman.ErrFuel, "1000000000"},
		"flood":    {wasmtest.PrintForever(), mman.ErrOutput, "100000 bytes"},
		"clock":    {clock.Command(0, wasmtest.Loop(wasmtest.Const(0), wasmtest.Const64(1), wasmtest.Const(64), wasmtest.Call(probe), wasmtest.Drop(), wasmtest.Br(0))), mman.ErrFuel, "1000000000"},
		"sleeping": {poll.Command(0, wasmtest.Loop(wasmtest.CallWASI(sleep, 64, 256, 1, 32), wasmtest.Br(0))), mman.ErrFuel, "1000000000"},
	}
}

// TestHostileGuestsEndAtTheirLimits: each with a code and a sentence, in bounded
// memory, while another run goes on.
func TestHostileGuestsEndAtTheirLimits(t *testing.T) {
	t.Parallel()
	e := newExecutor(t, func(c *wasm.Config) { c.MaxRuns = 32 })
	for name, guest := range hostile() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task, _ := newTask(guest.module)
			task.Limits = resources.Limits{WallMs: 600_000, MemoryBytes: 32 << 20, InputBytes: 1, OutputBytes: 100_000, Fuel: 1_000_000_000}
			if name == "clock" || name == "sleeping" || name == "output" { // host calls take longer than operators
				task.Limits.Fuel, guest.text = 1_000_000, "1000000"
			}
			_, result, err := run(t, e, task)
			require.ErrorIs(t, err, guest.want)
			require.ErrorContains(t, err, guest.text)
			require.Less(t, len(err.Error()), 300)
			require.LessOrEqual(t, result.Usage.Fuel, task.Limits.Fuel)
			require.LessOrEqual(t, result.Usage.OutBytes, task.Limits.OutputBytes)

			other, _ := newTask(wasmtest.Print("hello"))
			stdout, _, err := run(t, e, other)
			require.NoError(t, err)
			require.Equal(t, "hello", stdout)
		})
	}
}

// TestDiskCacheSurvivesAnything damages every compiled module in many ways.
func TestDiskCacheSurvivesAnything(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	config := func(c *wasm.Config) { c.CacheDir, c.CompileWorkers = dir, 2 }
	task, _ := newTask(wasmtest.Print("hello"))
	check := func(what string) {
		stdout, _, err := run(t, newExecutor(t, config), task)
		require.NoError(t, err, what)
		require.Equal(t, "hello", stdout, what)
	}
	check("new")
	files := cacheFiles(t, dir)
	require.Len(t, files, 2, "the machine code and the sums")
	for _, file := range files {
		whole, err := os.ReadFile(file)
		require.NoError(t, err)
		for cut := 0; cut < len(whole); cut += 1 + len(whole)/8 {
			require.NoError(t, os.WriteFile(file, whole[:cut], 0o600))
			check(fmt.Sprintf("%s cut after %d bytes", file, cut))
		}
		for i := 0; i < len(whole); i += 1 + len(whole)/32 {
			damaged := append([]byte(nil), whole...)
			damaged[i] ^= 0x41
			require.NoError(t, os.WriteFile(file, damaged, 0o600))
			check(fmt.Sprintf("%s byte %d of %d", file, i, len(whole)))
		}
		require.NoError(t, os.Remove(file))
		check(file + " removed")
	}
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(files[0]), "more"), nil, 0o600))
	check("a file too many")
	require.Len(t, cacheFiles(t, dir), 2)
}

// TestDiskCacheKeepsWhatWasUsedLast: a module that is used stays when others come.
func TestDiskCacheKeepsWhatWasUsedLast(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	var now time.Time
	bound := int64(1 << 20)
	config := func(c *wasm.Config) {
		c.CacheDir, c.CacheDirBytes = dir, bound
		c.Clock = func() time.Time { return now }
	}
	used, _ := newTask(wasmtest.Print("used"))
	for i := range 40 {
		now = time.Unix(int64(i+1)*1000, 0)
		for _, task := range []resources.Task{used, first(newTask(wasmtest.Exit(int32(i))))} {
			_, _, err := run(t, newExecutor(t, config), task)
			require.NoError(t, err)
		}
		if i == 0 {
			bound = 0
			for _, file := range cacheFiles(t, dir) {
				info, err := os.Stat(file)
				require.NoError(t, err)
				bound += 5 * info.Size()
			}
		}
	}
	_, err := os.Stat(filepath.Join(dir, used.Algorithm.String()))
	require.NoError(t, err)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Less(t, len(left), 40)
	require.Greater(t, len(left), 1)
}

func first[A, B any](a A, _ B) A { return a }
