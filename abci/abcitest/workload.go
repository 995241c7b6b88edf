package abcitest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/merkle"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/market/storage"
	"github.com/limboid/massive-man/resources"
)

// Workload drives a chain with random operations, sensible and senseless ones.
type Workload struct {
	*Chain

	// Providers are those who act; each is a consumer too. The last two sign with keys
	// of wallets.
	Providers []Provider
	// Operations is how many there were, without those about stored bytes.
	Operations int
	// Kinds counts the messages that succeeded, by type.
	Kinds map[string]int
	// Requests and RFPs are what was asked for, in order.
	Requests, RFPs []Requested
	// Honest says that nobody signs twice any more: who did never validates again, and
	// when all did there are no validators left to be jailed.
	Honest bool

	tb     testing.TB
	rng    *rand.Rand
	offers []mman.CID
	own    map[mman.Address][]mman.CID
	grants map[mman.Address][]tx.MsgGrant
	stored map[mman.Address][]mman.LeaseID // by who asked for it
}

// Requested is a request that the ledger took, or that was put out to bids.
type Requested struct {
	ID mman.RequestID
	By Actor

	name string // of its lease key
}

// RunWorkload runs that many random operations in blocks, with validators that are
// absent, sign twice and restart in between. The same seed gives the same blocks.
func RunWorkload(tb testing.TB, seed uint64, operations int) *Workload {
	tb.Helper()
	w := &Workload{
		tb: tb, rng: rand.New(rand.NewPCG(seed, 7)), Kinds: map[string]int{},
		own: map[mman.Address][]mman.CID{}, grants: map[mman.Address][]tx.MsgGrant{}, stored: map[mman.Address][]mman.LeaseID{},
	}
	var actors []Actor
	for i := range 8 {
		p := NewProvider(tb, fmt.Sprint("actor", i))
		if i >= 6 {
			p.Actor = NewWallet(tb, p.Name)
		}
		w.Providers, actors = append(w.Providers, p), append(actors, p.Actor)
	}
	doc := Genesis(tb, mman.Amount(100+operations/10)*mman.MAN, actors...)
	p := &doc.Params
	p.GraceBlocks, p.DisputeBlocks, p.MaxQueuedPerAccount = 5, 4, 6
	p.EpochBlocks, p.EvidenceMaxBlocks, p.EvidenceMaxSeconds, p.UnbondingBlocks, p.UnbondingSeconds = 10, 9, 9, 30, 31
	p.LivenessEpochs, p.MaxMissedBlocks, p.JailBlocks, p.MaxValidators = 3, 15, 12, 4
	p.AcceptBlocks = 3 // so that leases are canceled and offers suspended
	p.RFPPostBlocks, p.RFPRevealBlocks = 3, 4
	p.StorageEpochBlocks, p.StorageWindowBlocks, p.StorageAcceptBlocks = 8, 4, 3
	w.Chain = New(tb, doc)
	w.Run(operations)
	return w
}

