package market_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	ledger "github.com/limboid/massive-man/abci/market"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/resources"
)

// cash is a bank that counts.
type cash struct {
	keys           map[mman.Address]sig.PublicKey
	balance        map[mman.Address]mman.Amount
	escrow, burned mman.Amount
	locked         mman.Amount
}

func (c *cash) Hold(_ *block.Context, from mman.Address, a mman.Amount) error {
	if c.balance[from] < a {
		return fmt.Errorf("%w: %s has %d", mman.ErrFunds, from, c.balance[from])
	}
	c.balance[from] -= a
	c.escrow += a
	return nil
}

func (c *cash) Release(_ *block.Context, to mman.Address, a mman.Amount) error {
	c.escrow -= a
	c.balance[to] += a
	return nil
}

func (c *cash) Burn(_ *block.Context, a mman.Amount) error {
	c.escrow -= a
	c.burned += a
	return nil
}

// Deposits are counted, and paid from elsewhere.
func (c *cash) Lock(_ *block.Context, _ mman.Address, a mman.Amount) error {
	c.locked += a
	return nil
}

func (c *cash) Unlock(_ *block.Context, _ mman.Address, a mman.Amount) error {
	c.locked -= a
	return nil
}

func (c *cash) Locked(state.Reader) (mman.Amount, error) { return c.locked, nil }
func (c *cash) Escrow(state.Reader) (mman.Amount, error) { return c.escrow, nil }

func (c *cash) Key(_ state.Reader, a mman.Address) (sig.PublicKey, error) { return c.keys[a], nil }

// bidder is a provider of compute.
type bidder struct {
	name string
	key  sig.PrivateKey
	peer mman.PeerID
	box  mman.CID
}

func seedKey(t *testing.T, name string) sig.PrivateKey {
	t.Helper()
	seed := mman.Sum256([]byte(name))
	key, err := sig.FromSeed(sig.Ed25519, seed[:])
	require.NoError(t, err)
	return key
}

func (b bidder) address() mman.Address { return b.key.Public().Address() }

// fair is a ledger of the market alone, with bidders and a consumer.
type fair struct {
	t        *testing.T
	module   ledger.Module
	bank     *cash
	state    *state.Overlay
	params   genesis.Params
	height   uint64
	txs      uint64
	bidders  []bidder
	consumer sig.PrivateKey
	expires  uint64
	lends    [fairBidder]bool // its offer stands and allows all
}

const (
	fairFunds  = 1_000_000
	fairBidder = 7
)

func newFair(t *testing.T) *fair {
	t.Helper()
	store, err := state.Open(state.NewMemory())
	require.NoError(t, err)
	f := &fair{t: t, bank: &cash{keys: map[mman.Address]sig.PublicKey{}, balance: map[mman.Address]mman.Amount{}}, state: store.Begin(), params: genesis.Defaults(genesis.Local), expires: 80_000}
	f.module = ledger.New(f.bank)
	f.consumer = seedKey(t, "consumer")
	for i := range fairBidder {
		name := fmt.Sprint("bidder", i)
		node := seedKey(t, name+"'s node")
		b := bidder{name, seedKey(t, name), mman.PeerID(node.Public().Bytes()), mman.SumCID(mman.CodecDagCBOR, []byte(name))}
		f.bidders = append(f.bidders, b)
		f.bank.keys[b.address()] = b.key.Public()
		f.block(f.height+1, tx.MsgBindNode{Account: b.address(), Peer: b.peer}.SignNode(node, chainID))
	}
	return f
}

func (f *fair) context(events *[]block.Event) *block.Context {
	f.txs++
	return &block.Context{
		Header: block.Header{ChainID: chainID, Height: f.height, Time: int64(f.height)}, Params: f.params,
		State: f.state, Events: events, TxHash: mman.Sum256(state.Uint64Key(f.txs)),
	}
}

// try executes one message, and undoes all of it when it fails.
func (f *fair) try(m tx.Msg) ([]block.Event, mman.RequestID, error) {
	f.t.Helper()
	var events []block.Event
	ctx := f.context(&events)
	below := f.state.Nest()
	ctx.State = below
	before := *f.bank
	before.balance = maps.Clone(f.bank.balance)
	if err := f.module.Execute(ctx, m); err != nil {
		*f.bank = before
		return nil, mman.RequestID{}, err
	}
	require.NoError(f.t, below.Commit())
	return events, mman.NewRequestID(chainID, ctx.TxHash, 0), nil
}

