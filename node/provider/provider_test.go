package provider_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/node/worker"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
)

const chainID = p2ptest.NetworkID

func accountKey(tb testing.TB, seed string) sig.PrivateKey {
	tb.Helper()
	sum := sha256.Sum256([]byte(seed))
	key, err := sig.FromSeed(sig.Ed25519, sum[:])
	require.NoError(tb, err)
	return key
}

// signer signs with a lease key.
type signer struct{ key sig.PrivateKey }

func (s signer) Sign(purpose mman.SignContext, chain string, payload []byte) []byte {
	digest := mman.SignDigest(purpose, chain, payload)
	return s.key.Sign(digest[:])
}

// chain is a ledger of a test's own and what was submitted to it.
type chain struct {
	mu     sync.Mutex
	height uint64
	leases map[mman.LeaseID]market.Lease
	offers map[mman.CID]market.Offer
	bound  map[mman.PeerID]mman.Address
	addrs  map[mman.PeerID][]string

	grant *policy.Policy // to everybody, until it is revoked

	rfps     map[mman.RequestID]rfp.RFP
	requests map[mman.RequestID]market.Request

	key    sig.PrivateKey
	sent   []tx.Msg
	tries  int
	fail   error // how Submit and, with broken, every look answers
	broken bool
	looks  atomic.Uint64 // how often it was asked
}

func newChain(tb testing.TB) *chain {
	tb.Helper()
	return &chain{
		height: 100, key: accountKey(tb, "provider"), leases: map[mman.LeaseID]market.Lease{}, offers: map[mman.CID]market.Offer{},
		bound: map[mman.PeerID]mman.Address{}, addrs: map[mman.PeerID][]string{},
		rfps: map[mman.RequestID]rfp.RFP{}, requests: map[mman.RequestID]market.Request{},
	}
}

func (c *chain) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *chain) Height() uint64 {
	c.looks.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.height
}

func (c *chain) Lease(id mman.LeaseID) (market.Lease, error) {
	c.looks.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return market.Lease{}, c.fail
	}
	l, ok := c.leases[id]
	if !ok {
		return l, mman.ErrNotFound
	}
	return l, nil
}

func (c *chain) Offer(id mman.CID) (market.Offer, error) {
	c.looks.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return market.Offer{}, c.fail
	}
	o, ok := c.offers[id]
	if !ok {
		return o, mman.ErrNotFound
	}
	return o, nil
}

func (c *chain) Grant(market.Leg, mman.Address) (policy.Policy, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.grant == nil {
		return policy.Policy{}, mman.ErrNotFound
	}
	return *c.grant, nil
}

func (c *chain) RFP(id mman.RequestID) (rfp.RFP, market.Request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one, ok := c.rfps[id]
	if !ok {
		return rfp.RFP{}, market.Request{}, mman.ErrNotFound
	}
	return one, c.requests[id], nil
}

func (c *chain) SignCommitment(m market.Commitment) (market.SignedCommitment, error) {
	return market.SignCommitment(chainID, m, c.key)
}

func (c *chain) Waiting(mman.Address) ([]mman.LeaseID, error) { return nil, nil }

func (c *chain) Bound(peer mman.PeerID) (mman.Address, []string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.bound[peer]
	if !ok {
		return a, nil, mman.ErrNotFound
	}
	return a, c.addrs[peer], nil
}

func (c *chain) Address() mman.Address { return c.key.Public().Address() }

func (c *chain) SignOffer(o market.Offer) (market.SignedOffer, mman.CID, error) {
	return market.SignOffer(chainID, o, c.key)
}

