package provider_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/resources"
)

// invite puts a request out to bids on the chain, at height 100: commitments until
// 110, those left out until 115, reveals until 125.
func (l *lender) invite(t *testing.T, n byte, bond mman.Amount, change ...func(*market.Request)) mman.RequestID {
	t.Helper()
	id := mman.RequestID{n}
	r := market.Request{
		Version: 1, Consumer: mman.Address{1}, LeaseKey: mman.LeaseKey(l.leaseKey.Public().Bytes()), Cap: mman.MAN, Blocks: 100, Deadline: 200,
		Limits: resources.DefaultLimits(),
		Legs: []market.LegRequest{
			{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: mman.SumCID(mman.CodecRaw, module), Supplied: true},
			{Role: market.RoleCompute, Facet: resources.FacetWasm},
		},
	}
	for _, f := range change {
		f(&r)
	}
	one, err := rfp.New(id, r, bond, 100, 110, rfp.Terms{Post: 5, Reveal: 10, Accept: 20})
	require.NoError(t, err)
	l.chain.change(func() { l.chain.rfps[id], l.chain.requests[id] = one, r })
	return id
}

// step runs the provider until it has looked at the height, and returns what it
// submitted about bids.
func (l *lender) step(t *testing.T, height uint64) (out []tx.Msg) {
	t.Helper()
	l.chain.change(func() { l.chain.height = height })
	require.NoError(t, l.Attend(t.Context(), height))
	return l.chain.take()
}

func (l *lender) lends(t *testing.T, p policy.Policy, b provider.Bidding) {
	t.Helper()
	_, err := l.Publish(t.Context(), provider.Listing{
		Manifest: resources.Manifest{Version: 1, Kind: resources.KindCompute, Facet: resources.FacetWasm, Name: "box"},
		Policy:   p, Capacity: 2, Bids: &b,
		Price: price.Price{PerLease: 1001, Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1000, UMan: 10}}},
	})
	require.NoError(t, err)
	l.chain.take()
}

// TestBidding: what this node bids, that it bids once, and what it does at each
// height, over a restart between commitment and reveal.
func TestBidding(t *testing.T) {
	t.Parallel()
	l, ctx := newLender(t, 0), t.Context
	l.lends(t, policy.Policy{Default: policy.Allow}, provider.Bidding{DiscountBP: 1000, MaxBond: 500})
	_, err := l.Bid(ctx(), mman.RequestID{9})
	require.ErrorIs(t, err, mman.ErrLeaseUnknown)
	id := l.invite(t, 1, 500)
	first, err := l.Bid(ctx(), id)
	require.NoError(t, err)
	require.NoError(t, first.Validate())
	again, err := l.Bid(ctx(), id)
	require.NoError(t, err)
	require.Equal(t, first, again, "nobody can draw a second bid")
	c, err := market.SignedCommitment{Bytes: first.Commitment, Key: l.chain.key.Public(), Signature: first.Signature}.Open(chainID)
	require.NoError(t, err)
	require.Equal(t, l.chain.Address(), c.Bidder)
	require.ErrorIs(t, l.Acknowledged(ctx(), id, make([]byte, 64)), mman.ErrBadSignature)
	require.ErrorIs(t, l.Acknowledged(ctx(), mman.RequestID{9}, make([]byte, 64)), mman.ErrNoBid)
	ack := signer{l.leaseKey}.Sign(mman.SignBidAck, chainID, first.Commitment)
	require.NoError(t, l.Acknowledged(ctx(), id, ack))

	require.Empty(t, l.step(t, 105), "the consumer has time")
	posts := l.step(t, 110)
	require.Equal(t, []tx.Msg{tx.MsgPostBid{Bidder: c.Bidder, Commitment: first.Commitment, Acknowledgement: ack}}, posts, "it was left out")
	l.chain.change(func() {
		one, _, err := l.chain.rfps[id].Post(chainID, 111, l.chain.requests[id].LeaseKey, first.Commitment, ack)
		require.NoError(t, err)
		l.chain.rfps[id], err = one.Sealed()
		require.NoError(t, err)
	})
	require.Empty(t, l.step(t, 114), "nothing is opened while others may commit")
	l.restart(t)
	reveals := l.step(t, 115)
	require.Len(t, reveals, 1)
	reveal, ok := reveals[0].(tx.MsgRevealBid)
	require.True(t, ok)
	bid, err := market.DecodeBid(reveal.Bid)
	require.NoError(t, err)
	require.Equal(t, mman.Amount(901), bid.Price.PerLease, "a tenth below, rounded up")
	require.Equal(t, mman.Amount(9), bid.Price.Units[0].UMan)
	l.chain.change(func() {
		one, _, err := l.chain.rfps[id].Reveal(chainID, 116, l.chain.requests[id], c.Bidder, reveal.Bid, reveal.Salt)
		require.NoError(t, err)
		one.State, one.Lease, one.Bids[0].State = rfp.Awarded, mman.LeaseID{7}, rfp.Won
		l.chain.rfps[id] = one
	})
	l.lease(7)
	require.Equal(t, []tx.Msg{tx.MsgAcceptLeases{Provider: c.Bidder, Leases: []mman.LeaseID{{7}}}}, l.step(t, 117), "at once")
	l.chain.change(func() {
		one, _ := l.chain.rfps[id].Served()
		l.chain.rfps[id] = one
	})
	require.Empty(t, l.step(t, 118))
	_, err = l.Bid(ctx(), id)
	require.ErrorIs(t, err, mman.ErrDeadline, "it is forgotten, and over")
}

