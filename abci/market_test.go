package abci_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/block"
	ledger "github.com/limboid/massive-man/abci/market"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
)

const chainID = abcitest.ChainID

// fixture is a chain with a provider of compute, one of data, and a consumer.
type fixture struct {
	*abcitest.Chain
	paul, dora abcitest.Provider
	cleo       abcitest.Actor
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{paul: abcitest.NewProvider(t, "paul"), dora: abcitest.NewProvider(t, "dora"), cleo: abcitest.NewActor(t, "cleo")}
	f.Chain = abcitest.New(t, abcitest.Genesis(t, 1000*mman.MAN, f.paul.Actor, f.dora.Actor, f.cleo))
	return f
}

func (f *fixture) supply(t *testing.T) bank.Supply {
	t.Helper()
	var s bank.Supply
	code, log := f.Query("/mman/supply", &s)
	require.Zero(t, code, log)
	return s
}

func (f *fixture) decision(t *testing.T, id mman.RequestID) match.Decision {
	t.Helper()
	d, ok, err := f.App.View().Decision(id)
	require.NoError(t, err)
	require.True(t, ok)
	return d
}

func (f *fixture) queued(t *testing.T, r market.Request) mman.RequestID {
	t.Helper()
	result := f.Do(f.cleo, abcitest.Submit(t, r))
	id := abcitest.RequestID(t, result.Events)
	_, outcome, ok, err := f.App.View().Request(id)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, match.Queued, outcome)
	return id
}

