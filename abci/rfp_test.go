package abci_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/block"
	ledger "github.com/limboid/massive-man/abci/market"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/rfp"
)

// auction puts a request out to bids for 4 blocks.
func (f *fixture) auction(t *testing.T, name string, bond mman.Amount) (mman.RequestID, rfp.RFP) {
	t.Helper()
	r := abcitest.Ask(t, f.cleo, name, 5000, f.Height()+200)
	result := f.Do(f.cleo, abcitest.OpenRFP(t, r, bond, f.Height()+5))
	id := abcitest.RequestID(t, result.Events)
	return id, f.rfp(t, id)
}

func (f *fixture) rfp(t *testing.T, id mman.RequestID) rfp.RFP {
	t.Helper()
	one, ok, err := f.App.View().RFP(id)
	require.NoError(t, err)
	require.True(t, ok)
	return one
}

// TestRFPOnTheLedger goes once through an RFP by transactions: the list, a
// commitment that was left out, reveals, a no-show and its successor, and what can
// be asked about it.
func TestRFPOnTheLedger(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Trade(f.paul, f.paul.Compute("box", 5000))
	f.Trade(f.dora, f.dora.Compute("box", 5000))
	id, one := f.auction(t, "deal", 700)
	require.Equal(t, mman.Amount(5000), f.supply(t).Escrow)
	require.Equal(t, rfp.Open, one.State)
	f.Fail(mman.ErrInvalid, f.cleo, abcitest.OpenRFP(t, abcitest.Ask(t, f.cleo, "x", 5000, 900), 5001, f.Height()+5))

	cheap, dear := f.paul.Bid(t, chainID, id, "box", 300), f.dora.Bid(t, chainID, id, "box", 400)
	bring := tx.MsgCommitBids{Consumer: f.cleo.Address, Request: id, Bids: []tx.CommittedBid{cheap.Committed}}
	stolen := bring
	stolen.Consumer = f.dora.Address
	f.Fail(mman.ErrDenied, f.dora.Actor, stolen)
	// Nobody can put another's bond at stake.
	forged := bring
	forged.Bids = []tx.CommittedBid{{Commitment: dear.Committed.Commitment, Signature: cheap.Committed.Signature}}
	f.Fail(mman.ErrBadSignature, f.cleo, forged)
	before := f.Balance(f.paul.Actor)
	f.Do(f.cleo, bring)
	require.Equal(t, before-700, f.Balance(f.paul.Actor), "the bond is held")
	f.Fail(mman.ErrExists, f.cleo, bring)
	f.Fail(mman.ErrLeaseState, f.cleo, tx.MsgCancelRequest{Consumer: f.cleo.Address, Request: id})
	reveal := tx.MsgRevealBid{Bidder: f.paul.Address, Request: id, Bid: cheap.Bid, Salt: cheap.Salt}
	f.Fail(mman.ErrDeadline, f.paul.Actor, reveal)
	post := tx.MsgPostBid{Bidder: f.dora.Address, Commitment: dear.Committed.Commitment, Acknowledgement: abcitest.Acknowledge(t, chainID, "another", dear.Committed.Commitment)}
	f.Fail(mman.ErrBadSignature, f.dora.Actor, post)
	post.Acknowledgement = abcitest.Acknowledge(t, chainID, "deal", dear.Committed.Commitment)
	f.Do(f.dora.Actor, post)

	f.Pass(one.SealBy - f.Height())
	sealed := f.rfp(t, id)
	root, err := rfp.Root(sealed.Bids)
	require.NoError(t, err)
	require.Equal(t, root, sealed.Root)
	f.Fail(mman.ErrExists, f.dora.Actor, post)
	f.Fail(mman.ErrBid, f.dora.Actor, tx.MsgRevealBid{Bidder: f.dora.Address, Request: id, Bid: dear.Bid, Salt: cheap.Salt})
	f.Fail(mman.ErrBid, f.dora.Actor, tx.MsgRevealBid{Bidder: f.dora.Address, Request: id, Bid: cheap.Bid, Salt: cheap.Salt})
	f.Do(f.dora.Actor, tx.MsgRevealBid{Bidder: f.dora.Address, Request: id, Bid: dear.Bid, Salt: dear.Salt})
	f.Restart()
	f.Do(f.paul.Actor, reveal)
	awarded := f.rfp(t, id)
	require.Equal(t, rfp.Awarded, awarded.State, "all came: it is awarded in the same block")
	require.Equal(t, mman.Amount(300), mustLease(t, f, awarded.Lease).Compute().Price.PerLease)
	require.Equal(t, match.Matched, f.decision(t, id).Outcome)
	f.Fail(mman.ErrLeaseState, f.cleo, tx.MsgCancelRequest{Consumer: f.cleo.Address, Request: id})
	f.Fail(mman.ErrLeaseState, f.paul.Actor, reveal)

	// Paul does not serve. Dora takes over, and her lease is another.
	burned := f.supply(t).Burned
	f.Pass(awarded.ServeBy - f.Height())
	require.GreaterOrEqual(t, f.supply(t).Burned, burned+700)
	next := f.rfp(t, id)
	require.Equal(t, id.Takeover(1), next.Lease)
	require.Equal(t, f.dora.Address, mustLease(t, f, next.Lease).Compute().Provider)
	require.Equal(t, market.LeaseClosed, mustLease(t, f, awarded.Lease).State)
	require.Equal(t, mman.Amount(5000+700), f.supply(t).Escrow, "the cap and dora's bond")
	f.Do(f.dora.Actor, tx.MsgAcceptLeases{Provider: f.dora.Address, Leases: []mman.LeaseID{next.Lease}})
	require.Equal(t, rfp.Closed, f.rfp(t, id).State)
	require.Equal(t, mman.Amount(5000), f.supply(t).Escrow)
	// A receipt for the first lease pays nothing on the second.
	f.Do(f.paul.Actor, tx.MsgSettle{Sender: f.paul.Address, Items: []tx.SettleItem{abcitest.Receipt(t, chainID, "deal", awarded.Lease, 0, 1, 400)}})
	require.Zero(t, mustLease(t, f, next.Lease).Paid)
	f.Do(f.dora.Actor, tx.MsgSettle{Sender: f.dora.Address, Items: []tx.SettleItem{abcitest.Receipt(t, chainID, "deal", next.Lease, 0, 1, 400)}, Close: []mman.LeaseID{next.Lease}})
	require.Zero(t, f.supply(t).Escrow)

	var record rfp.RFP
	code, log := f.Query("/mman/rfps/"+id.String(), &record)
	require.Zero(t, code, log)
	require.Equal(t, f.rfp(t, id), record)
	var request ledger.RequestAnswer
	code, log = f.Query("/mman/requests/"+id.String(), &request)
	require.Zero(t, code, log)
	require.Equal(t, next.Lease, *request.Lease)
	require.Equal(t, record, *request.RFP)
	var page block.Page[rfp.RFP]
	for _, q := range []string{"", "?account=" + f.cleo.Address.String(), "?account=" + f.paul.Address.String(), "?account=" + f.dora.Address.String()} {
		code, log := f.Query("/mman/rfps"+q, &page)
		require.Zero(t, code, log)
		require.Len(t, page.Items, 1, q)
	}
	for path, want := range map[string]error{
		"/mman/rfps/zz": mman.ErrInvalid, "/mman/rfps?after=zz": mman.ErrInvalid, "/mman/rfps?consumer=x": mman.ErrInvalid,
		"/mman/rfps?account=x": mman.ErrInvalid, "/mman/rfps/" + mman.RequestID{}.String(): mman.ErrNotFound,
	} {
		code, log := f.Query(path, nil)
		require.Equal(t, mman.CodeOf(want), code, "%s: %s", path, log)
	}
	f.Replay(func(h uint64) (restart, drop bool) { return h%7 == 0, h%2 == 0 })
}