// TestDeclines: when this node does not bid, and what it says.
func TestDeclines(t *testing.T) {
	t.Parallel()
	rule := func(when string) policy.Policy {
		return policy.Policy{Default: policy.Allow, Rules: []policy.Rule{{ID: "rule", Effect: policy.Deny, Phase: policy.PhaseMatch, When: when}}}
	}
	for _, tc := range []struct {
		name   string
		policy policy.Policy
		bids   provider.Bidding
		bond   mman.Amount
		change func(*market.Request)
		want   error
		says   string
	}{
		{"bond", rule("false"), provider.Bidding{MaxBond: 499}, 500, nil, mman.ErrNoBid, "above the"},
		{"policy", rule(`request.purpose != "research"`), provider.Bidding{MaxBond: 500}, 500, nil, mman.ErrPolicy, "denies"},
		{"counts", rule("usage.leases_30d > 5"), provider.Bidding{MaxBond: 500}, 500, nil, mman.ErrNoBid, "may change"},
		{"time", rule("chain.height > 1000"), provider.Bidding{MaxBond: 500}, 500, nil, mman.ErrNoBid, "may change"},
		{"cap", rule("false"), provider.Bidding{MaxBond: 500}, 500, func(r *market.Request) { r.Cap = 1000 }, mman.ErrPrice, "above the cap"},
		{"another resource", rule("false"), provider.Bidding{MaxBond: 500}, 500, func(r *market.Request) {
			r.Legs[1].Resource = mman.SumCID(mman.CodecDagCBOR, []byte("another"))
		}, mman.ErrPolicy, "something else"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := newLender(t, 0)
			l.lends(t, tc.policy, tc.bids)
			var change []func(*market.Request)
			if tc.change != nil {
				change = append(change, tc.change)
			}
			_, err := l.Bid(t.Context(), l.invite(t, 1, tc.bond, change...))
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.says)
			require.Empty(t, l.step(t, 116))
		})
	}
}

// TestPromises: a node does not promise more places than it has, and a floor holds.
func TestPromises(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	l.lends(t, policy.Policy{Default: policy.Allow}, provider.Bidding{DiscountBP: 10_000, Floor: 3000, MaxBond: 500})
	for n := range byte(3) {
		_, err := l.Bid(t.Context(), l.invite(t, n+1, 1))
		if n < 2 {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, mman.ErrNoBid)
		require.ErrorContains(t, err, "promised")
	}
	// Nobody acknowledged them: they are forgotten when it is too late.
	require.Empty(t, l.step(t, 115))
	id := l.invite(t, 4, 1)
	l.chain.change(func() { l.chain.height = 100 })
	sealed, err := l.Bid(t.Context(), id)
	require.NoError(t, err)
	c, err := market.DecodeCommitment(sealed.Commitment)
	require.NoError(t, err)
	l.chain.change(func() {
		one, _, err := l.chain.rfps[id].Bring(105, []market.Commitment{c})
		require.NoError(t, err)
		l.chain.rfps[id] = one
	})
	reveal, ok := l.step(t, 115)[0].(tx.MsgRevealBid)
	require.True(t, ok)
	bid, err := market.DecodeBid(reveal.Bid)
	require.NoError(t, err)
	require.Equal(t, mman.Amount(3000), bid.Price.PerLease, "nothing is listed any more, the floor is asked")
}

func TestBidsInAListing(t *testing.T) {
	t.Parallel()
	const head = "resource: {kind: compute, facet: wasm, name: box}\npolicy: {default: allow}\nprice: {per_lease: 1uman}\n"
	l, err := provider.ParseListing([]byte(head + "bids: {discount_bp: 500, floor: 7uman, max_bond: 1MAN}\n"))
	require.NoError(t, err)
	require.Equal(t, provider.Bidding{DiscountBP: 500, Floor: 7, MaxBond: mman.MAN}, *l.Bids)
	l, err = provider.ParseListing([]byte(head))
	require.NoError(t, err)
	require.Nil(t, l.Bids)
	for _, bad := range []string{
		"bids: {discount_bp: 10001, max_bond: 1MAN}", "bids: {discount_bp: 5}", "bids: {max_bond: x}", "bids: {max_bond: 1MAN, more: 1}",
	} {
		_, err := provider.ParseListing([]byte(head + bad + "\n"))
		require.Error(t, err, bad)
	}
}
