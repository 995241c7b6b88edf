package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	ledger "github.com/limboid/massive-man/abci/market"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/resources"
)

// MatchOptions size the benchmark of matching.
type MatchOptions struct {
	// Offers are the numbers of open offers of one class, ascending, each at
	// least 1000; the first is the reference of the others.
	Offers []int
	// Requests are made at once at each size.
	Requests int
	// Receipts are verified.
	Receipts int
	// Progress is told in a few words what is being done; nil tells nobody.
	Progress func(doing string)
}

// The market that is measured.
const (
	// winnerRank is the place of the offer that is chosen in the order of
	// prices; those before it deny.
	winnerRank = 1000
	// providers offer, and the same accounts ask.
	providers = 1000
	// offersPerBlock is how many offers are put into one block of the setting
	// up.
	offersPerBlock = 20_000
	// leastMemory is what a million offers and the requests over them need.
	leastMemory = 5 << 30
	mostOffers  = providers * 1024 // the ledger's own bound for an account
)

// Match measures what the ledger's matching costs: the market's state machine
// over the state on disk, block by block, without consensus and transactions.
//
// At each number of open offers the same requests are made, after the database
// was closed and opened again: any compute will do, the offer that is chosen
// stands at rank 1000 of the prices, and the 999 before it deny, each by a policy
// of its own. Metrics, for each number N:
//
//	match_N             processor time of matching a request, blocks and commits
//	                    with it, on average over all that were made at once; the
//	                    reference is the first N's. It does not depend on what
//	                    else the machine does.
//	match_N_per_second  requests matched
//	match_N_latency_p50 processing time of the blocks from a request to its lease
//	match_N_blocks      how many blocks that were
//	match_N_disk        bytes on disk for each open offer
//	match_N_memory      bytes in memory for each open offer
//
// Beside them policy_typical and policy_worst, the time of one evaluation of
// ordinary policies and of the most costly one that can be registered, and
// receipts_per_second on one core, in batches; its reference is one by one.
func Match(ctx context.Context, o MatchOptions) (_ *Report, err error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mman-bench-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// Tens of millions of small objects live in the end, so that collecting often
	// takes most of the time: it may wait for as long as there is memory.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(max(leastMemory, availableMemory()/2)))
	b, err := newMatchBench(dir, o)
	if err != nil {
		return nil, err
	}
	b.tell("evaluate policies and verify receipts")
	if err := b.policies(); err != nil {
		return nil, err
	}
	if err := b.receipts(); err != nil {
		return nil, err
	}
	for _, n := range o.Offers {
		if err := b.measure(ctx, n); err != nil {
			return nil, fmt.Errorf("%d offers: %w", n, err)
		}
	}
	return b.report, nil
}

func (o MatchOptions) validate() error {
	last := winnerRank - 1
	for _, n := range o.Offers {
		if n <= last || n > mostOffers {
			return fmt.Errorf("%w: bench match: %d offers: numbers grow from %d to %d", mman.ErrInvalid, n, winnerRank, mostOffers)
		}
		last = n
	}
	if len(o.Offers) == 0 || o.Requests < 1 || o.Requests > providers || o.Receipts < 1 {
		return fmt.Errorf("%w: bench match: name at least one number of offers, 1 to %d requests and at least 1 receipt", mman.ErrInvalid, providers)
	}
	return nil
}

type matchBench struct {
	MatchOptions

	report  *Report
	dir     string
	params  genesis.Params
	chainID string
	people  []person
	module  ledger.Module

	db     *store.Store
	state  *state.Store
	offers int // that stand
}

// person is a provider with a node, and a consumer.
type person struct {
	key     sig.PrivateKey
	address mman.Address
	peer    mman.PeerID
}

// purse is a bank in which money does not matter.
type purse struct {
	keys map[mman.Address]sig.PublicKey
}

func (purse) Hold(*block.Context, mman.Address, mman.Amount) error    { return nil }
func (purse) Release(*block.Context, mman.Address, mman.Amount) error { return nil }
func (purse) Burn(*block.Context, mman.Amount) error                  { return nil }
func (purse) Lock(*block.Context, mman.Address, mman.Amount) error    { return nil }
func (purse) Unlock(*block.Context, mman.Address, mman.Amount) error  { return nil }
func (purse) Locked(state.Reader) (mman.Amount, error)                { return 0, nil }
func (purse) Escrow(state.Reader) (mman.Amount, error)                { return 0, nil }
func (p purse) Key(_ state.Reader, a mman.Address) (sig.PublicKey, error) {
	return p.keys[a], nil
}

