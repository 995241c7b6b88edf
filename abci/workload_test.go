package abci_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/merkle"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/market/storage"
	"github.com/limboid/massive-man/resources"
)

// workload drives a chain with random operations, sensible and senseless ones.
type workload struct {
	*abcitest.Chain
	t         *testing.T
	rng       *rand.Rand
	providers []abcitest.Provider
	offers    []mman.CID
	own       map[mman.Address][]mman.CID
	grants    map[mman.Address][]tx.MsgGrant
	requests  []made
	cost      int            // operations so far
	kinds     map[string]int // messages that succeeded, by type
	rfps      []made
	stored    []mman.LeaseID
}

type made struct {
	id   mman.RequestID
	name string
	by   abcitest.Actor
}

func pick[T any](rng *rand.Rand, list []T) (T, bool) {
	if len(list) == 0 {
		var zero T
		return zero, false
	}
	// Mostly the latest, which are still alive.
	if n := min(len(list), 12); rng.IntN(3) > 0 {
		list = list[len(list)-n:]
	}
	return list[rng.IntN(len(list))], true
}

// message returns a random message of the actor; ok is false when there is
// nothing to do it with.
func (w *workload) message(p abcitest.Provider) (m tx.Msg, ok bool) {
	rng, next := w.rng, w.Height()+1
	resource := fmt.Sprint("box", rng.IntN(4))
	switch rng.IntN(36) {
	case 20, 21, 22, 23:
		return w.stake(p.Actor), true
	case 24, 25, 26, 27, 28, 29, 30, 31, 32, 33:
		return w.bidding(p)
	case 0:
		return p.Bind(chainID), true
	case 1, 2:
		o := p.Compute(resource, next+rng.Uint64N(40))
		if rng.IntN(3) == 0 {
			o = p.Dataset("words", next+5)
			o.Sealed = rng.IntN(2) == 0
		}
		if rng.IntN(4) == 0 {
			o = p.Algorithm("count", next+rng.Uint64N(40))
			to, _ := pick(rng, w.providers)
			o.Parents = []resources.Parent{{Resource: abcitest.Resource("count"), Owner: to.Address, Share: 1 + rng.Uint64N(3000)}}
			o.Policy.Royalty = rng.Uint64N(2000)
		}
		switch rng.IntN(6) {
		case 0:
			o.Policy.Default = policy.Deny // but for those with whom it is shared
		case 1:
			o.Policy.Rules = []policy.Rule{{ID: "few", Effect: policy.Deny, Phase: policy.PhaseMatch, When: "usage.open >= 2 || usage.leases_1d > 5"}}
		}
		o.Capacity = 1 + rng.Uint64N(3)
		o.Price.PerLease = mman.Amount(rng.Uint64N(3000))
		m, id := p.Publish(w.t, chainID, o)
		w.offers, w.own[p.Address] = append(w.offers, id), append(w.own[p.Address], id)
		return m, true
	case 3:
		id, ok := pick(rng, w.own[p.Address])
		return tx.MsgWithdrawOffer{Provider: p.Address, Offer: id}, ok
	case 4, 5, 6:
		return w.ask(p.Actor), true
	case 7:
		mine := slices.DeleteFunc(slices.Clone(w.requests), func(r made) bool { return r.by.Address != p.Address })
		r, ok := pick(rng, mine[max(0, len(mine)-3):])
		return tx.MsgCancelRequest{Consumer: p.Address, Request: r.id}, ok
	case 8, 9:
		return w.settle(p)
	case 10, 34, 35:
		r, ok := pick(rng, w.requests)
		return tx.MsgCloseLease{Account: p.Address, Lease: r.id.Lease()}, ok
	case 11, 12:
		return w.accept(p)
	case 13, 14:
		id, ok := pick(rng, w.own[p.Address][max(0, len(w.own[p.Address])-2):])
		to, _ := pick(rng, w.providers)
		m := tx.MsgGrant{Provider: p.Address, Offer: id, Grantee: to.Address, Policy: w.policy(), Expires: next + rng.Uint64N(40)}
		if ok {
			w.grants[p.Address] = append(w.grants[p.Address], m)
		}
		return m, ok
	case 15, 16, 17:
		g, ok := pick(rng, w.grants[p.Address][max(0, len(w.grants[p.Address])-2):])
		return tx.MsgRevoke{Provider: p.Address, Offer: g.Offer, Grantee: g.Grantee}, ok
	default:
		to, _ := pick(rng, w.providers)
		return tx.MsgSend{From: p.Address, To: to.Address, Amount: 1 + mman.Amount(rng.Uint64N(uint64(mman.MAN)))}, true
	}
}