// Run runs so many further operations.
func (w *Workload) Run(operations int) {
	most := 24
	if operations > 2000 {
		most = 240
	}
	for until := w.Operations + operations; w.Operations < until; {
		w.Random(w.rng.IntN(most))
		w.disturb()
		if w.rng.IntN(30) == 0 {
			w.Restart()
		}
	}
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
func (w *Workload) message(p Provider) (m tx.Msg, ok bool) {
	rng, next := w.rng, w.Height()+1
	resource := fmt.Sprint("box", rng.IntN(4))
	switch rng.IntN(36) {
	case 20, 21, 22, 23:
		return w.stake(p.Actor), true
	case 24, 25, 26, 27, 28, 29, 30, 31, 32, 33:
		return w.bidding(p)
	case 0:
		return p.Bind(ChainID), true
	case 1, 2:
		o := p.Compute(resource, next+rng.Uint64N(40))
		if rng.IntN(3) == 0 {
			o = p.Dataset("words", next+5)
			o.Sealed = rng.IntN(2) == 0
		}
		if rng.IntN(4) == 0 {
			o = p.Algorithm("count", next+rng.Uint64N(40))
			to, _ := pick(rng, w.Providers)
			o.Parents = []resources.Parent{{Resource: Resource("count"), Owner: to.Address, Share: 1 + rng.Uint64N(3000)}}
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
		m, id := p.Publish(w.tb, ChainID, o)
		w.offers, w.own[p.Address] = append(w.offers, id), append(w.own[p.Address], id)
		return m, true
	case 3:
		id, ok := pick(rng, w.own[p.Address])
		return tx.MsgWithdrawOffer{Provider: p.Address, Offer: id}, ok
	case 4, 5, 6:
		return w.ask(p.Actor), true
	case 7:
		mine := slices.DeleteFunc(slices.Clone(w.Requests), func(r Requested) bool { return r.By.Address != p.Address })
		r, ok := pick(rng, mine[max(0, len(mine)-3):])
		return tx.MsgCancelRequest{Consumer: p.Address, Request: r.ID}, ok
	case 8, 9:
		return w.settle(p)
	case 10, 34, 35:
		r, ok := pick(rng, w.Requests)
		return tx.MsgCloseLease{Account: p.Address, Lease: r.ID.Lease()}, ok
	case 11, 12:
		return w.accept(p)
	case 13, 14:
		id, ok := pick(rng, w.own[p.Address][max(0, len(w.own[p.Address])-2):])
		to, _ := pick(rng, w.Providers)
		m := tx.MsgGrant{Provider: p.Address, Offer: id, Grantee: to.Address, Policy: w.policy(), Expires: next + rng.Uint64N(40)}
		if ok {
			w.grants[p.Address] = append(w.grants[p.Address], m)
		}
		return m, ok
	case 15, 16, 17:
		g, ok := pick(rng, w.grants[p.Address][max(0, len(w.grants[p.Address])-2):])
		return tx.MsgRevoke{Provider: p.Address, Offer: g.Offer, Grantee: g.Grantee}, ok
	case 19:
		m := tx.MsgMultiSend{From: p.Address}
		for range 1 + rng.IntN(3) {
			to, _ := pick(rng, w.Providers)
			m.Outputs = append(m.Outputs, tx.Output{To: to.Address, Amount: 1 + mman.Amount(rng.Uint64N(uint64(mman.MAN)))})
		}
		return m, true
	default:
		to, _ := pick(rng, w.Providers)
		return tx.MsgSend{From: p.Address, To: to.Address, Amount: 1 + mman.Amount(rng.Uint64N(uint64(mman.MAN)))}, true
	}
}

// storage is a random message about storage leases, mostly one that is taken.
func (w *Workload) storage(p Provider) tx.Msg {
	rng, view := w.rng, w.App.View()
	lease, mine := mman.LeaseID{1}, tx.ReplicaName{}
	if all, err := view.StorageReplicas(p.Address, nil, 16); err == nil && len(all) > 0 {
		mine = tx.ReplicaName(all[rng.IntN(len(all))])
		lease = mine.Lease
	}
	if own := w.stored[p.Address]; len(own) > 0 {
		lease = own[max(0, len(own)-1-rng.IntN(3))]
	}
	drawn, _, err := view.StorageDrawn()
	require.NoError(w.tb, err)
	switch rng.IntN(14) {
	case 12, 13:
		return w.retrieval(p)
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

// retrieval sets money aside for what the actor fetches, or redeems a promise. Mostly
// each fetches from the next one.
func (w *Workload) retrieval(p Provider) tx.Msg {
	rng, all := w.rng, len(w.Providers)
	at := slices.IndexFunc(w.Providers, func(other Provider) bool { return other.Address == p.Address })
	step, amount := 1, 1+mman.Amount(rng.Uint64N(5000))
	if rng.IntN(4) == 0 {
		step = rng.IntN(all)
	}
	if rng.IntN(2) == 0 {
		return Fund(w.tb, p.Actor, w.Providers[(at+step)%all].Address, amount)
	}
	return Promise(w.tb, ChainID, w.Providers[(at+all-step)%all].Actor, p.Address, amount)
}

// Missing returns the types of message of which not one succeeded, as tx.TypeURLs has
// them.
func (w *Workload) Missing() []string {
	return slices.DeleteFunc(tx.TypeURLs(), func(url string) bool { return w.Kinds[url] > 0 })
}

// stake is a random message of staking, by and about any of the actors.
func (w *Workload) stake(by Actor) tx.Msg {
	rng := w.rng
	other, third := w.Providers[rng.IntN(len(w.Providers))].Address, w.Providers[rng.IntN(len(w.Providers))].Address
	amount := 1 + mman.Amount(rng.Uint64N(uint64(3*mman.MAN)))
	if rng.IntN(2) == 0 { // one that is there, if there is any
		other = by.Address
	}
	switch rng.IntN(10) {
	case 0:
		votes := Votes(w.tb, by)
		w.Learn(votes)
		return tx.MsgCreateValidator{Operator: by.Address, Name: by.Name, CommissionPPM: rng.Uint64N(200_000), Stake: amount}.SignKey(votes, ChainID)
	case 1:
		return tx.MsgEditValidator{Operator: by.Address, Name: by.Name, CommissionPPM: rng.Uint64N(300_000)}
	case 2, 8, 9:
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
func (w *Workload) disturb() {
	one := Votes(w.tb, w.Providers[w.rng.IntN(len(w.Providers))].Actor).Public().Bytes()
	switch w.rng.IntN(60) {
	case 0:
		if !w.Honest {
			w.Accuse(one)
		}
	case 1, 2, 3:
		w.Absent(one, true)
	case 4, 5, 6, 7, 8, 9:
		w.Absent(one, false)
	default:
	}
}

func (w *Workload) ask(by Actor) tx.Msg {
	name := fmt.Sprint("lease", w.Operations)
	r := Ask(w.tb, by, name, mman.Amount(500+w.rng.Uint64N(20_000)), w.Height()+1+w.rng.Uint64N(12))
	r.Blocks = 1 + w.rng.Uint64N(15)
	if w.rng.IntN(3) == 0 {
		r.Legs[1].Resource = Resource(fmt.Sprint("box", w.rng.IntN(4)))
	}
	if w.rng.IntN(4) == 0 {
		r.Legs = []market.LegRequest{r.Legs[0], {Role: market.RoleData, Facet: resources.FacetFile, Resource: Resource("words")}, r.Legs[1]}
	}
	if w.rng.IntN(4) == 0 {
		r.Legs[0] = market.LegRequest{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: Resource("count")}
	}
	if id, ok := pick(w.rng, w.offers); ok && w.rng.IntN(4) == 0 {
		r.Legs[len(r.Legs)-1].Offers = []mman.CID{id}
	}
	return Submit(w.tb, r)
}

// policy is the encoded policy of a grant.
func (w *Workload) policy() []byte {
	b, err := dagcbor.Marshal(policy.Policy{Default: policy.Allow})
	require.NoError(w.tb, err)
	return b
}

func (w *Workload) accept(p Provider) (tx.Msg, bool) {
	m := tx.MsgAcceptLeases{Provider: p.Address}
	for range 1 + w.rng.IntN(3) {
		if r, ok := pick(w.rng, w.Requests); ok && !slices.Contains(m.Leases, r.ID.Lease()) {
			m.Leases = append(m.Leases, r.ID.Lease())
		}
	}
	return m, len(m.Leases) > 0
}

// bidding returns a random message about requests that are put out to bids.
func (w *Workload) bidding(p Provider) (tx.Msg, bool) {
	rng, next := w.rng, w.Height()+1
	r, found := pick(rng, w.RFPs)
	bid := func(p Provider) SealedBid { // the same whenever it is asked for
		n := mman.Sum256(r.ID[:], p.Address[:])
		return p.Bid(w.tb, ChainID, r.ID, fmt.Sprint("box", n[0]%2), mman.Amount(n[1])*12)
	}
	if rng.IntN(3) > 0 { // mostly what makes sense
		for _, r = range w.RFPs[max(0, len(w.RFPs)-16):] {
			one, _, err := w.App.View().RFP(r.ID)
			require.NoError(w.tb, err)
			at, in := one.Find(p.Address)
			switch {
			case r.By.Address == p.Address && !one.Brought && next <= one.CommitBy:
				return w.bring(r, bid), true
			case !in && next <= one.SealBy && r.By.Address != p.Address && rng.IntN(6) == 0:
				b := bid(p)
				return tx.MsgPostBid{Bidder: p.Address, Commitment: b.Committed.Commitment, Acknowledgement: Acknowledge(w.tb, ChainID, r.name, b.Committed.Commitment)}, true
			case !in:
			case one.Bids[at].State == rfp.Committed && one.SealBy < next && next <= one.RevealBy:
				b := bid(p)
				return tx.MsgRevealBid{Bidder: p.Address, Request: r.ID, Bid: b.Bid, Salt: b.Salt}, true
			case one.Bids[at].State == rfp.Won && rng.IntN(3) > 0:
				return tx.MsgAcceptLeases{Provider: p.Address, Leases: []mman.LeaseID{one.Lease}}, true
			}
		}
		m, id := p.Publish(w.tb, ChainID, p.Compute(fmt.Sprint("box", rng.IntN(2)), next+60))
		w.offers, w.own[p.Address] = append(w.offers, id), append(w.own[p.Address], id)
		return m, true
	}
	switch rng.IntN(8) {
	case 0:
		ask := Ask(w.tb, p.Actor, fmt.Sprint("lease", w.Operations), mman.Amount(500+rng.Uint64N(20_000)), 0)
		commitBy := next + 1 + rng.Uint64N(5)
		ask.Blocks, ask.Deadline = 6+rng.Uint64N(10), commitBy+w.Doc.Params.RFPPostBlocks+w.Doc.Params.RFPRevealBlocks+rng.Uint64N(12)
		return OpenRFP(w.tb, ask, mman.Amount(1+rng.Uint64N(600)), commitBy), true
	case 1:
		return w.bring(r, bid), found && r.By.Address == p.Address
	case 2, 3:
		b := bid(p)
		return tx.MsgPostBid{Bidder: p.Address, Commitment: b.Committed.Commitment, Acknowledgement: Acknowledge(w.tb, ChainID, r.name, b.Committed.Commitment)}, found
	case 4, 5, 6:
		b := bid(p)
		return tx.MsgRevealBid{Bidder: p.Address, Request: r.ID, Bid: b.Bid, Salt: b.Salt}, found
	default:
		one, ok, err := w.App.View().RFP(r.ID)
		require.NoError(w.tb, err)
		if rng.IntN(4) == 0 {
			return tx.MsgSettle{Sender: p.Address, Close: []mman.LeaseID{one.Lease}}, ok && one.Awards > 0
		}
		return tx.MsgAcceptLeases{Provider: p.Address, Leases: []mman.LeaseID{one.Lease}}, ok && one.Awards > 0
	}
}

// bring brings the commitments of some of those who are not the consumer, mostly.
func (w *Workload) bring(r Requested, bid func(p Provider) SealedBid) tx.Msg {
	m := tx.MsgCommitBids{Consumer: r.By.Address, Request: r.ID}
	for i, other := range w.Providers {
		if other.Address != r.By.Address && (w.rng.IntN(2) == 0 || i == 0) || w.rng.IntN(40) == 0 {
			m.Bids = append(m.Bids, bid(other).Committed)
		}
	}
	if len(m.Bids) == 0 {
		m.Bids = append(m.Bids, bid(w.Providers[1]).Committed)
	}
	return m
}

func (w *Workload) settle(p Provider) (tx.Msg, bool) {
	m := tx.MsgSettle{Sender: p.Address}
	for range 1 + w.rng.IntN(4) {
		r, ok := pick(w.rng, w.Requests)
		if !ok {
			return m, false
		}
		m.Items = append(m.Items, Receipt(w.tb, ChainID, r.name, r.ID.Lease(), w.rng.Uint64N(3), 1+w.rng.Uint64N(9), mman.Amount(w.rng.Uint64N(9000))))
		l, ok, err := w.App.View().Lease(r.ID.Lease())
		require.NoError(w.tb, err)
		if ok && l.Compute().Provider == p.Address && w.rng.IntN(3) == 0 {
			m.Close = append(m.Close, l.ID)
		}
	}
	return m, true
}

// Random signs up to n transactions and decides a block of them.
func (w *Workload) Random(n int) {
	var raws [][]byte
	var names, kinds []string
	var varies []bool
	var by []Actor
	for range n {
		p := w.Providers[w.rng.IntN(len(w.Providers))]
		m, ok := w.message(p)
		if !ok {
			continue
		}
		kinds, varies = append(kinds, m.TypeURL()), append(varies, tx.Varies([]tx.Msg{m}))
		raws, names, by = append(raws, w.Sign(p.Actor, []tx.Msg{m})), append(names, fmt.Sprint("lease", w.Operations)), append(by, p.Actor)
		w.Operations++
	}
	for range n / 6 { // beside the others, which are as many as ever
		p := w.Providers[w.rng.IntN(len(w.Providers))]
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
			w.Kinds[kinds[i]]++
		}
		if text, ok := Attribute(r.Events, "mman.store", "lease"); ok {
			var id mman.LeaseID
			require.NoError(w.tb, id.UnmarshalText([]byte(text)))
			w.stored[by[i].Address] = append(w.stored[by[i].Address], id)
		}
		if r.Code == uint32(mman.ErrOutOfGas.Code) {
			require.True(w.tb, varies[i], "%s did more than tx.Limit foresees: %s", kinds[i], r.Log)
		}
		if _, ok := Attribute(r.Events, "mman.request", "id"); ok {
			m := Requested{RequestID(w.tb, r.Events), by[i], names[i]}
			w.Requests = append(w.Requests, m)
			if _, ok := Attribute(r.Events, "mman.rfp", "id"); ok {
				w.RFPs = append(w.RFPs, m)
			}
		}
	}
}