// block decides a block of messages that succeed, at a height that may be later
// than the next.
func (f *fair) block(height uint64, msgs ...tx.Msg) []block.Event {
	f.t.Helper()
	require.GreaterOrEqual(f.t, height, f.height)
	f.height = height
	var events []block.Event
	for _, m := range msgs {
		e, _, err := f.try(m)
		require.NoError(f.t, err)
		events = append(events, e...)
	}
	require.NoError(f.t, f.module.EndBlock(f.context(&events)))
	return events
}

func (f *fair) offer(b bidder, p policy.Policy) tx.MsgOffer {
	f.t.Helper()
	f.expires++ // each is another
	signed, _, err := market.SignOffer(chainID, market.Offer{
		Version: 1, Provider: b.address(), Peer: b.peer, Kind: resources.KindCompute, Facet: resources.FacetWasm, Meter: 1,
		Resource: b.box, Capacity: 1, Expires: f.expires, Policy: p, Price: price.Price{PerLease: 9_999},
	}, b.key)
	require.NoError(f.t, err)
	return tx.MsgOffer{Provider: b.address(), Offer: signed.Bytes, Signature: signed.Signature}
}

// sealed is a bid and what hides it.
type sealed struct {
	bid  []byte
	salt mman.Hash
	tx.CommittedBid

	ack []byte
}

func (f *fair) seal(id mman.RequestID, b bidder, p price.Price, lease sig.PrivateKey) sealed {
	f.t.Helper()
	s := sealed{salt: mman.Sum256([]byte("salt"), id[:], []byte(b.name))}
	var err error
	s.bid, _, err = market.Bid{Version: 1, Request: id, Bidder: b.address(), Peer: b.peer, Resource: b.box, Price: p}.Encode()
	require.NoError(f.t, err)
	c, err := market.SignCommitment(chainID, market.Commitment{
		Version: 1, Request: id, Bidder: b.address(), Digest: market.Seal(chainID, id, b.address(), s.bid, s.salt),
	}, b.key)
	require.NoError(f.t, err)
	s.CommittedBid = tx.CommittedBid{Commitment: c.Bytes, Signature: c.Signature}
	digest := mman.SignDigest(mman.SignBidAck, chainID, c.Bytes)
	s.ack = lease.Sign(digest[:])
	return s
}

// How a bidder behaves.
const (
	asListed  = iota // the consumer brings its commitment
	asPosted         // the consumer leaves it out, it brings the commitment itself
	asDropped        // the consumer leaves it out, and it does nothing
)

const (
	reveals = iota
	withholds
	lies // its reveal does not open the commitment
)

const (
	standsBy = iota
	withdraws
	denies
	renews
)

const (
	accepts = iota
	sleeps
	flees
	worksAtOnce // its first receipt accepts the lease
)

type player struct {
	list, reveal, stand, serve int
	perLease, second           mman.Amount
	poor                       bool
}

// enough takeovers: the deadline does not matter.
const enough = 9

type scenario struct {
	cap, bond, paid mman.Amount
	wall            uint64
	players         []player
	takeovers       uint64 // how many no-shows the deadline leaves time for
	quits           bool   // the consumer closes the first lease before it is accepted
	vanishes        bool   // the consumer brings nothing
}

func randomScenario(rng *rand.Rand) scenario {
	often := func(n int) int { return max(0, rng.IntN(2*n)-n) } // 0 in most cases
	s := scenario{
		cap: 1 + mman.Amount(rng.Uint64N(9000)), wall: 1 + rng.Uint64N(60_000), takeovers: []uint64{0, 1, 2, enough}[rng.IntN(4)],
		quits: rng.IntN(12) == 0, vanishes: rng.IntN(10) == 0,
	}
	s.bond = 1 + mman.Amount(rng.Uint64N(uint64(s.cap)))
	s.paid = mman.Amount(rng.Uint64N(uint64(s.cap) + 1))
	for range rng.IntN(fairBidder + 1) {
		s.players = append(s.players, player{
			list: often(3), reveal: often(3), stand: often(4), serve: rng.IntN(4),
			perLease: mman.Amount(rng.Uint64N(5000)), second: mman.Amount(rng.Uint64N(100)), poor: rng.IntN(10) == 0,
		})
		if p := &s.players[len(s.players)-1]; rng.IntN(4) == 0 && len(s.players) > 1 { // ties happen
			p.perLease, p.second = s.players[0].perLease, s.players[0].second
		}
	}
	return s
}

