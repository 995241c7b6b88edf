package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/node/api"
	"github.com/limboid/massive-man/node/consensus"
	"github.com/limboid/massive-man/node/gateway"
	"github.com/limboid/massive-man/node/keeper"
	"github.com/limboid/massive-man/node/library"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/node/worker"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/p2p/protocol/bids"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/p2p/protocol/decisions"
	"github.com/limboid/massive-man/p2p/protocol/offers"
	"github.com/limboid/massive-man/p2p/protocol/replicas"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/p2p/protocol/wire"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container"
	"github.com/limboid/massive-man/resources/endpoint"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
	"github.com/limboid/massive-man/sdk/chain"
	"github.com/limboid/massive-man/sdk/submit"
)

const (
	// sessionIdle is how long a session may rest between two runs.
	sessionIdle = 10 * time.Minute
	// sessionLinger is how long an interactive run waits for a consumer whose
	// connection broke.
	sessionLinger = 2 * time.Minute
	// chainLook is the pause between two looks at a chain that is not ready.
	chainLook = 20 * time.Millisecond
	// mingleEvery is how often a node that knows no peer looks for one.
	mingleEvery = 500 * time.Millisecond
	// postponeWithin bounds an answer before the node can serve.
	postponeWithin = 10 * time.Second
	// closeWithin bounds the end of a node.
	closeWithin = 30 * time.Second
	// collectEvery is how often the databases give disk and memory back.
	collectEvery = 10 * time.Minute
)

// Node is one running node.
type Node struct {
	cfg     Config
	log     *slog.Logger
	doc     genesis.Document
	key     sig.PrivateKey
	closers []func() error

	store     *store.Store
	app       *abci.Application
	consensus *consensus.Node
	host      *p2p.Host
	discovery *discovery.Discovery
	content   *content.Service
	executor  *wasm.Executor
	endpoints *endpoint.Executor
	engine    *container.Executor // nil where no containers run

	running chan Running // one value, when the node is ready
	lender  chan *provider.Provider
	drain   chan time.Duration // the notice with which to go out of service
	liars   *blocks.Liars
}

// New opens the home and builds every part, in the order in which they stand on
// each other. It starts nothing but what listens: Run does. On an error
// everything that was opened is closed.
func New(ctx context.Context, cfg Config) (_ *Node, err error) {
	cfg = cfg.withDefaults()
	if cfg.Logger == nil || cfg.Clock.Now == nil || cfg.Clock.After == nil || cfg.Clock.Tick == nil {
		return nil, fmt.Errorf("%w: node: logger and clock are needed", mman.ErrInvalid)
	}
	n := &Node{cfg: cfg, log: cfg.Logger, running: make(chan Running, 1), lender: make(chan *provider.Provider, 1), drain: make(chan time.Duration, 1), liars: blocks.NewLiars(cfg.Clock.Now)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.doc, err = ReadGenesis(cfg.Home); err != nil {
		return nil, err
	}
	if err := n.openKey(); err != nil {
		return nil, err
	}

	// Storage, then the ledger on it.
	scfg := store.DefaultConfig(filepath.Join(cfg.Home, folderStore), cfg.Logger)
	scfg.After = cfg.Clock.After
	if n.store, err = store.Open(scfg); err != nil {
		return nil, err
	}
	n.closers = append(n.closers, n.store.Close)
	if _, err := consensus.Init(cfg.Home); err != nil {
		return nil, err
	}
	beacon, err := consensus.BeaconKey(cfg.Home)
	if err != nil {
		return nil, err
	}
	if n.app, err = abci.New(abci.Config{
		DB: n.store.State(), Log: cfg.Logger, Beacon: beacon, KeepBlocks: cfg.KeepBlocks, Flushed: n.store.State().Flushed,
		Plan: cfg.Upgrades,
	}); err != nil {
		return nil, err
	}

	// The peer-to-peer host, what it finds and what it serves.
	if err := n.buildNetwork(ctx); err != nil {
		return nil, err
	}

	// Where work runs.
	if err := n.buildExecutor(); err != nil {
		return nil, err
	}
	if err := n.buildEngine(ctx); err != nil {
		return nil, err
	}

	// Consensus last: it starts to change the state as soon as it runs.
	ccfg := consensus.DefaultConfig(cfg.Home, n.doc, cfg.Logger)
	ccfg.RPCListen, ccfg.P2PListen, ccfg.Peers, ccfg.Moniker, ccfg.Index = cfg.RPC, cfg.P2P, cfg.Peers, cfg.Moniker, !cfg.NoIndex
	ccfg.Sync, ccfg.Metrics = cfg.Sync, cfg.Metrics
	n.consensus, err = consensus.New(ccfg, n.app, n.store.Data())
	return n, err
}

func (n *Node) openKey() error {
	ring, err := OpenKeyring(n.cfg.Home, true)
	if err != nil {
		return err
	}
	n.key, err = ring.Get(n.cfg.Account, n.cfg.Passphrase)
	return err
}

func (n *Node) buildNetwork(ctx context.Context) (err error) {
	pcfg := p2p.Default()
	pcfg.Listen, pcfg.Bootstrap, pcfg.NetworkID = n.cfg.Listen, n.cfg.Bootstrap, n.doc.ChainID
	pcfg.IdentityFile, pcfg.Now, pcfg.Logger = filepath.Join(n.cfg.Home, fileIdentity), n.cfg.Clock.Now, n.log
	if n.host, err = p2p.New(pcfg); err != nil {
		return err
	}
	n.closers = append(n.closers, n.host.Close)
	if err := n.host.Start(ctx); err != nil {
		return err
	}
	dcfg := discovery.Default()
	dcfg.After, dcfg.Now, dcfg.Logger = n.cfg.Clock.After, n.cfg.Clock.Now, n.log
	if n.discovery, err = discovery.New(n.host, dcfg); err != nil {
		return err
	}
	n.closers = append(n.closers, n.discovery.Close)
	ccfg := content.Default()
	ccfg.After, ccfg.Bulk = n.cfg.Clock.After, blocks.Bulk(n.host, n.discovery, n.transfers())
	public := content.NewPublicStore(n.store.Data().PublicBlocks())
	if n.content, err = content.New(context.WithoutCancel(ctx), n.host, public, n.discovery, ccfg); err != nil {
		return err
	}
	n.closers = append(n.closers, n.content.Close)
	return nil
}

func (n *Node) buildExecutor() (err error) {
	cache := filepath.Join(n.cfg.Home, folderCache)
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	n.executor, err = wasm.New(wasm.Config{Clock: n.cfg.Clock.Now, Ticker: n.cfg.Clock.Tick, CacheDir: cache, Compile: n.cfg.Compile, PrepareTimeout: n.cfg.Prepare})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, n.executor.Close)
	if n.endpoints, err = endpoint.New(endpoint.Config{Clock: n.cfg.Clock.Now}); err != nil {
		return err
	}
	n.closers = append(n.closers, n.endpoints.Close)
	return nil
}

