package market_test

import (
	"bytes"
	"fmt"
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
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// The accounts of a town: who lends compute, whose the algorithm is, whose its
// parent, who asks.
const (
	townBox = iota
	townCode
	townParent
	townConsumer
	townSize
)

// records is a state that nobody changes any more, sorted by store and key.
type records []record

type record struct {
	store      string
	key, value []byte
}

func (r records) find(store string, key []byte) (int, bool) {
	return slices.BinarySearchFunc(r, record{store: store, key: key}, func(a, b record) int {
		if a.store != b.store {
			return bytes.Compare([]byte(a.store), []byte(b.store))
		}
		return bytes.Compare(a.key, b.key)
	})
}

// Get implements state.Reader.
func (r records) Get(store string, key []byte) ([]byte, bool, error) {
	i, ok := r.find(store, key)
	if !ok {
		return nil, false, nil
	}
	return r[i].value, true, nil
}

// Iterate implements state.Reader.
func (r records) Iterate(store string, prefix, from []byte, limit int) ([]state.Pair, error) {
	if bytes.Compare(from, prefix) < 0 {
		from = prefix
	}
	var out []state.Pair
	for i, _ := r.find(store, from); i < len(r) && r[i].store == store && bytes.HasPrefix(r[i].key, prefix) && len(out) < limit; i++ {
		out = append(out, state.Pair{Key: r[i].key, Value: r[i].value})
	}
	return out, nil
}

// purses are everybody's money.
type purses struct {
	free, locked   [townSize]mman.Amount
	escrow, burned mman.Amount
}

func (p purses) sum() mman.Amount {
	sum := p.escrow + p.burned
	for i := range p.free {
		sum += p.free[i] + p.locked[i]
	}
	return sum
}

// town is a market of four accounts: the real module over a state that can be
// kept and gone back to.
type town struct {
	module ledger.Module
	params genesis.Params
	keys   [townSize]sig.PrivateKey
	lease  sig.PrivateKey
	base   records
	money  purses
	height uint64
	// inBlock counts the messages of the block that is not over.
	inBlock int
}

// bankOf is the town's bank while it changes.
type bankOf struct{ t *town }

func (b bankOf) who(a mman.Address) int {
	for i := range b.t.keys {
		if b.t.keys[i].Public().Address() == a {
			return i
		}
	}
	panic("money for nobody")
}

func take(from, to *mman.Amount, a mman.Amount) error {
	if *from < a {
		return fmt.Errorf("%w: %d of %d", mman.ErrFunds, a, *from)
	}
	*from -= a
	*to += a
	return nil
}

func (b bankOf) Hold(_ *block.Context, from mman.Address, a mman.Amount) error {
	return take(&b.t.money.free[b.who(from)], &b.t.money.escrow, a)
}

func (b bankOf) Release(_ *block.Context, to mman.Address, a mman.Amount) error {
	return take(&b.t.money.escrow, &b.t.money.free[b.who(to)], a)
}

func (b bankOf) Burn(_ *block.Context, a mman.Amount) error {
	return take(&b.t.money.escrow, &b.t.money.burned, a)
}

func (b bankOf) Lock(_ *block.Context, from mman.Address, a mman.Amount) error {
	return take(&b.t.money.free[b.who(from)], &b.t.money.locked[b.who(from)], a)
}

func (b bankOf) Unlock(_ *block.Context, to mman.Address, a mman.Amount) error {
	return take(&b.t.money.locked[b.who(to)], &b.t.money.free[b.who(to)], a)
}

func (b bankOf) Locked(state.Reader) (sum mman.Amount, _ error) {
	for _, a := range b.t.money.locked {
		sum += a
	}
	return sum, nil
}

func (b bankOf) Escrow(state.Reader) (mman.Amount, error) { return b.t.money.escrow, nil }

func (b bankOf) Key(_ state.Reader, a mman.Address) (sig.PublicKey, error) {
	return b.t.keys[b.who(a)].Public(), nil
}

// newTown returns a town in which everybody has funds and the nodes are bound.
func newTown(t *testing.T, funds mman.Amount) town {
	t.Helper()
	w := town{params: genesis.Defaults(genesis.Local), height: 1, lease: seedKey(t, "lease")}
	w.params.GraceBlocks, w.params.DisputeBlocks, w.params.AcceptBlocks, w.params.WakeBlocks, w.params.OfferDeposit = 1, 2, 2, 1, 7
	for i := range w.keys {
		w.keys[i] = seedKey(t, fmt.Sprint("town", i))
		w.money.free[i] = funds
	}
	for _, i := range []int{townBox, townCode} {
		node := seedKey(t, fmt.Sprint("node", i))
		w = w.must(t, "bind", tx.MsgBindNode{Account: w.address(i), Peer: mman.PeerID(node.Public().Bytes())}.SignNode(node, chainID))
	}
	return w
}

func (w town) address(i int) mman.Address { return w.keys[i].Public().Address() }

// step runs do over the town's state; nothing is changed when it fails. The
// message's hash is that of its name, so that what happens alike is alike.
func (w town) step(name string, do func(m ledger.Module, ctx *block.Context) error) (town, error) {
	over := state.NewOverlay(w.base)
	var events []block.Event
	ctx := &block.Context{
		Header: block.Header{ChainID: chainID, Height: w.height, Time: int64(w.height)}, Params: w.params,
		State: over, Events: &events, TxHash: mman.Sum256([]byte(name)),
	}
	next := w
	module := w.module.Through(bankOf{&next})
	if err := do(module, ctx); err != nil {
		return w, err
	}
	next.base = nil
	for _, store := range []string{"market", "rfp"} {
		pairs, err := over.Iterate(store, nil, nil, state.MaxPage)
		if err != nil {
			return w, err
		}
		for _, p := range pairs {
			next.base = append(next.base, record{store, p.Key, p.Value})
		}
	}
	return next, nil
}

// send executes a message.
func (w town) send(name string, msg tx.Msg) (town, error) {
	next, err := w.step(name, func(m ledger.Module, ctx *block.Context) error { return m.Execute(ctx, msg) })
	next.inBlock++
	return next, err
}

func (w town) must(t *testing.T, name string, msg tx.Msg) town {
	t.Helper()
	next, err := w.send(name, msg)
	require.NoError(t, err, name)
	return next
}

// pass ends the block.
func (w town) pass() (town, error) {
	next, err := w.step("", func(m ledger.Module, ctx *block.Context) error { return m.EndBlock(ctx) })
	next.height++
	next.inBlock = 0
	return next, err
}

// key tells towns apart.
func (w town) key() mman.Hash {
	sum := mman.NewSum256()
	_, _ = fmt.Fprint(sum, w.height, w.inBlock, w.money)
	for _, r := range w.base {
		_, _ = fmt.Fprintf(sum, "%s%d:%s%d:%s", r.store, len(r.key), r.key, len(r.value), r.value)
	}
	return sum.Hash()
}

func (w town) offer(t *testing.T, by int, kind resources.Kind, perLease mman.Amount, change func(*market.Offer)) (tx.MsgOffer, mman.CID) {
	t.Helper()
	o := market.Offer{
		Version: 1, Provider: w.address(by), Peer: mman.PeerID(seedKey(t, fmt.Sprint("node", by)).Public().Bytes()),
		Kind: kind, Facet: resources.FacetWasm, Resource: mman.SumCID(mman.CodecDagCBOR, []byte(kind)), Capacity: 1, Expires: 6,
		Policy: policy.Policy{Default: policy.Allow}, Price: price.Price{PerLease: perLease},
	}
	if kind == resources.KindCompute {
		o.Meter = 1
	} else {
		o.Price.Share = 3000
		o.Parents = []resources.Parent{{Resource: mman.SumCID(mman.CodecDagCBOR, []byte("parent")), Owner: w.address(townParent), Share: 3333}}
	}
	if change != nil {
		change(&o)
	}
	signed, id, err := market.SignOffer(chainID, o, w.keys[by])
	require.NoError(t, err)
	return tx.MsgOffer{Provider: o.Provider, Offer: signed.Bytes, Signature: signed.Signature}, id
}

// ask returns the request of that name, for compute alone or for an algorithm too,
// and its id.
func (w town) ask(t *testing.T, name string, limit mman.Amount, code bool, deadline uint64) (tx.MsgRequest, mman.RequestID) {
	t.Helper()
	leg := market.LegRequest{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: mman.SumCID(mman.CodecDagCBOR, []byte("algorithm"))}
	if !code {
		leg.Resource, leg.Supplied = mman.SumCID(mman.CodecRaw, []byte(name)), true
	}
	b, err := market.Request{
		Version: 1, Consumer: w.address(townConsumer), LeaseKey: mman.LeaseKey(w.lease.Public().Bytes()), Cap: limit, Blocks: 3, Deadline: deadline,
		Limits: resources.DefaultLimits(), Legs: []market.LegRequest{leg, {Role: market.RoleCompute, Facet: resources.FacetWasm}},
	}.Encode()
	require.NoError(t, err)
	return tx.MsgRequest{Consumer: w.address(townConsumer), Request: b}, mman.NewRequestID(chainID, mman.Sum256([]byte(name)), 0)
}

func (w town) receipt(t *testing.T, id mman.RequestID, lane, seq uint64, paid, returned mman.Amount) tx.SettleItem {
	t.Helper()
	b, err := dagcbor.Marshal(market.Receipt{Version: 1, Statement: mman.SumCID(mman.CodecRaw, nil), Lease: id.Lease(), Lane: lane, Seq: seq, Paid: paid, Returned: returned})
	require.NoError(t, err)
	digest := mman.SignDigest(mman.SignReceipt, chainID, b)
	return tx.SettleItem{Receipt: b, Signature: w.lease.Sign(digest[:])}
}

// asked reports whether the request of that name was made.
func (w town) asked(t *testing.T, name string) bool {
	t.Helper()
	_, _, ok, err := ledger.LookupRequest(w.base, mman.NewRequestID(chainID, mman.Sum256([]byte(name)), 0))
	require.NoError(t, err)
	return ok
}

// move is something that somebody can do.
type move struct {
	name string
	msg  tx.Msg
}

// wrong says what is wrong with a town that came from the one before it.
func (w town) wrong(before town) string {
	if w.money.sum() != before.money.sum() {
		return "money was made or lost"
	}
	if w.money.burned < before.money.burned {
		return "what was burned came back"
	}
	for i := range w.money.free {
		if i != townConsumer && w.money.free[i]+w.money.locked[i] < before.money.free[i]+before.money.locked[i] {
			return fmt.Sprintf("account %d lost what it had", i)
		}
	}
	return ""
}

// drained says what is still held when nobody does anything any more.
func (w town) drained(t *testing.T, blocks int) mman.Amount {
	t.Helper()
	for range blocks {
		if w.money.escrow == 0 && w.money.locked == [townSize]mman.Amount{} {
			return 0
		}
		next, err := w.pass()
		require.NoError(t, err)
		require.Empty(t, next.wrong(w))
		w = next
	}
	_, err := w.step("", func(m ledger.Module, ctx *block.Context) error { return m.Invariants(ctx.State) })
	require.NoError(t, err)
	held := w.money.escrow
	for _, a := range w.money.locked {
		held += a
	}
	return held
}

// mostTowns bounds a search: those that fewer moves lead to come first.
const mostTowns = 2000

// explore visits the towns that can be reached by the moves, at most perBlock of
// them in a block, until the height, and follows each to its end.
func explore(t *testing.T, begin town, moves []move, perBlock int, until uint64) (seen map[mman.Hash]bool, refused int) {
	t.Helper()
	seen = map[mman.Hash]bool{begin.key(): true}
	todo := []town{begin}
	visit := func(from, next town, what string) {
		if wrong := next.wrong(from); wrong != "" {
			t.Fatalf("%s: %s at height %d: %+v after %+v", what, wrong, next.height, next.money, from.money)
		}
		if k := next.key(); !seen[k] {
			seen[k] = true
			todo = append(todo, next)
		}
	}
	for len(todo) > 0 {
		w := todo[0]
		todo = todo[1:]
		if w.height >= until || len(seen) >= mostTowns {
			// Whatever happened, it ends by itself: everything is somebody's again.
			require.Zero(t, w.drained(t, 12), "tokens are locked")
			continue
		}
		_, err := w.step("", func(m ledger.Module, ctx *block.Context) error { return m.Invariants(ctx.State) })
		require.NoError(t, err)
		next, err := w.pass()
		require.NoError(t, err)
		visit(w, next, "a block")
		for _, m := range moves {
			if w.inBlock == perBlock {
				break
			}
			if _, again := m.msg.(tx.MsgRequest); again && w.asked(t, m.name) {
				continue // a transaction's hash, and with it the id, comes once
			}
			if next, err = w.send(m.name, m.msg); err != nil {
				require.NotErrorIs(t, err, mman.ErrInvariant, m.name)
				require.NotErrorIs(t, err, mman.ErrCorrupt, m.name)
				refused++
				continue
			}
			visit(w, next, m.name)
		}
	}
	return seen, refused
}

// TestSmallMarkets visits the states that small markets can come to by the real
// messages in any order and at any height, the nearest first, and follows each to
// its end: nothing mints, loses or locks a token.
func TestSmallMarkets(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(t *testing.T, w town) (town, []move, int, uint64){
		"a deal": func(t *testing.T, w town) (town, []move, int, uint64) {
			t.Helper()
			o, _ := w.offer(t, townBox, resources.KindCompute, 3, nil)
			w = w.must(t, "box", o)
			o, _ = w.offer(t, townCode, resources.KindAlgorithm, 5, nil)
			w = w.must(t, "code", o)
			ask, id := w.ask(t, "r", 23, true, 3)
			w = w.must(t, "r", ask)
			l := []mman.LeaseID{id.Lease()}
			settle := func(lane, seq uint64, paid, returned mman.Amount) tx.Msg {
				return tx.MsgSettle{Sender: w.address(townBox), Items: []tx.SettleItem{w.receipt(t, id, lane, seq, paid, returned)}}
			}
			return w, []move{
				{"accept", tx.MsgAcceptLeases{Provider: w.address(townBox), Leases: l}},
				{"pay 4", settle(0, 1, 4, 0)},
				{"pay 17", settle(0, 2, 17, 0)},
				{"return 5", settle(0, 2, 17, 5)},
				{"lane 1", settle(1, 1, 6, 0)},
				{"provider closes", tx.MsgSettle{Sender: w.address(townBox), Close: l}},
				{"consumer closes", tx.MsgCloseLease{Account: w.address(townConsumer), Lease: l[0]}},
				{"owner closes", tx.MsgCloseLease{Account: w.address(townCode), Lease: l[0]}},
				{"cancel", tx.MsgCancelRequest{Consumer: w.address(townConsumer), Request: id}},
			}, 1, 5
		},
		"the book": func(t *testing.T, w town) (town, []move, int, uint64) {
			t.Helper()
			one, first := w.offer(t, townBox, resources.KindCompute, 3, nil)
			two, _ := w.offer(t, townBox, resources.KindCompute, 9, nil)
			r, rid := w.ask(t, "r", 8, false, 4)
			s, sid := w.ask(t, "s", 20, false, 3)
			return w, []move{
				{"post", one},
				{"post again", two},
				{"withdraw", tx.MsgWithdrawOffer{Provider: w.address(townBox), Offer: first}},
				{"r", r},
				{"s", s},
				{"cancel r", tx.MsgCancelRequest{Consumer: w.address(townConsumer), Request: rid}},
				{"cancel s", tx.MsgCancelRequest{Consumer: w.address(townConsumer), Request: sid}},
			}, 1, 5
		},
		"shares": func(t *testing.T, w town) (town, []move, int, uint64) {
			t.Helper()
			o, id := w.offer(t, townBox, resources.KindCompute, 3, func(o *market.Offer) { o.Policy.Default, o.Capacity = policy.Deny, 2 })
			grant, err := dagcbor.Marshal(policy.Policy{Default: policy.Allow})
			require.NoError(t, err)
			r, rid := w.ask(t, "r", 8, false, 5)
			s, sid := w.ask(t, "s", 9, false, 4)
			return w, []move{
				{"post", o},
				{"grant", tx.MsgGrant{Provider: w.address(townBox), Offer: id, Grantee: w.address(townConsumer), Policy: grant, Expires: 4}},
				{"revoke", tx.MsgRevoke{Provider: w.address(townBox), Offer: id, Grantee: w.address(townConsumer)}},
				{"r", r},
				{"s", s},
				{"cancel r", tx.MsgCancelRequest{Consumer: w.address(townConsumer), Request: rid}},
				{"settle s", tx.MsgSettle{Sender: w.address(townBox), Items: []tx.SettleItem{w.receipt(t, sid, 0, 1, 9, 0)}, Close: []mman.LeaseID{sid.Lease()}}},
			}, 1, 5
		},
		"suspension": func(t *testing.T, w town) (town, []move, int, uint64) {
			t.Helper()
			w.params.AcceptBlocks = 1
			o, _ := w.offer(t, townBox, resources.KindCompute, 3, func(o *market.Offer) { o.Capacity, o.Expires = 4, 8 })
			w = w.must(t, "post", o)
			var moves []move
			var leases []mman.LeaseID
			for _, name := range []string{"r", "s", "u"} {
				r, id := w.ask(t, name, 8, false, 7)
				leases = append(leases, id.Lease())
				w = w.must(t, name, r)
				moves = append(moves, move{"cancel " + name, tx.MsgCancelRequest{Consumer: w.address(townConsumer), Request: id}})
			}
			r, _ := w.ask(t, "v", 8, false, 7)
			return w, append(moves, move{"one more", r}, move{"accept", tx.MsgAcceptLeases{Provider: w.address(townBox), Leases: leases[2:3]}}), 3, 4
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, moves, perBlock, until := build(t, newTown(t, 100))
			seen, refused := explore(t, w, moves, perBlock, until)
			t.Logf("%d states, %d moves refused", len(seen), refused)
			require.Greater(t, len(seen), 100)
			require.Positive(t, refused)
		})
	}
}