// TestLifecycle goes once through a deal of three legs, from binding to refund.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	offers := f.Trade(f.paul, f.paul.Compute("box", 1000))
	data := f.Trade(f.dora, f.dora.Algorithm("count", 1000), f.dora.Dataset("words", 1000))

	r := abcitest.Ask(t, f.cleo, "deal", 50_000, 10)
	r.Legs = []market.LegRequest{
		{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: abcitest.Resource("count"), Offers: data[:1]},
		{Role: market.RoleData, Facet: resources.FacetFile, Resource: abcitest.Resource("words")},
		{Role: market.RoleCompute, Facet: resources.FacetWasm, Offers: offers},
	}
	before := f.Balance(f.cleo)
	l := f.Lease(f.cleo, r)
	require.Equal(t, mman.Amount(50_000), f.supply(t).Escrow)
	require.Equal(t, market.LeaseOpen, l.State)
	require.Equal(t, f.Height()+100, l.Expires)
	require.Equal(t, f.paul.Peer, l.Compute().Peer)
	require.Equal(t, match.Matched, f.decision(t, l.Request).Outcome)
	var answer ledger.OfferAnswer
	code, log := f.Query("/mman/offers/"+offers[0].String(), &answer)
	require.Zero(t, code, log)
	require.Equal(t, uint64(1), answer.Open)
	o, id, err := market.SignedOffer{Bytes: answer.Bytes, Key: answer.Key, Signature: answer.Signature}.Open(chainID)
	require.NoError(t, err)
	require.Equal(t, offers[0], id)
	require.Equal(t, answer.Offer.Resource, o.Resource)

	// Fixed prices 1000 + 500 + 700, then 10,000 for the session and shares.
	gross, err := l.Gross(0, resources.Usage{WallMs: 1_000_000})
	require.NoError(t, err)
	require.Equal(t, mman.Amount(2200+10_000+1000+2500), gross)
	paul, dora := f.Balance(f.paul.Actor), f.Balance(f.dora.Actor)
	// Anybody submits; here the consumer, so that the providers' balances move
	// by the payment alone.
	result := f.Do(f.cleo, tx.MsgSettle{Sender: f.cleo.Address, Items: []tx.SettleItem{
		abcitest.Receipt(t, chainID, "deal", l.ID, 0, 1, gross),
	}})
	burned, ok := abcitest.Attribute(result.Events, "mman.settle", "burned_uman")
	require.True(t, ok)
	require.Equal(t, "314", burned) // 2 % of 15,700
	gotPaul, gotDora := f.Balance(f.paul.Actor)-paul, f.Balance(f.dora.Actor)-dora
	require.Equal(t, gross-314, gotPaul+gotDora)
	require.Equal(t, mman.Amount(10_780), gotPaul, "11,000 less 2 %")
	settled, ok, err := f.App.View().Lease(l.ID)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, gross, settled.Paid)
	require.Equal(t, mman.Amount(314), settled.Burned)

	// The same receipt again, and a lower one with a higher number, add nothing.
	f.Do(f.dora.Actor, tx.MsgSettle{Sender: f.dora.Address, Items: []tx.SettleItem{
		abcitest.Receipt(t, chainID, "deal", l.ID, 0, 1, gross), abcitest.Receipt(t, chainID, "deal", l.ID, 0, 9, 10),
	}})
	require.Equal(t, gross, mustLease(t, f, l.ID).Paid)

	// The provider closes with its last receipt; the rest goes back.
	cleo := f.Balance(f.cleo)
	f.Do(f.paul.Actor, tx.MsgSettle{
		Sender: f.paul.Address, Close: []mman.LeaseID{l.ID},
		Items: []tx.SettleItem{abcitest.Receipt(t, chainID, "deal", l.ID, 1, 1, 300)},
	})
	closed := mustLease(t, f, l.ID)
	require.Equal(t, market.LeaseClosed, closed.State)
	require.Equal(t, mman.Amount(50_000)-gross-300, closed.Refunded)
	require.Equal(t, cleo+closed.Refunded, f.Balance(f.cleo))
	require.Zero(t, f.supply(t).Escrow)
	require.Less(t, f.Balance(f.cleo), before)
	active, err := f.App.View().ActiveLeases(f.paul.Address, nil, 10)
	require.NoError(t, err)
	require.Empty(t, active)

	// Later receipts of a closed lease are skipped, and the rest of the batch
	// is not held up by them.
	second := f.Lease(f.cleo, abcitest.Ask(t, f.cleo, "second", 20_000, 40))
	result = f.Do(f.paul.Actor, tx.MsgSettle{Sender: f.paul.Address, Items: []tx.SettleItem{
		abcitest.Receipt(t, chainID, "deal", l.ID, 0, 20, gross+1),
		abcitest.Receipt(t, chainID, "nobody", mman.LeaseID{1}, 0, 20, 5),
		abcitest.Receipt(t, chainID, "second", second.ID, 0, 1, 2000),
		abcitest.Receipt(t, chainID, "second", second.ID, 1, 1, 19_000),
	}})
	skipped := 0
	for _, e := range result.Events {
		if e.Type == "mman.settle_skipped" {
			skipped++
		}
	}
	require.Equal(t, 3, skipped, "a closed, an unknown, and one above the cap")
	require.Equal(t, mman.Amount(2000), mustLease(t, f, second.ID).Paid)

	// The chain goes on in another one, and the open lease with it.
	next := reborn(t, f.Chain)
	next.Pass(1)
	require.Equal(t, f.Balance(f.cleo), next.Balance(f.cleo))
	next.Do(f.paul.Actor, tx.MsgSettle{Sender: f.paul.Address, Items: []tx.SettleItem{
		abcitest.Receipt(t, chainID, "second", second.ID, 0, 2, 3000),
	}})
	moved, ok, err := next.App.View().Lease(second.ID)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, mman.Amount(3000), moved.Paid)
	f.Replay(func(h uint64) (restart, drop bool) { return h%3 == 0, h%2 == 0 })
}

func mustLease(t *testing.T, f *fixture, id mman.LeaseID) market.Lease {
	t.Helper()
	l, ok, err := f.App.View().Lease(id)
	require.NoError(t, err)
	require.True(t, ok)
	return l
}

