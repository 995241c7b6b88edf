package wasm

import (
	"context"
	"fmt"
	"time"

	mman "github.com/limboid/massive-man"
)

// What every guest sees, whatever machine it runs on.
const (
	// ProgramName is the first argument of every guest.
	ProgramName = "algorithm"
	// DataDir is where the inputs are mounted, the i-th as DataDir/<i>.
	DataDir = "/data"
	// ScratchDir is the one folder that a guest may write to. It is empty at
	// first, in memory, and ends with the run.
	ScratchDir = "/tmp"
	// ScratchMaxBytes bounds what the guest's files take, with their names and
	// gaps in units of 4 KiB; together with the guest's memory they stay below
	// the memory limit.
	ScratchMaxBytes = 64 << 20
	// ClockEpoch is what the real-time clock starts from and the time of every
	// file that the guest did not write: 2025-01-01T00:00:00Z in nanoseconds of Unix time. The monotonic
	// clocks start from 0.
	ClockEpoch uint64 = 1_735_689_600_000_000_000
	// ClockStep is by how much, in nanoseconds, all clocks move each time one of
	// them is read. A sleep moves them by its length and takes no time.
	ClockStep uint64 = 1_000
)

// ModuleMaxBytes is the largest module that is admitted.
const ModuleMaxBytes = 32 << 20

// Config configures an Executor. The zero value of every field but Clock means
// its default.
type Config struct {
	// Clock tells the time that runs are billed by. Required.
	Clock func() time.Time
	// Ticker starts a ticker with the given period and returns its channel and
	// what stops it. Without one there are no progress reports.
	Ticker func(period time.Duration) (ticks <-chan time.Time, stop func())
	// MaxRuns bounds the guests that run at a time; more wait. Default 4,
	// 1 to 1024.
	MaxRuns int
	// MaxInteractive bounds the interactive guests that live at a time; more are
	// refused. One that waits, for input or for money, takes no place of MaxRuns.
	// Default 64, 1 to 4096.
	MaxInteractive int
	// CompileWorkers bounds the modules that are read and compiled at a time;
	// more wait. Compiling takes one core and about 50 times the module's size
	// in memory. Default 1, 1 to 64.
	CompileWorkers int
	// PrepareTimeout bounds one Prepare, with its waiting and compiling.
	// Default 60 s, 1 ms to 1 h.
	PrepareTimeout time.Duration
	// CacheBytes bounds the modules that are kept compiled in memory, by the
	// size of their source; the compiled form takes some five times as much.
	// Modules in use stay whatever their size. Default 64 MiB, up to 16 GiB.
	CacheBytes int64
	// CacheDir keeps compiled modules over restarts, each in a folder named
	// by its CID, with the hashes of what is in it; what is damaged is compiled
	// anew. It must be this user's alone, for machine code is run from it.
	// Default "": none are kept.
	CacheDir string
	// CacheDirBytes bounds the files of CacheDir; what was not used for longest
	// goes first.
	// Default 1 GiB, up to 1 TiB.
	CacheDirBytes int64
	// Compile has another process compile a large module, metered already, into a
	// folder of CacheDir, with CompileInto and all processors; this process does so
	// with one of its own threads, for a fault of the compiler's in another would end
	// it. What fails there is compiled here. Default nil: this process compiles all.
	Compile func(ctx context.Context, folder string, module []byte) error
}

func (c Config) withDefaults() Config {
	if c.MaxRuns == 0 {
		c.MaxRuns = 4
	}
	if c.MaxInteractive == 0 {
		c.MaxInteractive = 64
	}
	if c.CompileWorkers == 0 {
		c.CompileWorkers = 1
	}
	if c.PrepareTimeout == 0 {
		c.PrepareTimeout = time.Minute
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 64 << 20
	}
	if c.CacheDirBytes == 0 {
		c.CacheDirBytes = 1 << 30
	}
	return c
}

// Validate reports the first field that is out of its range, wrapping
// mman.ErrInvalid.
func (c Config) Validate() error {
	c = c.withDefaults()
	if c.Clock == nil {
		return fmt.Errorf("%w: wasm config: clock is not set", mman.ErrInvalid)
	}
	for _, f := range []struct {
		name            string
		value, low, top int64
	}{
		{"max_runs", int64(c.MaxRuns), 1, 1024},
		{"max_interactive", int64(c.MaxInteractive), 1, 4096},
		{"compile_workers", int64(c.CompileWorkers), 1, 64},
		{"prepare_timeout (ns)", int64(c.PrepareTimeout), int64(time.Millisecond), int64(time.Hour)},
		{"cache_bytes", c.CacheBytes, 1, 16 << 30},
		{"cache_dir_bytes", c.CacheDirBytes, 1, 1 << 40},
	} {
		if f.value < f.low || f.value > f.top {
			return fmt.Errorf("%w: wasm config: %s is %d; use %d to %d", mman.ErrInvalid, f.name, f.value, f.low, f.top)
		}
	}
	return nil
}