// storage is a random message about storage leases, mostly one that is taken.
func (w *workload) storage(p abcitest.Provider) tx.Msg {
	rng, view := w.rng, w.App.View()
	lease, mine := mman.LeaseID{1}, tx.ReplicaName{}
	if all, err := view.StorageReplicas(p.Address, nil, 16); err == nil && len(all) > 0 {
		mine = tx.ReplicaName(all[rng.IntN(len(all))])
		lease = mine.Lease
	}
	if len(w.stored) > 0 {
		lease = w.stored[rng.IntN(len(w.stored))]
	}
	drawn, _, err := view.StorageDrawn()
	require.NoError(w.t, err)
	switch rng.IntN(12) {
	case 0, 1:
		return tx.MsgStorageOffer{Provider: p.Address, Peer: p.Peer, Tier: storage.Fast, Price: mman.Amount(rng.Uint64N(9)), Capacity: rng.Uint64N(6)}
	case 2, 3, 4:
		return tx.MsgStore{Consumer: p.Address, Key: [32]byte{1}, Bytes: 1, Tier: storage.Fast, MaxPrice: 9, Epochs: 1 + rng.Uint64N(4), Roots: []mman.Hash{merkle.Leaf([]byte{1}), {byte(rng.Uint32())}}}
	case 5, 6, 7:
		return tx.MsgAcceptStorage{Provider: p.Address, Replicas: []tx.ReplicaName{mine}}
	case 8:
		return tx.MsgProveStorage{Provider: p.Address, Epoch: drawn.Epoch, Proofs: [][]byte{storage.Proof{Lease: mine.Lease, Replica: mine.Replica, Leaf: []byte{1}}.Encode()}}
	case 9:
		return tx.MsgPlaceStorage{Consumer: p.Address, Lease: lease, Root: mman.Hash{9}}
	case 10:
		return tx.MsgRenewStorage{Consumer: p.Address, Lease: lease, Epochs: rng.Uint64N(3)}
	default:
		return tx.MsgEndStorage{Consumer: p.Address, Lease: lease}
	}
}

// stake is a random message of staking, by and about any of the actors.
func (w *workload) stake(by abcitest.Actor) tx.Msg {
	rng := w.rng
	other, third := w.providers[rng.IntN(len(w.providers))].Address, w.providers[rng.IntN(len(w.providers))].Address
	amount := 1 + mman.Amount(rng.Uint64N(uint64(3*mman.MAN)))
	switch rng.IntN(8) {
	case 0:
		votes := abcitest.Votes(w.t, by)
		w.Learn(votes)
		return tx.MsgCreateValidator{Operator: by.Address, Name: by.Name, CommissionPPM: rng.Uint64N(200_000), Stake: amount}.SignKey(votes, chainID)
	case 1:
		return tx.MsgEditValidator{Operator: by.Address, Name: by.Name, CommissionPPM: rng.Uint64N(300_000)}
	case 2:
		return tx.MsgUnjail{Operator: by.Address}
	case 3, 4:
		return tx.MsgUndelegate{Delegator: by.Address, Validator: other, Amount: 1 + amount/8}
	case 5:
		return tx.MsgRedelegate{Delegator: by.Address, From: other, To: third, Amount: 1 + amount/8}
	default:
		return tx.MsgDelegate{Delegator: by.Address, Validator: other, Amount: amount}
	}
}