func TestBinding(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bind := f.paul.Bind(chainID)
	forged := bind
	forged.Account = f.dora.Address
	f.Fail(mman.ErrBadSignature, f.dora.Actor, forged)
	f.Fail(mman.ErrBadSignature, f.paul.Actor, f.paul.Bind("mman-local-00000000"))
	f.Do(f.paul.Actor, bind)
	// The node itself would agree to another account, the chain does not.
	other := tx.MsgBindNode{Account: f.dora.Address, Peer: f.paul.Peer}.SignNode(f.paul.Node, chainID)
	f.Fail(mman.ErrExists, f.dora.Actor, other)
	moved := bind
	moved.Addrs = []string{"/ip4/10.0.0.1/tcp/1", "/dns/example.org/tcp/2"}
	f.Do(f.paul.Actor, moved.SignNode(f.paul.Node, chainID))
	var n ledger.Node
	code, log := f.Query("/mman/nodes/"+f.paul.Peer.String(), &n)
	require.Zero(t, code, log)
	require.Equal(t, moved.Addrs, n.Addrs)
	require.Equal(t, f.paul.Address, n.Account)
	var page block.Page[ledger.Node]
	code, log = f.Query("/mman/bootstrap", &page)
	require.Zero(t, code, log)
	require.Len(t, page.Items, 1, "paul is the validator's operator")
	code, log = f.Query("/mman/nodes?account="+f.paul.Address.String(), &page)
	require.Zero(t, code, log)
	require.Len(t, page.Items, 1)
}

func TestOffers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	offer := f.paul.Compute("box", 50)
	msg, id := f.paul.Publish(t, chainID, offer)
	f.Fail(mman.ErrDenied, f.paul.Actor, msg) // not bound
	f.Do(f.paul.Actor, f.paul.Bind(chainID), msg)
	f.Fail(mman.ErrExists, f.paul.Actor, msg)
	bad := msg
	bad.Signature = make([]byte, 64)
	f.Fail(mman.ErrBadSignature, f.paul.Actor, bad)
	foreign, _ := f.paul.Publish(t, "mman-local-00000000", f.paul.Compute("other", 50))
	f.Fail(mman.ErrBadSignature, f.paul.Actor, foreign)
	stolen := msg
	stolen.Provider = f.dora.Address
	f.Fail(mman.ErrBadSignature, f.dora.Actor, stolen)
	f.Fail(mman.ErrInvalid, f.paul.Actor, tx.MsgOffer{Provider: f.paul.Address, Offer: []byte{0xa0, 1}, Signature: make([]byte, 64)})
	for _, ahead := range []uint64{0, f.Doc.Params.MaxOfferBlocks + 1} {
		wrong, _ := f.paul.Publish(t, chainID, f.paul.Compute("late", f.Height()+1+ahead))
		f.Fail(mman.ErrInvalid, f.paul.Actor, wrong)
	}

	// Posting the line again supersedes and keeps the open count.
	l := f.Lease(f.cleo, abcitest.Ask(t, f.cleo, "x", 10_000, 30))
	renewed, next := f.paul.Publish(t, chainID, f.paul.Compute("box", 60))
	f.Do(f.paul.Actor, renewed)
	_, _, ok, err := f.App.View().Offer(id)
	require.NoError(t, err)
	require.False(t, ok)
	var answer ledger.OfferAnswer
	code, log := f.Query("/mman/offers/"+next.String(), &answer)
	require.Zero(t, code, log)
	require.Equal(t, uint64(1), answer.Open)

	// Withdrawing keeps the lease, which still frees its line at the end.
	f.Fail(mman.ErrDenied, f.dora.Actor, tx.MsgWithdrawOffer{Provider: f.dora.Address, Offer: next})
	f.Do(f.paul.Actor, tx.MsgWithdrawOffer{Provider: f.paul.Address, Offer: next})
	f.Fail(mman.ErrOfferGone, f.paul.Actor, tx.MsgWithdrawOffer{Provider: f.paul.Address, Offer: next})
	f.Do(f.paul.Actor, tx.MsgSettle{Sender: f.paul.Address, Close: []mman.LeaseID{l.ID}})

	// Expiry takes an offer out by itself, at its height.
	short, shortID := f.paul.Publish(t, chainID, f.paul.Compute("short", f.Height()+3))
	f.Do(f.paul.Actor, short)
	f.Pass(1)
	_, _, ok, err = f.App.View().Offer(shortID)
	require.NoError(t, err)
	require.True(t, ok)
	events := f.Pass(1)
	expired, ok := abcitest.Attribute(events, "mman.offer_expired", "id")
	require.True(t, ok)
	require.Equal(t, shortID.String(), expired)
}

