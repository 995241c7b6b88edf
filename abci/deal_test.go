package abci_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/block"
	ledger "github.com/limboid/massive-man/abci/market"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
)

// TestDeposit: an offer locks coins as long as it stands, more for a policy that
// costs more.
func TestDeposit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	base := mman.Amount(f.Doc.Params.OfferDeposit)
	pools := f.supply(t).Pools
	require.Zero(t, pools)
	costly := f.paul.Compute("costly", 500)
	costly.Policy.Rules = []policy.Rule{{
		ID: "slow", Effect: policy.Deny, Phase: policy.PhaseMatch, When: `data.attributes.exists(a, a.contains("zzz"))`,
	}}
	program, err := costly.Policy.Compile()
	require.NoError(t, err)
	require.Greater(t, program.Cost(), uint64(1000))
	ids := f.Trade(f.paul, f.paul.Compute("box", 500), costly)
	locked := func() mman.Amount { // fees wait in the same place
		s := f.supply(t)
		return s.Pools
	}
	before := locked()
	f.Do(f.paul.Actor, tx.MsgWithdrawOffer{Provider: f.paul.Address, Offer: ids[0]})
	first := before - locked()
	f.Do(f.paul.Actor, tx.MsgWithdrawOffer{Provider: f.paul.Address, Offer: ids[1]})
	require.Less(t, first, base+1)
	require.Greater(t, before-locked(), base*mman.Amount(1+program.Cost()/1000), "the second one locked more")

	// An offer whose deposit its provider cannot pay does not stand.
	doc := f.Doc
	doc.Params.OfferDeposit = 1_000_000_000
	rich := abcitest.New(t, doc)
	rich.Do(f.paul.Actor, f.paul.Bind(chainID))
	msg, _ := f.paul.Publish(t, chainID, f.paul.Compute("box", 500))
	log := rich.Fail(mman.ErrFunds, f.paul.Actor, msg)
	require.Contains(t, log, "deposit")
}

// TestAccept: a lease that its provider does not accept in time is cancelled at
// once, three of them suspend the offer, and one that it accepts is not.
func TestAccept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	offer := f.Trade(f.paul, f.paul.Compute("box", 1000))[0]
	wait := f.Doc.Params.AcceptBlocks

	served := f.Lease(f.cleo, abcitest.Ask(t, f.cleo, "served", 5000, 900))
	f.Fail(mman.ErrLeaseState, f.cleo, tx.MsgCancelRequest{Consumer: f.cleo.Address, Request: served.Request})
	f.Do(f.dora.Actor, tx.MsgAcceptLeases{Provider: f.dora.Address, Leases: []mman.LeaseID{served.ID}})
	require.Zero(t, mustLease(t, f, served.ID).Accepted, "another's word does not count")
	f.Do(f.paul.Actor, tx.MsgAcceptLeases{Provider: f.paul.Address, Leases: []mman.LeaseID{{9}, served.ID}})
	require.Equal(t, f.Height(), mustLease(t, f, served.ID).Accepted)
	paid := f.Lease(f.cleo, abcitest.Ask(t, f.cleo, "paid", 5000, 900))
	f.Do(f.paul.Actor, tx.MsgSettle{Sender: f.paul.Address, Items: []tx.SettleItem{abcitest.Receipt(t, chainID, "paid", paid.ID, 0, 1, 10)}})
	f.Pass(wait)
	f.Fail(mman.ErrLeaseState, f.cleo, tx.MsgCancelRequest{Consumer: f.cleo.Address, Request: served.Request})
	f.Fail(mman.ErrLeaseState, f.cleo, tx.MsgCancelRequest{Consumer: f.cleo.Address, Request: paid.Request})

	for i := range 3 {
		_, _, stands, err := f.App.View().Offer(offer)
		require.NoError(t, err)
		require.True(t, stands, "after %d", i)
		l := f.Lease(f.cleo, abcitest.Ask(t, f.cleo, "missed"+strconv.Itoa(i), 5000, 900))
		f.Pass(wait)
		f.Fail(mman.ErrDenied, f.dora.Actor, tx.MsgCancelRequest{Consumer: f.dora.Address, Request: l.Request})
		escrow := f.supply(t).Escrow
		f.Do(f.cleo, tx.MsgCancelRequest{Consumer: f.cleo.Address, Request: l.Request})
		require.Equal(t, escrow-5000, f.supply(t).Escrow, "all of it comes back")
		require.Equal(t, market.LeaseClosed, mustLease(t, f, l.ID).State)
		f.Fail(mman.ErrLeaseState, f.cleo, tx.MsgCancelRequest{Consumer: f.cleo.Address, Request: l.Request})
	}
	_, _, stands, err := f.App.View().Offer(offer)
	require.NoError(t, err)
	require.False(t, stands, "it is suspended")
	f.queued(t, abcitest.Ask(t, f.cleo, "again", 5000, 900))

	// Posted again it counts from the start.
	f.Trade(f.paul, f.paul.Compute("box", 1001))
	f.Lease(f.cleo, abcitest.Ask(t, f.cleo, "anew", 5000, 900))
	f.Replay(func(h uint64) (restart, drop bool) { return h%7 == 0, h%2 == 0 })
}

