package discovery_test

import (
	"context"
	"fmt"
	"slices"
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

// TestSweep announces many CIDs again to a network that came later: everybody is told
// of all of them, and each says when.
func TestSweep(t *testing.T) {
	t.Parallel()
	const others, contents = 5, 300
	hosts := p2ptest.New(t, others+1)
	now := time.Unix(1_800_000_000, 0)
	cfg := config()
	cfg.Now = func() time.Time { return now }
	d := start(t, hosts[0], cfg)
	var cids []mman.CID
	for i := range contents {
		c := mman.SumCID(mman.CodecRaw, fmt.Appendf(nil, "content %d", i))
		require.NoError(t, d.Provide(t.Context(), c))
		require.Zero(t, d.Provided(c), "nobody was there")
		cids = append(cids, c)
	}
	var far []*discovery.Discovery
	for _, h := range hosts[1:] {
		far = append(far, start(t, h, config()))
		p2ptest.Connect(t, hosts[0], h)
	}
	require.Eventually(t, func() bool { return d.Peers() == others }, time.Minute, 5*time.Millisecond, "it knows them all")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	for _, c := range cids {
		require.Eventually(t, func() bool { return d.Provided(c).Equal(now) }, time.Minute, 5*time.Millisecond)
	}
	// There are fewer peers than keep a record, so each of them keeps all.
	self := hosts[0].ID()
	for i, other := range far {
		for _, c := range cids {
			require.Eventually(t, func() bool {
				return slices.ContainsFunc(local(t, other, c), func(p discovery.Provider) bool { return p.ID == self })
			}, time.Minute, 5*time.Millisecond, "peer %d was not told of %s", i, c)
		}
	}
	cancel()
	require.NoError(t, <-done)
}