func (c *chain) Submit(_ context.Context, msgs ...tx.Msg) (mman.Hash, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tries++
	if c.fail != nil {
		return mman.Hash{}, c.fail
	}
	c.sent = append(c.sent, msgs...)
	for _, m := range msgs {
		switch m := m.(type) {
		case tx.MsgBindNode:
			c.bound[m.Peer], c.addrs[m.Peer] = m.Account, m.Addrs
		case tx.MsgOffer:
			o, id, err := market.DecodeOffer(m.Offer)
			if err != nil {
				return mman.Hash{}, err
			}
			c.offers[id] = o
		case tx.MsgWithdrawOffer:
			delete(c.offers, m.Offer)
		case tx.MsgSettle:
			if len(m.Close) > 0 {
				c.height++ // what stands differs only from one block to the next
			}
			for _, id := range m.Close {
				l := c.leases[id]
				l.State = market.LeaseClosed
				c.leases[id] = l
			}
		}
	}
	return mman.Hash{byte(len(c.sent))}, nil
}

// take returns what was submitted since the last call.
func (c *chain) take() []tx.Msg {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.sent
	c.sent = nil
	return out
}

// stores are places in memory.
type stores struct {
	mu      sync.Mutex
	private *content.PrivateStore
	leases  map[mman.LeaseID]*content.PrivateStore
	dropped []mman.LeaseID
}

func newStores() *stores {
	return &stores{private: content.NewPrivateStore(content.Memory()), leases: map[mman.LeaseID]*content.PrivateStore{}}
}

func (s *stores) Private() *content.PrivateStore { return s.private }

func (s *stores) Lease(id mman.LeaseID) *content.PrivateStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[id] == nil {
		s.leases[id] = content.NewPrivateStore(content.Memory())
	}
	return s.leases[id]
}

func (s *stores) DropLease(_ context.Context, id mman.LeaseID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leases, id)
	s.dropped = append(s.dropped, id)
	return nil
}

// lender is a provider with everything below it.
type lender struct {
	*provider.Provider

	chain    *chain
	host     *p2p.Host
	stores   *stores
	disk     bool // leases keep their contents in the database
	executor *resourcestest.Fake
	real     resources.Executor // in its place
	db       *store.Store
	home     string
	public   *content.Service
	disc     *discovery.Discovery
	cfg      provider.Config
	leaseKey sig.PrivateKey
}

func newLender(tb testing.TB, n int) *lender {
	tb.Helper()
	l := &lender{
		chain: newChain(tb), host: p2ptest.Start(tb, n), stores: newStores(), executor: &resourcestest.Fake{},
		home: tb.TempDir(), cfg: provider.Default(), leaseKey: accountKey(tb, "lease"),
	}
	dcfg := discovery.Default()
	dcfg.After = time.After
	var err error
	l.disc, err = discovery.New(l.host, dcfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = l.disc.Close() })
	ccfg := content.Default()
	ccfg.After = time.After
	ccfg.BlockTimeout = 200 * time.Millisecond
	l.public, err = content.New(tb.Context(), l.host, content.NewPublicStore(content.Memory()), nil, ccfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = l.public.Close() })
	l.cfg.ChainID, l.cfg.Addrs = chainID, l.host.Addrs
	l.open(tb)
	tb.Cleanup(func() { _ = l.db.Close() })
	return l
}

func (l *lender) open(tb testing.TB) {
	tb.Helper()
	scfg := store.DefaultConfig(l.home, slog.New(slog.DiscardHandler))
	scfg.MinFree = 0
	var err error
	l.db, err = store.Open(scfg)
	require.NoError(tb, err)
	var places provider.Stores = l.stores
	if l.disk {
		places = diskStores{l.stores, l.db.Data()}
	}
	var executor resources.Executor = l.executor
	if l.real != nil {
		executor = l.real
	}
	l.Provider, err = provider.New(l.cfg, provider.Parts{
		Ledger: l.chain, Submitter: l.chain, Host: l.host, Discovery: l.disc, Public: l.public, Stores: places,
		Records: l.db.Data().Namespace(store.NamespaceProvider),
		Worker:  worker.New(map[resources.Facet]resources.Executor{resources.FacetWasm: executor}),
		Meters:  map[resources.Facet]uint64{resources.FacetWasm: 1},

		Interpreters: interpreter.NewShelf(filepath.Join(tb.TempDir(), interpreter.Folder)),
	})
	require.NoError(tb, err)
}

