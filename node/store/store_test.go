package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/state/statetest"
	"github.com/limboid/massive-man/node/store"
)

var _ blockstore.Blockstore = (*store.Blocks)(nil)

// config is small, so that blocks and batches are cut into several writes.
func config(dir string) store.Config {
	cfg := store.DefaultConfig(dir, slog.New(slog.DiscardHandler))
	cfg.MemTable, cfg.MinFree, cfg.After = 1<<20, 0, time.After
	return cfg
}

func open(t *testing.T, cfg store.Config) *store.Store {
	t.Helper()
	s, err := store.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestStateConforms(t *testing.T) {
	t.Parallel()
	statetest.Run(t, rand.Uint64(), func(t *testing.T) statetest.Opener {
		t.Helper()
		cfg := config(t.TempDir())
		var s *store.Store
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return func(t *testing.T) state.DB {
			t.Helper()
			if s != nil {
				require.NoError(t, s.Close())
			}
			var err error
			s, err = store.Open(cfg)
			require.NoError(t, err)
			return s.State()
		}
	})
}

func TestStateForgetsBlockWithoutMarker(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	s, err := store.Open(cfg)
	require.NoError(t, err)
	require.NoError(t, s.State().CrashInBlock([]state.Change{{Key: "a/0", Value: []byte("first")}}))
	require.NoError(t, s.Close())

	s, err = store.Open(cfg)
	require.NoError(t, err)
	ledger, err := state.Open(s.State())
	require.NoError(t, err)
	commit := func(height uint64, block map[string]string) {
		o := ledger.Begin()
		for _, key := range slices.Sorted(maps.Keys(block)) {
			if block[key] == "" {
				require.NoError(t, o.Delete("a", []byte(key)))
			} else {
				require.NoError(t, o.Set("a", []byte(key), []byte(block[key])))
			}
		}
		staged, err := ledger.Stage(o)
		require.NoError(t, err)
		require.NoError(t, ledger.Commit(staged, height, []byte("data")))
	}
	commit(1, map[string]string{"1": "one", "2": "two"})
	root := ledger.Root()
	require.NoError(t, s.State().CrashInBlock([]state.Change{
		{Key: "a/1", Value: []byte("changed")},
		{Key: "a/2"},
		{Key: "a/3", Value: []byte("new")},
	}))
	require.NoError(t, s.Close())

	s = open(t, cfg)
	ledger, err = state.Open(s.State())
	require.NoError(t, err)
	require.Equal(t, uint64(1), ledger.Height())
	require.Equal(t, root, ledger.Root())
	require.Equal(t, "data", string(ledger.Latest().Data()))
	commit(2, map[string]string{"4": "another block than before"})
	require.Equal(t, 3, ledger.Latest().Len())
	again, err := state.Open(s.State())
	require.NoError(t, err)
	require.Equal(t, ledger.Root(), again.Root())
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	t.Run("held by another", func(t *testing.T) {
		t.Parallel()
		cfg := config(t.TempDir())
		open(t, cfg)
		_, err := store.Open(cfg)
		require.ErrorIs(t, err, mman.ErrOtherHolder)
		require.ErrorContains(t, err, fmt.Sprintf("process %d", os.Getpid()))
	})
	for _, name := range []string{"state", "data"} {
		t.Run("damaged "+name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t.TempDir())
			s, err := store.Open(cfg)
			require.NoError(t, err)
			require.NoError(t, s.Close())
			require.NoError(t, s.Close(), "twice")
			require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, name, "MANIFEST"), []byte("not a manifest"), 0o600))
			_, err = store.Open(cfg)
			require.ErrorIs(t, err, mman.ErrCorrupt)
		})
	}
	t.Run("damaged tables", func(t *testing.T) {
		t.Parallel()
		cfg := config(t.TempDir())
		s, err := store.Open(cfg)
		require.NoError(t, err)
		for i := range 2000 {
			require.NoError(t, s.Data().Namespace(store.NamespacePublicBlocks).Set([]byte(strconv.Itoa(i)), []byte("value")))
		}
		require.NoError(t, s.Close())
		tables, err := filepath.Glob(filepath.Join(cfg.Dir, "data", "*.sst"))
		require.NoError(t, err)
		require.NotEmpty(t, tables)
		good, err := os.ReadFile(tables[0])
		require.NoError(t, err)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 7))
		for i := range 60 {
			bad := slices.Clone(good)
			for range 1 + i%20 {
				bad[rng.IntN(len(bad))] ^= byte(1 + rng.IntN(255))
			}
			if i%3 == 0 { // and where the lengths are
				bad[len(bad)-1-rng.IntN(40)] ^= byte(1 + rng.IntN(255))
			}
			if i%7 == 0 {
				bad = bad[:rng.IntN(len(bad))]
			}
			if bytes.Equal(bad, good) {
				continue
			}
			require.NoError(t, os.WriteFile(tables[0], bad, 0o600))
			_, err := store.Open(cfg)
			require.ErrorIs(t, err, mman.ErrCorrupt, "damage %d", i)
		}
		require.NoError(t, os.WriteFile(tables[0], good, 0o600))
		s, err = store.Open(cfg)
		require.NoError(t, err)
		require.NoError(t, s.Close())
	})
	t.Run("damaged logs", func(t *testing.T) {
		t.Parallel()
		cfg := config(t.TempDir())
		s := open(t, cfg)
		public := s.Data().Namespace(store.NamespacePublicBlocks)
		for i := range 6 { // long values have a log of their own
			require.NoError(t, public.Set([]byte(strconv.Itoa(i)), bytes.Repeat([]byte{byte(i)}, 70_000)))
		}
		copied := func() store.Config { // as after a kill: nothing was closed
			c := config(t.TempDir())
			require.NoError(t, os.CopyFS(c.Dir, os.DirFS(cfg.Dir)))
			return c
		}
		open(t, copied())
		for _, kind := range []string{"*.vlog", "*.mem"} {
			logs, err := filepath.Glob(filepath.Join(cfg.Dir, "data", kind))
			require.NoError(t, err)
			require.NotEmpty(t, logs)
			name := filepath.Base(logs[len(logs)-1])
			good, err := os.ReadFile(logs[len(logs)-1])
			require.NoError(t, err)
			const first = 20 + 2 // the lengths of the first entry's key and value
			_, n := binary.Uvarint(good[first:])
			for _, length := range []uint64{uint64(len(good)), 1 << 31, 1<<32 - 100, 1<<32 - 1, 1<<32 - 10} {
				c, bad := copied(), slices.Clone(good)
				binary.PutUvarint(bad[first+n:], length)
				require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "data", name), bad, 0o600))
				_, err := store.Open(c)
				require.ErrorIs(t, err, mman.ErrCorrupt, "%s %d", kind, length)
				require.ErrorContains(t, err, name)
			}
			seed := rand.Uint64()
			t.Logf("%s: seed %d", kind, seed)
			rng := rand.New(rand.NewPCG(seed, 9))
			for range 6 {
				c, bad := copied(), slices.Clone(good)
				for range 1 + rng.IntN(3) {
					bad[rng.IntN(60)] ^= byte(1 + rng.IntN(255))
				}
				require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "data", name), bad, 0o600))
				s, err := store.Open(c)
				if err == nil { // it was cut off
					require.NoError(t, s.Close())
					continue
				}
				require.ErrorIs(t, err, mman.ErrCorrupt)
			}
		}
	})
	t.Run("a file in the way", func(t *testing.T) {
		t.Parallel()
		cfg := config(t.TempDir())
		require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, "state"), nil, 0o600))
		_, err := store.Open(cfg)
		require.ErrorIs(t, err, mman.ErrHome)
	})
	t.Run("full disk", func(t *testing.T) {
		t.Parallel()
		cfg := config(t.TempDir())
		cfg.MinFree = 1 << 40
		_, err := store.Open(cfg)
		require.ErrorIs(t, err, mman.ErrDiskFull)
	})
	t.Run("configuration", func(t *testing.T) {
		t.Parallel()
		good := config(t.TempDir())
		for _, change := range []func(*store.Config){
			func(c *store.Config) { c.Dir = "" },
			func(c *store.Config) { c.Logger = nil },
			func(c *store.Config) { c.MinFree = -1 },
			func(c *store.Config) { c.MemTable = 1 },
		} {
			cfg := good
			change(&cfg)
			_, err := store.Open(cfg)
			require.ErrorIs(t, err, mman.ErrInvalid)
		}
	})
}

func TestKVAgainstModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	data := open(t, config(t.TempDir())).Data()
	kv, other := data.Namespace(store.NamespaceProvider), data.Namespace(store.NamespaceVerifier)
	before := data.Namespace(store.NamespacePins)
	require.NoError(t, other.Set([]byte("k"), []byte("other")))
	require.NoError(t, before.Set([]byte{0xff, 0xff}, []byte("other")))
	m := map[string]string{}
	randomKey := func() []byte {
		key := make([]byte, rng.IntN(3))
		for i := range key {
			key[i] = []byte{0, 1, 0x7f, 0xfe, 0xff}[rng.IntN(5)]
		}
		return key
	}
	for range 300 {
		batch := kv.NewBatch()
		for range rng.IntN(8) {
			key := randomKey()
			if rng.IntN(3) == 0 {
				require.NoError(t, batch.Delete(key))
				delete(m, string(key))
				continue
			}
			value := bytes.Repeat([]byte{byte(rng.IntN(256))}, []int{0, 1, 100, 5000}[rng.IntN(4)])
			require.NoError(t, batch.Set(key, value))
			m[string(key)] = string(value)
		}
		require.NoError(t, batch.Write())

		key := randomKey()
		value, ok, err := kv.Get(key)
		require.NoError(t, err)
		want, has := m[string(key)]
		require.Equal(t, has, ok)
		require.Equal(t, want, string(value))
		require.Equal(t, ok, value != nil)
		ok, err = kv.Has(key)
		require.NoError(t, err)
		require.Equal(t, has, ok)

		var start, end []byte
		if rng.IntN(3) > 0 {
			start = randomKey()
		}
		if rng.IntN(3) > 0 {
			end = randomKey()
		}
		reverse := rng.IntN(2) == 0
		var keys []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if k >= string(start) && (end == nil || k < string(end)) {
				keys = append(keys, k)
			}
		}
		if reverse {
			slices.Reverse(keys)
		}
		it, err := kv.Iterate(start, end, reverse)
		require.NoError(t, err)
		var got []string
		for ; it.Valid(); it.Next() {
			got = append(got, string(it.Key()))
			require.Equal(t, m[string(it.Key())], string(it.Value()))
		}
		require.NoError(t, it.Err())
		it.Close()
		it.Close()
		require.Equal(t, keys, got, "from %x to %x, reverse %t", start, end, reverse)
	}
}