// disturb lets validators be absent, and now and then sign twice.
func (w *workload) disturb() {
	one := abcitest.Votes(w.t, w.providers[w.rng.IntN(len(w.providers))].Actor).Public().Bytes()
	switch w.rng.IntN(60) {
	case 0:
		w.Accuse(one)
	case 1, 2, 3:
		w.Absent(one, true)
	case 4, 5, 6, 7, 8, 9:
		w.Absent(one, false)
	default:
	}
}

func (w *workload) ask(by abcitest.Actor) tx.Msg {
	name := fmt.Sprint("lease", w.cost)
	r := abcitest.Ask(w.t, by, name, mman.Amount(500+w.rng.Uint64N(20_000)), w.Height()+1+w.rng.Uint64N(12))
	r.Blocks = 1 + w.rng.Uint64N(15)
	if w.rng.IntN(3) == 0 {
		r.Legs[1].Resource = abcitest.Resource(fmt.Sprint("box", w.rng.IntN(4)))
	}
	if w.rng.IntN(4) == 0 {
		r.Legs = []market.LegRequest{r.Legs[0], {Role: market.RoleData, Facet: resources.FacetFile, Resource: abcitest.Resource("words")}, r.Legs[1]}
	}
	if w.rng.IntN(4) == 0 {
		r.Legs[0] = market.LegRequest{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: abcitest.Resource("count")}
	}
	if id, ok := pick(w.rng, w.offers); ok && w.rng.IntN(4) == 0 {
		r.Legs[len(r.Legs)-1].Offers = []mman.CID{id}
	}
	return abcitest.Submit(w.t, r)
}

// policy is the encoded policy of a grant.
func (w *workload) policy() []byte {
	b, err := dagcbor.Marshal(policy.Policy{Default: policy.Allow})
	require.NoError(w.t, err)
	return b
}

func (w *workload) accept(p abcitest.Provider) (tx.Msg, bool) {
	m := tx.MsgAcceptLeases{Provider: p.Address}
	for range 1 + w.rng.IntN(3) {
		if r, ok := pick(w.rng, w.requests); ok && !slices.Contains(m.Leases, r.id.Lease()) {
			m.Leases = append(m.Leases, r.id.Lease())
		}
	}
	return m, len(m.Leases) > 0
}

// bidding returns a random message about requests that are put out to bids.
func (w *workload) bidding(p abcitest.Provider) (tx.Msg, bool) {
	rng, next := w.rng, w.Height()+1
	r, found := pick(rng, w.rfps)
	bid := func(p abcitest.Provider) abcitest.SealedBid { // the same whenever it is asked for
		n := mman.Sum256(r.id[:], p.Address[:])
		return p.Bid(w.t, chainID, r.id, fmt.Sprint("box", n[0]%2), mman.Amount(n[1])*12)
	}
	if rng.IntN(3) > 0 { // mostly what makes sense
		for _, r = range w.rfps[max(0, len(w.rfps)-16):] {
			one, _, err := w.App.View().RFP(r.id)
			require.NoError(w.t, err)
			at, in := one.Find(p.Address)
			switch {
			case r.by.Address == p.Address && !one.Brought && next <= one.CommitBy:
				return w.bring(r, bid), true
			case !in && next <= one.SealBy && r.by.Address != p.Address && rng.IntN(6) == 0:
				b := bid(p)
				return tx.MsgPostBid{Bidder: p.Address, Commitment: b.Committed.Commitment, Acknowledgement: abcitest.Acknowledge(w.t, chainID, r.name, b.Committed.Commitment)}, true
			case !in:
			case one.Bids[at].State == rfp.Committed && one.SealBy < next && next <= one.RevealBy:
				b := bid(p)
				return tx.MsgRevealBid{Bidder: p.Address, Request: r.id, Bid: b.Bid, Salt: b.Salt}, true
			case one.Bids[at].State == rfp.Won && rng.IntN(3) > 0:
				return tx.MsgAcceptLeases{Provider: p.Address, Leases: []mman.LeaseID{one.Lease}}, true
			}
		}
		m, id := p.Publish(w.t, chainID, p.Compute(fmt.Sprint("box", rng.IntN(2)), next+60))
		w.offers, w.own[p.Address] = append(w.offers, id), append(w.own[p.Address], id)
		return m, true
	}
	switch rng.IntN(8) {
	case 0:
		ask := abcitest.Ask(w.t, p.Actor, fmt.Sprint("lease", w.cost), mman.Amount(500+rng.Uint64N(20_000)), 0)
		commitBy := next + 1 + rng.Uint64N(5)
		ask.Blocks, ask.Deadline = 6+rng.Uint64N(10), commitBy+w.Doc.Params.RFPPostBlocks+w.Doc.Params.RFPRevealBlocks+rng.Uint64N(12)
		return abcitest.OpenRFP(w.t, ask, mman.Amount(1+rng.Uint64N(600)), commitBy), true
	case 1:
		return w.bring(r, bid), found && r.by.Address == p.Address
	case 2, 3:
		b := bid(p)
		return tx.MsgPostBid{Bidder: p.Address, Commitment: b.Committed.Commitment, Acknowledgement: abcitest.Acknowledge(w.t, chainID, r.name, b.Committed.Commitment)}, found
	case 4, 5, 6:
		b := bid(p)
		return tx.MsgRevealBid{Bidder: p.Address, Request: r.id, Bid: b.Bid, Salt: b.Salt}, found
	default:
		one, ok, err := w.App.View().RFP(r.id)
		require.NoError(w.t, err)
		if rng.IntN(4) == 0 {
			return tx.MsgSettle{Sender: p.Address, Close: []mman.LeaseID{one.Lease}}, ok && one.Awards > 0
		}
		return tx.MsgAcceptLeases{Provider: p.Address, Leases: []mman.LeaseID{one.Lease}}, ok && one.Awards > 0
	}
}

