package container

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
)

// What every program sees.
const (
	// DataDir is where the inputs are mounted read-only, the i-th as DataDir/<i>.
	DataDir = "/data"
	// ScratchDir is the one folder that a program may write to, in memory, empty
	// at first, and gone with the run.
	ScratchDir = "/tmp"
	// ScratchMaxBytes bounds its files; they count as memory too.
	ScratchMaxBytes = 64 << 20
	// Processes is how many processes and threads a program may have.
	Processes = 128
	// userProcesses is how many the programs of one user may have together.
	userProcesses = 32768
	// OpenFiles is how many files one of its processes may have open.
	OpenFiles = 1024
	// MinMemoryBytes is the smallest memory limit; engines refuse less.
	MinMemoryBytes = 6 << 20
)

// RuntimeGVisor is the name under which engines know gVisor.
const RuntimeGVisor = "runsc"

// Config configures an Executor. The zero value of every field but the first five
// means its default.
type Config struct {
	// Host is the engine's address, for example unix:///var/run/docker.sock.
	// Required.
	Host string
	// Dir is a folder of this executor alone, on the engine's machine. What is in
	// it is removed at the start. Required.
	Dir string
	// Owner tells what this executor made in the engine from what others did:
	// 1 to 64 of a-z, 0-9 and -. The same after a restart. Required.
	Owner string
	// Clock tells the time that runs are billed by. Required.
	Clock func() time.Time
	// After is that clock's alarm, time.After in a program. Required.
	After func(time.Duration) <-chan time.Time
	// Ticker starts a ticker with the given period and returns its channel and
	// what stops it. Without one there are no progress reports.
	Ticker func(period time.Duration) (ticks <-chan time.Time, stop func())
	// Plain runs programs with the engine's usual runtime even where it has gVisor.
	Plain bool
	// MaxRuns bounds the programs that run at a time; more wait. Default 2,
	// 1 to 1024.
	MaxRuns int
	// MaxInteractive bounds the interactive programs that live at a time; more are
	// refused. Default 64, 1 to 4096.
	MaxInteractive int
	// Warm is how many containers stand ready for each image for which some shall.
	// Default 2, 1 to 64.
	Warm int
	// WarmMost bounds them in all. Default 8, 1 to 1024.
	WarmMost int
	// MaxHosted bounds the hosted programs that live at a time, HostedBytes the memory
	// that is set aside for them; more are refused. Defaults 8, 1 to 4096, and half of
	// the engine's memory, up to 16 TiB.
	MaxHosted   int
	HostedBytes uint64
	// PrepareTimeout bounds one Prepare, with its waiting and loading. Default
	// 5 min, 1 s to 1 h.
	PrepareTimeout time.Duration
	// ImageBytes bounds one image, unpacked. Default 4 GiB, up to 1 TiB.
	ImageBytes uint64
	// CacheBytes bounds the images that are kept in the engine; what was not used
	// for longest goes first, and those in use stay. Default 16 GiB, up to 16 TiB.
	CacheBytes uint64
}

func (c Config) withDefaults() Config {
	if c.MaxRuns == 0 {
		c.MaxRuns = 2
	}
	if c.MaxInteractive == 0 {
		c.MaxInteractive = 64
	}
	if c.Warm == 0 {
		c.Warm = 2
	}
	if c.WarmMost == 0 {
		c.WarmMost = 8
	}
	if c.MaxHosted == 0 {
		c.MaxHosted = 8
	}
	if c.PrepareTimeout == 0 {
		c.PrepareTimeout = 5 * time.Minute
	}
	if c.ImageBytes == 0 {
		c.ImageBytes = 4 << 30
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 16 << 30
	}
	return c
}

// Validate reports the first field that is out of its range, wrapping
// mman.ErrInvalid.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.Clock == nil || c.After == nil:
		return fmt.Errorf("%w: container config: clock is not set", mman.ErrInvalid)
	case c.Host == "":
		return fmt.Errorf("%w: container config: the engine's address is not set", mman.ErrInvalid)
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("%w: container config: folder %q: an absolute path is needed", mman.ErrInvalid, c.Dir)
	case c.Owner == "" || len(c.Owner) > 64 || strings.Trim(c.Owner, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return fmt.Errorf("%w: container config: owner %.80q: 1 to 64 of a-z, 0-9 and -", mman.ErrInvalid, c.Owner)
	}
	for _, f := range []struct {
		name            string
		value, low, top uint64
	}{
		{"max_runs", uint64(max(0, c.MaxRuns)), 1, 1024},
		{"max_interactive", uint64(max(0, c.MaxInteractive)), 1, 4096},
		{"warm", uint64(max(0, c.Warm)), 1, 64},
		{"warm_most", uint64(max(0, c.WarmMost)), 1, 1024},
		{"max_hosted", uint64(max(0, c.MaxHosted)), 1, 4096},
		{"hosted_bytes", c.HostedBytes, 0, 16 << 40},
		{"prepare_timeout (ms)", uint64(max(0, c.PrepareTimeout.Milliseconds())), 1000, 3_600_000},
		{"image_bytes", c.ImageBytes, 1, 1 << 40},
		{"cache_bytes", c.CacheBytes, 1, 16 << 40},
	} {
		if f.value < f.low || f.value > f.top {
			return fmt.Errorf("%w: container config: %s is %d; use %d to %d", mman.ErrInvalid, f.name, f.value, f.low, f.top)
		}
	}
	return nil
}

// undefended switches defences off, one by one: tests show with it that each
// attack works without its defence. It is all false.
type undefended struct {
	memory       bool // as much memory as there is
	processes    bool // as many processes
	disk         bool // the image's files can be written, without a bound
	scratch      bool // the scratch folder has no bound of its own
	network      bool // the host's network
	devices      bool // the host's devices, and device files in images
	capabilities bool // the engine's usual ones, and an administrator's
	privileges   bool // programs with the setuid bit gain privileges
	root         bool // the program is root
	seccomp      bool // every system call
	sockets      bool // the engine's socket is mounted
	processesOf  bool // the host's processes can be seen
	masks        bool // the kernel's files that engines hide or make read-only
	output       bool // no bound of the output
	kill         bool // a program is asked to end
	names        bool // images keep the names that their archives give them
}
