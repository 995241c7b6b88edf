package wasm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// fuelFolder, in the environment, makes TestFuelIsTheSameEveryTime a process that
// counts the fuel of fuelRuns runs with its compiled modules in that folder.
const (
	fuelFolder = "MMAN_FUEL_FOLDER"
	fuelRuns   = "MMAN_FUEL_RUNS"
)

// TestFuelIsTheSameEveryTime runs a Go program MMAN_FUEL_RUNS times, 40 by default,
// several at a time beside a guest that never pauses by itself: in processes that have
// one and two processors, each started anew with the compiled modules of the first.
func TestFuelIsTheSameEveryTime(t *testing.T) {
	t.Parallel()
	runs := 40
	if text := os.Getenv(fuelRuns); text != "" {
		var err error
		runs, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	if dir := os.Getenv(fuelFolder); dir != "" {
		require.NoError(t, json.NewEncoder(os.Stdout).Encode(fuelUnderLoad(t, dir, runs)))
		return
	}
	fuel := map[uint64]int{}
	for _, processors := range []int{1, 2} {
		dir := filepath.Join(t.TempDir(), "cache")
		for restarted := range 2 {
			require.Equal(t, restarted == 1, len(cacheFiles(t, dir)) > 0)
			for used, n := range fuelInAProcess(t, dir, runs/4, processors) {
				fuel[used] += n
			}
		}
	}
	t.Logf("fuel of %d runs under load, on 1 and 2 processors, each a half before and after a restart: %v", runs/4*4, fuel)
	require.Len(t, fuel, 1)
}

// fuelInAProcess returns how many runs of a new process used how much.
func fuelInAProcess(t *testing.T, dir string, runs, processors int) (fuel map[uint64]int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFuelIsTheSameEveryTime$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), fuelFolder+"="+dir, fuelRuns+"="+strconv.Itoa(runs), "GOMAXPROCS="+strconv.Itoa(processors))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	onProcessors(t, processors, cmd.Start)
	require.NoError(t, cmd.Wait(), "%s%s", &stdout, &stderr)
	require.NoError(t, json.NewDecoder(&stdout).Decode(&fuel))
	return fuel
}

func fuelUnderLoad(t *testing.T, dir string, runs int) map[uint64]int {
	t.Helper()
	content := &resourcestest.Content{}
	task := resources.Task{
		Algorithm: content.Add(examples.WordcountModule()), Stdin: content.Add(examples.Book()[:20_000]),
		Limits: resources.DefaultLimits(), Content: content,
	}
	task.Limits.WallMs = resources.MaxLimits().WallMs
	busy, _ := newTask(wasmtest.LoopForever())
	busy.Limits.Fuel, busy.Limits.WallMs = resources.MaxLimits().Fuel, resources.MaxLimits().WallMs
	e := newExecutor(t, func(c *wasm.Config) { c.CacheDir = dir })
	once := func(ctx context.Context, task resources.Task) (resources.Result, error) {
		prepared, err := e.Prepare(ctx, task)
		if err != nil {
			return resources.Result{}, err
		}
		return e.Run(ctx, prepared, resources.IO{})
	}
	ctx, stop := context.WithCancel(t.Context())
	var load, work sync.WaitGroup
	load.Go(func() { _, _ = once(ctx, busy) }) // ends with stop
	fuel := map[uint64]int{}
	var mu sync.Mutex
	for half := range 2 {
		work.Go(func() {
			for range (runs + half) / 2 {
				result, err := once(t.Context(), task)
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
	return fuel
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
