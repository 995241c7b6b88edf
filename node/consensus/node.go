package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/mempool"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/proxy"
	"github.com/cometbft/cometbft/types"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/store"
)

const (
	// rpcGrace is how long running calls may take when the node stops.
	rpcGrace = time.Second
	// gateGrace is how long CometBFT's late goroutines are waited for.
	gateGrace = 10 * time.Second
)

// Node is one CometBFT node. Its methods are safe for concurrent use.
type Node struct {
	cfg     Config
	genesis *types.GenesisDoc
	keys    keys
	app     abci.Application
	data    *store.Data
	gate    *gate
	ready   chan struct{}
	submits chan struct{} // holds one for each transaction that Submit hands over

	ran    atomic.Bool
	ending atomic.Bool
	comet  atomic.Pointer[node.Node] // from built to stopped

	mu       sync.Mutex
	rpcAddr  string
	p2pAddr  string
	appError error      // the first one that a chain cannot go on without
	halt     chan error // holds at most one
}

// New checks the configuration, makes the home's keys when there are none and
// claims the home for the genesis. It starts nothing. The Node is the only user
// of app's consensus calls; data stays open until Run has returned. Errors:
// mman.ErrInvalid, mman.ErrGenesis, and mman.ErrHome for a home that belongs to
// another network or lacks a file.
func New(cfg Config, app abci.Application, data *store.Data) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if app == nil || data == nil {
		return nil, fmt.Errorf("%w: consensus needs an application and a database", mman.ErrInvalid)
	}
	doc, err := CometGenesis(cfg.Genesis)
	if err != nil {
		return nil, err
	}
	if err := claimGenesis(cfg.Home, cfg.Genesis, data); err != nil {
		return nil, err
	}
	if _, err := Init(cfg.Home); err != nil {
		return nil, err
	}
	k, err := loadKeys(cfg.Home)
	if err != nil {
		return nil, err
	}
	return &Node{
		cfg: cfg, genesis: doc, keys: k, app: app, data: data, gate: newGate(),
		ready: make(chan struct{}), submits: make(chan struct{}, submits), halt: make(chan error, 1),
	}, nil
}

// Ready is closed when the RPC answers. It stays open when Run fails first.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// RPCAddr returns the host:port on which the RPC answers, empty before Ready.
func (n *Node) RPCAddr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rpcAddr
}

// P2PAddr returns id@host:port, as another node lists this one among its Peers,
// empty before Ready.
func (n *Node) P2PAddr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.p2pAddr
}

// Status is how far a node is.
type Status struct {
	// Height is the last block that is stored, 0 before the first.
	Height uint64
	// CatchingUp says that blocks are fetched from others; transactions that
	// are sent here wait until it ends.
	CatchingUp bool
	// Peers counts the connected nodes.
	Peers int
	// MempoolTxs counts the waiting transactions.
	MempoolTxs int
}

// Status returns how far the node is; mman.ErrBusy while it does not run.
func (n *Node) Status() (Status, error) {
	c := n.comet.Load()
	if c == nil {
		return Status{}, fmt.Errorf("%w: consensus does not run", mman.ErrBusy)
	}
	return Status{
		Height:     uint64(c.BlockStore().Height()), //nolint:gosec // a height
		CatchingUp: c.ConsensusReactor().WaitSync(),
		Peers:      c.Switch().Peers().Size(),
		MempoolTxs: c.Mempool().Size(),
	}, nil
}

// Submit hands a transaction to the mempool and waits for its check, not for a
// block. It returns the transaction's hash. Errors: what the application
// answered (by code, see mman.RemoteError), mman.ErrExists when the same bytes
// were here lately, mman.ErrTooLarge, and mman.ErrBusy when the mempool is full
// or consensus does not run.
func (n *Node) Submit(ctx context.Context, tx []byte) (mman.Hash, error) {
	hash := mman.Sum256(tx)
	c := n.comet.Load()
	if c == nil || n.ending.Load() {
		return hash, fmt.Errorf("%w: consensus does not run", mman.ErrBusy)
	}
	select {
	case n.submits <- struct{}{}:
		defer func() { <-n.submits }()
	case <-ctx.Done():
		return hash, fmt.Errorf("%w: transaction %s was not handed over: %w", mman.ErrCanceled, hash, context.Cause(ctx))
	}
	answer := make(chan *abci.ResponseCheckTx, 1)
	err := c.Mempool().CheckTx(tx, func(r *abci.ResponseCheckTx) { answer <- r }, mempool.TxInfo{})
	if err != nil {
		return hash, mempoolError(hash, err)
	}
	select {
	case r := <-answer:
		if r.Code != abci.CodeTypeOK {
			return hash, mman.RemoteError(mman.Code(r.Code), retryOf(r), r.Log)
		}
		return hash, nil
	case <-ctx.Done():
		return hash, fmt.Errorf("%w: transaction %s was not checked in time: %w", mman.ErrCanceled, hash, context.Cause(ctx))
	}
}

