package abci_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/resources"
)

// withCode is a request for an algorithm that is offered.
func (f *fixture) withCode(t *testing.T, name, resource string) market.Request {
	t.Helper()
	r := abcitest.Ask(t, f.cleo, name, 50_000, f.Height()+10)
	r.Legs[0] = market.LegRequest{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: abcitest.Resource(resource)}
	return r
}

// TestRoyalties: who sells a child pays its parents' owners, and those theirs, from
// what the child earns; an offer that names less than a parent asks for is refused
// while that stands.
func TestRoyalties(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Trade(f.paul, f.paul.Compute("box", 1000))
	granny := f.dora.Algorithm("granny", 1000)
	granny.Policy.Royalty = 1000
	f.Trade(f.dora, granny)
	of := func(resource string, owner abcitest.Actor, share uint64) resources.Parent {
		return resources.Parent{Resource: abcitest.Resource(resource), Owner: owner.Address, Share: share}
	}
	child := f.paul.Algorithm("child", 1000)
	child.Policy.Royalty = 2000
	child.Parents = []resources.Parent{of("granny", f.dora.Actor, 999)}
	msg, _ := f.paul.Publish(t, chainID, child)
	require.Contains(t, f.Fail(mman.ErrPolicy, f.paul.Actor, msg), "asks for 1000 basis points")
	child.Parents[0].Share = 1000
	msg, _ = f.paul.Publish(t, chainID, child)
	f.Do(f.paul.Actor, msg)

	eve := abcitest.NewProvider(t, "eve")
	f.Do(f.cleo, tx.MsgSend{From: f.cleo.Address, To: eve.Address, Amount: 10 * mman.MAN})
	grandchild := eve.Algorithm("grandchild", 1000)
	grandchild.Price.PerLease = 100_000
	grandchild.Parents = []resources.Parent{of("child", f.paul.Actor, 2000), of("unknown", f.cleo, 500)}
	f.Trade(eve, grandchild)

	r := f.withCode(t, "deal", "grandchild")
	r.Cap = 500_000
	l := f.Lease(f.cleo, r)
	require.Equal(t, []market.Royalty{
		{To: f.paul.Address, Resource: abcitest.Resource("child"), Part: market.RoyaltyWhole * 18 / 100, Depth: 1},
		{To: f.dora.Address, Resource: abcitest.Resource("granny"), Part: market.RoyaltyWhole * 2 / 100, Depth: 2},
		{To: f.cleo.Address, Resource: abcitest.Resource("unknown"), Part: market.RoyaltyWhole * 5 / 100, Depth: 1},
	}, l.Legs[0].Royalties)
	dora, cleo := f.Balance(f.dora.Actor), f.Balance(f.cleo)
	result := f.Do(eve.Actor, tx.MsgSettle{Sender: eve.Address, Items: []tx.SettleItem{abcitest.Receipt(t, chainID, "deal", l.ID, 0, 1, 101_000)}})
	// 98 % of the 100,000 are eve's algorithm's: 98,000, of which 2 % and 5 % go.
	require.Equal(t, mman.Amount(1960), f.Balance(f.dora.Actor)-dora)
	require.Equal(t, mman.Amount(4900), f.Balance(f.cleo)-cleo)
	to, ok := abcitest.Attribute(result.Events, "mman.royalty", "to")
	require.True(t, ok)
	require.Equal(t, f.paul.Address.String(), to)
	f.Replay(nil)
}

// TestOwedAtTheEnd: a consumer and a provider of compute who agree to make no
// receipts do not rob the algorithm's owner of its price per lease once the lease
// is accepted.
func TestOwedAtTheEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(f *fixture, l market.Lease){
		"it expires": func(f *fixture, l market.Lease) { f.Pass(l.CloseAt - f.Height()) },
		"its provider ends it": func(f *fixture, l market.Lease) {
			f.Do(f.paul.Actor, tx.MsgSettle{Sender: f.paul.Address, Close: []mman.LeaseID{l.ID}})
		},
		"its consumer ends it": func(f *fixture, l market.Lease) {
			f.Do(f.cleo, tx.MsgCloseLease{Account: f.cleo.Address, Lease: l.ID})
			f.Pass(f.Doc.Params.DisputeBlocks)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.Trade(f.paul, f.paul.Compute("box", 1000))
			f.Trade(f.dora, f.dora.Algorithm("count", 1000))
			r := f.withCode(t, "deal", "count")
			r.Blocks = 5
			l := f.Lease(f.cleo, r)
			f.Do(f.paul.Actor, tx.MsgAcceptLeases{Provider: f.paul.Address, Leases: []mman.LeaseID{l.ID}})
			dora := f.Balance(f.dora.Actor)
			end(f, l)
			require.Equal(t, mman.Amount(490), f.Balance(f.dora.Actor)-dora, "its price of 500 less the burn")
			closed := mustLease(t, f, l.ID)
			require.Equal(t, market.LeaseClosed, closed.State)
			require.Equal(t, mman.Amount(500), closed.Paid)
			require.Equal(t, closed.Cap, closed.Paid+closed.Refunded)
			require.Zero(t, f.supply(t).Escrow)
		})
	}
}
