package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	mman "github.com/limboid/massive-man"
)

// Config says where the databases are and how much they may take.
type Config struct {
	// Dir is the folder that holds both databases; it is made when missing.
	Dir string
	// Logger gets the database library's complaints. Required.
	Logger *slog.Logger
	// MinFree is how many bytes must stay free on the disk: below it, writes
	// fail with ErrDiskFull and deletions still work. Of blocks a quarter of it more
	// must stay free, so that content which fills a disk does not stop the ledger.
	// Default 256 MiB, 0 to 1 TiB.
	MinFree int64
	// MemTable is the size of one write buffer in bytes. Each database has one and,
	// while it writes much, up to four more that wait to become tables, each held
	// twice, as memory and as a mapped log; and beside them up to eight buffers of
	// 4/3 of it, rounded up to a power of two, in which tables are built. Default
	// 3 MiB; 1 to 64 MiB.
	MemTable int64
	// After is the clock behind the second for which another holder is waited for: one
	// that ends, or a program that this process starts, which has for a moment what
	// was closed meanwhile. time.After in a program; without one nobody is waited for.
	After func(time.Duration) <-chan time.Time
}

// DefaultConfig returns the configuration for a folder.
func DefaultConfig(dir string, logger *slog.Logger) Config {
	return Config{Dir: dir, Logger: logger, MinFree: 256 << 20, MemTable: 3 << 20}
}

// Validate checks every field and says which one is wrong.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return fmt.Errorf("%w: store: no folder is given", mman.ErrInvalid)
	case c.Logger == nil:
		return fmt.Errorf("%w: store %s: no logger is given", mman.ErrInvalid, c.Dir)
	case c.MinFree < 0 || c.MinFree > 1<<40:
		return fmt.Errorf("%w: store %s: min_free %d is not within 0 and 1 TiB", mman.ErrInvalid, c.Dir, c.MinFree)
	case c.MemTable < 1<<20 || c.MemTable > 64<<20:
		return fmt.Errorf("%w: store %s: mem_table %d is not within 1 and 64 MiB", mman.ErrInvalid, c.Dir, c.MemTable)
	}
	return nil
}

// Store is the two open databases of one home.
type Store struct {
	dir   string
	state *State
	data  *Data
}

// Open opens or makes the databases and repairs what a crash left. Errors:
// ErrOtherHolder when another process has them open, ErrCorrupt when they do
// not read, ErrHome when the folder cannot be used, ErrDiskFull.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	st, err := openState(cfg)
	if err != nil {
		return nil, err
	}
	data, err := openData(cfg)
	if err != nil {
		return nil, errors.Join(err, st.close())
	}
	trim(cfg.Dir) // opening read files that are not needed again soon
	return &Store{cfg.Dir, st, data}, nil
}

// State returns the ledger's database.
func (s *Store) State() *State { return s.state }

// Data returns the database of everything else.
func (s *Store) Data() *Data { return s.data }

// Close writes out what is buffered and closes both databases. No call may be
// running or follow, except Close again.
func (s *Store) Close() error { return errors.Join(s.state.close(), s.data.close()) }

// RunGC reclaims the disk space of deleted blocks and the memory of mapped files
// and writes the state out for good, once for each tick until ctx ends, and returns nil then. The caller owns the
// ticks; one in ten minutes is enough.
func (s *Store) RunGC(ctx context.Context, ticks <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			if err := errors.Join(s.state.sync(), s.data.collect(ctx)); err != nil {
				return err
			}
			trim(s.dir)
		}
	}
}

// open makes the folder and opens one badger in it.
func open(cfg Config, name string, valueThreshold, valueLog int64, managed bool) (*badger.DB, *space, error) {
	dir := filepath.Join(cfg.Dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, openError(dir, err)
	}
	room := &space{dir: dir, minFree: cfg.MinFree}
	if err := room.take(cfg.MemTable); err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", dir, err)
	}
	opts := badger.DefaultOptions(dir).
		WithLogger(logger{cfg.Logger.With(slog.String("database", name))}).
		WithMetricsEnabled(false).
		WithDetectConflicts(false). // single writers and blind writes only
		WithCompression(options.None).
		WithBlockCacheSize(0). // tables are mapped, the kernel caches them
		WithIndexCacheSize(0).
		WithMemTableSize(cfg.MemTable).
		WithNumMemtables(4).
		// Badger keeps up to eight buffers for tables until nothing has been built
		// for a while, each of the size of the largest table that was ever built in
		// it. All sizes are chosen so that every table fits into a buffer as it is
		// made, of twice the base size: those of write buffers,
		WithBaseTableSize(cfg.MemTable * 2 / 3).
		WithNumCompactors(2).
		WithNumLevelZeroTables(2).
		// those of level 0, of which four would be made into one large table where a
		// compaction is late,
		WithNumLevelZeroTablesStall(3).
		WithValueThreshold(min(valueThreshold, cfg.MemTable/10)).
		WithValueLogFileSize(valueLog).
		WithVerifyValueChecksum(true)
	opts.TableSizeMultiplier = 1 // and those of deep levels
	// At the start: a damaged block that is read later is a missing key.
	if err := errors.Join(checkTables(dir, opts), checkLogs(dir)); err != nil {
		return nil, nil, openError(dir, err)
	}
	openBadger := badger.Open
	if managed {
		openBadger = badger.OpenManaged
	}
	db, err := openBadger(opts)
	for logs, waits := 0, 0; err != nil; db, err = openBadger(opts) {
		switch {
		case strings.Contains(err.Error(), emptyLog) && logs < maxEmptyLogs:
			logs++
		case isHeld(err) && cfg.After != nil && waits < heldWaits:
			waits++
			<-cfg.After(heldPause)
		default:
			return nil, nil, openError(dir, err)
		}
	}
	return db, room, nil
}

const (
	// heldWaits and heldPause are how often and for how long somebody who holds a
	// database is waited for.
	heldWaits, heldPause = 20, 50 * time.Millisecond
	// emptyLog is what badger says of a log that has a name and no size yet, because
	// the process was killed in between. It gives the log its size and then refuses,
	// so that the next try finds nothing wrong.
	emptyLog = "Create a new file"
	// maxEmptyLogs is more logs than are made at one time.
	maxEmptyLogs = 8
)