// bring brings the commitments of some of those who are not the consumer, mostly.
func (w *workload) bring(r made, bid func(p abcitest.Provider) abcitest.SealedBid) tx.Msg {
	m := tx.MsgCommitBids{Consumer: r.by.Address, Request: r.id}
	for i, other := range w.providers {
		if other.Address != r.by.Address && (w.rng.IntN(2) == 0 || i == 0) || w.rng.IntN(40) == 0 {
			m.Bids = append(m.Bids, bid(other).Committed)
		}
	}
	if len(m.Bids) == 0 {
		m.Bids = append(m.Bids, bid(w.providers[1]).Committed)
	}
	return m
}

func (w *workload) settle(p abcitest.Provider) (tx.Msg, bool) {
	m := tx.MsgSettle{Sender: p.Address}
	for range 1 + w.rng.IntN(4) {
		r, ok := pick(w.rng, w.requests)
		if !ok {
			return m, false
		}
		m.Items = append(m.Items, abcitest.Receipt(w.t, chainID, r.name, r.id.Lease(), w.rng.Uint64N(3), 1+w.rng.Uint64N(9), mman.Amount(w.rng.Uint64N(9000))))
		l, ok, err := w.App.View().Lease(r.id.Lease())
		require.NoError(w.t, err)
		if ok && l.Compute().Provider == p.Address && w.rng.IntN(3) == 0 {
			m.Close = append(m.Close, l.ID)
		}
	}
	return m, true
}

