package abci_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/beacon"
	"github.com/limboid/massive-man/abci/block"
	ledger "github.com/limboid/massive-man/abci/market"
	"github.com/limboid/massive-man/abci/stake"
	vault "github.com/limboid/massive-man/abci/storage"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/storage"
)

// populated is a chain on which there is something of every noun.
type populated struct {
	*fixture
	offer mman.CID
	lease market.Lease
	rfp   mman.RequestID

	stored mman.LeaseID
}

func populate(t *testing.T) populated {
	t.Helper()
	f := newFixture(t)
	p := populated{fixture: f, offer: f.Trade(f.paul, f.paul.Compute("box", 5000), f.paul.Compute("crate", 5000))[0]}
	second := abcitest.NewProvider(t, "paul's second")
	second.Actor = f.paul.Actor
	f.Do(f.paul.Actor, second.Bind(chainID))
	f.Trade(f.dora, f.dora.Dataset("words", 5000))
	open, err := dagcbor.Marshal(abcitest.OpenPolicy())
	require.NoError(t, err)
	for _, grantee := range []mman.Address{f.cleo.Address, f.dora.Address} {
		f.Do(f.paul.Actor, tx.MsgGrant{Provider: f.paul.Address, Offer: p.offer, Grantee: grantee, Policy: open, Expires: 4000})
	}
	for i := range 3 {
		p.lease = f.Lease(f.cleo, abcitest.Ask(t, f.cleo, fmt.Sprint("deal ", i), 5000, 900))
	}
	for i := range 2 {
		p.rfp, _ = f.auction(t, fmt.Sprint("auction ", i), 100)
	}
	f.Do(f.cleo, tx.MsgDelegate{Delegator: f.cleo.Address, Validator: f.paul.Address, Amount: 10 * mman.MAN})
	f.Do(f.dora.Actor, tx.MsgDelegate{Delegator: f.dora.Address, Validator: f.paul.Address, Amount: 10 * mman.MAN})
	for range 2 {
		f.Do(f.cleo, tx.MsgUndelegate{Delegator: f.cleo.Address, Validator: f.paul.Address, Amount: mman.MAN})
	}
	f.Do(f.paul.Actor, tx.MsgStorageOffer{Provider: f.paul.Address, Peer: f.paul.Peer, Tier: storage.Fast, Price: 5, Capacity: 64})
	f.Do(f.dora.Actor, tx.MsgStorageOffer{Provider: f.dora.Address, Peer: f.dora.Peer, Tier: storage.Fast, Price: 5, Capacity: 64})
	made := f.Do(f.cleo, tx.MsgStore{Consumer: f.cleo.Address, Key: [32]byte{1}, Content: p.offer, Bytes: 9, Tier: storage.Fast, MaxPrice: 5, Epochs: 9, Roots: []mman.Hash{{1}, {2}}})
	id, _ := abcitest.Attribute(made.Events, "mman.store", "lease")
	require.NoError(t, p.stored.UnmarshalText([]byte(id)))
	f.Do(f.paul.Actor, tx.MsgAcceptStorage{Provider: f.paul.Address, Replicas: []tx.ReplicaName{{Lease: p.stored}, {Lease: p.stored, Replica: 1}}})
	f.Do(f.cleo, tx.MsgFundRetrieval{Consumer: f.cleo.Address, Provider: f.paul.Address, Key: [32]byte{1}, Amount: 5})
	for _, ok, err := f.App.View().StorageDrawn(); !ok; _, ok, err = f.App.View().StorageDrawn() {
		require.NoError(t, err)
		f.Pass(1)
	}
	return p
}

// ask is a path with these arguments.
func ask(noun string, args ...string) string {
	return noun + "?" + strings.Join(slices.DeleteFunc(args, func(s string) bool { return s == "" }), "&")
}

// walk reads a list to its end, limit items at a time.
func (p populated) walk(t *testing.T, noun, filter string, limit int) []string {
	t.Helper()
	var all []string
	for after := ""; ; {
		var page block.Page[json.RawMessage]
		code, log := p.Query("/mman/"+ask(noun, filter, fmt.Sprint("limit=", limit), after), &page)
		require.Zero(t, code, "%s?%s: %s", noun, filter, log)
		require.LessOrEqual(t, len(page.Items), limit)
		for _, item := range page.Items {
			all = append(all, string(item))
		}
		require.LessOrEqual(t, len(all), 100, "it comes to an end")
		if page.Next == "" {
			return all
		}
		after = "after=" + page.Next
	}
}

