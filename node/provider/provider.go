package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/node/worker"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/endpoint"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
)

// Config sets how a provider behaves.
type Config struct {
	ChainID string
	// Addrs returns the addresses at which this node can be reached, to be
	// bound to the account.
	Addrs func() []string
	// OfferBlocks is how long an offer stands before it must be renewed; it is
	// renewed at half of that.
	OfferBlocks uint64
	// SettleBlocks is how many blocks receipts wait for company before they are
	// settled. At least 1.
	SettleBlocks uint64
	// RetainBlocks is how long the contents of a closed lease are kept.
	RetainBlocks uint64
	// LeaseBytes is the most that one lease may have stored here, of what its
	// consumer brings and of what its runs write. Default 8 GiB, at least 1.
	LeaseBytes uint64
	// Blocks sets how private content is fetched from other providers. Default
	// blocks.Default().
	Blocks blocks.Config
	Logger *slog.Logger
	// Now is the clock that policies read while work runs. Without one, a rule
	// that asks for the time sees 1970.
	Now func() time.Time
	// Door is the address of this machine, without a port, at which hosted containers
	// are reached from its network where their policy says so; "" for none.
	Door string
}

// Default returns the settings of a local network; ChainID and Addrs are left
// to the caller.
func Default() Config {
	return Config{OfferBlocks: 20_000, SettleBlocks: 20, RetainBlocks: 86_400, LeaseBytes: 8 << 30, Blocks: blocks.Default(), Logger: slog.New(slog.DiscardHandler)}
}

// Validate reports the first setting out of its range.
func (c Config) Validate() error {
	if c.ChainID == "" || c.Addrs == nil || c.Logger == nil {
		return fmt.Errorf("%w: provider: chain id, addresses and logger are needed", mman.ErrInvalid)
	}
	if c.LeaseBytes == 0 {
		return fmt.Errorf("%w: provider: a lease that may store 0 bytes can run nothing", mman.ErrInvalid)
	}
	if c.OfferBlocks < 4 || c.SettleBlocks == 0 {
		return fmt.Errorf("%w: provider: offers of %d blocks, settlement every %d: at least 4 and 1", mman.ErrInvalid, c.OfferBlocks, c.SettleBlocks)
	}
	return c.Blocks.Validate()
}

// Stores are the places of content that is not public.
type Stores interface {
	// Private holds this provider's own private content.
	Private() *content.PrivateStore
	// Lease holds what one lease brought and made.
	Lease(id mman.LeaseID) *content.PrivateStore
	// DropLease empties the latter.
	DropLease(ctx context.Context, id mman.LeaseID) error
}

// Parts are what a provider stands on.
type Parts struct {
	Ledger    Ledger
	Submitter Submitter
	Host      *p2p.Host
	Discovery *discovery.Discovery
	Public    *content.Service
	Stores    Stores
	Records   *store.KV
	Worker    *worker.Worker
	// Meters are the facets that Worker can run, with the versions of their
	// meters.
	Meters map[resources.Facet]uint64
	// Sandbox is what containers run in, as an offer's attribute "sandbox" says it;
	// "" where none run.
	Sandbox string
	// Interpreters holds what runs scripts.
	Interpreters *interpreter.Shelf
	// Warm makes containers stand ready for REPLs; nil does not.
	Warm Warmer
	// Endpoints carries calls, as Worker's executor of facet http; nil lends none.
	Endpoints *endpoint.Executor
}

// Provider lends resources. Its methods are safe for concurrent use.
type Provider struct {
	cfg       Config
	log       *slog.Logger
	ledger    Ledger
	submitter Submitter
	host      *p2p.Host
	peer      mman.PeerID
	discovery *discovery.Discovery
	public    *content.Service
	stores    Stores
	worker    *worker.Worker
	meters    map[resources.Facet]uint64
	sandbox   string
	shelf     *interpreter.Shelf
	endpoints *endpoint.Executor
	warm      Warmer
	stands    string // what stands ready, as it was said last; Run's own
	rates     rates
	runs      runs
	shared    map[resources.Facet]bool // interpreters that others can have; Run's own

	records  *store.KV
	book     *ledgerBook
	holdings *holdings
	accesses *accesses
	fetched  fetched
	bidding  sync.Mutex  // one bid is made or acknowledged at a time
	offering sync.Mutex  // one offer is signed at a time: by Publish, Withdraw or renew
	heights  chan uint64 // the newest height, for Run
	settleAt uint64      // the height at which all receipts are settled next; Run's own
	acceptAt uint64      // the height at which leases are accepted next; Run's own
	blocks   ticker      // ticks at every block
	off      undefended
}

// undefended switches defences off, one by one: tests show with it that each
// attack works without its defence. It is all false.
type undefended struct {
	credit  bool // an interactive run need not be paid ahead
	stored  bool // a lease may fill the disk
	floor   bool // a receipt may pay less than its statement asks for
	forgive bool // results may go unpaid without end
	replay  bool // a run may be asked for again under its number

	accepted bool // contents are lent to a lease that nobody accepted
}

// ticker lets any number wait for the next of something.
type ticker struct {
	mu sync.Mutex
	ch chan struct{}
}

// next returns a channel that is closed at the next tick.
func (t *ticker) next() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ch == nil {
		t.ch = make(chan struct{})
	}
	return t.ch
}

func (t *ticker) tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ch != nil {
		close(t.ch)
		t.ch = nil
	}
}