// block signs up to n transactions and decides a block of them.
func (w *workload) block(n int) {
	var raws [][]byte
	var names, kinds []string
	var varies []bool
	var by []abcitest.Actor
	for range n {
		p := w.providers[w.rng.IntN(len(w.providers))]
		m, ok := w.message(p)
		if !ok {
			continue
		}
		kinds, varies = append(kinds, m.TypeURL()), append(varies, tx.Varies([]tx.Msg{m}))
		raws, names, by = append(raws, w.Sign(p.Actor, []tx.Msg{m})), append(names, fmt.Sprint("lease", w.cost)), append(by, p.Actor)
		w.cost++
	}
	for range n / 6 { // beside the others, which are as many as ever
		p := w.providers[w.rng.IntN(len(w.providers))]
		m := w.storage(p)
		kinds, varies = append(kinds, m.TypeURL()), append(varies, tx.Varies([]tx.Msg{m}))
		raws, names, by = append(raws, w.Sign(p.Actor, []tx.Msg{m})), append(names, ""), append(by, p.Actor)
	}
	b := w.Block(raws...)
	for i, r := range b.Results {
		if r == nil {
			continue
		}
		if r.Code == 0 {
			w.kinds[kinds[i]]++
		}
		if text, ok := abcitest.Attribute(r.Events, "mman.store", "lease"); ok {
			var id mman.LeaseID
			require.NoError(w.t, id.UnmarshalText([]byte(text)))
			w.stored = append(w.stored, id)
		}
		if r.Code == uint32(mman.ErrOutOfGas.Code) {
			require.True(w.t, varies[i], "%s did more than tx.Limit foresees: %s", kinds[i], r.Log)
		}
		if _, ok := abcitest.Attribute(r.Events, "mman.request", "id"); ok {
			m := made{abcitest.RequestID(w.t, r.Events), names[i], by[i]}
			w.requests = append(w.requests, m)
			if _, ok := abcitest.Attribute(r.Events, "mman.rfp", "id"); ok {
				w.rfps = append(w.rfps, m)
			}
		}
	}
}

// perChain is how many operations one chain takes: with more of them each
// block's check of the whole state would take longer and longer.
const perChain = 5000

func runWorkload(t *testing.T, seed uint64, operations int) *workload {
	t.Helper()
	w := &workload{t: t, rng: rand.New(rand.NewPCG(seed, 7)), kinds: map[string]int{}, own: map[mman.Address][]mman.CID{}, grants: map[mman.Address][]tx.MsgGrant{}}
	var actors []abcitest.Actor
	for i := range 8 {
		p := abcitest.NewProvider(t, fmt.Sprint("actor", i))
		w.providers, actors = append(w.providers, p), append(actors, p.Actor)
	}
	doc := abcitest.Genesis(t, mman.Amount(100+operations/10)*mman.MAN, actors...)
	p := &doc.Params
	p.GraceBlocks, p.DisputeBlocks, p.MaxQueuedPerAccount = 5, 4, 6
	p.EpochBlocks, p.EvidenceMaxBlocks, p.EvidenceMaxSeconds, p.UnbondingBlocks, p.UnbondingSeconds = 10, 9, 9, 30, 31
	p.LivenessEpochs, p.MaxMissedBlocks, p.JailBlocks, p.MaxValidators = 3, 15, 12, 4
	p.AcceptBlocks = 3 // so that leases are canceled and offers suspended
	p.RFPPostBlocks, p.RFPRevealBlocks = 3, 4
	p.StorageEpochBlocks, p.StorageWindowBlocks, p.StorageAcceptBlocks = 8, 4, 3
	w.Chain = abcitest.New(t, doc)
	most := 24
	if operations > 2000 {
		most = 240
	}
	for w.cost < operations {
		w.block(w.rng.IntN(most))
		w.disturb()
		if w.rng.IntN(30) == 0 {
			w.Restart()
		}
	}
	return w
}

// number reads a number from the environment, with which the long forms of the
// gates are run.
func number(t *testing.T, name string, short int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	require.Positive(t, n, name)
	return n
}