// TestEveryNoun walks every noun of the ledger through the application's Query:
// the pages of its lists, their bounds, one by its id and an unknown id.
func TestEveryNoun(t *testing.T) {
	t.Parallel()
	p := populate(t)
	paul, cleo := p.paul.Address.String(), p.cleo.Address.String()
	nobody := abcitest.NewActor(t, "nobody").Address
	nothing := mman.RequestID{9}.String()
	type list struct {
		args string // a filter that is demanded or allowed
		want int
	}
	table := map[string]struct {
		lists       []list
		one, absent string   // behind the noun, empty when it has no id
		only        []string // paths of a noun that is one object
	}{
		"account":  {one: cleo, absent: nobody.String()},
		"accounts": {lists: []list{{"", 3}}},
		"supply":   {only: []string{"supply"}},
		"beacon":   {only: []string{"beacon"}},
		"nodes": {
			lists: []list{{"account=" + paul, 2}, {"account=" + cleo, 0}},
			one:   p.paul.Peer.String(), absent: abcitest.NewProvider(t, "nobody").Peer.String(),
		},
		"offers": {
			lists: []list{{"kind=compute", 2}, {"provider=" + paul, 2}, {"resource=" + abcitest.Resource("words").String(), 1}, {"facet=file", 1}},
			one:   p.offer.String(), absent: abcitest.Resource("none").String(),
		},
		"requests": {
			lists: []list{{"", 5}, {"consumer=" + cleo, 5}, {"consumer=" + paul, 0}},
			one:   p.lease.Request.String(), absent: nothing,
		},
		"decisions": {
			lists: []list{{"", 3}, {"consumer=" + cleo, 3}, {"consumer=" + paul, 0}},
			one:   p.lease.Request.String(), absent: nothing,
		},
		"leases": {
			lists: []list{{"", 3}, {"account=" + cleo, 3}, {"account=" + paul, 3}, {"account=" + nobody.String(), 0}},
			one:   p.lease.ID.String(), absent: nothing,
		},
		"grants": {lists: []list{
			{"offer=" + p.offer.String(), 2},
			{"grantee=" + cleo, 1},
			{"offer=" + p.offer.String() + "&grantee=" + cleo, 1},
			{"offer=" + p.offer.String() + "&grantee=" + nobody.String(), 0},
		}},
		"rfps":           {lists: []list{{"", 2}, {"account=" + cleo, 2}, {"account=" + paul, 0}}, one: p.rfp.String(), absent: nothing},
		"validators":     {lists: []list{{"", 1}}, one: p.paul.Address.ValidatorString(), absent: nobody.ValidatorString()},
		"delegations":    {lists: []list{{"account=" + cleo, 1}, {"validator=" + p.paul.Address.ValidatorString(), 3}}},
		"unbondings":     {lists: []list{{"account=" + cleo, 2}, {"account=" + paul, 0}}},
		"storage-offers": {lists: []list{{"", 2}, {"tier=fast", 2}, {"tier=slow", 0}}},
		"storage-leases": {
			lists: []list{{"", 1}, {"account=" + cleo, 1}, {"account=" + paul, 0}, {"content=" + p.offer.String(), 1}},
			one:   p.stored.String(), absent: nothing,
		},
		"storage-replicas":  {lists: []list{{"", 2}, {"provider=" + paul, 1}}},
		"storage-challenge": {only: []string{"storage-challenge"}},
		"retrievals":        {lists: []list{{"", 1}, {"consumer=" + cleo, 1}, {"consumer=" + paul, 0}}},
		"params":            {only: []string{"params"}},
		"fee":               {only: []string{"fee"}},
		"chain":             {only: []string{"chain"}},
		"bootstrap":         {lists: []list{{"", 2}}},
		"upgrades":          {only: []string{"upgrades"}},
	}
	require.Len(t, table, len(nouns()))
	fails := func(want error, path string) {
		code, log := p.Query("/mman/"+path, nil)
		require.Equal(t, mman.CodeOf(want), code, "%s: %s", path, log)
		require.NotEmpty(t, log)
	}
	for _, noun := range nouns() {
		tc, ok := table[noun]
		require.True(t, ok, noun)
		for _, path := range tc.only {
			var got map[string]any
			code, log := p.Query("/mman/"+path, &got)
			require.Zero(t, code, log)
			require.NotEmpty(t, got, path)
		}
		for _, l := range tc.lists {
			whole := p.walk(t, noun, l.args, block.MaxLimit)
			require.Len(t, whole, l.want, "%s?%s", noun, l.args)
			for _, limit := range []int{1, 2} {
				require.Equal(t, whole, p.walk(t, noun, l.args, limit), "%s?%s, %d at a time", noun, l.args, limit)
			}
			for _, bad := range []string{"limit=0", "limit=-1", "limit=201", "limit=x", "after=zz", "colour=red"} {
				fails(mman.ErrInvalid, ask(noun, l.args, bad))
			}
		}
		if tc.one != "" {
			var got map[string]any
			code, log := p.Query("/mman/"+noun+"/"+tc.one, &got)
			require.Zero(t, code, "%s: %s", noun, log)
			require.NotEmpty(t, got)
			fails(mman.ErrNotFound, noun+"/"+tc.absent)
			fails(mman.ErrInvalid, noun+"/x")
			fails(mman.ErrInvalid, noun+"/"+tc.one+"/x")
		}
	}
}