// outcome is where the money is at the end, and who served.
type outcome struct {
	consumer mman.Amount
	bidders  [fairBidder]mman.Amount
	burned   mman.Amount
	leases   []int // who was awarded, in turn
}

// expected computes the outcome from the rules as docs/market.md tells them,
// without the code under test. Rank breaks ties: the order of the offers' ids.
func expected(s scenario, rank func(a, b int) bool) (o outcome) {
	o.consumer = fairFunds - s.cap
	in := make([]bool, len(s.players))
	for i := range o.bidders {
		o.bidders[i] = fairFunds
	}
	for i, p := range s.players {
		if p.poor {
			o.bidders[i] = s.bond - 1
		}
		brought := p.list == asListed && !s.vanishes || p.list == asPosted || p.list == asListed && s.vanishes
		if in[i] = brought && !p.poor; in[i] {
			o.bidders[i] -= s.bond
		}
	}
	var left []int
	for i, p := range s.players {
		if !in[i] {
			continue
		}
		if p.reveal != reveals {
			o.burned += s.bond
			continue
		}
		left = append(left, i)
	}
	for round := uint64(0); ; round++ {
		var good, fit []int
		for _, i := range left {
			if s.players[i].stand == withdraws || s.players[i].stand == denies {
				o.burned += s.bond
			} else {
				good = append(good, i)
			}
		}
		left = good
		for _, i := range left {
			if s.players[i].perLease <= s.cap {
				fit = append(fit, i)
			}
		}
		if len(fit) == 0 || round > s.takeovers {
			for _, i := range left {
				o.bidders[i] += s.bond
			}
			o.consumer += s.cap
			return o
		}
		score := func(i int) uint64 {
			p := s.players[i]
			return uint64(p.perLease) + (s.wall*uint64(p.second)+999)/1000
		}
		winner := fit[0]
		for _, i := range fit[1:] {
			if score(i) < score(winner) || score(i) == score(winner) && rank(i, winner) {
				winner = i
			}
		}
		o.leases = append(o.leases, winner)
		p := s.players[winner]
		quits := s.quits && round == 0
		if quits || p.serve == accepts || p.serve == worksAtOnce {
			for _, i := range left {
				o.bidders[i] += s.bond
			}
			o.consumer += s.cap
			if !quits {
				burn := (s.paid*2 + 99) / 100
				o.consumer -= s.paid
				o.bidders[winner] += s.paid - burn
				o.burned += burn
			}
			return o
		}
		o.burned += s.bond
		left = slices.DeleteFunc(left, func(i int) bool { return i == winner })
	}
}