// TestWorkload runs random operations with every invariant checked after every
// block, and replays the blocks into other applications. MMAN_OPERATIONS says how
// many, 5000 on each chain; the first chain and every tenth are replayed.
func TestWorkload(t *testing.T) {
	t.Parallel()
	operations := number(t, "MMAN_OPERATIONS", 2000)
	seed := rand.Uint64()
	if text := os.Getenv("MMAN_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	var blocks, done atomic.Uint64
	t.Cleanup(func() {
		t.Logf("G6: %d operations in %d blocks, every invariant held after each; first seed %d", done.Load(), blocks.Load(), seed)
	})
	chains := (operations + perChain - 1) / perChain
	for i := range chains {
		t.Run(fmt.Sprint("chain ", i), func(t *testing.T) {
			t.Parallel()
			w := workloadComesToRest(t, seed+uint64(i), operations/chains, i%10 == 0)
			blocks.Add(w.Height())
			done.Add(uint64(w.cost))
		})
	}
}

func workloadComesToRest(t *testing.T, seed uint64, operations int, replay bool) *workload {
	t.Helper()
	t.Logf("seed %d", seed)
	w := runWorkload(t, seed, operations)
	matched, paid := 0, mman.Amount(0)
	for _, r := range w.requests {
		l, ok, err := w.App.View().Lease(r.id.Lease())
		require.NoError(t, err)
		if ok {
			matched++
			paid += l.Paid
		}
	}
	t.Logf("%d blocks, %d requests, %d matched, %s paid", w.Height(), len(w.requests), matched, paid)
	bids := map[rfp.BidState]int{}
	for _, r := range w.rfps {
		one, _, err := w.App.View().RFP(r.id)
		require.NoError(t, err)
		for _, e := range one.Bids {
			bids[e.State]++
		}
	}
	t.Logf("%d RFPs, bids: %v", len(w.rfps), bids)
	for _, state := range []rfp.BidState{rfp.Served, rfp.Lost, rfp.Withheld} {
		require.Positive(t, bids[state], state)
	}
	require.Greater(t, matched, 20, "the workload does what it is for")
	require.Positive(t, paid)
	t.Log(w.kinds)
	for _, m := range []tx.Msg{
		tx.MsgBindNode{},
		tx.MsgOffer{},
		tx.MsgWithdrawOffer{},
		tx.MsgRequest{},
		tx.MsgCancelRequest{},
		tx.MsgSettle{},
		tx.MsgCloseLease{},
		tx.MsgAcceptLeases{},
		tx.MsgGrant{},
		tx.MsgRevoke{},
		tx.MsgOpenRFP{},
		tx.MsgCommitBids{},
		tx.MsgPostBid{},
		tx.MsgRevealBid{},
	} {
		require.Positive(t, w.kinds[m.TypeURL()], "%s: the workload does what it is for", m.TypeURL())
	}
	if replay {
		rng := rand.New(rand.NewPCG(seed, 8))
		w.Replay(func(uint64) (restart, drop bool) { return rng.IntN(5) == 0, rng.IntN(3) == 0 })
	}
	// When nobody does anything any more, all that is due comes to an end.
	for _, p := range w.providers {
		w.Absent(abcitest.Votes(t, p.Actor).Public().Bytes(), false)
	}
	w.Pass(80)
	root := w.Root()
	w.Pass(2)
	require.Equal(t, root, w.Root())
	var s struct {
		Escrow mman.Amount `json:"escrow"`
	}
	code, log := w.Query("/mman/supply", &s)
	require.Zero(t, code, log)
	require.Zero(t, s.Escrow)
	return w
}

// TestDeterminism runs the same blocks through applications with different
// numbers of processors, which are restarted at random heights, lose their caches
// at random and join by archives on the way. MMAN_OPERATIONS says how many
// operations.
//
//nolint:paralleltest // it changes GOMAXPROCS
func TestDeterminism(t *testing.T) {
	operations := number(t, "MMAN_OPERATIONS", 300)
	w := runWorkload(t, 42, operations)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	rng := rand.New(rand.NewPCG(rand.Uint64(), 8))
	for _, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		restarts, drops := 0, 0
		w.Replay(func(uint64) (restart, drop bool) {
			restart, drop = rng.IntN(procs+2) == 0, rng.IntN(2) == 0
			if restart {
				restarts++
			}
			if drop {
				drops++
			}
			return restart, drop
		})
		t.Logf("G1: %d operations in %d blocks on %d processors, %d restarts, caches dropped %d times, %d joined by archive: no root, result or event differs",
			operations, w.Height(), procs, restarts, drops, w.Height()/w.Doc.Params.EpochBlocks)
	}
	again := runWorkload(t, 42, operations)
	require.Equal(t, w.Root(), again.Root())
}