// nouns are all that stand behind /mman/.
func nouns() []string {
	return slices.Concat(bank.Module{}.Nouns(), beacon.Module{}.Nouns(), ledger.Module{}.Nouns(), stake.Module{}.Nouns(), vault.Module{}.Nouns(),
		[]string{"params", "fee", "chain", "bootstrap", "upgrades"})
}

// TestEveryNounIsDocumented: the table of docs/dapps.md has each noun and no other.
func TestEveryNounIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/dapps.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(page), "| path after `/mman/` or `/v1/` |")
	require.True(t, ok)
	table, _, ok = strings.Cut(table, "\n\n")
	require.True(t, ok)
	told := map[string]bool{}
	for row := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
		for i, code := range strings.Split(first, "`") {
			if noun := code[:len(code)-len(strings.TrimLeft(code, "abcdefghijklmnopqrstuvwxyz-"))]; i%2 == 1 && noun != "" {
				told[noun] = true
			}
		}
	}
	for _, noun := range nouns() {
		require.True(t, told[noun], "%s is in no row", noun)
		delete(told, noun)
	}
	require.Empty(t, told, "no noun")
}

// TestBootstrapPages: the nodes of several validators are one list, however it is cut.
func TestBootstrapPages(t *testing.T) {
	t.Parallel()
	s := newStaking(t, 3)
	nodes := map[string]bool{}
	for i, a := range []abcitest.Actor{s.alice, s.bob, s.carol, s.dave} {
		for j := range 1 + i%2 {
			p := abcitest.NewProvider(t, fmt.Sprint(a.Name, j))
			p.Actor = a
			s.Do(a, p.Bind(chainID))
			if a.Name != s.dave.Name { // who is no validator
				nodes[p.Peer.String()] = true
			}
		}
	}
	require.Len(t, nodes, 4)
	for limit := 1; limit <= 5; limit++ {
		seen, pages := map[string]bool{}, 0
		for after := ""; ; pages++ {
			var page block.Page[ledger.Node]
			code, log := s.Query(fmt.Sprintf("/mman/bootstrap?limit=%d%s", limit, after), &page)
			require.Zero(t, code, log)
			for _, n := range page.Items {
				require.False(t, seen[n.Peer.String()], "it stands twice")
				seen[n.Peer.String()] = true
			}
			if page.Next == "" {
				break
			}
			require.Len(t, page.Items, limit)
			after = "&after=" + page.Next
		}
		require.Equal(t, nodes, seen, "%d at a time", limit)
		require.Equal(t, (len(nodes)-1)/limit, pages)
	}
	for _, after := range []string{"00", "ff", "zz", strings.Repeat("ff", 64)} { // that no page gave
		code, _ := s.Query("/mman/bootstrap?after="+after, nil)
		require.Contains(t, []mman.Code{0, mman.ErrInvalid.Code}, code)
	}
}

