package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	mman "github.com/limboid/massive-man"
	vault "github.com/limboid/massive-man/abci/storage"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market/storage"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/p2p/protocol/replicas"
)

// Ledger is the keeper's view of the chain: its own node's committed state. Methods
// are safe for concurrent use; a record that does not exist is mman.ErrNotFound.
type Ledger interface {
	Height() uint64
	// StorageRules are the rules in force.
	StorageRules() (storage.Rules, error)
	// StorageReplicas lists the replicas that the account has or is to get.
	StorageReplicas(provider mman.Address) ([]vault.Name, error)
	StorageLease(id mman.LeaseID) (storage.Lease, error)
	// StorageDrawn is the latest challenge.
	StorageDrawn() (storage.Drawn, error)
	// StorageHeld is how many replicas all providers hold.
	StorageHeld() (uint64, error)
	// StorageRetrieval is what a consumer set aside for the account.
	StorageRetrieval(consumer, provider mman.Address) (vault.Retrieval, error)
	// Bound reports the account and addresses that a peer is bound to.
	Bound(peer mman.PeerID) (mman.Address, []string, error)
}

// Submitter signs messages with the account and brings them to the chain.
type Submitter interface {
	Address() mman.Address
	// Submit returns once the transaction is in a block and succeeded.
	Submit(ctx context.Context, msgs ...tx.Msg) (mman.Hash, error)
}

// Config sets up a Keeper. All fields are required.
type Config struct {
	// Dir is the folder of the replicas; it is made when it is not there.
	Dir     string
	ChainID string
	// Bind makes the ledger know the node.
	Bind func(ctx context.Context) error
	// Room asks for so many bytes on the disk; mman.ErrDiskFull.
	Room func(bytes int64) error
	// Transfers bounds transfers.
	Transfers replicas.Config
	Logger    *slog.Logger
}

const (
	// proofsInTx is how many proofs go into a transaction of 64 KiB at most.
	proofsInTx = 32
	// acceptsInTx is how many replicas are accepted in one.
	acceptsInTx = 128
	// fetches is how many replicas are fetched at a time.
	fetches = 4
)

// Keeper keeps replicas. Its methods are safe for concurrent use.
type Keeper struct {
	cfg       Config
	log       *slog.Logger
	ledger    Ledger
	submitter Submitter
	host      *p2p.Host
	discovery *discovery.Discovery
	files     files
	heights   chan struct{} // one value: there is a new block; never closed
	slow      chan struct{} // whoever holds its value serves the slow tier
	fetching  chan struct{} // room for those that are fetched

	mu       sync.Mutex
	busy     map[vault.Name]bool // being brought or fetched
	proved   map[vault.Name]uint64
	promised map[mman.Address]promise // by consumer
}

// promise is what a consumer signed last.
type promise struct {
	replicas.Promise

	redeemed mman.Amount
}

// New opens the folder. It starts nothing.
func New(cfg Config, ledger Ledger, submitter Submitter, host *p2p.Host, disc *discovery.Discovery) (*Keeper, error) {
	if cfg.Bind == nil || cfg.Room == nil || cfg.Logger == nil {
		return nil, fmt.Errorf("%w: keeper: a way to bind the node, one to ask for room, and a logger are needed", mman.ErrInvalid)
	}
	if err := cfg.Transfers.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return &Keeper{
		cfg: cfg, log: cfg.Logger, ledger: ledger, submitter: submitter, host: host, discovery: disc, files: files{cfg.Dir},
		heights: make(chan struct{}, 1), slow: make(chan struct{}, 1), fetching: make(chan struct{}, fetches),
		busy: make(map[vault.Name]bool), proved: make(map[vault.Name]uint64), promised: make(map[mman.Address]promise),
	}, nil
}

// Terms are what a holder lends.
type Terms struct {
	Tier      storage.Tier `json:"tier"`
	Region    string       `json:"region"`
	Price     mman.Amount  `json:"price_uman"`
	Retrieve  mman.Amount  `json:"retrieve_uman"`
	LatencyMs uint64       `json:"latency_ms"`
	Capacity  uint64       `json:"capacity_mib"`
}