// EngineNone is the engine's address that stands for no engine.
const EngineNone = "none"

// engines are where container engines usually listen.
func engines() []string {
	return []string{"unix:///var/run/docker.sock", "unix:///run/podman/podman.sock"}
}

// buildEngine uses the container engine that is named; one that is only found must
// have gVisor.
func (n *Node) buildEngine(ctx context.Context) error {
	switch n.cfg.Engine {
	case EngineNone:
		return nil
	case "":
	default:
		return n.useEngine(ctx, n.cfg.Engine)
	}
	for _, host := range engines() {
		path := strings.TrimPrefix(host, "unix://")
		if _, err := os.Stat(path); err != nil {
			continue
		}
		facts, err := container.Detect(ctx, host)
		switch {
		case err != nil:
			n.log.LogAttrs(ctx, slog.LevelDebug, "container engine not used", slog.String("engine", host), slog.Any("error", err))
		case !facts.GVisor:
			n.log.LogAttrs(ctx, slog.LevelInfo, "container engine without gVisor not used: name it with --engine to lend containers", slog.String("engine", host))
		default:
			return n.useEngine(ctx, host)
		}
	}
	return nil
}

// ContainerOwner returns the label of what the node of a home makes in an engine:
// what it left behind is told from others' by the home's place.
func ContainerOwner(chainID, home string) (string, error) {
	home, err := filepath.Abs(home)
	if err != nil {
		return "", fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return mman.Sum256([]byte(chainID), []byte{0}, []byte(home)).String()[:32], nil
}

func (n *Node) useEngine(ctx context.Context, host string) (err error) {
	home, err := filepath.Abs(n.cfg.Home)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	owner, err := ContainerOwner(n.doc.ChainID, home)
	if err != nil {
		return err
	}
	n.engine, err = container.New(ctx, container.Config{
		Host: host, Dir: filepath.Join(home, folderContainers), Owner: owner,
		Clock: n.cfg.Clock.Now, After: n.cfg.Clock.After, Ticker: n.cfg.Clock.Tick, MaxRuns: max(1, runtime.NumCPU()/2),
	})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, n.engine.Close)
	if swept := n.engine.Swept(); swept > 0 {
		n.log.LogAttrs(ctx, slog.LevelWarn, "containers of an earlier run were removed", slog.Int("containers", swept))
	}
	return nil
}