// TestEveryMarketMessageTells: each message of the market emits an event with the
// id of what it is about, and an indexer may search for each attribute.
func TestEveryMarketMessageTells(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	paul, dora, cleo := f.paul, f.dora, f.cleo
	told := map[string]bool{}
	says := func(who abcitest.Actor, msg tx.Msg, event, key, want string) []types.Event {
		t.Helper()
		events := f.Do(who, msg).Events
		got, ok := abcitest.Attribute(events, event, key)
		require.True(t, ok, "%s emits no %s.%s", msg.TypeURL(), event, key)
		if want != "" {
			require.Equal(t, want, got, msg.TypeURL())
		}
		action, _ := abcitest.Attribute(events, "message", "action")
		require.Equal(t, msg.TypeURL(), action)
		module, _ := abcitest.Attribute(events, "message", "module")
		require.Equal(t, (ledger.Module{}).Name(), module)
		sender, _ := abcitest.Attribute(events, "message", "sender")
		require.Equal(t, who.Address.String(), sender)
		for _, e := range events {
			for _, a := range e.Attributes {
				require.True(t, a.Index, "%s.%s", e.Type, a.Key)
			}
		}
		told[msg.TypeURL()] = true
		return events
	}
	policy, err := dagcbor.Marshal(abcitest.OpenPolicy())
	require.NoError(t, err)

	says(paul.Actor, paul.Bind(chainID), "mman.bind", "peer", paul.Peer.String())
	says(dora.Actor, dora.Bind(chainID), "mman.bind", "peer", dora.Peer.String())
	var offer mman.CID
	for _, p := range []abcitest.Provider{dora, paul} {
		var msg tx.MsgOffer
		msg, offer = p.Publish(t, chainID, p.Compute("box", 5000))
		says(p.Actor, msg, "mman.offer", "id", offer.String())
	}
	says(paul.Actor, tx.MsgGrant{Provider: paul.Address, Offer: offer, Grantee: cleo.Address, Policy: policy, Expires: 4000}, "mman.grant", "offer", offer.String())
	says(paul.Actor, tx.MsgRevoke{Provider: paul.Address, Offer: offer, Grantee: cleo.Address}, "mman.revoke", "offer", offer.String())

	leases := map[string]market.Lease{}
	for _, name := range []string{"closed", "settled"} {
		r := abcitest.Ask(t, cleo, name, 5000, 900)
		r.Legs[1].Offers = []mman.CID{offer}
		events := says(cleo, abcitest.Submit(t, r), "mman.request", "id", "")
		leases[name] = mustLease(t, f, abcitest.RequestID(t, events).Lease())
	}
	closed, settled := leases["closed"].ID, leases["settled"].ID
	says(paul.Actor, tx.MsgAcceptLeases{Provider: paul.Address, Leases: []mman.LeaseID{closed}}, "mman.accept", "lease", closed.String())
	says(cleo, tx.MsgCloseLease{Account: cleo.Address, Lease: closed}, "mman.closing", "lease", closed.String())
	events := says(paul.Actor, tx.MsgSettle{
		Sender: paul.Address, Items: []tx.SettleItem{abcitest.Receipt(t, chainID, "settled", settled, 0, 1, 400)}, Close: []mman.LeaseID{settled},
	}, "mman.settle", "lease", settled.String())
	ended, _ := abcitest.Attribute(events, "mman.close", "lease")
	require.Equal(t, settled.String(), ended)
	dear := abcitest.Ask(t, cleo, "dear", 1, 900)
	waiting := f.queued(t, dear)
	says(cleo, tx.MsgCancelRequest{Consumer: cleo.Address, Request: waiting}, "mman.cancel", "request", waiting.String())

	r := abcitest.Ask(t, cleo, "auction", 5000, f.Height()+200)
	id := abcitest.RequestID(t, says(cleo, abcitest.OpenRFP(t, r, 100, f.Height()+5), "mman.rfp", "id", ""))
	first, second := paul.Bid(t, chainID, id, "box", 300), dora.Bid(t, chainID, id, "box", 400)
	says(cleo, tx.MsgCommitBids{Consumer: cleo.Address, Request: id, Bids: []tx.CommittedBid{first.Committed}}, "mman.bid", "rfp", id.String())
	says(dora.Actor, tx.MsgPostBid{
		Bidder: dora.Address, Commitment: second.Committed.Commitment, Acknowledgement: abcitest.Acknowledge(t, chainID, "auction", second.Committed.Commitment),
	}, "mman.bid", "rfp", id.String())
	f.Pass(f.rfp(t, id).SealBy - f.Height())
	says(paul.Actor, tx.MsgRevealBid{Bidder: paul.Address, Request: id, Bid: first.Bid, Salt: first.Salt}, "mman.reveal", "rfp", id.String())
	says(paul.Actor, tx.MsgWithdrawOffer{Provider: paul.Address, Offer: offer}, "mman.withdraw", "id", offer.String())
	for _, url := range (ledger.Module{}).Messages() {
		require.True(t, told[url], "no event of %s was looked at", url)
	}
}