// Offer puts the terms on the ledger, in the place of those of the tier before.
func (k *Keeper) Offer(ctx context.Context, t Terms) error {
	if err := k.cfg.Bind(ctx); err != nil {
		return err
	}
	_, err := k.submitter.Submit(ctx, tx.MsgStorageOffer{
		Provider: k.submitter.Address(), Peer: k.host.ID(), Tier: t.Tier, Region: t.Region, Price: t.Price, Retrieve: t.Retrieve,
		Latency: t.LatencyMs, Capacity: t.Capacity,
	})
	return err
}

// AtHeight tells the keeper of a new block. It never blocks.
func (k *Keeper) AtHeight(uint64) {
	select {
	case k.heights <- struct{}{}:
	default:
	}
}

// Run accepts, proves, repairs and deletes until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var fetched sync.WaitGroup
	defer fetched.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.heights:
		}
		if err := k.work(ctx, &fetched); err != nil && ctx.Err() == nil {
			k.log.LogAttrs(ctx, slog.LevelWarn, "storage: not all could be done at this height", slog.Uint64("height", k.ledger.Height()), slog.Any("error", err))
		}
	}
}

// duties are what a look at the ledger found to do.
type duties struct {
	accept []tx.ReplicaName
	prove  []storage.Proof
	drawn  storage.Drawn
	turn   uint64 // the height from which on this account proves
}

// work looks at what the account has or is to get, and does what is due.
func (k *Keeper) work(ctx context.Context, fetched *sync.WaitGroup) error {
	names, err := k.ledger.StorageReplicas(k.submitter.Address())
	if err != nil {
		return err
	}
	kept, err := k.files.kept()
	if err != nil {
		return err
	}
	if len(names) == 0 && len(kept) == 0 {
		return nil
	}
	rules, err := k.ledger.StorageRules()
	if err != nil {
		return err
	}
	do := duties{}
	if do.drawn, err = k.ledger.StorageDrawn(); err != nil && !errors.Is(err, mman.ErrNotFound) {
		return err
	}
	held, err := k.ledger.StorageHeld()
	if err != nil {
		return err
	}
	do.turn = rules.Turn(do.drawn, k.submitter.Address(), held)
	var errs []error
	for _, n := range names {
		delete(kept, n)
		errs = append(errs, k.look(ctx, n, rules, &do, fetched))
	}
	errs = append(errs, k.submit(ctx, do))
	for n := range kept {
		if !k.isBusy(n) {
			errs = append(errs, k.files.remove(n))
		}
	}
	return errors.Join(errs...)
}

// look notes what one replica needs.
func (k *Keeper) look(ctx context.Context, n vault.Name, rules storage.Rules, do *duties, fetched *sync.WaitGroup) error {
	l, err := k.ledger.StorageLease(n.Lease)
	if err != nil {
		return err
	}
	r := l.Replicas[n.Replica]
	tree, err := k.files.tree(n, r.Root)
	switch {
	case r.State == storage.Assigned && err == nil:
		do.accept = append(do.accept, tx.ReplicaName(n))
		return nil
	case r.State == storage.Assigned && r.Source != storage.NoSource:
		k.repair(ctx, n, l, fetched)
		return nil
	case r.State != storage.Held:
		return nil
	case err != nil:
		return fmt.Errorf("%w: a replica that this node shall hold is gone, its deposit with it", err)
	}
	k.mu.Lock()
	told := k.proved[n]
	k.mu.Unlock()
	height := k.ledger.Height()
	if r.Due != do.drawn.Epoch || told == r.Due || height < do.turn || do.drawn.Late(height+1, rules) {
		return nil
	}
	f, err := os.Open(k.files.path(n))
	if err != nil {
		return diskError(err)
	}
	p, err := storage.Prove(tree, f, n.Lease, n.Replica, do.drawn.Value)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("prove replica %d of lease %s: %w", n.Replica, n.Lease, err)
	}
	do.prove = append(do.prove, p)
	return nil
}