func TestLargeBatchKeepsOrder(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	s, err := store.Open(cfg)
	require.NoError(t, err)
	kv := s.Data().Namespace(store.NamespaceCometBlocks)
	batch := kv.NewBatch()
	for round := range 3 {
		for i := range 2000 {
			require.NoError(t, batch.Set(fmt.Appendf(nil, "%05d", i), fmt.Appendf(nil, "%d", round)))
		}
	}
	require.NoError(t, batch.Delete([]byte("00007")))
	require.NoError(t, batch.WriteSync())
	require.NoError(t, s.Close())
	kv = open(t, cfg).Data().Namespace(store.NamespaceCometBlocks)
	it, err := kv.Iterate(nil, nil, false)
	require.NoError(t, err)
	keys := 0
	for ; it.Valid(); it.Next() {
		keys++
	}
	require.NoError(t, it.Err())
	it.Close()
	require.Equal(t, 1999, keys)
	value, ok, err := kv.Get([]byte("01999"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "2", string(value))
}

func TestLimitsAndClosed(t *testing.T) {
	t.Parallel()
	s, err := store.Open(config(t.TempDir()))
	require.NoError(t, err)
	kv := s.Data().Namespace(store.NamespaceNode)
	require.ErrorIs(t, kv.Set(make([]byte, store.MaxNameKey+1), nil), mman.ErrTooLarge)
	require.ErrorIs(t, kv.Set(nil, make([]byte, store.MaxNameValue+1)), mman.ErrTooLarge)
	require.ErrorIs(t, kv.Delete(make([]byte, store.MaxNameKey+1)), mman.ErrTooLarge)
	require.NoError(t, kv.Set([]byte("k"), make([]byte, store.MaxNameValue)))
	require.NoError(t, kv.Delete([]byte("k")))
	require.NoError(t, s.Close())
	_, _, err = kv.Get([]byte("k"))
	require.ErrorIs(t, err, mman.ErrCanceled)
	_, err = kv.Iterate(nil, nil, true)
	require.ErrorIs(t, err, mman.ErrCanceled)
	require.ErrorIs(t, kv.Set([]byte("k"), nil), mman.ErrCanceled)
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	data := open(t, config(t.TempDir())).Data()
	lease, other := mman.LeaseID{1}, mman.LeaseID{1, 1}
	stores := map[string]*store.Blocks{
		"public": data.PublicBlocks(), "private": data.PrivateBlocks(),
		"lease": data.LeaseBlocks(lease), "other lease": data.LeaseBlocks(other),
	}
	for name, b := range stores {
		many := []blocks.Block{blocks.NewBlock(nil)}
		for i := range 20 {
			many = append(many, blocks.NewBlock(bytes.Repeat([]byte(name), 1+i*200)))
		}
		require.NoError(t, b.PutMany(t.Context(), many))
		require.NoError(t, b.Put(t.Context(), many[1]))
		got, err := b.Get(t.Context(), many[5].Cid())
		require.NoError(t, err)
		require.Equal(t, many[5].RawData(), got.RawData())
		asRaw, err := b.Get(t.Context(), cid.NewCidV1(cid.Raw, many[5].Cid().Hash()))
		require.NoError(t, err)
		require.Equal(t, many[5].RawData(), asRaw.RawData())
		n, err := b.GetSize(t.Context(), many[20].Cid())
		require.NoError(t, err)
		require.Equal(t, len(many[20].RawData()), n)
		seen := map[string]bool{}
		keys, err := b.AllKeysChan(t.Context())
		require.NoError(t, err)
		for c := range keys {
			seen[string(c.Hash())] = true
		}
		require.Len(t, seen, len(many))
		require.NoError(t, b.DeleteBlock(t.Context(), many[3].Cid()))
		require.NoError(t, b.DeleteBlock(t.Context(), many[3].Cid()))
		_, err = b.Get(t.Context(), many[3].Cid())
		require.True(t, ipld.IsNotFound(err))
		_, err = b.GetSize(t.Context(), many[3].Cid())
		require.True(t, ipld.IsNotFound(err))
		ok, err := b.Has(t.Context(), many[3].Cid())
		require.NoError(t, err)
		require.False(t, ok)
		_, err = b.Get(t.Context(), cid.Undef)
		require.True(t, ipld.IsNotFound(err))
		require.ErrorIs(t, b.Put(t.Context(), blocks.NewBlock(make([]byte, store.MaxBlock+1))), mman.ErrTooLarge)
	}
	leases, err := data.LeasesWithBlocks(t.Context())
	require.NoError(t, err)
	require.Equal(t, []mman.LeaseID{lease, other}, leases)
	require.NoError(t, data.DropLease(t.Context(), lease))
	for name, want := range map[string]int{"public": 20, "private": 20, "lease": 0, "other lease": 20} {
		require.Equal(t, want, count(t, stores[name]), name)
	}
	leases, err = data.LeasesWithBlocks(t.Context())
	require.NoError(t, err)
	require.Equal(t, []mman.LeaseID{other}, leases)
}

// count counts the blocks of a store.
func count(t *testing.T, b *store.Blocks) int {
	t.Helper()
	n := 0
	keys, err := b.AllKeysChan(t.Context())
	require.NoError(t, err)
	for range keys {
		n++
	}
	return n
}

func TestDeleteAllInSteps(t *testing.T) {
	t.Parallel()
	data := open(t, config(t.TempDir())).Data()
	b := data.PrivateBlocks()
	var many []blocks.Block
	for i := range 2500 {
		many = append(many, blocks.NewBlock(fmt.Appendf(nil, "%d", i)))
	}
	require.NoError(t, b.PutMany(t.Context(), many))
	require.NoError(t, b.DeleteAll(t.Context()))
	require.Zero(t, count(t, b))
}

// TestStateStopsGrowing overwrites the same keys for ever: versions that no kept
// height can see leave the disk.
func TestStateStopsGrowing(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	cfg.MemTable = 1 << 20
	s := open(t, cfg)
	value := func(height uint64, i int) []byte {
		return bytes.Repeat(fmt.Appendf(nil, "%8d%4d", height, i), 40)
	}
	size := func() (sum int64) {
		require.NoError(t, filepath.WalkDir(filepath.Join(cfg.Dir, "state"), func(path string, e fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".sst") {
				info, err := e.Info()
				if errors.Is(err, fs.ErrNotExist) {
					return nil // compaction removed it
				}
				require.NoError(t, err)
				sum += info.Size()
			}
			return nil
		}))
		return sum
	}
	var written, most int64
	for height := uint64(1); height <= 1200; height++ {
		var changes []state.Change
		for i := range 100 {
			v := value(height, i)
			changes, written = append(changes, state.Change{Key: fmt.Sprintf("bank/%04d", i), Value: v}), written+int64(len(v))
		}
		require.NoError(t, s.State().Apply(changes, state.Marker{Height: height}))
		if height%50 == 0 {
			most = max(most, size())
		}
	}
	t.Logf("%d bytes written, at most %d in tables", written, most)
	require.Less(t, most, written/3)
}

