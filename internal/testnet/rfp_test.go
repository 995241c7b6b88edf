package testnet_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// TestRFP puts a request out to sealed bids: three providers bid, the cheapest does
// not serve, one is restarted between its commitment and its reveal, and the work
// runs on the lease of the next best, at the price that it bid.
func TestRFP(t *testing.T) {
	params := genesis.Defaults(genesis.Local)
	params.AcceptBlocks = 8
	net := testnet.NewWith(t, params, 1, "cheap", "fair", "dear")
	cheap, fair, dear := net.Providers[0], net.Providers[1], net.Providers[2]
	ctx, consumer := t.Context(), net.Consumer(t)
	for i, one := range net.Providers {
		_, err := one.Provider.Publish(ctx, provider.Listing{
			Manifest: resources.Manifest{Version: 1, Kind: resources.KindCompute, Facet: resources.FacetWasm, Name: one.Name},
			Policy:   policy.Policy{Default: policy.Allow}, Capacity: 1,
			Price: price.Price{PerLease: mman.Amount(2000 * (i + 1)), Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1000, UMan: 10}}},
			Bids:  &provider.Bidding{DiscountBP: 2500, Floor: 2500, MaxBond: 5000},
		})
		require.NoError(t, err)
	}
	supply, err := consumer.Chain().Supply(ctx)
	require.NoError(t, err)

	w, terms := sdk.DefaultWanted(), sdk.DefaultBidTerms()
	w.Algorithm = sdk.Content{File: file(t, "wordcount.wasm", examples.WordcountModule())}
	w.Cap, terms.Bond = 100_000, 5000
	id, err := consumer.OpenRFP(ctx, w, terms)
	require.NoError(t, err)
	got, err := consumer.CollectBids(ctx, id, false)
	require.NoError(t, err)
	require.Equal(t, 3, got.Asked)
	require.Len(t, got.Bidders, 3, "%v", got.Declined)

	at := func(one rfp.RFP, of *testnet.Node) rfp.Entry {
		t.Helper()
		i, ok := one.Find(of.Address)
		require.True(t, ok)
		return one.Bids[i]
	}
	one, err := consumer.RFP(ctx, id)
	require.NoError(t, err)
	require.Equal(t, rfp.Open, one.State)
	for _, of := range net.Providers {
		require.Equal(t, rfp.Committed, at(one, of).State)
		require.Empty(t, at(one, of).Bid, "the ledger has digests only")
	}
	dear.Stop() // it has committed
	testnet.Eventually(t, "the two others open their bids", func() (bool, error) {
		one, err = consumer.RFP(ctx, id)
		return err == nil && at(one, cheap).State == rfp.Revealed && at(one, fair).State == rfp.Revealed, err
	})
	cheap.Stop() // it will win
	dear.Start(t)
	dear.Await(t)

	var seen []rfp.State
	lease, err := consumer.AwaitAward(ctx, id, func(one rfp.RFP) { seen = append(seen, one.State) })
	require.NoError(t, err)
	require.Contains(t, seen, rfp.Awarded)
	one, err = consumer.RFP(ctx, id)
	require.NoError(t, err)
	require.Equal(t, rfp.Absent, at(one, cheap).State)
	require.Equal(t, rfp.Served, at(one, fair).State)
	require.Equal(t, rfp.Lost, at(one, dear).State, "it opened its bid after the restart")
	require.Equal(t, uint64(2), one.Awards)
	require.Equal(t, id.Takeover(1), lease.Lease.ID)
	require.Equal(t, fair.Address, lease.Lease.Compute().Provider)
	require.Equal(t, mman.Amount(3000), lease.Lease.Compute().Price.PerLease, "a quarter below the listing")
	require.Equal(t, []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1000, UMan: 8}}, lease.Lease.Compute().Price.Units, "rounded up")
	after, err := consumer.Chain().Supply(ctx)
	require.NoError(t, err)
	require.True(t, after.Conserved())
	require.GreaterOrEqual(t, after.Burned-supply.Burned, mman.Amount(5000), "the bond of the one who did not serve")

	// The same work finds the lease, and costs what was bid.
	again, err := consumer.Lease(ctx, w)
	require.NoError(t, err)
	require.Equal(t, lease.Lease.ID, again.Lease.ID)
	session, err := consumer.Open(ctx, again)
	require.NoError(t, err)
	outcome, err := session.Run(ctx, sdk.Work{Stdin: strings.NewReader("one two one"), Limits: w.Limits, Stdout: &strings.Builder{}, Stderr: &strings.Builder{}})
	require.NoError(t, err)
	require.GreaterOrEqual(t, outcome.Paid, mman.Amount(3000))
	_, err = session.Settle(ctx)
	require.NoError(t, err)
	closed, err := consumer.Chain().Lease(ctx, lease.Lease.ID)
	require.NoError(t, err)
	require.Equal(t, market.LeaseClosed, closed.State)
	require.Equal(t, outcome.Paid, closed.Paid)

	// Why it came so, and that the ledger decided it right.
	r, err := consumer.Chain().Request(ctx, id)
	require.NoError(t, err)
	sentences, err := consumer.Why(ctx, r)
	require.NoError(t, err)
	said := strings.Join(sentences, "\n")
	for _, part := range []string{"0.00202MAN a lease", "did not serve, its bond of 0.005MAN was burned", "won and is served", "lost, its bond went back"} {
		require.Contains(t, said, part)
	}
	looks, err := consumer.Replay(ctx, r)
	require.NoError(t, err)
	require.Equal(t, 2, looks)

	// Nobody bids for a bond above their limit, and the cap comes back at once.
	w.Fresh, terms.Bond = true, 6000
	id, err = consumer.OpenRFP(ctx, w, terms)
	require.NoError(t, err)
	_, err = consumer.CollectBids(ctx, id, false)
	require.ErrorIs(t, err, mman.ErrNoBid)
	require.ErrorContains(t, err, "above the 0.005MAN")
	one, err = consumer.RFP(ctx, id)
	require.NoError(t, err)
	require.Equal(t, rfp.Closed, one.State)
	list, err := consumer.Chain().RFPs(ctx, fair.Address, 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	list, err = consumer.Chain().RFPs(ctx, mman.Address{}, 10)
	require.NoError(t, err)
	require.Len(t, list, 2)
}