// TestGrant: an offer that denies everybody can be shared with one account,
// under a policy of its own, until that is taken back or expires.
func TestGrant(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	closed := f.paul.Compute("box", 5000)
	closed.Policy.Default = policy.Deny
	closed.Policy.Limits.WallMs = 5000
	offer := f.Trade(f.paul, closed)[0]
	grant := func(p policy.Policy, expires uint64) tx.MsgGrant {
		raw, err := dagcbor.Marshal(p)
		require.NoError(t, err)
		return tx.MsgGrant{Provider: f.paul.Address, Offer: offer, Grantee: f.cleo.Address, Policy: raw, Expires: expires}
	}
	open := policy.Policy{Default: policy.Allow, Limits: policy.Limits{WallMs: 3000}}
	stolen := grant(open, 900)
	stolen.Provider = f.dora.Address
	f.Fail(mman.ErrDenied, f.dora.Actor, stolen)
	f.Fail(mman.ErrInvalid, f.paul.Actor, grant(open, f.Height()))
	f.Fail(mman.ErrInvalid, f.paul.Actor, grant(policy.Policy{}, 900))
	f.Fail(mman.ErrNotFound, f.paul.Actor, tx.MsgRevoke{Provider: f.paul.Address, Offer: offer, Grantee: f.cleo.Address})

	// A request that waits is served as soon as the offer is shared with it.
	waiting := f.queued(t, abcitest.Ask(t, f.cleo, "waiting", 5000, 900))
	require.Equal(t, "default", f.decision(t, waiting).Rejections[0].Rule)
	f.Do(f.paul.Actor, grant(open, 900))
	l := mustLease(t, f, waiting.Lease())
	require.True(t, l.Compute().Granted)
	require.Equal(t, uint64(3000), l.Limits.WallMs, "the tighter of both limits")
	granted, ok, err := f.App.View().Grant(l.Compute(), f.cleo.Address)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, policy.Allow, granted.Default)
	other := f.Do(f.dora.Actor, abcitest.Submit(t, abcitest.Ask(t, f.dora.Actor, "other", 5000, 900)))
	require.Equal(t, "default", f.decision(t, abcitest.RequestID(t, other.Events)).Rejections[0].Rule, "it is shared with one account")

	// It outlives the renewal of the offer, and is asked with its own rules.
	closed.Expires = 6000
	offer = f.Trade(f.paul, closed)[0]
	f.Do(f.paul.Actor, grant(policy.Policy{Default: policy.Allow, Rules: []policy.Rule{
		{ID: "small", Effect: policy.Deny, Phase: policy.PhaseMatch, When: "request.cap_uman > 6000"},
	}}, 900))
	require.True(t, f.Lease(f.cleo, abcitest.Ask(t, f.cleo, "small", 5000, 900)).Compute().Granted)
	large := f.queued(t, abcitest.Ask(t, f.cleo, "large", 7000, 900))
	require.Equal(t, "small", f.decision(t, large).Rejections[0].Rule)

	var page block.Page[ledger.GrantAnswer]
	for _, path := range []string{"/mman/grants?grantee=" + f.cleo.Address.String(), "/mman/grants?offer=" + offer.String()} {
		code, log := f.Query(path, &page)
		require.Zero(t, code, log)
		require.Len(t, page.Items, 1, path)
		require.Equal(t, offer, page.Items[0].Offer)
		require.Equal(t, f.cleo.Address, page.Items[0].Grantee)
	}

	f.Do(f.paul.Actor, tx.MsgRevoke{Provider: f.paul.Address, Offer: offer, Grantee: f.cleo.Address})
	_, ok, err = f.App.View().Grant(l.Compute(), f.cleo.Address)
	require.NoError(t, err)
	require.False(t, ok, "runs of leases that it made are refused from now on")
	refused := f.decision(t, f.queued(t, abcitest.Ask(t, f.cleo, "late", 5000, 900)))
	require.Equal(t, policy.RuleRevoked, refused.Rejections[0].Rule)
	require.Contains(t, refused.Explain(), "the share was revoked")
	f.Pass(900 - f.Height())
	code, log := f.Query("/mman/grants?grantee="+f.cleo.Address.String(), &page)
	require.Zero(t, code, log)
	require.Empty(t, page.Items)
}