func newMatchBench(dir string, o MatchOptions) (*matchBench, error) {
	b := &matchBench{
		MatchOptions: o, report: newReport("match"), dir: dir, chainID: "mman-local-bench", params: genesis.Defaults(genesis.Local),
	}
	bank := purse{map[mman.Address]sig.PublicKey{}}
	for range providers {
		key, err := sig.Generate(sig.Ed25519, rand.Reader)
		if err != nil {
			return nil, err
		}
		p := person{key, key.Public().Address(), mman.PeerID(key.Public().Bytes())}
		bank.keys[p.address] = key.Public()
		b.people = append(b.people, p)
	}
	b.module = ledger.New(bank)
	return b, nil
}

// open opens the state on disk.
func (b *matchBench) open() error {
	var err error
	if b.db, err = store.Open(store.DefaultConfig(b.dir, slog.New(slog.DiscardHandler))); err != nil {
		return err
	}
	if b.state, err = state.Open(b.db.State()); err != nil {
		return errors.Join(err, b.close())
	}
	return nil
}

func (b *matchBench) close() error {
	b.state = nil
	return b.db.Close()
}

// block executes messages as one block and commits it.
func (b *matchBench) block(msgs []tx.Msg) error {
	height := b.state.Height() + 1
	overlay := b.state.Begin()
	var events []block.Event
	ctx := &block.Context{
		Header: block.Header{ChainID: b.chainID, Height: height, Time: int64(height), Beacon: mman.Sum256(state.Uint64Key(height))}, //nolint:gosec // a few thousand
		Params: b.params, State: overlay, Events: &events,
	}
	for i, msg := range msgs {
		ctx.TxHash = mman.Sum256(state.Uint64Key(height), state.Uint64Key(uint64(i)))
		if err := b.module.Execute(ctx, msg); err != nil {
			return err
		}
	}
	if err := b.module.EndBlock(ctx); err != nil {
		return err
	}
	staged, err := b.state.Stage(overlay)
	if err != nil {
		return err
	}
	return b.state.Commit(staged, height, nil)
}

// grow puts offers on the ledger until n stand.
func (b *matchBench) grow(ctx context.Context, n int) error {
	if b.offers == 0 {
		msgs := make([]tx.Msg, len(b.people))
		for i, p := range b.people {
			msgs[i] = tx.MsgBindNode{Account: p.address, Peer: p.peer}.SignNode(p.key, b.chainID)
		}
		if err := b.block(msgs); err != nil {
			return err
		}
	}
	// Offers are made and signed beside the execution of those before them.
	g, making := errgroup.WithContext(ctx)
	made := make(chan []tx.Msg, 1)
	g.Go(func() error {
		defer close(made)
		for from := b.offers; from < n; from += offersPerBlock {
			msgs, err := b.sign(from, min(from+offersPerBlock, n))
			if err != nil {
				return err
			}
			select {
			case made <- msgs:
			case <-making.Done():
				return fmt.Errorf("%w: %w", mman.ErrCanceled, context.Cause(making))
			}
		}
		return nil
	})
	offers := b.offers
	g.Go(func() error {
		for msgs := range made {
			if err := b.block(msgs); err != nil {
				return err
			}
			offers += len(msgs)
			b.tell("put %d of %d offers on the ledger", offers, n)
		}
		return nil
	})
	err := g.Wait()
	b.offers = offers
	return err
}

// sign makes the messages of the offers from one number to below another.
func (b *matchBench) sign(from, to int) ([]tx.Msg, error) {
	msgs := make([]tx.Msg, to-from)
	for i := range msgs {
		p := b.people[(from+i)%len(b.people)]
		signed, _, err := market.SignOffer(b.chainID, b.offer(from+i, p), p.key)
		if err != nil {
			return nil, err
		}
		msgs[i] = tx.MsgOffer{Provider: p.address, Offer: signed.Bytes, Signature: signed.Signature}
	}
	return msgs, nil
}

func (b *matchBench) tell(format string, args ...any) {
	if b.Progress != nil {
		b.Progress(fmt.Sprintf(format, args...))
	}
}