// retryOf: a rejected check may succeed later when it is about funds, order or
// fees; the application's code decides, for which the root holds the meaning.
func retryOf(r *abci.ResponseCheckTx) mman.Retry {
	for _, e := range []*mman.Error{mman.ErrSequence, mman.ErrFeeTooLow, mman.ErrFunds, mman.ErrBusy} {
		if uint32(e.Code) == r.Code {
			return e.Retry
		}
	}
	return mman.RetryNever
}

func mempoolError(hash mman.Hash, err error) error {
	var full mempool.ErrMempoolIsFull
	var large mempool.ErrTxTooLarge
	switch {
	case errors.Is(err, mempool.ErrTxInCache):
		return fmt.Errorf("%w: transaction %s is known here already: ask for its result", mman.ErrExists, hash)
	case errors.As(err, &full):
		return fmt.Errorf("%w: the mempool is full, send transaction %s again later: %w", mman.ErrBusy, hash, err)
	case errors.As(err, &large):
		return fmt.Errorf("%w: transaction %s: %w", mman.ErrTooLarge, hash, err)
	}
	return fmt.Errorf("%w: transaction %s was not taken: %w", mman.ErrBusy, hash, err)
}

// Run starts the node and serves until ctx ends; then it returns nil once
// consensus has stopped and nothing uses the application or the database any
// more. It runs once. Errors: mman.ErrPortInUse; what the application answered
// when it cannot be started or broke on a decided block; mman.ErrInternal when
// consensus halted by itself.
func (n *Node) Run(ctx context.Context) (err error) {
	if n.ran.Swap(true) {
		return fmt.Errorf("%w: a consensus node runs once, make another one", mman.ErrInvalid)
	}
	defer func() { err = errors.Join(err, n.closeGate(ctx)) }()
	rpc, err := listen(ctx, n.cfg.RPCListen, FlagRPC)
	if err != nil {
		return err
	}
	defer rpc.Close() //nolint:errcheck // the server may have closed it
	// CometBFT binds the port itself and tells nobody which one it got, so the
	// port is chosen here and let go right before.
	peers, err := listen(ctx, n.cfg.P2PListen, FlagP2P)
	if err != nil {
		return err
	}
	defer peers.Close() //nolint:errcheck // closed before CometBFT binds it
	comet, err := n.build(ctx, n.cfg.cometConfig(rpc.Addr().String(), peers.Addr().String()))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil // asked to end while it replayed blocks
	case err != nil:
		return n.because("start consensus", n.misfit(err))
	}
	n.comet.Store(comet)
	defer n.comet.Store(nil)
	return n.serve(ctx, comet, rpc, peers)
}

// build makes CometBFT's node, which replays into the application the blocks
// that it lacks.
func (n *Node) build(ctx context.Context, cfg *config.Config) (comet *node.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = coded(fmt.Sprint(r))
		}
	}()
	app := &application{Application: n.app, gate: n.gate, broke: n.broke, syncing: n.syncing, full: n.full}
	out := newLogger(n.cfg.Logger, &n.ending, n.halted)
	peers, err := newAddresses(cfg.P2P, n.keys.node, out)
	if err != nil {
		return nil, err
	}
	comet, err = node.NewNodeWithContext(ctx, cfg, n.keys.validator, n.keys.node,
		proxy.NewConnSyncLocalClientCreator(app),
		func() (*types.GenesisDoc, error) { return n.genesis, nil },
		n.gate.provider(DBProvider(n.data)),
		node.DefaultMetricsProvider(cfg.Instrumentation),
		out, peers.use)
	cfg.RPC.ListenAddress = "" // peers were told; from here on the RPC is served by us
	return comet, err
}

// full tells that the mempool has no room for a transaction of so many bytes.
func (n *Node) full(bytes int) error {
	c := n.comet.Load()
	if c == nil {
		return nil // replaying
	}
	if m := c.Mempool(); m.Size() >= n.cfg.MempoolTxs || m.SizeBytes()+int64(bytes) > n.cfg.MempoolBytes {
		return fmt.Errorf("%w: the mempool is full: %d transactions of %d bytes wait, at most %d and %d are kept: send it again after the next block",
			mman.ErrBusy, m.Size(), m.SizeBytes(), n.cfg.MempoolTxs, n.cfg.MempoolBytes)
	}
	return nil
}

// misfit tells that the blocks and the ledger do not belong together, as when
// one of the databases lost what it had written last, or when this ledger went another
// way than that of the validators. CometBFT says it in a panic of many lines, without a
// type.
func (n *Node) misfit(err error) error {
	reason := err.Error()
	if diverges(reason) {
		return fmt.Errorf("%w: this node's ledger came to another result than two thirds of the validators: run the version of mman-node that they run, move the store in %s away and let the node fetch blocks and ledger again: %s",
			mman.ErrCorrupt, n.cfg.Home, reason)
	}
	for _, sign := range []string{"AppHash does not match AppHash after replay", "is higher than core", "store height >"} {
		if strings.Contains(reason, sign) {
			return fmt.Errorf("%w: the ledger and the blocks in %s do not belong together: move its store away and let the node fetch both again", mman.ErrCorrupt, n.cfg.Home)
		}
	}
	return err
}