// TestQueue checks, for each rule that keeps a request waiting, that the
// decision names it.
func TestQueue(t *testing.T) {
	t.Parallel()
	denied := policy.Policy{Default: policy.Allow, Rules: []policy.Rule{{ID: "friends", Effect: policy.Deny, Phase: policy.PhaseMatch}}}
	for _, tc := range []struct {
		name  string
		offer func(f *fixture) market.Offer
		ask   func(f *fixture, r *market.Request)
		code  *mman.Error
		rule  string
	}{
		{"nothing offered", nil, nil, mman.ErrResourceGone, "compute"},
		{"policy", func(f *fixture) market.Offer {
			o := f.paul.Compute("box", 500)
			o.Policy = denied
			return o
		}, nil, mman.ErrPolicy, "friends"},
		{"default deny", func(f *fixture) market.Offer {
			o := f.paul.Compute("box", 500)
			o.Policy.Default = policy.Deny
			return o
		}, nil, mman.ErrPolicy, "default"},
		{"cap", func(f *fixture) market.Offer {
			o := f.paul.Compute("box", 500)
			o.Price.PerLease = 5001
			return o
		}, nil, mman.ErrPrice, "cap"},
		{"unknown candidate", func(f *fixture) market.Offer { return f.paul.Compute("box", 500) }, func(_ *fixture, r *market.Request) {
			r.Legs[1].Offers = []mman.CID{abcitest.Resource("gone")}
		}, mman.ErrOfferGone, "expires"},
		{"another resource", func(f *fixture) market.Offer { return f.paul.Compute("box", 500) }, func(_ *fixture, r *market.Request) {
			r.Legs[1].Resource = abcitest.Resource("another")
		}, mman.ErrResourceGone, "compute"},
		{"sealed data elsewhere", func(f *fixture) market.Offer { return f.paul.Compute("box", 500) }, func(f *fixture, r *market.Request) {
			o := f.dora.Dataset("secret", 500)
			o.Sealed = true
			f.Trade(f.dora, o)
			r.Legs = []market.LegRequest{r.Legs[0], {Role: market.RoleData, Facet: resources.FacetFile, Resource: o.Resource}, r.Legs[1]}
		}, mman.ErrPolicy, "sealed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if tc.offer != nil {
				f.Trade(f.paul, tc.offer(f))
			}
			r := abcitest.Ask(t, f.cleo, "x", 5000, 8)
			if tc.ask != nil {
				tc.ask(f, &r)
			}
			id := f.queued(t, r)
			d := f.decision(t, id)
			require.Equal(t, match.Queued, d.Outcome)
			require.NotEmpty(t, d.Rejections)
			require.Equal(t, tc.code.Code, d.Rejections[0].Code)
			require.Equal(t, tc.rule, d.Rejections[0].Rule)
			root := f.Root()
			f.Pass(1)
			require.Equal(t, root, f.Root(), "a waiting request changes nothing")
			before := f.Balance(f.cleo)
			f.Pass(8 - f.Height())
			_, outcome, _, err := f.App.View().Request(id)
			require.NoError(t, err)
			require.Equal(t, match.Expired, outcome)
			require.Equal(t, match.Expired, f.decision(t, id).Outcome)
			require.Equal(t, before+5000, f.Balance(f.cleo))
			require.Zero(t, f.supply(t).Escrow)
		})
	}
}

func TestQueueMovesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one := f.paul.Compute("box", 500)
	one.Capacity = 1
	f.Trade(f.paul, one)
	first := f.Lease(f.cleo, abcitest.Ask(t, f.cleo, "a", 5000, 100))
	id := f.queued(t, abcitest.Ask(t, f.cleo, "b", 5000, 100))
	require.Equal(t, mman.ErrCapacity.Code, f.decision(t, id).Rejections[0].Code)
	f.Do(f.paul.Actor, tx.MsgSettle{Sender: f.paul.Address, Close: []mman.LeaseID{first.ID}})
	_, outcome, _, err := f.App.View().Request(id)
	require.NoError(t, err)
	require.Equal(t, match.Matched, outcome, "the place that became free is given in the same block")

	// Cancelling: only by its consumer, only while it waits.
	third := f.queued(t, abcitest.Ask(t, f.cleo, "c", 5000, 100))
	f.Fail(mman.ErrDenied, f.dora.Actor, tx.MsgCancelRequest{Consumer: f.dora.Address, Request: third})
	escrow := f.supply(t).Escrow
	f.Do(f.cleo, tx.MsgCancelRequest{Consumer: f.cleo.Address, Request: third})
	require.Equal(t, escrow-5000, f.supply(t).Escrow)
	require.Equal(t, match.Canceled, f.decision(t, third).Outcome)
	f.Fail(mman.ErrLeaseState, f.cleo, tx.MsgCancelRequest{Consumer: f.cleo.Address, Request: third})
	f.Fail(mman.ErrLeaseState, f.cleo, tx.MsgCancelRequest{Consumer: f.cleo.Address, Request: id})
	f.Fail(mman.ErrNotFound, f.cleo, tx.MsgCancelRequest{Consumer: f.cleo.Address, Request: mman.RequestID{7}})
	var page block.Page[ledger.RequestAnswer]
	code, log := f.Query("/mman/requests?consumer="+f.cleo.Address.String(), &page)
	require.Zero(t, code, log)
	require.Len(t, page.Items, 3)
}

func TestRequestRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(3)
	for _, tc := range []struct {
		name   string
		change func(r *market.Request)
		want   error
	}{
		{"deadline passed", func(r *market.Request) { r.Deadline = 4 }, mman.ErrDeadline},
		{"deadline too far", func(r *market.Request) { r.Deadline = 100_000 }, mman.ErrInvalid},
		{"too long", func(r *market.Request) { r.Blocks = f.Doc.Params.MaxLeaseBlocks + 1 }, mman.ErrInvalid},
		{"another's", func(r *market.Request) { r.Consumer = f.paul.Address }, mman.ErrDenied},
		{"more than there is", func(r *market.Request) { r.Cap = 1001 * mman.MAN }, mman.ErrFunds},
	} {
		r := abcitest.Ask(t, f.cleo, "x", 5000, 60)
		tc.change(&r)
		msg := abcitest.Submit(t, r)
		msg.Consumer = f.cleo.Address
		f.Fail(tc.want, f.cleo, msg)
	}
	f.Fail(mman.ErrInvalid, f.cleo, tx.MsgRequest{Consumer: f.cleo.Address, Request: []byte{0xa0}})
	for i := range f.Doc.Params.MaxQueuedPerAccount {
		f.queued(t, abcitest.Ask(t, f.cleo, strconv.FormatUint(i, 10), 5000, 200))
	}
	f.Fail(mman.ErrQueueFull, f.cleo, abcitest.Submit(t, abcitest.Ask(t, f.cleo, "more", 5000, 200)))
	require.Equal(t, mman.Amount(64*5000), f.supply(t).Escrow)
}

// TestCloseOverOthers: the compute provider cannot close a lease at once over the
// price per lease of somebody else's leg. A receipt that pays it may still come;
// when it was paid, the lease closes at once.
func TestCloseOverOthers(t *testing.T) {
	t.Parallel()
	for name, paid := range map[string]mman.Amount{"unpaid": 0, "almost": 1499, "paid": 1500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.Trade(f.paul, f.paul.Compute("box", 1000))
			code := f.Trade(f.dora, f.dora.Algorithm("count", 1000))
			r := abcitest.Ask(t, f.cleo, "deal", 50_000, 10)
			r.Legs = []market.LegRequest{
				{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: abcitest.Resource("count"), Offers: code},
				{Role: market.RoleCompute, Facet: resources.FacetWasm},
			}
			l := f.Lease(f.cleo, r)
			fixed, err := l.Fixed()
			require.NoError(t, err)
			require.Equal(t, mman.Amount(1500), fixed)
			msg := tx.MsgSettle{Sender: f.paul.Address, Close: []mman.LeaseID{l.ID}}
			if paid > 0 {
				msg.Items = []tx.SettleItem{abcitest.Receipt(t, chainID, "deal", l.ID, 0, 1, paid)}
			}
			before := f.Balance(f.dora.Actor)
			f.Do(f.paul.Actor, msg)
			if paid > 0 { // so it is accepted, and what is owed is paid at its end
				require.Equal(t, market.LeaseClosed, mustLease(t, f, l.ID).State)
				require.InDelta(t, 490, uint64(f.Balance(f.dora.Actor)-before), 1, "500 less the burn")
				return
			}
			closing := mustLease(t, f, l.ID)
			require.Equal(t, market.LeaseClosing, closing.State)
			result := f.Do(f.paul.Actor, tx.MsgSettle{Sender: f.paul.Address, Close: []mman.LeaseID{l.ID}})
			_, skipped := abcitest.Attribute(result.Events, "mman.settle_skipped", "reason")
			require.True(t, skipped)
			dora := f.Balance(f.dora.Actor)
			f.Do(f.cleo, tx.MsgSettle{Sender: f.cleo.Address, Items: []tx.SettleItem{abcitest.Receipt(t, chainID, "deal", l.ID, 0, 2, 20_000)}})
			require.Greater(t, f.Balance(f.dora.Actor), dora)
			f.Pass(closing.CloseAt - f.Height())
			require.Equal(t, market.LeaseClosed, mustLease(t, f, l.ID).State)
			require.Zero(t, f.supply(t).Escrow)
		})
	}
}