// TestLongMarkets goes far at random in larger markets.
func TestLongMarkets(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 21))
	for range 6 {
		w := newTown(t, 100_000)
		var ids []mman.RequestID
		var offers []mman.CID
		done := map[string]int{}
		for i := range 600 {
			name := fmt.Sprint("message ", i)
			var what string
			var msg tx.Msg
			var id mman.RequestID
			if len(ids) > 0 {
				id = ids[max(0, len(ids)-1-rng.IntN(6))]
			}
			l := []mman.LeaseID{id.Lease()}
			switch rng.IntN(12) {
			case 0, 1:
				by, kind := townBox, resources.KindCompute
				if rng.IntN(2) == 0 {
					by, kind = townCode, resources.KindAlgorithm
				}
				m, offer := w.offer(t, by, kind, mman.Amount(rng.Uint64N(100)), func(o *market.Offer) {
					o.Expires, o.Capacity = w.height+1+rng.Uint64N(9), 1+rng.Uint64N(3)
					if rng.IntN(4) == 0 {
						o.Policy.Default = policy.Deny
					}
				})
				what, msg, offers = "offer", m, append(offers, offer)
			case 2, 3:
				m, made := w.ask(t, name, mman.Amount(1+rng.Uint64N(900)), rng.IntN(2) == 0, w.height+1+rng.Uint64N(5))
				what, msg, ids = "request", m, append(ids, made)
			case 4:
				what, msg = "cancel", tx.MsgCancelRequest{Consumer: w.address(townConsumer), Request: id}
			case 5, 6, 7:
				m := tx.MsgSettle{Sender: w.address(townBox)}
				for range 1 + rng.IntN(3) {
					paid := mman.Amount(rng.Uint64N(1000))
					m.Items = append(m.Items, w.receipt(t, id, rng.Uint64N(3), 1+rng.Uint64N(9), paid, min(paid, mman.Amount(rng.Uint64N(50)))))
				}
				if rng.IntN(4) == 0 {
					m.Close = l
				}
				what, msg = "settle", m
			case 8:
				what, msg = "accept", tx.MsgAcceptLeases{Provider: w.address(townBox), Leases: l}
			case 9:
				what, msg = "close", tx.MsgCloseLease{Account: w.address(rng.IntN(townSize)), Lease: l[0]}
			case 10:
				if len(offers) == 0 {
					continue
				}
				grant, err := dagcbor.Marshal(policy.Policy{Default: policy.Allow})
				require.NoError(t, err)
				what, msg = "grant", tx.MsgGrant{Provider: w.address(townBox), Offer: offers[len(offers)-1], Grantee: w.address(townConsumer), Policy: grant, Expires: w.height + 1 + rng.Uint64N(9)}
			default:
				next, err := w.pass()
				require.NoError(t, err)
				require.Empty(t, next.wrong(w))
				w = next
				continue
			}
			next, err := w.send(name, msg)
			if err != nil {
				require.NotErrorIs(t, err, mman.ErrInvariant, what)
				require.NotErrorIs(t, err, mman.ErrCorrupt, what)
				continue
			}
			require.Empty(t, next.wrong(w), what)
			done[what]++
			w = next
		}
		for _, what := range []string{"offer", "request", "settle", "accept"} {
			require.Positive(t, done[what], what)
		}
		require.Zero(t, w.drained(t, 30), "tokens are locked")
	}
}