// New opens the provider's records. It starts nothing.
func New(cfg Config, parts Parts) (*Provider, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	book, err := newBook(parts.Records)
	if err != nil {
		return nil, fmt.Errorf("open the provider's accounts: %w", err)
	}
	held, err := openHoldings(parts.Records)
	if err != nil {
		return nil, fmt.Errorf("open the provider's resources: %w", err)
	}
	log, err := openAccesses(parts.Records)
	if err != nil {
		return nil, fmt.Errorf("open the provider's log of accesses: %w", err)
	}
	p := &Provider{
		accesses: log, cfg: cfg, log: cfg.Logger, ledger: parts.Ledger, submitter: parts.Submitter, host: parts.Host,
		peer: parts.Host.ID(), discovery: parts.Discovery, public: parts.Public,
		stores: parts.Stores, worker: parts.Worker, meters: parts.Meters, sandbox: parts.Sandbox, shelf: parts.Interpreters, endpoints: parts.Endpoints, warm: parts.Warm, shared: map[resources.Facet]bool{},
		records: parts.Records, book: book, holdings: held, heights: make(chan uint64, 1),
	}
	book.off = &p.off
	if err := p.mourn(parts.Records); err != nil {
		return nil, fmt.Errorf("open the provider's runs: %w", err)
	}
	return p, nil
}

// AtHeight tells the provider of a new block. It never blocks.
func (p *Provider) AtHeight(height uint64) {
	p.blocks.tick()
	select {
	case <-p.heights:
	default:
	}
	select {
	case p.heights <- height:
	default:
	}
}

// finalSettle bounds the settlement at the end of Run.
const finalSettle = 10 * time.Second

// Run keeps the node bound, its offers standing and its receipts settled until
// ctx ends; then it settles once more.
func (p *Provider) Run(ctx context.Context) error {
	p.serveEndpoints(ctx)
	// Telling the DHT may take long, and money must not wait for it.
	var sharing sync.WaitGroup
	defer sharing.Wait()
	place := make(chan struct{}, 1)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalSettle)
			defer cancel()
			return p.settle(last, p.ledger.Height(), true)
		case height := <-p.heights:
			for _, step := range []struct {
				name string
				do   func(context.Context, uint64) error
			}{
				// What is owed comes first: the others may wait for the network.
				{"settle", func(ctx context.Context, h uint64) error { return p.settle(ctx, h, false) }},
				{"keep the node bound", p.bind},
				{"keep the offers standing", p.renew},
				{"move bids on", p.attend},
				{"accept leases", p.accept},
				{"drop what closed leases left", p.retire},
				{"let containers stand ready", p.standReady},
			} {
				if err := step.do(ctx, height); err != nil && ctx.Err() == nil {
					p.log.LogAttrs(ctx, slog.LevelWarn, "provider step failed, it is tried again at the next block", slog.String("step", step.name), slog.Any("error", err))
				}
			}
			select {
			case place <- struct{}{}:
				sharing.Go(func() {
					defer func() { <-place }()
					if err := p.shareInterpreters(ctx); err != nil && ctx.Err() == nil {
						p.log.LogAttrs(ctx, slog.LevelWarn, "interpreters not shared, it is tried again after the next block", slog.Any("error", err))
					}
				})
			default: // it still goes on
			}
		}
	}
}

// fetchKey names a private content that was fetched within a lease.
type fetchKey struct {
	lease    mman.LeaseID
	resource mman.CID
}

// fetched remembers the CIDs behind salted names within their leases.
type fetched struct {
	mu sync.Mutex
	m  map[fetchKey]mman.CID
}

func (f *fetched) get(k fetchKey) (mman.CID, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, ok := f.m[k]
	return id, ok
}

func (f *fetched) set(k fetchKey, id mman.CID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = make(map[fetchKey]mman.CID)
	}
	f.m[k] = id
}

func (f *fetched) drop(lease mman.LeaseID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range f.m {
		if k.lease == lease {
			delete(f.m, k)
		}
	}
}

// Manifest returns the manifest of a resource, from here or from a peer.
func (p *Provider) Manifest(ctx context.Context, id mman.CID) (resources.Manifest, error) {
	b, err := p.public.GetBlock(ctx, id)
	if err != nil {
		return resources.Manifest{}, fmt.Errorf("manifest %s: %w", id, err)
	}
	return resources.DecodeManifest(id, b)
}

func notFound(err error) bool { return errors.Is(err, mman.ErrNotFound) }

// AttributeSandbox is the key of the attribute of a container offer that says what
// its runs are held in.
const AttributeSandbox = "sandbox"

// AttributeGPU is the key of the attribute of a compute offer that says which graphics
// processor programs are given, and gpuNone its only value: no sandbox of this node has
// one.
const (
	AttributeGPU = "gpu"
	gpuNone      = "none"
)

// capable refuses to lend what this node cannot do, or not as it says. What an
// engine can do may change between two starts.
func (p *Provider) capable(kind resources.Kind, facet resources.Facet, attributes []resources.Attribute) error {
	if kind != resources.KindCompute {
		return nil
	}
	if _, ok := p.meters[facet]; !ok {
		way := ""
		if facet == resources.FacetContainer {
			way = ": it found no container engine, name one with --engine"
		}
		return fmt.Errorf("%w: this node cannot run %s%s", mman.ErrUnsupported, facet, way)
	}
	for _, a := range attributes {
		if facet == resources.FacetContainer && a.Key == AttributeSandbox && a.Value != p.sandbox {
			return fmt.Errorf("%w: %s=%s is offered, and this node's containers run in %s", mman.ErrUnsupported, a.Key, a.Value, p.sandbox)
		}
		if a.Key == AttributeGPU && a.Value != gpuNone {
			return fmt.Errorf("%w: %s=%s is offered, and no sandbox of this node gives programs a graphics processor: leave it out or say %s", mman.ErrUnsupported, a.Key, a.Value, gpuNone)
		}
	}
	return nil
}