func TestDisputeWindow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Trade(f.paul, f.paul.Compute("box", 500))
	l := f.Lease(f.cleo, abcitest.Ask(t, f.cleo, "x", 10_000, 60))
	f.Fail(mman.ErrDenied, f.dora.Actor, tx.MsgCloseLease{Account: f.dora.Address, Lease: l.ID})
	f.Fail(mman.ErrNotFound, f.cleo, tx.MsgCloseLease{Account: f.cleo.Address, Lease: mman.LeaseID{9}})
	f.Fail(mman.ErrDenied, f.cleo, tx.MsgSettle{Sender: f.cleo.Address, Close: []mman.LeaseID{l.ID}})
	f.Do(f.cleo, tx.MsgCloseLease{Account: f.cleo.Address, Lease: l.ID})
	closing := mustLease(t, f, l.ID)
	require.Equal(t, market.LeaseClosing, closing.State)
	require.Equal(t, f.Height()+f.Doc.Params.DisputeBlocks, closing.CloseAt)
	f.Fail(mman.ErrLeaseState, f.cleo, tx.MsgCloseLease{Account: f.cleo.Address, Lease: l.ID})

	// The provider's later receipt still counts.
	f.Do(f.paul.Actor, tx.MsgSettle{Sender: f.paul.Address, Items: []tx.SettleItem{abcitest.Receipt(t, chainID, "x", l.ID, 0, 3, 4000)}})
	require.Equal(t, mman.Amount(4000), mustLease(t, f, l.ID).Paid)
	f.Pass(closing.CloseAt - 1 - f.Height())
	require.Equal(t, market.LeaseClosing, mustLease(t, f, l.ID).State)
	f.Restart()
	events := f.Pass(1)
	refund, ok := abcitest.Attribute(events, "mman.close", "refund_uman")
	require.True(t, ok)
	require.Equal(t, "6000", refund)
	require.Equal(t, market.LeaseClosed, mustLease(t, f, l.ID).State)
	require.Zero(t, f.supply(t).Escrow)
	root := f.Root()
	f.Pass(2)
	require.Equal(t, root, f.Root())
	f.Replay(func(h uint64) (restart, drop bool) { return h == 5 || h == 40, true })
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Trade(f.paul, f.paul.Compute("box", 500))
	r := abcitest.Ask(t, f.cleo, "x", 10_000, 60)
	r.Blocks = 5
	l := f.Lease(f.cleo, r)
	require.Equal(t, l.Expires+f.Doc.Params.GraceBlocks, l.CloseAt)
	f.Pass(l.CloseAt - 1 - f.Height())
	require.Equal(t, market.LeaseOpen, mustLease(t, f, l.ID).State)
	f.Pass(1)
	require.Equal(t, market.LeaseClosed, mustLease(t, f, l.ID).State)
}