// Sandbox returns what containers run in here, "" when none do.
func (n *Node) Sandbox() string {
	if n.engine == nil {
		return ""
	}
	return n.engine.Sandbox()
}

// buildProvider needs the RPC, so it runs after consensus is up.
func (n *Node) buildProvider(rpc *chain.Client) (*provider.Provider, error) {
	ring, err := OpenKeyring(n.cfg.Home, true)
	if err != nil {
		return nil, err
	}
	executors := map[resources.Facet]resources.Executor{resources.FacetWasm: n.executor, resources.FacetHTTP: n.endpoints}
	meters := map[resources.Facet]uint64{resources.FacetWasm: wasm.MeterVersion}
	var warm provider.Warmer
	if n.engine != nil {
		executors[resources.FacetContainer], meters[resources.FacetContainer] = n.engine, 0
		warm = n.engine
	}
	pcfg := provider.Default()
	pcfg.ChainID, pcfg.Addrs, pcfg.SettleBlocks, pcfg.Logger = n.doc.ChainID, n.host.Addrs, n.cfg.SettleBlocks, n.log
	pcfg.Now, pcfg.Blocks, pcfg.Door = n.cfg.Clock.Now, n.transfers(), n.cfg.HostListen
	pcfg.OfferBlocks = min(pcfg.OfferBlocks, n.doc.Params.MaxOfferBlocks)
	return provider.New(pcfg, provider.Parts{
		Ledger:    ledger{n.app},
		Submitter: submitter{n.doc.ChainID, n.key, submit.New(rpc, n.doc.ChainID, n.key, ring.Lock, n.cfg.Clock.After)},
		Host:      n.host,
		Discovery: n.discovery,
		Public:    n.content,
		Stores:    stores{n.store.Data(), content.NewPrivateStore(n.store.Data().PrivateBlocks())},
		Records:   n.store.Data().Namespace(store.NamespaceProvider),
		Worker:    worker.New(executors),
		Meters:    meters,
		Sandbox:   n.Sandbox(),
		Warm:      warm,

		Endpoints:    n.endpoints,
		Interpreters: interpreter.NewShelf(filepath.Join(n.cfg.Home, interpreter.Folder)),
	})
}

// buildKeeper makes what keeps replicas of storage leases for the provider's account.
func (n *Node) buildKeeper(rpc *chain.Client, lender *provider.Provider, transfers replicas.Config) (*keeper.Keeper, error) {
	ring, err := OpenKeyring(n.cfg.Home, true)
	if err != nil {
		return nil, err
	}
	return keeper.New(keeper.Config{
		Dir: filepath.Join(n.cfg.Home, folderReplicas), ChainID: n.doc.ChainID, Bind: lender.Bind, Transfers: transfers, Logger: n.log,
		Room: store.Room(n.cfg.Home, store.DefaultConfig(n.cfg.Home, n.log).MinFree),
	}, ledger{n.app}, submitter{n.doc.ChainID, n.key, submit.New(rpc, n.doc.ChainID, n.key, ring.Lock, n.cfg.Clock.After)}, n.host, n.discovery)
}

// Run lives the node's life until ctx ends or a part of it fails.
func (n *Node) Run(ctx context.Context) error {
	// Consensus outlives the rest: what ends may still submit.
	outer, stopConsensus := context.WithCancel(context.WithoutCancel(ctx))
	defer stopConsensus()
	consensusDone := make(chan error, 1)
	go func() { consensusDone <- n.consensus.Run(outer) }()

	life, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	failed := make(chan error, 1)
	go func() {
		err := <-consensusDone
		stop(err)
		failed <- err
	}()
	err := n.live(life)
	if errors.Is(err, errDrained) {
		err = nil
	}
	stopConsensus()
	cerr := <-failed
	if errors.Is(err, context.Canceled) {
		err = nil // asked to end, or consensus did, which says why
	}
	return errors.Join(cerr, err)
}