// play runs the scenario on the ledger.
func (f *fair) play(s scenario) (o outcome, id mman.RequestID, ids [fairBidder]mman.CID) {
	t := f.t
	for a := range f.bank.balance {
		f.bank.balance[a] = 0
	}
	f.bank.burned = 0
	consumer := f.consumer.Public().Address()
	f.bank.balance[consumer] = fairFunds
	var msgs []tx.Msg
	for i, b := range f.bidders {
		f.bank.balance[b.address()] = fairFunds
		if i < len(s.players) && s.players[i].poor {
			f.bank.balance[b.address()] = s.bond - 1
		}
		if stands, _ := f.standing(b); i < len(s.players) && (!f.lends[i] || !stands) { // it may have been suspended
			msgs = append(msgs, f.offer(b, policy.Policy{Default: policy.Allow}))
			f.lends[i] = true
		}
	}
	f.block(f.height+1, msgs...)

	lease := seedKey(t, fmt.Sprint("lease", f.txs))
	commitBy := f.height + 3
	reveal := commitBy + f.params.RFPPostBlocks + f.params.RFPRevealBlocks
	limits := resources.DefaultLimits()
	limits.WallMs = s.wall
	r := market.Request{
		Version: 1, Consumer: consumer, LeaseKey: mman.LeaseKey(lease.Public().Bytes()), Cap: s.cap, Blocks: 200, Limits: limits,
		Deadline: reveal + s.takeovers*f.params.AcceptBlocks,
		Legs: []market.LegRequest{
			{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: mman.SumCID(mman.CodecRaw, []byte("module")), Supplied: true},
			{Role: market.RoleCompute, Facet: resources.FacetWasm},
		},
	}
	raw, err := r.Encode()
	require.NoError(t, err)
	f.height++
	_, id, err = f.try(tx.MsgOpenRFP{Consumer: consumer, Request: raw, Bond: s.bond, CommitBy: commitBy})
	require.NoError(t, err)

	bids := make([]sealed, len(s.players))
	bring := tx.MsgCommitBids{Consumer: consumer, Request: id}
	for i, p := range s.players {
		bids[i] = f.seal(id, f.bidders[i], price.Price{PerLease: p.perLease, Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1000, UMan: p.second}}}, lease)
		if p.list == asListed {
			bring.Bids = append(bring.Bids, bids[i].CommittedBid)
		}
	}
	f.block(commitBy)
	if !s.vanishes && len(bring.Bids) > 0 {
		f.block(commitBy, bring)
	}
	f.height++
	for i, p := range s.players {
		if p.list == asPosted || p.list == asListed && s.vanishes {
			_, _, err := f.try(tx.MsgPostBid{Bidder: f.bidders[i].address(), Commitment: bids[i].Commitment, Acknowledgement: bids[i].ack})
			require.Equal(t, p.poor, err != nil, "%v", err)
		}
	}
	f.block(commitBy + f.params.RFPPostBlocks)
	one := f.rfp(id)
	if one.State == rfp.Closed {
		return f.balances(nil), id, ids
	}
	f.height++
	// From here on bidders do as they like with their offers.
	for i, p := range s.players {
		b := f.bidders[i]
		switch p.stand {
		case withdraws:
			_, record := f.standing(b)
			_, _, err = f.try(tx.MsgWithdrawOffer{Provider: b.address(), Offer: record})
		case denies:
			_, _, err = f.try(f.offer(b, policy.Policy{Default: policy.Deny}))
		case renews:
			_, _, err = f.try(f.offer(b, policy.Policy{Default: policy.Allow}))
		}
		require.NoError(t, err)
		f.lends[i] = p.stand == standsBy || p.stand == renews
		_, ids[i] = f.standing(b)
	}
	for i, p := range s.players {
		at, in := one.Find(f.bidders[i].address())
		if !in || p.reveal == withholds {
			continue
		}
		_ = at
		m := tx.MsgRevealBid{Bidder: f.bidders[i].address(), Request: id, Bid: bids[i].bid, Salt: bids[i].salt}
		if p.reveal == lies {
			m.Salt[0]++
		}
		_, _, err := f.try(m)
		require.Equal(t, p.reveal == lies, err != nil, "%v", err)
	}
	f.block(f.height)
	if f.rfp(id).State == rfp.Open {
		f.block(reveal)
	}
	var leases []int
	for round := 0; f.rfp(id).State == rfp.Awarded; round++ {
		one := f.rfp(id)
		winner, ok := one.Winner()
		require.True(t, ok)
		i := slices.IndexFunc(f.bidders, func(b bidder) bool { return b.address() == winner })
		leases = append(leases, i)
		p := s.players[i]
		pay := func() {
			f.block(f.height+1, tx.MsgSettle{Sender: winner, Items: []tx.SettleItem{receipt(t, lease, one.Lease, s.paid)}, Close: []mman.LeaseID{one.Lease}})
		}
		switch {
		case s.quits && round == 0:
			f.block(f.height+1, tx.MsgCloseLease{Account: consumer, Lease: one.Lease})
			f.block(f.height + f.params.DisputeBlocks)
		case p.serve == accepts:
			f.block(f.height+1, tx.MsgAcceptLeases{Provider: winner, Leases: []mman.LeaseID{one.Lease}})
			require.Equal(t, rfp.Closed, f.rfp(id).State)
			pay()
		case p.serve == worksAtOnce && s.paid > 0:
			pay()
		case p.serve == worksAtOnce:
			f.block(f.height+1, tx.MsgAcceptLeases{Provider: winner, Leases: []mman.LeaseID{one.Lease}})
			pay()
		case p.serve == flees && s.takeovers == enough:
			f.block(f.height+1, tx.MsgSettle{Sender: winner, Close: []mman.LeaseID{one.Lease}})
		default:
			require.Equal(t, f.height+f.params.AcceptBlocks, one.ServeBy)
			f.block(one.ServeBy - 1)
			require.Equal(t, rfp.Awarded, f.rfp(id).State)
			f.block(one.ServeBy)
		}
	}
	return f.balances(leases), id, ids
}