func TestBadReceipts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Trade(f.paul, f.paul.Compute("box", 500))
	l := f.Lease(f.cleo, abcitest.Ask(t, f.cleo, "x", 10_000, 60))
	good := abcitest.Receipt(t, chainID, "x", l.ID, 0, 1, 100)
	for _, tc := range []struct {
		name string
		item tx.SettleItem
		want error
	}{
		{"another key", abcitest.Receipt(t, chainID, "y", l.ID, 0, 1, 100), mman.ErrBadSignature},
		{"another chain", abcitest.Receipt(t, "mman-local-00000000", "x", l.ID, 0, 1, 100), mman.ErrBadSignature},
		{"lane", abcitest.Receipt(t, chainID, "x", l.ID, market.MaxLanes, 1, 100), mman.ErrInvalid},
		{"number", abcitest.Receipt(t, chainID, "x", l.ID, 0, 0, 100), mman.ErrInvalid},
		{"bytes", tx.SettleItem{Receipt: []byte{1, 2, 3}, Signature: make([]byte, 64)}, mman.ErrInvalid},
	} {
		log := f.Fail(tc.want, f.paul.Actor, tx.MsgSettle{Sender: f.paul.Address, Items: []tx.SettleItem{good, tc.item}})
		require.Contains(t, log, "items[1]", tc.name)
		require.Zero(t, mustLease(t, f, l.ID).Paid, "the message fails as a whole")
	}
}

// TestMatchingIsBounded checks that what does not fit into one block's matching
// is done in the next ones, the longest waiting first.
func TestMatchingIsBounded(t *testing.T) {
	t.Parallel()
	cleo, paul := abcitest.NewActor(t, "cleo"), abcitest.NewProvider(t, "paul")
	doc := abcitest.Genesis(t, 1000*mman.MAN, cleo, paul.Actor)
	doc.Params.MatchPerBlock = 2
	f := &fixture{Chain: abcitest.New(t, doc), paul: paul, cleo: cleo}
	var msgs []tx.Msg
	for i := range 5 {
		msgs = append(msgs, abcitest.Submit(t, abcitest.Ask(t, cleo, strconv.Itoa(i), 5000, 50)))
	}
	result := f.Do(cleo, msgs...)
	var ids []mman.RequestID
	for _, e := range result.Events {
		if e.Type == "mman.request" {
			var id mman.RequestID
			require.NoError(t, id.UnmarshalText([]byte(e.Attributes[0].Value)))
			ids = append(ids, id)
		}
	}
	require.Len(t, ids, 5)
	count := func(is func(id mman.RequestID) bool) (n int) {
		for _, id := range ids {
			if is(id) {
				n++
			}
		}
		return n
	}
	decided := func(id mman.RequestID) bool {
		_, ok, err := f.App.View().Decision(id)
		require.NoError(t, err)
		return ok
	}
	matched := func(id mman.RequestID) bool {
		_, ok, err := f.App.View().Lease(id.Lease())
		require.NoError(t, err)
		return ok
	}
	for _, want := range []int{2, 4, 5, 5} {
		require.Equal(t, want, count(decided))
		f.Pass(1)
	}
	f.Trade(paul, paul.Compute("box", 100))
	for _, want := range []int{2, 4, 5} {
		require.Equal(t, want, count(matched))
		f.Pass(1)
	}
	root := f.Root()
	f.Pass(1)
	require.Equal(t, root, f.Root())
}

// TestMatchOrder shows that who gets the last place does not depend on the
// order of the transactions in the block.
func TestMatchOrder(t *testing.T) {
	t.Parallel()
	var roots [][]byte
	var winners []string
	for _, reverse := range []bool{false, true} {
		f := newFixture(t)
		one := f.paul.Compute("box", 500)
		one.Capacity = 1
		f.Trade(f.paul, one)
		a := f.Sign(f.cleo, []tx.Msg{abcitest.Submit(t, abcitest.Ask(t, f.cleo, "a", 5000, 100))})
		r := abcitest.Ask(t, f.dora.Actor, "b", 5000, 100)
		b := f.Sign(f.dora.Actor, []tx.Msg{abcitest.Submit(t, r)})
		txs := [][]byte{a, b}
		if reverse {
			txs = [][]byte{b, a}
		}
		got := f.Block(txs...)
		require.Equal(t, []uint32{0, 0}, []uint32{got.Results[0].Code, got.Results[1].Code})
		winner, ok := abcitest.Attribute(got.Events, "mman.match", "consumer")
		require.True(t, ok)
		roots, winners = append(roots, got.Root), append(winners, winner)
	}
	require.Equal(t, winners[0], winners[1])
	require.Equal(t, roots[0], roots[1])
}