// useDisk keeps the contents of leases in the database from now on.
func (l *lender) useDisk(tb testing.TB) {
	tb.Helper()
	l.disk = true
	l.restart(tb)
}

// restart closes the records and opens them again, as after a crash.
func (l *lender) restart(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, l.db.Close())
	l.open(tb)
}

var module = []byte("\x00asm the algorithm")

// lease puts an open lease on the chain: the consumer supplies the algorithm,
// this node computes for a uman each ms, 1000 for each call.
func (l *lender) lease(id byte, change ...func(*market.Lease)) market.Lease {
	lease := market.Lease{
		Version: 1, ID: mman.LeaseID{id}, Consumer: mman.Address{1}, LeaseKey: mman.LeaseKey(l.leaseKey.Public().Bytes()),
		Legs: []market.Leg{
			{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: mman.SumCID(mman.CodecRaw, module), Supplied: true},
			{Role: market.RoleCompute, Facet: resources.FacetWasm, Provider: l.chain.Address(), Peer: l.host.ID(), Meter: 1, Price: price.Price{
				Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1, UMan: 1}, {Unit: resources.UnitCalls, Per: 1, UMan: 1000}},
			}},
		},
		Cap: mman.MAN, Limits: resources.DefaultLimits().Tighten(resources.Limits{WallMs: 10_000, MemoryBytes: 1 << 20, InputBytes: 1 << 20, OutputBytes: 1 << 20}),
		Opened: 90, Expires: 1000, CloseAt: 1100, State: market.LeaseOpen,
	}
	for _, f := range change {
		f(&lease)
	}
	l.chain.change(func() { l.chain.leases[lease.ID] = lease })
	return lease
}

func (l *lender) hello(tb testing.TB, lease market.Lease, lane uint64, last *market.Signed) session.Hello {
	tb.Helper()
	h := session.Hello{Lease: lease.ID, Consumer: mman.PeerID{9}, Provider: l.host.ID(), Nonce: mman.Hash{3}, Lane: lane, Last: last}
	b, err := dagcbor.Marshal(h)
	require.NoError(tb, err)
	h.Signature = signer{l.leaseKey}.Sign(mman.SignHandshake, chainID, b)
	return h
}

// consumer is one session on a lane as its consumer sees it.
type consumer struct {
	tb    testing.TB
	l     *lender
	lease market.Lease
	lane  uint64
	work  session.Work
	run   uint64
	last  *market.Signed
}

func (l *lender) consumer(tb testing.TB, lease market.Lease, lane uint64) *consumer {
	tb.Helper()
	return &consumer{tb: tb, l: l, lease: lease, lane: lane}
}

func (c *consumer) open() error {
	c.tb.Helper()
	work, accept, err := c.l.Open(c.tb.Context(), c.l.hello(c.tb, c.lease, c.lane, c.last))
	if err != nil {
		return err
	}
	require.NoError(c.tb, accept.Verify(chainID, c.l.host.ID()))
	c.work = work
	return nil
}

// out takes what a run writes.
type out struct {
	bytes.Buffer

	statements chan market.Signed
}

func (o *out) Stdout(p []byte) error { _, err := o.Write(p); return err }
func (*out) Stderr([]byte) error     { return nil }
func (*out) Aside([]byte) error      { return nil }
func (o *out) Statement(s market.Signed) error {
	if o.statements != nil {
		o.statements <- s
	}
	return nil
}

func (c *consumer) request(change ...func(*session.Run)) (market.Signed, error) {
	c.tb.Helper()
	return c.requestTo(&out{}, change...)
}

func (c *consumer) requestTo(o *out, change ...func(*session.Run)) (market.Signed, error) {
	c.tb.Helper()
	c.run++
	run := session.Run{Number: c.run, Limits: c.lease.Limits}
	for _, f := range change {
		f(&run)
	}
	missing, err := c.work.Missing(c.tb.Context(), run)
	if err != nil {
		return market.Signed{}, err
	}
	for _, id := range missing {
		require.Equal(c.tb, mman.SumCID(mman.CodecRaw, module), id)
		if err := c.work.Supply(c.tb.Context(), id, uint64(len(module)), bytes.NewReader(module)); err != nil {
			return market.Signed{}, err
		}
	}
	return c.work.Run(c.tb.Context(), run, nil, o)
}

