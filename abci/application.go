package abci

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/proto/tendermint/crypto"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
)

const (
	// softwareName is what Info answers for data.
	softwareName = "mman"

	// maxKept is how many executed proposals of a height are kept.
	maxKept = 2
	// verifiedSize is how many verified signatures are remembered: more than
	// a mempool and a block hold.
	verifiedSize = 1 << 15
)

// Config is what an Application needs.
type Config struct {
	// DB holds the state. The Application is its only user from then on; the
	// caller closes it after the last call.
	DB state.DB
	// Log receives what operators must know; nil logs nothing.
	Log *slog.Logger
	// Beacon proves the randomness of the blocks that this node proposes. A node
	// without one proposes no block that needs it; nil for one that is no
	// validator.
	Beacon Prover
	// KeepBlocks is how many of the last blocks CometBFT keeps at least, beside
	// those that evidence can still be about; 0, the default, keeps all.
	KeepBlocks uint64
	// Migrations are the changes of rules that this program knows, ascending.
	// Default: those of Migrations.
	Migrations []Migration
	// Plan are upgrades on which the operators of the network agreed, beside
	// those of its genesis.
	Plan []genesis.Upgrade
	// Flushed returns a height whose state no power cut can take back. Without
	// it all blocks are kept.
	Flushed func() uint64
	// Clock tells the time since some instant, for Spent. Default: none, nothing is
	// measured.
	Clock func() time.Duration
}

// Application is the chain's state machine behind CometBFT's ABCI. Its methods
// are safe for concurrent use; CometBFT calls it on four connections
// (NewConnSyncLocalClientCreator), and queries and views wait for no block.
type Application struct {
	log      *slog.Logger
	routes   routes
	verified *verifiedTxs
	waiting  *waitingTxs
	beacon   Prover
	latest   atomic.Pointer[state.Recent]
	// executions counts blocks and proposals.
	executions atomic.Uint64

	// consensus guards what follows; enter takes it.
	consensus sync.Mutex
	running   []func() struct{} // what goes on beside consensus until its next call
	ahead     *ahead
	store     *state.Store
	genesis   *genesis.Document // until the first commit
	kept      []*executed
	decided   *executed
	staged    *state.Staged
	arriving  *arrival
	retain    retention
	changes   changes
	clock     func() time.Duration
	spent     Spent

	// joining guards what follows. It is taken last.
	joining  sync.Mutex
	archives []*archive // ascending

	// mempool guards what follows. It is taken after consensus, never before.
	mempool sync.Mutex
	check   *checking

	hooks sync.Mutex
	hook  []func(height uint64)
}

// checking is the state against which CheckTx admits: the last commit and the
// transactions admitted since.
type checking struct {
	state  *state.Overlay
	gate   gate
	height uint64 // of the next block
}

