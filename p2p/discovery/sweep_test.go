package discovery_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/p2p/p2ptest"
)

// TestRegions sweeps a large network in the head: few searches, and the records go to
// almost all of the peers that a search for each CID would have found.
func TestRegions(t *testing.T) {
	t.Parallel()
	const keep = 20
	var everybody []peer.ID
	for i := range 300 {
		everybody = append(everybody, peer.ID(fmt.Sprintf("peer %d", i)))
	}
	var cids []mman.CID
	for i := range 2000 {
		cids = append(cids, mman.SumCID(mman.CodecRaw, fmt.Appendf(nil, "content %d", i)))
	}
	searches, wrong, err := discovery.Region(cids, everybody, keep)
	require.NoError(t, err)
	t.Logf("%d searches for %d CIDs, %.2f of %d peers of a CID were others on the mean", searches, len(cids), float64(wrong)/float64(len(cids)), keep)
	require.Less(t, searches, len(cids)/10)
	require.Less(t, wrong, len(cids)*keep/5)

	searches, wrong, err = discovery.Region(cids, everybody[:keep-1], keep)
	require.NoError(t, err)
	require.Equal(t, []int{1, 0}, []int{searches, wrong}, "a small network is one region")
}

// sweeps counts what a host logs of its sweeps.
type sweeps struct {
	slog.Handler

	told, searches atomic.Int64
}

func (s *sweeps) Enabled(context.Context, slog.Level) bool { return true }

func (s *sweeps) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "count":
			s.told.Add(a.Value.Int64())
		case "searches":
			s.searches.Add(a.Value.Int64())
		}
		return true
	})
	return nil
}

// running runs d until the test ends.
func running(t *testing.T, d *discovery.Discovery) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// keeps checks that each of the peers has been told that a host has the CIDs.
func keeps(t *testing.T, far []*discovery.Discovery, self mman.PeerID, cids []mman.CID) {
	t.Helper()
	for i, other := range far {
		for _, c := range cids {
			require.Eventually(t, func() bool {
				return slices.ContainsFunc(local(t, other, c), func(p discovery.Provider) bool { return p.ID == self })
			}, time.Minute, 5*time.Millisecond, "peer %d was not told of %s", i, c)
		}
	}
}

func contents(n int, name string) []mman.CID {
	cids := make([]mman.CID, n)
	for i := range cids {
		cids[i] = mman.SumCID(mman.CodecRaw, fmt.Appendf(nil, "%s %d", name, i))
	}
	return cids
}

// TestSweep announces as many CIDs as a host may to a network that came later, as after
// a start: everybody is told of all of them in one sweep, keeps them all, and each says
// when.
func TestSweep(t *testing.T) {
	t.Parallel()
	const others = 2
	hosts := p2ptest.New(t, others+1)
	now := time.Unix(1_800_000_000, 0)
	cfg := config()
	cfg.Now = func() time.Time { return now }
	var log sweeps
	cfg.Logger = slog.New(&log)
	d := start(t, hosts[0], cfg)
	cids := contents(cfg.MaxProvided, "content")
	require.NoError(t, d.ProvideAll(t.Context(), cids))
	require.ErrorIs(t, d.ProvideAll(t.Context(), contents(2, "more")), mman.ErrCapacity)
	for _, c := range cids {
		require.Zero(t, d.Provided(c), "nobody was there")
	}
	var far []*discovery.Discovery
	for _, h := range hosts[1:] {
		far = append(far, start(t, h, config()))
		p2ptest.Connect(t, hosts[0], h)
	}
	require.Eventually(t, func() bool { return d.Peers() == others }, time.Minute, 5*time.Millisecond, "it knows them all")
	running(t, d)
	for _, c := range cids {
		require.Eventually(t, func() bool { return d.Provided(c).Equal(now) }, time.Minute, 5*time.Millisecond)
	}
	// There are fewer peers than keep a record, so each of them keeps all.
	keeps(t, append(far, d), hosts[0].ID(), cids)
	require.Eventually(t, func() bool { return log.told.Load() > 0 }, time.Minute, 5*time.Millisecond)
	require.Equal(t, int64(cfg.MaxProvided), log.told.Load())
	require.Equal(t, int64(1), log.searches.Load())
}

// TestProvideAllLater: what comes when others are known is announced at once, in a sweep
// of its own that leaves out what was told already.
func TestProvideAllLater(t *testing.T) {
	t.Parallel()
	hosts := p2ptest.New(t, 2)
	var log sweeps
	cfg := config()
	cfg.Logger = slog.New(&log)
	d, other := start(t, hosts[0], cfg), start(t, hosts[1], config())
	p2ptest.Connect(t, hosts[0], hosts[1])
	require.NoError(t, d.WaitReady(t.Context()))
	first := contents(1, "first")
	require.NoError(t, d.ProvideAll(t.Context(), first))
	running(t, d)
	keeps(t, []*discovery.Discovery{other}, hosts[0].ID(), first)
	require.Eventually(t, func() bool { return log.searches.Load() == 1 }, time.Minute, 5*time.Millisecond)
	later := contents(200, "later")
	require.NoError(t, d.ProvideAll(t.Context(), later))
	keeps(t, []*discovery.Discovery{other}, hosts[0].ID(), later)
	require.Eventually(t, func() bool { return log.told.Load() == 201 }, time.Minute, 5*time.Millisecond)
	require.Equal(t, int64(2), log.searches.Load())
}