func TestLists(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var offers []market.Offer
	for i := range 25 {
		offers = append(offers, f.paul.Compute(fmt.Sprint("box", i), 500))
	}
	f.Trade(f.paul, offers...)
	f.Trade(f.dora, f.dora.Dataset("words", 500), f.dora.Algorithm("count", 500))
	for _, tc := range []struct {
		args string
		want int
	}{
		{"", 27},
		{"kind=compute", 25},
		{"kind=dataset&facet=file", 1},
		{"kind=dataset&facet=wasm", 0},
		{"facet=wasm", 26},
		{"provider=" + f.dora.Address.String(), 2},
		{"resource=" + abcitest.Resource("box7").String(), 1},
		{"resource=" + abcitest.Resource("box7").String() + "&provider=" + f.dora.Address.String(), 0},
	} {
		seen := map[mman.CID]bool{}
		next := ""
		for {
			var page block.Page[ledger.OfferAnswer]
			code, log := f.Query("/mman/offers?limit=7&after="+next+"&"+tc.args, &page)
			if tc.args == "" {
				code, log = f.Query("/mman/offers?limit=7&after="+next, &page)
			}
			require.Zero(t, code, log)
			require.LessOrEqual(t, len(page.Items), 7)
			for _, o := range page.Items {
				require.False(t, seen[o.ID])
				seen[o.ID] = true
			}
			if next = page.Next; next == "" {
				break
			}
		}
		require.Len(t, seen, tc.want, tc.args)
	}
	for _, tc := range []struct {
		path string
		want error
	}{
		{"/mman/offers?limit=0", mman.ErrInvalid},
		{"/mman/offers?limit=201", mman.ErrInvalid},
		{"/mman/offers?colour=red", mman.ErrInvalid},
		{"/mman/offers?limit=1&limit=2", mman.ErrInvalid},
		{"/mman/offers?after=zz", mman.ErrInvalid},
		{"/mman/offers?provider=me", mman.ErrInvalid},
		{"/mman/offers/xyz", mman.ErrInvalid},
		{"/mman/offers/" + abcitest.Resource("none").String(), mman.ErrNotFound},
		{"/mman/offers/a/b", mman.ErrInvalid},
		{"/mman/leases/zz", mman.ErrInvalid},
		{"/mman/leases/" + mman.LeaseID{}.String(), mman.ErrNotFound},
		{"/mman/requests/" + mman.RequestID{}.String(), mman.ErrNotFound},
		{"/mman/decisions/" + mman.RequestID{}.String(), mman.ErrNotFound},
		{"/mman/nodes", mman.ErrInvalid},
		{"/mman/nodes/x", mman.ErrInvalid},
		{"/mman/supply?x=1", mman.ErrInvalid},
		{"/mman/params/x", mman.ErrInvalid},
		{"/mman/", mman.ErrUnsupported},
		{"/elsewhere", mman.ErrUnsupported},
		{"/store/bank", mman.ErrUnsupported},
		{"/mman/account/" + abcitest.NewActor(t, "nobody").Address.String(), mman.ErrNotFound},
	} {
		code, log := f.Query(tc.path, nil)
		require.Equal(t, mman.CodeOf(tc.want), code, "%s: %s", tc.path, log)
		require.NotEmpty(t, log)
	}
	var params, fee map[string]any
	code, log := f.Query("/mman/params", &params)
	require.Zero(t, code, log)
	code, log = f.Query("/mman/fee", &fee)
	require.Zero(t, code, log)
	require.Contains(t, fee, "base_fee_micro")
	var chain abci.Chain
	code, log = f.Query("/mman/chain", &chain)
	require.Zero(t, code, log)
	hash, err := f.Doc.Hash()
	require.NoError(t, err)
	require.Equal(t, hash, chain.Genesis)
}
