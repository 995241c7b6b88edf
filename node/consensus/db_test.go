package consensus_test

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"testing"

	cometdb "github.com/cometbft/cometbft-db"
	"github.com/cometbft/cometbft/config"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/consensus"
	"github.com/limboid/massive-man/node/store"
)

func openData(t *testing.T) *store.Data {
	t.Helper()
	cfg := store.DefaultConfig(t.TempDir(), slog.New(slog.DiscardHandler))
	cfg.MemTable, cfg.MinFree = 1<<20, 0
	s, err := store.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.Data()
}

// pair is the database under test and the one it must behave as.
type pair struct{ ours, theirs cometdb.DB }

// same runs one operation on both and requires the same result and an error of
// both or of none.
func same[T any](t *testing.T, name string, ours, theirs func() (T, error)) {
	t.Helper()
	got, gotErr := ours()
	want, wantErr := theirs()
	require.Equal(t, wantErr == nil, gotErr == nil, "%s: %v, not %v", name, gotErr, wantErr)
	require.Equal(t, want, got, name)
}

func sameErr(t *testing.T, name string, ours, theirs error) {
	t.Helper()
	require.Equal(t, theirs == nil, ours == nil, "%s: %v, not %v", name, ours, theirs)
}

func TestDBBehavesAsMemDB(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	data := openData(t)
	neighbour := consensus.NewDB(data.Namespace(store.NamespaceCometBlocks))
	require.NoError(t, neighbour.Set([]byte{0xff}, []byte("neighbour")))
	require.NoError(t, consensus.NewDB(data.Namespace(store.NamespaceCometEvidence)).Set([]byte{0}, []byte("neighbour")))
	p := pair{consensus.NewDB(data.Namespace(store.NamespaceCometState)), cometdb.NewMemDB()}

	randomKey := func() []byte {
		n := rng.IntN(4) - 1
		if n < 0 {
			return nil
		}
		key := make([]byte, n)
		for i := range key {
			key[i] = []byte{0, 1, 0x80, 0xff}[rng.IntN(4)]
		}
		return key
	}
	randomValue := func() []byte {
		return [][]byte{nil, {}, {1}, bytes.Repeat([]byte{2}, 6000)}[rng.IntN(4)]
	}
	var ours, theirs cometdb.Batch
	steps := map[string]func(){
		"get": func() {
			key := randomKey()
			same(t, "get", func() ([]byte, error) { return p.ours.Get(key) }, func() ([]byte, error) { return p.theirs.Get(key) })
			same(t, "has", func() (bool, error) { return p.ours.Has(key) }, func() (bool, error) { return p.theirs.Has(key) })
		},
		"set": func() {
			key, value := randomKey(), randomValue()
			sameErr(t, "set", p.ours.Set(key, value), p.theirs.Set(key, value))
		},
		"set sync": func() {
			key, value := randomKey(), randomValue()
			sameErr(t, "set sync", p.ours.SetSync(key, value), p.theirs.SetSync(key, value))
		},
		"delete": func() {
			key := randomKey()
			sameErr(t, "delete", p.ours.Delete(key), p.theirs.Delete(key))
			sameErr(t, "delete sync", p.ours.DeleteSync(key), p.theirs.DeleteSync(key))
		},
		"batch": func() {
			if ours == nil {
				ours, theirs = p.ours.NewBatch(), p.theirs.NewBatch()
			}
			for range rng.IntN(5) {
				key, value := randomKey(), randomValue()
				sameErr(t, "batch set", ours.Set(key, value), theirs.Set(key, value))
				key = randomKey()
				sameErr(t, "batch delete", ours.Delete(key), theirs.Delete(key))
			}
			switch rng.IntN(4) {
			case 0:
				sameErr(t, "write", ours.Write(), theirs.Write())
			case 1:
				sameErr(t, "write sync", ours.WriteSync(), theirs.WriteSync())
			case 2:
				sameErr(t, "close", ours.Close(), theirs.Close())
				sameErr(t, "write closed", ours.Write(), theirs.Write())
				ours, theirs = nil, nil
			}
		},
		"iterate": func() {
			start, end := randomKey(), randomKey()
			same(t, "iterate", func() ([]string, error) { return walk(t, p.ours.Iterator, start, end) },
				func() ([]string, error) { return walk(t, p.theirs.Iterator, start, end) })
			same(t, "reverse", func() ([]string, error) { return walk(t, p.ours.ReverseIterator, start, end) },
				func() ([]string, error) { return walk(t, p.theirs.ReverseIterator, start, end) })
		},
	}
	names := []string{"get", "set", "set", "set sync", "delete", "batch", "iterate"}
	for range 1500 {
		steps[names[rng.IntN(len(names))]]()
	}
	require.NoError(t, p.ours.Compact(nil, nil))
	require.NoError(t, p.ours.Close())
	require.NotEmpty(t, p.ours.Stats())
	require.ErrorIs(t, p.ours.Print(), mman.ErrUnsupported)
	value, err := neighbour.Get([]byte{0xff})
	require.NoError(t, err)
	require.Equal(t, "neighbour", string(value))
}

func walk(t *testing.T, open func(start, end []byte) (cometdb.Iterator, error), start, end []byte) ([]string, error) {
	t.Helper()
	it, err := open(start, end)
	if err != nil {
		return nil, err
	}
	defer func() { require.NoError(t, it.Close()) }()
	gotStart, gotEnd := it.Domain()
	require.Equal(t, [][]byte{start, end}, [][]byte{gotStart, gotEnd})
	var out []string
	for ; it.Valid(); it.Next() {
		out = append(out, string(it.Key()), string(it.Value()))
	}
	require.Panics(t, it.Next)
	require.Panics(t, func() { it.Key() })
	require.Panics(t, func() { it.Value() })
	return out, it.Error()
}

func TestDBProvider(t *testing.T) {
	t.Parallel()
	provide := consensus.DBProvider(openData(t))
	for _, id := range []string{"blockstore", "state", "evidence", "tx_index"} {
		db, err := provide(&config.DBContext{ID: id})
		require.NoError(t, err)
		value, err := db.Get([]byte("k"))
		require.NoError(t, err)
		require.Nil(t, value, "a namespace of its own")
		require.NoError(t, db.Set([]byte("k"), []byte(id)))
	}
	_, err := provide(&config.DBContext{ID: "other"})
	require.ErrorIs(t, err, mman.ErrUnsupported)
}