// TestRFPNobody: nobody bids, or nobody is left who serves; the consumer has its cap
// back without doing anything.
func TestRFPNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Trade(f.paul, f.paul.Compute("box", 5000))
	f.Trade(f.dora, f.dora.Compute("box", 5000))
	cleo := f.cleo

	id, one := f.auction(t, "nobody", 100)
	before := f.Balance(cleo)
	f.Pass(one.SealBy - f.Height())
	require.Equal(t, before+5000, f.Balance(cleo))
	require.Equal(t, rfp.Closed, f.rfp(t, id).State)
	_, outcome, _, err := f.App.View().Request(id)
	require.NoError(t, err)
	require.Equal(t, match.Unawarded, outcome)

	id, _ = f.auction(t, "taken back", 100)
	before = f.Balance(cleo)
	f.Do(cleo, tx.MsgCancelRequest{Consumer: cleo.Address, Request: id})
	require.Greater(t, f.Balance(cleo), before)
	require.Zero(t, f.supply(t).Escrow)

	id, one = f.auction(t, "all asleep", 100)
	bring := tx.MsgCommitBids{Consumer: cleo.Address, Request: id}
	for _, p := range []abcitest.Provider{f.paul, f.dora} {
		bring.Bids = append(bring.Bids, p.Bid(t, chainID, id, "box", 50).Committed)
	}
	f.Do(cleo, bring)
	f.Pass(one.SealBy - f.Height())
	for _, p := range []abcitest.Provider{f.paul, f.dora} {
		b := p.Bid(t, chainID, id, "box", 50)
		f.Do(p.Actor, tx.MsgRevealBid{Bidder: p.Address, Request: id, Bid: b.Bid, Salt: b.Salt})
	}
	before = f.Balance(cleo)
	for f.rfp(t, id).State == rfp.Awarded {
		f.Pass(f.rfp(t, id).ServeBy - f.Height())
	}
	done := f.rfp(t, id)
	require.Equal(t, uint64(2), done.Awards)
	for _, e := range done.Bids {
		require.Equal(t, rfp.Absent, e.State)
	}
	require.Equal(t, before+5000, f.Balance(cleo))
	require.Zero(t, f.supply(t).Escrow)
	require.Equal(t, match.Unawarded, f.decision(t, id).Outcome)
	require.Contains(t, f.decision(t, id).Explain(), "no bid was left")
}