func receipt(t *testing.T, key sig.PrivateKey, lease mman.LeaseID, paid mman.Amount) tx.SettleItem {
	t.Helper()
	b, err := dagcbor.Marshal(market.Receipt{Version: 1, Statement: mman.SumCID(mman.CodecDagCBOR, []byte("s")), Lease: lease, Seq: 1, Paid: paid})
	require.NoError(t, err)
	digest := mman.SignDigest(mman.SignReceipt, chainID, b)
	return tx.SettleItem{Receipt: b, Signature: key.Sign(digest[:])}
}

func (f *fair) rfp(id mman.RequestID) rfp.RFP {
	f.t.Helper()
	one, ok, err := ledger.LookupRFP(f.state, id)
	require.NoError(f.t, err)
	require.True(f.t, ok)
	return one
}

// standing returns the newest offer of a bidder.
func (f *fair) standing(b bidder) (ok bool, id mman.CID) {
	f.t.Helper()
	address := b.address()
	keys, err := state.NewIndex(state.MarketOffersByProvider).Page(f.state, address[:], nil, 2)
	require.NoError(f.t, err)
	if len(keys) == 0 {
		return false, id
	}
	require.Len(f.t, keys, 1)
	id, err = mman.CIDFromBytes(keys[0][len(address):])
	require.NoError(f.t, err)
	return true, id
}

func (f *fair) balances(leases []int) (o outcome) {
	f.t.Helper()
	require.Zero(f.t, f.bank.escrow, "nothing is locked at the end")
	o = outcome{consumer: f.bank.balance[f.consumer.Public().Address()], burned: f.bank.burned, leases: leases}
	for i, b := range f.bidders {
		o.bidders[i] = f.bank.balance[b.address()]
	}
	return o
}

// TestRFPReference compares awards, payments, bonds and refunds, to the last uman,
// with a reference on 10⁴ random cases.
func TestRFPReference(t *testing.T) {
	t.Parallel()
	const cases, parts, each = 10_000, 8, 10
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for part := range parts {
		t.Run(fmt.Sprint("part ", part), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, uint64(part)))
			var f *fair
			seen := map[string]int{}
			for n := range cases / parts {
				if n%each == 0 {
					f = newFair(t)
				}
				s := randomScenario(rng)
				got, id, ids := f.play(s)
				want := expected(s, func(a, b int) bool {
					x, y := ids[a].Digest(), ids[b].Digest()
					return bytes.Compare(x[:], y[:]) < 0
				})
				require.Equal(t, want, got, "part %d case %d: %+v", part, n, s)
				if n%each == each-1 {
					require.NoError(t, f.module.Invariants(f.state))
				}
				for _, e := range f.rfp(id).Bids {
					seen[string(e.State)]++
				}
				seen[fmt.Sprint("leases ", min(len(got.leases), 3))]++
			}
			for _, what := range []string{"served", "lost", "withheld", "unfit", "absent", "leases 0", "leases 1", "leases 2", "leases 3"} {
				require.Positive(t, seen[what], "%s: %v", what, seen)
			}
		})
	}
}

// TestRFPDecision: the decision of an award names the offers of the bidders, and
// can be made again upon what the ledger told.
func TestRFPDecision(t *testing.T) {
	t.Parallel()
	f := newFair(t)
	_, id, ids := f.play(scenario{
		cap: 5000, bond: 100, paid: 10, wall: 1000, takeovers: 2,
		players: []player{{perLease: 300, serve: sleeps}, {perLease: 400}, {perLease: 9000}},
	})
	d, ok, err := ledger.LookupDecision(f.state, id)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, match.Matched, d.Outcome)
	require.Equal(t, []mman.CID{ids[1]}, d.Chosen)
	one := f.rfp(id)
	require.Equal(t, uint64(2), one.Awards)
	require.Equal(t, id.Takeover(1), one.Lease)
	l, ok, err := ledger.LookupLease(f.state, id.Lease())
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, market.LeaseClosed, l.State)
	l, _, err = ledger.LookupLease(f.state, one.Lease)
	require.NoError(t, err)
	require.Equal(t, mman.Amount(400), l.Compute().Price.PerLease, "the winner's own price")
}