// serve starts the built node, waits and stops it.
func (n *Node) serve(ctx context.Context, comet *node.Node, rpc, peers net.Listener) error {
	env, err := comet.ConfigureRPC()
	if err != nil {
		return fmt.Errorf("start consensus: %w", err)
	}
	at := peers.Addr().String()
	if err := peers.Close(); err != nil {
		return fmt.Errorf("start consensus: %w", err)
	}
	defer n.stop(comet)
	if err := n.start(comet); err != nil {
		return n.because("start consensus", listenErrorIfBound(err, at))
	}
	out := newLogger(n.cfg.Logger, &n.ending, n.halted).With("module", "rpc")
	server := ServeRPC(rpc, env.GetRoutes(), env.Config.WebSocketWriteBufferSize, out, func(remote string) {
		_ = comet.EventBus().UnsubscribeAll(context.WithoutCancel(ctx), remote) // most have no subscription
	}, n.end)
	defer func() {
		n.ending.Store(true)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), rpcGrace)
		defer cancel()
		server.Stop(grace)
	}()
	if n.cfg.ExternalAddress != "" {
		at = strings.TrimPrefix(n.cfg.ExternalAddress, "tcp://")
	}
	n.announce(rpc.Addr().String(), n.keys.identity().PeerID+"@"+at)
	select {
	case <-ctx.Done():
		return nil
	case err := <-n.halt:
		return err
	}
}

// start turns a panic of CometBFT (a damaged address book, an unreadable log)
// into an error.
func (n *Node) start(comet *node.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = coded(fmt.Sprint(r))
		}
	}()
	return comet.Start()
}

// coded gives CometBFT's account of a failure its code: it keeps only the words
// of an error of the database.
func coded(reason string) error {
	for _, known := range []*mman.Error{mman.ErrDiskFull, mman.ErrCorrupt} {
		if strings.Contains(reason, known.Text) {
			return fmt.Errorf("%w: %s", known, reason)
		}
	}
	return fmt.Errorf("%w: %s", mman.ErrInternal, reason)
}

func listenErrorIfBound(err error, address string) error {
	if bound := listenError(err, address, FlagP2P); errors.Is(bound, mman.ErrPortInUse) {
		return bound
	}
	return err
}

func (n *Node) announce(rpc, peers string) {
	n.mu.Lock()
	n.rpcAddr, n.p2pAddr = rpc, peers
	n.mu.Unlock()
	n.cfg.Logger.Info("consensus runs", slog.String("chain_id", n.genesis.ChainID), slog.String("rpc", rpc), slog.String("p2p", peers))
	close(n.ready)
}

// stop ends whatever of the node runs. CometBFT alone would stop its indexer
// before consensus and lose a block of the index, so what makes blocks stops
// first: fetching them (which may hand over to consensus), then consensus.
func (n *Node) stop(comet *node.Node) {
	n.ending.Store(true)
	if fetching, ok := comet.Switch().Reactor("BLOCKSYNC"); ok {
		_ = fetching.Stop() // it may not have started
	}
	_ = comet.ConsensusReactor().Stop() // it may not have started
	if err := comet.Stop(); err != nil {
		// The start failed half way: the bus has run since the node was built,
		// the switch perhaps.
		_ = comet.Switch().Stop()
		_ = comet.EventBus().Stop()
	}
	_ = comet.ProxyApp().Stop() // it has no way to fail
}

func (n *Node) closeGate(ctx context.Context) error {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), gateGrace)
	defer cancel()
	return n.gate.close(grace)
}

// syncing reports whether blocks are fetched from others.
func (n *Node) syncing() bool {
	c := n.comet.Load()
	return c != nil && c.ConsensusReactor().WaitSync()
}

// broke keeps the application's first decisive error.
func (n *Node) broke(err error) {
	n.mu.Lock()
	if n.appError == nil {
		n.appError = err
	}
	n.mu.Unlock()
	if n.syncing() {
		n.halted(err.Error())
	}
}

// halted makes Run return for what consensus ended with.
func (n *Node) halted(reason string) {
	n.end(n.because("consensus halted", n.misfit(coded(reason))))
}

// end makes Run return.
func (n *Node) end(err error) {
	select {
	case n.halt <- err:
	default: // the first reason counts
	}
}

// because prefers the application's own error, which has a code, to CometBFT's
// account of it.
func (n *Node) because(what string, err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.appError != nil {
		err = n.appError
	}
	return fmt.Errorf("%s: %w", what, err)
}