// live runs everything above consensus.
func (n *Node) live(ctx context.Context) error {
	n.postpone(ctx)
	select {
	case <-n.consensus.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := n.awaitChain(ctx); err != nil {
		return err
	}
	rpc, err := chain.New(n.consensus.RPCAddr())
	if err != nil {
		return err
	}
	defer rpc.Close()
	lender, err := n.buildProvider(rpc)
	if err != nil {
		return err
	}
	rcfg := replicas.Default()
	rcfg.Logger = n.log
	warden, err := n.buildKeeper(rpc, lender, rcfg)
	if err != nil {
		return err
	}
	n.app.OnCommit(func(height uint64) {
		lender.AtHeight(height)
		warden.AtHeight(height)
	})
	if err := replicas.Serve(ctx, n.host, warden, rcfg); err != nil {
		return err
	}
	if err := n.serve(ctx, lender); err != nil {
		return err
	}

	shelf := library.New(n.content, n.discovery, n.store.Data().Namespace(store.NamespacePins), n.cfg.Clock.Now)
	token, err := newToken()
	if err != nil {
		return err
	}
	metrics, err := n.metrics(lender)
	if err != nil {
		return err
	}
	server, err := api.New(ctx, api.Config{Listen: n.cfg.API, Token: token, Chain: rpc, Provider: lender, Keeper: warden, Drain: n.Leave, Metrics: metrics, Gateway: gateway.New(n.content, n.log), Library: shelf, Logger: n.log})
	if err != nil {
		return err
	}
	run := Running{RPC: "http://" + n.consensus.RPCAddr(), API: "http://" + server.Addr(), Peers: n.host.Addrs(), P2P: n.consensus.P2PAddr(), ChainID: n.doc.ChainID, Token: token, PIDs: []int{os.Getpid()}}
	if err := run.Write(n.cfg.Home); err != nil {
		return errors.Join(err, server.Close())
	}
	n.running <- run
	n.lender <- lender
	n.log.LogAttrs(ctx, slog.LevelInfo, "node is ready", slog.String("chain", n.doc.ChainID), slog.String("rpc", run.RPC), slog.String("api", run.API), slog.String("peer", n.host.ID().String()))

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.discovery.Run(ctx) })
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { return lender.Run(ctx) })
	g.Go(func() error { return warden.Run(ctx) })
	g.Go(func() error { return n.collect(ctx) })
	g.Go(func() error { return n.sweep(ctx) })
	g.Go(func() error { return n.drained(ctx, lender) })
	g.Go(func() error { return n.mingle(ctx) })
	g.Go(func() error {
		// A lone node has nobody to announce to; the reprovider tells the first
		// peer who comes.
		if err := errors.Join(lender.Announce(ctx), shelf.Announce(ctx)); err != nil && ctx.Err() == nil {
			n.log.LogAttrs(ctx, slog.LevelWarn, "not everything could be announced", slog.Any("error", err))
		}
		return nil
	})
	return errors.Join(g.Wait(), forgetRunning(n.cfg.Home))
}