// TestWoken: a request that waits for office hours is served when they begin,
// although nothing else happens.
func TestWoken(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hours := f.paul.Compute("box", 1000)
	hours.Policy.Rules = []policy.Rule{{ID: "closed", Effect: policy.Deny, Phase: policy.PhaseMatch, When: "chain.height < 30"}}
	f.Trade(f.paul, hours)
	id := f.queued(t, abcitest.Ask(t, f.cleo, "x", 5000, 200))
	for f.Height() < 30+f.Doc.Params.WakeBlocks {
		f.Pass(1)
	}
	require.Equal(t, match.Matched, f.decision(t, id).Outcome)
	require.GreaterOrEqual(t, mustLease(t, f, id.Lease()).Opened, uint64(30))
	f.Replay(func(h uint64) (restart, drop bool) { return h%5 == 0, true })
}

// TestFlood: cheap offers that deny everybody delay a request by a block for
// each page of them, and it pays for what is looked at.
func TestFlood(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const flood = 150
	var msgs []tx.Msg
	for i := range flood {
		o := f.dora.Compute("flood"+strconv.Itoa(i), 1000)
		o.Price.PerLease = 0
		o.Policy.Rules = []policy.Rule{{ID: "no" + strconv.Itoa(i), Effect: policy.Deny, Phase: policy.PhaseMatch}}
		m, _ := f.dora.Publish(t, chainID, o)
		msgs = append(msgs, m)
	}
	f.Do(f.dora.Actor, f.dora.Bind(chainID))
	for len(msgs) > 0 {
		n := min(30, len(msgs))
		f.Do(f.dora.Actor, msgs[:n]...)
		msgs = msgs[n:]
	}
	f.Trade(f.paul, f.paul.Compute("honest", 1000))
	id := f.queued(t, abcitest.Ask(t, f.cleo, "x", 5000, 500))
	d := f.decision(t, id)
	require.True(t, d.More)
	require.Equal(t, uint64(match.MaxScan), d.Scanned)
	f.Pass(2)
	require.Equal(t, f.paul.Peer, mustLease(t, f, id.Lease()).Compute().Peer)
	require.Equal(t, uint64(flood+1), f.decision(t, id).Scanned)
	f.Replay(func(h uint64) (restart, drop bool) { return h%3 == 0, h%2 == 0 })
}

// TestExhausted: what was not paid for is not looked at, and the escrow comes
// back at once.
func TestExhausted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const flood = tx.IncludedLooks + 10
	f.Do(f.dora.Actor, f.dora.Bind(chainID))
	for at := 0; at < flood; {
		var msgs []tx.Msg
		for range min(30, flood-at) {
			o := f.dora.Compute("flood"+strconv.Itoa(at), 1000)
			o.Price.PerLease, o.Policy.Default = 0, policy.Deny
			m, _ := f.dora.Publish(t, chainID, o)
			msgs = append(msgs, m)
			at++
		}
		f.Do(f.dora.Actor, msgs...)
	}
	f.Trade(f.paul, f.paul.Compute("honest", 1000))
	poor := f.queued(t, abcitest.Ask(t, f.cleo, "poor", 5000, 500))
	f.Pass(4)
	require.Equal(t, match.Exhausted, f.decision(t, poor).Outcome)
	require.Contains(t, f.decision(t, poor).Explain(), "--looks")
	require.Zero(t, f.supply(t).Escrow)
	paid := abcitest.Submit(t, abcitest.Ask(t, f.cleo, "paid", 5000, 500))
	paid.Looks = 100
	id := abcitest.RequestID(t, f.Do(f.cleo, paid).Events)
	f.Pass(5)
	require.Equal(t, f.paul.Peer, mustLease(t, f, id.Lease()).Compute().Peer)
}