// offer is the i-th in the order of prices. Those before the winner deny.
func (b *matchBench) offer(i int, p person) market.Offer {
	n := strconv.Itoa(i)
	o := market.Offer{
		Version: 1, Provider: p.address, Peer: p.peer, Kind: resources.KindCompute, Facet: resources.FacetWasm, Meter: 1,
		Resource: mman.SumCID(mman.CodecDagCBOR, []byte("compute "+n)), Region: "eu-" + n, Capacity: 1 << 20, Expires: b.params.MaxOfferBlocks,
		Policy: policy.Policy{Default: policy.Allow, Limits: policy.Limits{WallMs: 60_000, MemoryBytes: 1 << 30, Network: "none"}},
		Price: price.Price{PerLease: mman.Amount(i), Units: []price.UnitPrice{ //nolint:gosec // a million at most
			{Unit: resources.UnitFuel, Per: 1_000_000_000, UMan: 10}, {Unit: resources.UnitWallMs, Per: 1000, UMan: 10},
		}},
	}
	var when string
	switch {
	case i == winnerRank-1:
		return o
	case i%4 == 0:
		when = `request.purpose != "project-` + n + `"`
	case i%4 == 1:
		when = `request.cap_uman < ` + strconv.Itoa(10_000_000+i)
	case i%4 == 2: //nolint:mnd // shapes by turns
		when = `!(request.purpose in ["research", "teaching-` + n + `"]) && request.wall_ms > 1000`
	default:
		when = `consumer.reputation < ` + strconv.Itoa(i%100+1) + ` || algorithm.supplied && compute.region != "us-` + n + `"`
	}
	o.Policy.Rules = []policy.Rule{
		{ID: "hours-" + n, Effect: policy.Deny, Phase: policy.PhaseMatch, When: "chain.height > " + strconv.Itoa(1<<30+i)},
		{ID: "deny-" + n, Effect: policy.Deny, Phase: policy.PhaseMatch, When: when},
	}
	return o
}

// ask makes the requests of as many accounts.
func (b *matchBench) ask() ([]tx.Msg, error) {
	msgs := make([]tx.Msg, b.Requests)
	for i := range msgs {
		r := market.Request{
			Version: 1, Consumer: b.people[i].address, LeaseKey: mman.LeaseKey(b.people[i].peer), Cap: mman.MAN, Blocks: 100,
			Deadline: b.state.Height() + 1000, Limits: resources.DefaultLimits(), Purpose: "analysis",
			Legs: []market.LegRequest{
				{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: mman.SumCID(mman.CodecRaw, []byte("module")), Supplied: true},
				{Role: market.RoleCompute, Facet: resources.FacetWasm},
			},
		}
		raw, err := r.Encode()
		if err != nil {
			return nil, err
		}
		msgs[i] = tx.MsgRequest{Consumer: r.Consumer, Request: raw, Looks: winnerRank}
	}
	return msgs, nil
}

// measure matches requests over n open offers, read from disk.
func (b *matchBench) measure(ctx context.Context, n int) error {
	runtime.GC()
	before := heap()
	if err := b.open(); err != nil {
		return err
	}
	if err := b.grow(ctx, n); err != nil {
		return errors.Join(err, b.close())
	}
	if err := b.close(); err != nil {
		return err
	}
	b.module.DropCaches()
	disk, err := folderBytes(b.dir)
	if err != nil {
		return err
	}
	b.tell("open the ledger with %d offers again", n)
	if err := b.open(); err != nil {
		return err
	}
	runtime.GC()
	name := "match_" + strconv.Itoa(n)
	b.report.set(name+"_disk", "B/offer", float64(disk)/float64(n), 0)
	b.report.set(name+"_memory", "B/offer", float64(heap()-min(before, heap()))/float64(n), 0)
	b.tell("match %d requests over %d offers", b.Requests, n)
	return errors.Join(b.requests(ctx, name), b.close())
}

// requests makes all requests in one block and goes on until each has its lease.
func (b *matchBench) requests(ctx context.Context, name string) error {
	msgs, err := b.ask()
	if err != nil {
		return err
	}
	var latencies []time.Duration
	blocks, height := 0, b.state.Height()+1
	begun, worked := time.Now(), processor()
	for len(latencies) < len(msgs) {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
		}
		var now []tx.Msg
		if blocks++; blocks == 1 {
			now = msgs
		}
		if err := b.block(now); err != nil {
			return err
		}
		matched := 0
		for i := range msgs {
			id := mman.NewRequestID(b.chainID, mman.Sum256(state.Uint64Key(height), state.Uint64Key(uint64(i))), 0)
			l, ok, err := ledger.LookupLease(b.state, id.Lease())
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			if l.Compute().Price.PerLease != winnerRank-1 {
				return fmt.Errorf("%w: request %s got an offer at rank %s", mman.ErrInvariant, id, l.Compute().Price.PerLease)
			}
			matched++
		}
		for len(latencies) < matched {
			latencies = append(latencies, time.Since(begun))
		}
		if blocks > len(msgs)*winnerRank {
			return fmt.Errorf("%w: %d of %d requests are matched after %d blocks", mman.ErrInvariant, matched, len(msgs), blocks)
		}
	}
	took := time.Since(begun)
	each := float64((processor() - worked).Microseconds()) / 1000 / float64(len(msgs))
	first := b.report.Metrics["match_"+strconv.Itoa(b.Offers[0])].Value
	if first == 0 {
		first = each
	}
	b.report.set(name, "ms", each, first)
	b.report.set(name+"_per_second", "1/s", float64(len(msgs))/took.Seconds(), 0)
	b.report.set(name+"_latency_p50", "ms", quantile(latencies, 0.5), 0)
	b.report.set(name+"_blocks", "blocks", float64(blocks), 0)
	return nil
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func folderBytes(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return sum, err
}