// New opens the state in cfg.DB. It starts nothing.
func New(cfg Config) (*Application, error) {
	if cfg.DB == nil {
		return nil, fmt.Errorf("%w: the application has no database", mman.ErrInvalid)
	}
	store, err := state.Open(cfg.DB)
	if err != nil {
		return nil, err
	}
	r, err := newRoutes(newModules())
	if err != nil {
		return nil, err
	}
	a := &Application{log: cfg.Log, routes: r, verified: newVerifiedTxs(verifiedSize), waiting: newWaitingTxs(), store: store, beacon: cfg.Beacon, retain: retention{keep: cfg.KeepBlocks, flushed: cfg.Flushed}, clock: cfg.Clock}
	if a.clock == nil {
		a.clock = func() time.Duration { return 0 }
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.changes, err = newChanges(cfg); err != nil {
		return nil, err
	}
	a.publish()
	if store.Height() > 0 {
		if err := a.changes.fit(store.Latest(), store.Height()+1); err != nil {
			return nil, err
		}
		if err := errors.Join(a.archive(store.Latest(), 0), a.resetCheck()); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// publish makes the committed state visible to queries.
func (a *Application) publish() {
	recent := a.store.Recent()
	a.latest.Store(&recent)
}

// OnCommit adds a function that is called after each commit with its height.
// It is called on CometBFT's goroutine: it must return at once and must not
// call the application's consensus methods. To do more, let it wake another
// goroutine.
func (a *Application) OnCommit(fn func(height uint64)) {
	a.hooks.Lock()
	defer a.hooks.Unlock()
	a.hook = append(a.hook, fn)
}

// Chain returns what the committed state says of its genesis; ErrNotFound
// before the first block. The node compares the hash with its file.
func (a *Application) Chain() (Chain, error) { return readChain(a.latest.Load().Latest()) }

// Invariants checks the whole committed state; ErrInvariant says what broke.
// Before the first block there is nothing to check.
func (a *Application) Invariants() error {
	snapshot := a.latest.Load().Latest()
	for _, m := range a.routes.modules {
		if err := m.Invariants(snapshot); err != nil {
			return fmt.Errorf("height %d, %s: %w", snapshot.Height(), m.Name(), err)
		}
	}
	return nil
}

// Verifications returns how many signatures of transactions this node has verified
// since it started, each of a batch counted.
func (a *Application) Verifications() uint64 { return a.verified.count.Load() }

// Executions returns how many blocks and proposals this node has executed since it
// started: one for each height, unless proposals failed to be decided.
func (a *Application) Executions() uint64 { return a.executions.Load() }

// DropCaches forgets every cache and every kept proposal. Results do not
// change; tests prove it.
func (a *Application) DropCaches() {
	defer a.enter()()
	a.kept, a.ahead = nil, nil
	a.verified.drop()
	a.waiting.drop()
	for _, m := range a.routes.modules {
		if c, ok := m.(interface{ DropCaches() }); ok {
			c.DropCaches()
		}
	}
}

// gate returns the gate of the block of that height, whose state before it r is.
func (a *Application) gate(r state.Reader, height uint64) (gate, error) {
	c, err := readChain(r)
	if err != nil {
		return gate{}, err
	}
	params, err := readParams(r)
	if err != nil {
		return gate{}, err
	}
	base, err := bank.BaseFee(r, params, height)
	return gate{chainID: c.ID, params: params, baseFee: base, verified: a.verified, waiting: a.waiting}, err
}

func (a *Application) resetCheck() error {
	o, err := a.begin()
	if err != nil {
		return err
	}
	height := a.next()
	g, err := a.gate(o, height)
	if err != nil {
		return err
	}
	a.mempool.Lock()
	defer a.mempool.Unlock()
	a.check = &checking{o, g, height}
	return nil
}

// Info answers the last committed height and root.
func (a *Application) Info(context.Context, *types.RequestInfo) (*types.ResponseInfo, error) {
	latest := a.latest.Load().Latest()
	version, err := readVersion(latest)
	if err != nil {
		return nil, err
	}
	answer := &types.ResponseInfo{Data: softwareName, AppVersion: version, LastBlockHeight: wireInt(latest.Height())}
	if latest.Height() > 0 {
		root := latest.Root()
		answer.LastBlockAppHash = root[:]
	}
	return answer, nil
}

// InitChain reads the genesis document and answers the first validators and
// consensus parameters. It persists nothing.
func (a *Application) InitChain(_ context.Context, req *types.RequestInitChain) (*types.ResponseInitChain, error) {
	defer a.enter()()
	if h := a.store.Height(); h > 0 {
		return nil, fmt.Errorf("%w: the state is already at height %d: the data folder belongs to another chain or lost its blocks", mman.ErrGenesis, h)
	}
	doc, err := genesis.Decode(req.AppStateBytes)
	if err != nil {
		return nil, err
	}
	if doc.ChainID != req.ChainId || req.InitialHeight != wireInt(doc.InitialHeight) {
		return nil, fmt.Errorf("%w: CometBFT starts %q at height %d, the document says %q at %d",
			mman.ErrGenesis, req.ChainId, req.InitialHeight, doc.ChainID, doc.InitialHeight)
	}
	a.genesis, a.kept, a.ahead = &doc, nil, nil
	o, err := a.begin()
	if err != nil {
		a.genesis = nil
		return nil, err
	}
	if err := a.judge(o, doc); err != nil {
		a.genesis = nil
		return nil, err
	}
	staged, err := a.store.Stage(o)
	if err != nil {
		return nil, err
	}
	if err := a.resetCheck(); err != nil {
		return nil, err
	}
	version, err := readVersion(o)
	if err != nil {
		return nil, err
	}
	root := staged.Root()
	return &types.ResponseInitChain{
		ConsensusParams: consensusParams(doc.Params, version), Validators: validatorUpdates(doc), AppHash: root[:],
	}, nil
}

func validatorUpdates(doc genesis.Document) []types.ValidatorUpdate {
	var out []block.Update
	for _, v := range doc.Canonical().Validators {
		out = append(out, block.Update{Key: v.ConsensusKey, Power: v.Power})
	}
	return wireUpdates(out)
}

func wireUpdates(updates []block.Update) []types.ValidatorUpdate {
	var out []types.ValidatorUpdate
	for _, u := range updates {
		out = append(out, types.ValidatorUpdate{
			PubKey: crypto.PublicKey{Sum: &crypto.PublicKey_Ed25519{Ed25519: u.Key}},
			Power:  wireInt(u.Power),
		})
	}
	return out
}

// consensusParams are the bounds that CometBFT itself enforces.
func consensusParams(p genesis.Params, version uint64) *cmtproto.ConsensusParams {
	return &cmtproto.ConsensusParams{
		Block: &cmtproto.BlockParams{MaxBytes: wireInt(p.BlockMaxBytes), MaxGas: wireInt(p.MaxGasPerBlock)},
		Evidence: &cmtproto.EvidenceParams{
			MaxAgeNumBlocks: wireInt(p.EvidenceMaxBlocks), MaxAgeDuration: time.Duration(wireInt(p.EvidenceMaxSeconds)) * time.Second,
			MaxBytes: wireInt(p.EvidenceMaxBytes),
		},
		Version: &cmtproto.VersionParams{App: version},
	}
}

// CheckTx admits a transaction to the mempool. It executes no message.
func (a *Application) CheckTx(_ context.Context, req *types.RequestCheckTx) (*types.ResponseCheckTx, error) {
	a.mempool.Lock()
	defer a.mempool.Unlock()
	if a.check == nil {
		return checkFailed(fmt.Errorf("%w: the chain is not initialised", mman.ErrBusy)), nil
	}
	o, err := a.check.gate.open(req.Tx)
	if err != nil {
		return checkFailed(err), nil
	}
	if err := a.check.gate.admit(a.check.state, o, a.check.height); err != nil {
		return checkFailed(err), nil
	}
	a.waiting.add(o)
	return &types.ResponseCheckTx{Code: types.CodeTypeOK, GasWanted: wireInt(o.GasLimit), GasUsed: wireInt(o.gas)}, nil
}

func checkFailed(err error) *types.ResponseCheckTx {
	return &types.ResponseCheckTx{Code: uint32(mman.CodeOf(err)), Codespace: codespace, Log: err.Error()}
}

// FinalizeBlock answers the results of a decided block, kept from its proposal
// or executed now. It persists nothing. An error halts the node.
func (a *Application) FinalizeBlock(_ context.Context, req *types.RequestFinalizeBlock) (*types.ResponseFinalizeBlock, error) {
	defer a.enter()()
	var done *executed
	for _, k := range a.kept {
		if k.hash == string(req.Hash) && wireInt(k.height) == req.Height {
			done = k
		}
	}
	if done == nil {
		var err error
		if done, err = a.execute(proposal{
			hash: req.Hash, height: req.Height, at: req.Time, txs: req.Txs, proposer: req.ProposerAddress, commit: req.DecidedLastCommit, misbehavior: req.Misbehavior, decided: true,
		}); err != nil {
			return nil, fmt.Errorf("execute decided block %d: %w", req.Height, err)
		}
	}
	staged := done.staged
	if staged == nil {
		var err error
		if staged, err = a.stage(done); err != nil {
			return nil, fmt.Errorf("stage decided block %d: %w", req.Height, err)
		}
	}
	a.decided, a.staged = done, staged
	root := staged.Root()
	answer := &types.ResponseFinalizeBlock{
		Events: done.events, TxResults: done.results, ValidatorUpdates: wireUpdates(done.updates), AppHash: root[:],
	}
	if done.version > 0 {
		answer.ConsensusParamUpdates = &cmtproto.ConsensusParams{Version: &cmtproto.VersionParams{App: done.version}}
	}
	return answer, nil
}

// Commit persists the decided block. An error halts the node.
func (a *Application) Commit(context.Context, *types.RequestCommit) (*types.ResponseCommit, error) {
	height, retain, err := a.commit()
	if err != nil {
		return nil, err
	}
	a.hooks.Lock()
	hooks := slices.Clone(a.hook)
	a.hooks.Unlock()
	for _, fn := range hooks {
		fn(height)
	}
	return &types.ResponseCommit{RetainHeight: wireInt(retain)}, nil
}

func (a *Application) commit() (height, retain uint64, err error) {
	defer a.enter()()
	if a.decided == nil {
		return 0, 0, fmt.Errorf("%w: commit without a decided block", mman.ErrInternal)
	}
	height = a.decided.height
	if err := a.store.Commit(a.staged, height, a.decided.aside); err != nil {
		return 0, 0, errors.Join(mman.ErrCorrupt, err)
	}
	params, err := readParams(a.store.Latest())
	if err != nil {
		return 0, 0, err
	}
	at := a.decided.at
	retain = a.retain.below(params, height, at)
	a.waiting.remove(a.decided.taken)
	a.genesis, a.kept, a.ahead, a.decided, a.staged = nil, nil, nil, nil, nil
	a.publish()
	return height, retain, errors.Join(a.archive(a.store.Latest(), at), a.resetCheck())
}

// InsertTx belongs to application-side mempools, which this chain does not use.
func (a *Application) InsertTx(context.Context, *types.RequestInsertTx) (*types.ResponseInsertTx, error) {
	return nil, fmt.Errorf("%w: the mempool is CometBFT's own, set mempool.type to \"flood\"", mman.ErrUnsupported)
}

// ReapTxs belongs to application-side mempools, which this chain does not use.
func (a *Application) ReapTxs(context.Context, *types.RequestReapTxs) (*types.ResponseReapTxs, error) {
	return nil, fmt.Errorf("%w: the mempool is CometBFT's own, set mempool.type to \"flood\"", mman.ErrUnsupported)
}

// ExtendVote adds nothing: vote extensions are not used.
func (a *Application) ExtendVote(context.Context, *types.RequestExtendVote) (*types.ResponseExtendVote, error) {
	return &types.ResponseExtendVote{}, nil
}

// VerifyVoteExtension accepts the empty extension only.
func (a *Application) VerifyVoteExtension(_ context.Context, req *types.RequestVerifyVoteExtension) (*types.ResponseVerifyVoteExtension, error) {
	if len(req.VoteExtension) != 0 {
		return &types.ResponseVerifyVoteExtension{Status: types.ResponseVerifyVoteExtension_REJECT}, nil
	}
	return &types.ResponseVerifyVoteExtension{Status: types.ResponseVerifyVoteExtension_ACCEPT}, nil
}