// submit brings what is due to the chain, many in a transaction.
func (k *Keeper) submit(ctx context.Context, do duties) error {
	me := k.submitter.Address()
	for len(do.prove) > 0 {
		n := min(len(do.prove), proofsInTx)
		msg := tx.MsgProveStorage{Provider: me, Epoch: do.drawn.Epoch}
		for _, p := range do.prove[:n] {
			msg.Proofs = append(msg.Proofs, p.Encode())
		}
		if _, err := k.submitter.Submit(ctx, msg); err != nil {
			return fmt.Errorf("prove %d replicas in epoch %d: %w", n, do.drawn.Epoch, err)
		}
		k.mu.Lock()
		for _, p := range do.prove[:n] {
			k.proved[vault.Name{Lease: p.Lease, Replica: p.Replica}] = do.drawn.Epoch
		}
		k.mu.Unlock()
		do.prove = do.prove[n:]
	}
	for len(do.accept) > 0 {
		n := min(len(do.accept), acceptsInTx)
		if _, err := k.submitter.Submit(ctx, tx.MsgAcceptStorage{Provider: me, Replicas: do.accept[:n]}); err != nil {
			return fmt.Errorf("accept %d replicas: %w", n, err)
		}
		do.accept = do.accept[n:]
	}
	return k.redeem(ctx)
}

// claim notes that a replica is on its way; false when it is already.
func (k *Keeper) claim(n vault.Name) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.busy[n] {
		return false
	}
	k.busy[n] = true
	return true
}

func (k *Keeper) release(n vault.Name) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.busy, n)
}

func (k *Keeper) isBusy(n vault.Name) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.busy[n]
}

// repair begins to fetch a replica from another holder, when there is room.
func (k *Keeper) repair(ctx context.Context, n vault.Name, l storage.Lease, fetched *sync.WaitGroup) {
	if !k.claim(n) {
		return
	}
	select {
	case k.fetching <- struct{}{}:
	default:
		k.release(n)
		return
	}
	fetched.Go(func() {
		defer func() { <-k.fetching }()
		defer k.release(n)
		err := k.fetch(ctx, n, l)
		switch {
		case err == nil:
			k.AtHeight(0) // it can be accepted now; what failed waits for the next block
		case ctx.Err() == nil:
			k.log.LogAttrs(ctx, slog.LevelWarn, "storage: a lost replica could not be fetched", slog.String("lease", n.Lease.String()), slog.Int("replica", int(n.Replica)), slog.Any("error", err))
		}
	})
}

// fetch brings the source's bytes here.
func (k *Keeper) fetch(ctx context.Context, n vault.Name, l storage.Lease) (err error) {
	r := l.Replicas[n.Replica]
	source := l.Replicas[r.Source]
	if err := k.reach(ctx, source.Peer); err != nil {
		return err
	}
	p, err := k.part(n, l, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	a, err := replicas.Ask{Verb: replicas.Get, Lease: n.Lease, Replica: r.Source, Asker: k.host.ID(), Offset: p.Offset()}.Fresh()
	if err != nil {
		return err
	}
	payload, err := a.Payload()
	if err != nil {
		return err
	}
	a.Signature = k.host.Sign(mman.SignStorage, k.cfg.ChainID, payload)
	if err := replicas.Fetch(ctx, k.host, source.Peer, replicas.Wanted{Ask: a, Size: l.Bytes}, p, k.cfg.Transfers); err != nil {
		return fmt.Errorf("from %s: %w", source.Peer, err)
	}
	return p.finish()
}

// part opens what there is of a replica, when there is room for the rest.
func (k *Keeper) part(n vault.Name, l storage.Lease, r storage.Replica) (*part, error) {
	p, err := k.files.part(n, l.Bytes, r.Root)
	if err != nil {
		return nil, err
	}
	if err := k.cfg.Room(int64(p.Size() - p.Offset())); err != nil { //nolint:gosec // at most storage.MaxBytes
		if p.Offset() == 0 { // nothing stays of what was never begun
			err = errors.Join(err, k.files.remove(n))
		}
		return nil, errors.Join(fmt.Errorf("keep replica %d of lease %s: %w", n.Replica, n.Lease, err), p.Close())
	}
	return p, nil
}

// reach makes the addresses of a peer known, those that it told the ledger.
func (k *Keeper) reach(ctx context.Context, peer mman.PeerID) error {
	_, addrs, err := k.ledger.Bound(peer)
	if err != nil {
		return err
	}
	if len(addrs) > 0 {
		return k.host.Remember(addrs)
	}
	_, err = k.discovery.FindPeer(ctx, peer)
	return err
}