// policies times evaluations.
func (b *matchBench) policies() error {
	typical := b.offer(2, b.people[0]).Policy
	mean, err := evaluations(typical, 20_000)
	if err != nil {
		return err
	}
	b.report.set("policy_typical", "us", mean, 0)
	worst := policy.Policy{Default: policy.Allow}
	for i := 0; ; i++ {
		more := worst
		more.Rules = append(more.Rules[:i:i], policy.Rule{
			ID: "r" + strconv.Itoa(i), Effect: policy.Deny, Phase: policy.PhaseMatch,
			When: `data.attributes.exists(a, a.contains("` + strconv.Itoa(i) + `-zzz") || a < "a")`,
		})
		if _, err := more.Compile(); err != nil {
			break // the one before is the most costly
		}
		worst = more
	}
	mean, err = evaluations(worst, 200)
	b.report.set("policy_worst", "us", mean, 0)
	return err
}

// evaluations returns the time of one in microseconds.
func evaluations(p policy.Policy, times int) (float64, error) {
	program, err := p.Compile()
	if err != nil {
		return 0, err
	}
	full := func(count int) (list []resources.Attribute) {
		for i := range count {
			list = append(list, resources.Attribute{Key: "attribute-" + strconv.Itoa(i), Value: fmt.Sprintf("%0200d", i)})
		}
		return list
	}
	data := policy.Legs{{Attributes: full(32)}, {Attributes: full(32)}} //nolint:mnd // as many as a list may hold
	c := policy.Context{
		Request: &policy.Request{Purpose: "analysis", Cap: mman.MAN, Limits: resources.DefaultLimits()},
		Code:    &policy.Leg{Supplied: true}, Compute: &policy.Leg{Region: "eu-west", Attributes: full(32)}, //nolint:mnd // as above
		Data: &data, Storage: &policy.Legs{}, Chain: &policy.Chain{Height: 5, Time: 5},
	}
	begun := time.Now()
	for range times {
		program.Decide(c)
	}
	return float64(time.Since(begun).Nanoseconds()) / 1000 / float64(times), nil
}

// receipts verifies signatures one by one and in batches, on one goroutine.
func (b *matchBench) receipts() error {
	key := b.people[0].key
	lease := mman.LeaseKey(key.Public().Bytes())
	signed := make([]market.Signed, b.Receipts)
	for i := range signed {
		var err error
		if signed[i], err = market.SignReceipt(b.chainID, market.Receipt{
			Version: 1, Statement: mman.SumCID(mman.CodecDagCBOR, []byte{1}), Lease: mman.LeaseID{1}, Seq: uint64(i) + 1, Paid: mman.Amount(i),
		}, signer{key}); err != nil {
			return err
		}
	}
	begun := time.Now()
	for _, s := range signed {
		if _, err := market.OpenReceipt(b.chainID, s, lease); err != nil {
			return err
		}
	}
	single := float64(len(signed)) / time.Since(begun).Seconds()
	begun = time.Now()
	for at := 0; at < len(signed); at += tx.MaxSettleItems {
		batch := sig.NewBatchVerifier(tx.MaxSettleItems)
		for _, s := range signed[at:min(at+tx.MaxSettleItems, len(signed))] {
			if _, err := market.DecodeReceipt(s.Bytes); err != nil {
				return err
			}
			digest := mman.SignDigest(mman.SignReceipt, b.chainID, s.Bytes)
			batch.AddEd25519(lease, digest[:], s.Signature)
		}
		if ok, _ := batch.Verify(); !ok {
			return fmt.Errorf("%w: a batch of receipts does not verify", mman.ErrInvariant)
		}
	}
	b.report.set("receipts_per_second", "1/s", float64(len(signed))/time.Since(begun).Seconds(), single)
	return nil
}

// signer signs with a key at hand.
type signer struct{ key sig.PrivateKey }

func (s signer) Sign(purpose mman.SignContext, chainID string, payload []byte) []byte {
	digest := mman.SignDigest(purpose, chainID, payload)
	return s.key.Sign(digest[:])
}
