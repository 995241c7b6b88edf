package discovery_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/p2p/discovery"
)

// shelf is a store of records under test.
type shelf struct {
	tb testing.TB
	ds.Batching
}

func recordKey(peer string, content int) ds.Key {
	return ds.RawKey(fmt.Sprintf("/providers/C%d/%s", content, peer))
}

// put has a peer announce the contents from one number up to another.
func (s shelf) put(peer string, from, to int) {
	s.tb.Helper()
	for i := from; i < to; i++ {
		require.NoError(s.tb, s.Put(s.tb.Context(), recordKey(peer, i), []byte{1, 2}))
	}
}

// held counts what is kept of the contents that a peer has between two numbers.
func (s shelf) held(peer string, from, to int) (n int) {
	s.tb.Helper()
	for i := from; i < to; i++ {
		has, err := s.Has(s.tb.Context(), recordKey(peer, i))
		require.NoError(s.tb, err)
		if has {
			n++
		}
	}
	return n
}

func (s shelf) count(prefix string) int {
	s.tb.Helper()
	results, err := s.Query(s.tb.Context(), query.Query{Prefix: prefix})
	require.NoError(s.tb, err)
	entries, err := results.Rest()
	require.NoError(s.tb, err)
	return len(entries)
}

// TestRecordsOfMany: twenty peers, as many as keep each record in a small network,
// announce all that they may, and none of it is lost.
func TestRecordsOfMany(t *testing.T) {
	t.Parallel()
	cfg := discovery.Default()
	const peers = 20
	s := shelf{t, discovery.NewRecordStore(cfg.MaxRecords)}
	for p := range peers {
		for i := range cfg.MaxProvided {
			key := ds.RawKey(fmt.Sprintf("/providers/C%d/P%d", i, p))
			if err := s.Put(t.Context(), key, nil); err != nil {
				require.NoError(t, err)
			}
		}
	}
	require.Equal(t, peers*cfg.MaxProvided, s.count("/providers/"))
	require.Equal(t, peers, s.count("/providers/C19999"))
}

// TestHostileRecords: a peer that announces too much displaces itself, and peers under
// many names no one who announces less than each of them.
func TestHostileRecords(t *testing.T) {
	t.Parallel()
	const limit, share = 4000, 200 // one peer may hold a twentieth
	s := shelf{t, discovery.NewRecordStore(limit)}
	s.put("large", 0, share)
	s.put("small", 0, 20)
	s.put("hostile", 0, 10*limit)
	require.Equal(t, share, s.held("large", 0, share))
	require.Equal(t, share, s.held("hostile", 10*limit-share, 10*limit), "its newest")
	require.Equal(t, 2*share+20, s.count("/providers"))

	// 38 more of its kind: with the large peer they are 40, and each may hold about a
	// hundred.
	for i := range 38 {
		s.put(fmt.Sprint("sybil", i), 0, 2*limit)
	}
	require.Equal(t, limit, s.count("/providers"))
	require.Equal(t, 20, s.held("small", 0, 20))
	require.InDelta(t, (limit-20)/40, s.held("large", 0, share), 2)
	s.put("late", 0, 50)
	require.Equal(t, 50, s.held("late", 0, 50), "who comes when all is full")
	require.Equal(t, 20, s.held("small", 0, 20))
	require.Equal(t, limit, s.count("/providers"))
}

// TestOldRecordsGiveWay: who withdrew some contents and has others now is found with
// what it has, also before the old records expire.
func TestOldRecordsGiveWay(t *testing.T) {
	t.Parallel()
	const share = 100
	s := shelf{t, discovery.NewRecordStore(20 * share)}
	s.put("peer", 0, share)
	s.put("peer", 0, share/2) // announced again
	s.put("peer", share, share+share/2)
	require.Equal(t, share/2, s.held("peer", 0, share/2))
	require.Zero(t, s.held("peer", share/2, share))
	require.Equal(t, share/2, s.held("peer", share, share+share/2))
}

// TestEverybodyHasOne: the store is full of peers with one record each, whom one more
// does not displace.
func TestEverybodyHasOne(t *testing.T) {
	t.Parallel()
	const limit = 40
	s := shelf{t, discovery.NewRecordStore(limit)}
	for i := range limit {
		s.put(fmt.Sprint("peer", i), i, i+1)
	}
	s.put("late", 0, 1)
	require.Zero(t, s.held("late", 0, 1))
	s.put("peer0", 99, 100)
	require.Equal(t, 1, s.held("peer0", 99, 100), "instead of its own")
	require.NoError(t, s.Delete(t.Context(), recordKey("peer1", 1)))
	s.put("late", 0, 1)
	require.Equal(t, 1, s.held("late", 0, 1), "the room that another left")
	require.Equal(t, limit, s.count("/providers"))
}

// TestRecordsAgainstAMap puts and deletes at random below the bounds, and finds what a
// plain map holds.
func TestRecordsAgainstAMap(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := shelf{t, discovery.NewRecordStore(20 * 30)}
	want := make(map[ds.Key]byte)
	for range 20_000 {
		key := recordKey(fmt.Sprint("P", rng.IntN(8)), rng.IntN(30))
		if rng.IntN(2) == 0 {
			require.NoError(t, s.Delete(t.Context(), key))
			delete(want, key)
			continue
		}
		value := byte(rng.IntN(256))
		require.NoError(t, s.Put(t.Context(), key, []byte{value}))
		want[key] = value
	}
	got := make(map[ds.Key]byte)
	results, err := s.Query(t.Context(), query.Query{Prefix: "/providers/"})
	require.NoError(t, err)
	for e := range results.Next() {
		got[ds.RawKey(e.Key)] = e.Value[0]
	}
	require.Equal(t, want, got)
	for key, value := range want {
		b, err := s.Get(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, []byte{value}, b)
		size, err := s.GetSize(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, 1, size)
		require.NoError(t, s.Delete(t.Context(), key))
		require.NoError(t, s.Delete(t.Context(), key))
	}
	require.Zero(t, s.count("/providers"))
	_, err = s.Get(t.Context(), recordKey("P0", 0))
	require.ErrorIs(t, err, ds.ErrNotFound)
	s.put("P0", 1, 2)
	require.Zero(t, s.count("/providers/C"))
	require.Zero(t, s.count("/providers/C11"))
	require.Equal(t, 1, s.count("/providers/C1"))
}