func (c *consumer) statement(s market.Signed) (market.Statement, mman.CID) {
	c.tb.Helper()
	st, id, err := market.OpenStatement(chainID, s, c.l.host.ID())
	require.NoError(c.tb, err)
	return st, id
}

// sign returns the receipt for a statement.
func (c *consumer) sign(s market.Signed, change ...func(*market.Receipt)) market.Signed {
	c.tb.Helper()
	st, id := c.statement(s)
	r := market.Receipt{Version: 1, Statement: id, Lease: st.Lease, Lane: st.Lane, Seq: st.Seq, Paid: st.Gross, Final: st.Result != nil}
	for _, f := range change {
		f(&r)
	}
	signed, err := market.SignReceipt(chainID, r, signer{c.l.leaseKey})
	require.NoError(c.tb, err)
	c.last = &signed
	return signed
}

// pay runs once and pays.
func (c *consumer) pay() market.Statement {
	c.tb.Helper()
	s, err := c.request()
	require.NoError(c.tb, err)
	require.NoError(c.tb, c.work.Receipt(c.tb.Context(), c.sign(s)))
	st, _ := c.statement(s)
	return st
}

// settled adds up the receipts that were submitted, by lease and lane.
func settled(tb testing.TB, msgs []tx.Msg) map[string]mman.Amount {
	tb.Helper()
	got := map[string]mman.Amount{}
	for _, m := range msgs {
		s, ok := m.(tx.MsgSettle)
		if !ok {
			continue
		}
		for _, item := range s.Items {
			r, err := market.DecodeReceipt(item.Receipt)
			require.NoError(tb, err)
			got[fmt.Sprintf("%d/%d", r.Lease[0], r.Lane)] = r.Paid
		}
	}
	return got
}

// live runs the provider until the test ends and returns what tells it of a
// height and waits until it has seen to it.
func (l *lender) live(tb testing.TB) (at func(height uint64), stop func() error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	at = func(height uint64) {
		l.chain.change(func() { l.chain.height = height })
		l.AtHeight(height)
	}
	stop = func() error {
		cancel()
		return <-done
	}
	return at, stop
}

func (l *lender) eventually(tb testing.TB, msg string, cond func() bool) {
	tb.Helper()
	require.Eventually(tb, cond, 10*time.Second, 5*time.Millisecond, msg)
}

// listing writes a file and returns a listing of it.
func listing(tb testing.TB, kind resources.Kind, name string, private bool, data []byte) provider.Listing {
	tb.Helper()
	facet, path := resources.FacetWasm, ""
	if kind == resources.KindDataset {
		facet = resources.FacetFile
	}
	p := price.Price{PerLease: 5}
	if kind == resources.KindCompute {
		p = price.Price{Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1, UMan: 1}}}
	} else {
		path = filepath.Join(tb.TempDir(), "content")
		require.NoError(tb, os.WriteFile(path, data, 0o600))
	}
	return provider.Listing{
		Manifest: resources.Manifest{Version: 1, Kind: kind, Facet: facet, Name: name, Licence: "CC0-1.0"},
		Content:  path, Private: private, AnyAlgorithm: private && kind == resources.KindDataset,
		Policy: policy.Policy{Default: policy.Allow}, Price: p, Capacity: 4,
	}
}

func kinds(msgs []tx.Msg) (out []string) {
	for _, m := range msgs {
		out = append(out, m.TypeURL())
	}
	return out
}

func readAll(tb testing.TB, b resources.Blob) []byte {
	tb.Helper()
	got, err := io.ReadAll(b)
	require.NoError(tb, err)
	require.NoError(tb, b.Close())
	return slices.Clip(got)
}