// TestFlushed: a height counts as flushed once it was synced twice.
func TestFlushed(t *testing.T) {
	t.Parallel()
	s := open(t, config(t.TempDir()))
	require.NoError(t, s.State().Apply(nil, state.Marker{Height: 1}))
	ticks, ctx := make(chan time.Time), t.Context()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() { done <- s.RunGC(ctx, ticks) }()
	ticks <- time.Time{}
	ticks <- time.Time{} // the first is done
	ticks <- time.Time{} // the second is done
	require.Equal(t, uint64(1), s.State().Flushed())
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, s.State().Rewind(0))
	require.Zero(t, s.State().Flushed())
}

func TestRunGC(t *testing.T) {
	t.Parallel()
	s := open(t, config(t.TempDir()))
	b := s.Data().PublicBlocks()
	block := blocks.NewBlock(bytes.Repeat([]byte("content"), 100_000))
	require.NoError(t, b.Put(t.Context(), block))
	ticks := make(chan time.Time)
	done := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- s.RunGC(ctx, ticks) }()
	ticks <- time.Time{}
	ticks <- time.Time{} // the first is done
	got, err := b.Get(t.Context(), block.Cid())
	require.NoError(t, err)
	require.Equal(t, block.RawData(), got.RawData())
	cancel()
	require.NoError(t, <-done)
}

// TestKilledWhileALogWasMade: a log that has a name and no size yet, as a process
// leaves it that is killed at that instant, keeps nobody from opening.
func TestKilledWhileALogWasMade(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	s := open(t, cfg)
	require.NoError(t, s.Data().Namespace(store.NamespaceCometBlocks).Set([]byte("key"), []byte("value")))
	require.NoError(t, s.Close())
	for _, database := range []string{"state", "data"} {
		for _, name := range []string{"000098.vlog", "000099.vlog", "00098.mem", "00099.mem"} {
			require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, database, name), nil, 0o600))
		}
	}
	s = open(t, cfg)
	value, ok, err := s.Data().Namespace(store.NamespaceCometBlocks).Get([]byte("key"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "value", string(value))
	require.NoError(t, s.Close())
	s = open(t, cfg)
	require.NoError(t, s.Close())
}