// awaitChain waits until there is a state to read and transactions are taken.
func (n *Node) awaitChain(ctx context.Context) error {
	for {
		st, err := n.consensus.Status()
		if err == nil && !st.CatchingUp && n.app.View().Height() > 0 {
			return nil
		}
		select {
		case <-n.cfg.Clock.After(chainLook):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// postpone asks those who come before the provider is there to come again: the
// host listens from the beginning, and without an answer they would take the node
// for one that lends nothing.
func (n *Node) postpone(ctx context.Context) {
	for _, name := range []string{session.Protocol, blocks.Protocol, replicas.Protocol, offers.Protocol, decisions.Protocol, bids.Protocol} {
		n.host.Handle(ctx, name, func(ctx context.Context, s p2p.Stream) {
			conn := wire.New(s, wire.Config{MaxRead: wire.MaxFrame, IdleTimeout: postponeWithin, FrameTimeout: postponeWithin})
			_, err := conn.Read() // the answer to a question that is still being written may not arrive
			if err == nil {
				err = conn.Fail(fmt.Errorf("%w: the node starts and reads its ledger first: try again in a few seconds", mman.ErrBusy))
			}
			if err != nil {
				n.log.LogAttrs(ctx, slog.LevelDebug, "stream refused", slog.String("peer", s.RemotePeer().String()), slog.String("protocol", name), slog.Any("error", err))
			}
		})
	}
}

// transfers returns how content moves in bulk.
func (n *Node) transfers() blocks.Config {
	cfg := blocks.Default()
	cfg.Now, cfg.After, cfg.Logger, cfg.Liars = n.cfg.Clock.Now, n.cfg.Clock.After, n.log, n.liars
	return cfg
}

// serve answers the protocols of a provider.
func (n *Node) serve(ctx context.Context, lender *provider.Provider) error {
	sessions := &session.Server{Provider: lender, Idle: sessionIdle, Linger: sessionLinger}
	n.host.Handle(ctx, session.Protocol, func(ctx context.Context, s p2p.Stream) {
		if err := sessions.Serve(ctx, s); err != nil {
			n.log.LogAttrs(ctx, slog.LevelDebug, "session ended", slog.String("peer", s.RemotePeer().String()), slog.Any("error", err))
		}
	})
	if err := blocks.Serve(ctx, n.host, lender, n.transfers()); err != nil {
		return err
	}
	dcfg := decisions.Default()
	dcfg.Logger = n.log
	if err := decisions.Serve(ctx, n.host, lender, dcfg); err != nil {
		return err
	}
	ocfg := offers.Default()
	ocfg.Logger = n.log
	if err := offers.Serve(ctx, n.host, lender, ocfg); err != nil {
		return err
	}
	icfg := bids.Default()
	icfg.Logger = n.log
	return bids.Serve(ctx, n.host, lender, icfg)
}

// mingle enters the peer-to-peer network through the validators that the ledger
// knows, whenever this node knows nobody there.
func (n *Node) mingle(ctx context.Context) error {
	return n.every(ctx, mingleEvery, func() {
		if n.discovery.Peers() > 0 {
			return
		}
		known, err := n.app.View().Bootstrap()
		if err != nil {
			return // before the first block
		}
		for _, b := range known {
			if b.Peer == n.host.ID() {
				continue
			}
			if _, err := n.host.Connect(ctx, b.Addrs); err != nil && ctx.Err() == nil {
				n.log.LogAttrs(ctx, slog.LevelDebug, "validator's peer not reached", slog.String("peer", b.Peer.String()), slog.Any("error", err))
			}
		}
	})
}

// every does something at each tick until ctx ends, and returns nil then.
func (n *Node) every(ctx context.Context, pause time.Duration, do func()) error {
	ticks, stop := n.cfg.Clock.Tick(pause)
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			do()
		}
	}
}

// errDrained ends a node that was drained.
var errDrained = errors.New("the node was drained")

// Leave takes the node out of service with a notice, unless that goes on: Run returns
// when it is done; see provider.Provider.Drain.
func (n *Node) Leave(notice time.Duration) {
	select {
	case n.drain <- notice:
	default:
	}
}

// drained ends the node when it was taken out of service.
func (n *Node) drained(ctx context.Context, lender *provider.Provider) error {
	select {
	case <-ctx.Done():
		return nil
	case notice := <-n.drain:
		if err := lender.Drain(ctx, notice); err != nil && ctx.Err() == nil {
			n.log.LogAttrs(ctx, slog.LevelWarn, "not drained in order", slog.Any("error", err))
		}
		return errDrained
	}
}

// sweepEvery is how often containers are looked for that belong to nothing any more.
const sweepEvery = 30 * time.Second

// sweep removes what an engine left behind that was gone for a while.
func (n *Node) sweep(ctx context.Context) error {
	if n.engine == nil {
		return nil
	}
	return n.every(ctx, sweepEvery, func() {
		swept, err := n.engine.Sweep(ctx)
		if swept > 0 {
			n.log.LogAttrs(ctx, slog.LevelWarn, "containers that belonged to nothing were removed", slog.Int("containers", swept))
		}
		if err != nil && ctx.Err() == nil {
			n.log.LogAttrs(ctx, slog.LevelWarn, "the container engine does not answer", slog.Any("error", err))
		}
	})
}

func (n *Node) collect(ctx context.Context) error {
	ticks, stop := n.cfg.Clock.Tick(collectEvery)
	defer stop()
	return n.store.RunGC(ctx, ticks)
}

// Ready returns what runs, once the node serves, and the node's provider.
func (n *Node) Ready(ctx context.Context) (Running, *provider.Provider, error) {
	select {
	case run := <-n.running:
		n.running <- run
		lender := <-n.lender
		n.lender <- lender
		return run, lender, nil
	case <-ctx.Done():
		return Running{}, nil, fmt.Errorf("%w: the node is not ready: %w", mman.ErrCanceled, ctx.Err())
	}
}

// Close closes what New opened, the last first. Call it after Run. It gives up
// on a store that cannot be written out, as when its folder is gone: the process
// can end then, for what was accepted is safe from its end.
func (n *Node) Close() error {
	closers := n.closers
	n.closers = nil
	done := make(chan error, 1)
	go func() {
		var errs []error
		for _, closer := range slices.Backward(closers) {
			errs = append(errs, closer())
		}
		done <- errors.Join(errs...)
	}()
	select {
	case err := <-done:
		return err
	case <-n.cfg.Clock.After(closeWithin):
		return fmt.Errorf("%w: %s could not be closed within %s: see the log, and whether the folder is there and its disk has space", mman.ErrTimeout, n.cfg.Home, closeWithin)
	}
}

func newToken() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	return hex.EncodeToString(b[:]), nil
}