// TestRFPLeft: who ends the lease before it is accepted: its consumer may, its
// provider loses the bond.
func TestRFPLeft(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		end  func(f *fixture, l market.Lease) (abcitest.Actor, tx.Msg)
		want rfp.BidState
	}{
		{"consumer", func(f *fixture, l market.Lease) (abcitest.Actor, tx.Msg) {
			return f.cleo, tx.MsgCloseLease{Account: f.cleo.Address, Lease: l.ID}
		}, rfp.Lost},
		{"provider with consent", func(f *fixture, l market.Lease) (abcitest.Actor, tx.Msg) {
			return f.paul.Actor, tx.MsgSettle{Sender: f.paul.Address, Close: []mman.LeaseID{l.ID}}
		}, rfp.Absent},
		{"provider", func(f *fixture, l market.Lease) (abcitest.Actor, tx.Msg) {
			return f.paul.Actor, tx.MsgCloseLease{Account: f.paul.Address, Lease: l.ID}
		}, rfp.Absent},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.Trade(f.paul, f.paul.Compute("box", 5000))
			id, one := f.auction(t, "deal", 100)
			b := f.paul.Bid(t, chainID, id, "box", 50)
			f.Do(f.cleo, tx.MsgCommitBids{Consumer: f.cleo.Address, Request: id, Bids: []tx.CommittedBid{b.Committed}})
			f.Pass(one.SealBy - f.Height())
			f.Do(f.paul.Actor, tx.MsgRevealBid{Bidder: f.paul.Address, Request: id, Bid: b.Bid, Salt: b.Salt})
			who, msg := tc.end(f, mustLease(t, f, f.rfp(t, id).Lease))
			f.Do(who, msg)
			done := f.rfp(t, id)
			require.Equal(t, rfp.Closed, done.State)
			require.Equal(t, tc.want, done.Bids[0].State)
			f.Pass(f.Doc.Params.DisputeBlocks)
			require.Zero(t, f.supply(t).Escrow)
		})
	}
}

// TestRFPsAreBounded: more RFPs are due at one height than a block looks at; the
// others come in the next.
func TestRFPsAreBounded(t *testing.T) {
	t.Parallel()
	cleo, dora := abcitest.NewActor(t, "cleo"), abcitest.NewActor(t, "dora")
	f := &fixture{Chain: abcitest.New(t, abcitest.Genesis(t, 1000*mman.MAN, cleo, dora)), cleo: cleo}
	var ids []mman.RequestID
	for i, who := range []abcitest.Actor{cleo, dora} {
		for range 2 {
			var msgs []tx.Msg
			for range 20 {
				r := abcitest.Ask(t, who, fmt.Sprint(i, len(ids)), 5000, 900)
				msgs = append(msgs, abcitest.OpenRFP(t, r, 1, 20))
			}
			for _, e := range f.Do(who, msgs...).Events {
				if e.Type == "mman.rfp" {
					var id mman.RequestID
					require.NoError(t, id.UnmarshalText([]byte(e.Attributes[0].Value)))
					ids = append(ids, id)
				}
			}
		}
	}
	require.Len(t, ids, 80)
	f.Pass(20 + f.Doc.Params.RFPPostBlocks - f.Height())
	open := func() (n int) {
		for _, id := range ids {
			if f.rfp(t, id).State == rfp.Open {
				n++
			}
		}
		return n
	}
	require.Equal(t, 16, open())
	f.Pass(1)
	require.Zero(t, open())
	require.Zero(t, f.supply(t).Escrow)
}
