package abci

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/beacon"
	"github.com/limboid/massive-man/abci/block"
)

// PrepareProposal selects, in the mempool's order, the transactions that would
// be admitted one after the other and fit the block's bytes and gas, and begins to
// execute them. It fails only where this program must not go on, mman.ErrUpgrade.
func (a *Application) PrepareProposal(_ context.Context, req *types.RequestPrepareProposal) (answer *types.ResponsePrepareProposal, _ error) {
	defer a.enter()()
	answer = &types.ResponsePrepareProposal{}
	defer func() {
		if r := recover(); r != nil {
			a.log.Error("panic while preparing a proposal, proposing an empty block",
				slog.Int64("height", req.Height), slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			answer = &types.ResponsePrepareProposal{}
		}
	}()
	txs, err := a.selectTxs(req)
	if errors.Is(err, mman.ErrUpgrade) {
		return nil, err
	}
	if err != nil {
		a.log.Error("cannot select transactions, proposing an empty block", slog.Int64("height", req.Height), slog.Any("error", err))
		return answer, nil
	}
	answer.Txs = txs
	a.executeAhead(proposal{
		height: req.Height, at: req.Time, txs: txs, proposer: req.ProposerAddress, commit: lastCommit(req.LocalLastCommit), misbehavior: req.Misbehavior,
	})
	return answer, nil
}

// selection is a proposal that grows.
type selection struct {
	txs    [][]byte
	room   int64  // bytes
	gas    uint64 // of the block
	beacon []byte // the system transaction, when the block needs it
	prove  func() ([]byte, error)
}

// selectTxs returns the proposal. An error of the beacon leaves out what would
// need it: such a block would be rejected.
func (a *Application) selectTxs(req *types.RequestPrepareProposal) ([][]byte, error) {
	height := uint64(req.Height) //nolint:gosec // a height
	o, err := a.begin()
	if err != nil {
		return nil, err
	}
	if _, err := a.changes.migrate(o, &block.Header{Height: height, Time: req.Time.Unix()}); err != nil {
		return nil, err
	}
	g, err := a.gate(o, height)
	if err != nil {
		return nil, err
	}
	s := &selection{room: req.MaxTxBytes, gas: g.params.MaxGasPerBlock}
	s.prove = func() ([]byte, error) {
		return a.proveBeacon(o, g.chainID, height, consensusAddress(req.ProposerAddress))
	}
	due, err := beacon.Due(o, height)
	if err != nil {
		return nil, err
	}
	if due && !s.needBeacon(a.log) {
		return nil, fmt.Errorf("%w: block %d has work to draw for, and this node cannot: it lets others propose", mman.ErrBeacon, height)
	}
	for _, t := range g.openAll(req.Txs) {
		if t.Tx == nil || t.err != nil || t.GasLimit > s.gas || wireSize(t.raw) > s.room {
			continue
		}
		bill, err := g.examine(o, t.opened, height)
		if err != nil {
			continue
		}
		if draws(t.msgs) && (!s.needBeacon(a.log) || wireSize(t.raw) > s.room) {
			continue
		}
		if err := bill.Take(o); err != nil {
			return nil, err
		}
		due = due || draws(t.msgs)
		s.txs = append(s.txs, t.raw)
		s.room, s.gas = s.room-wireSize(t.raw), s.gas-t.GasLimit
	}
	if due {
		s.txs = append([][]byte{s.beacon}, s.txs...)
	}
	return s.txs, nil
}

// needBeacon makes the system transaction unless it is there; it reports whether
// there is one and room for it.
func (s *selection) needBeacon(log *slog.Logger) bool {
	if s.beacon != nil || s.prove == nil {
		return s.beacon != nil
	}
	raw, err := s.prove()
	s.prove = nil // once is enough
	if err != nil {
		log.Error("cannot prove the beacon: bring back the consensus key with which the validator was made", slog.Any("error", err))
		return false
	}
	if wireSize(raw) > s.room {
		return false
	}
	s.beacon, s.room = raw, s.room-wireSize(raw)
	return true
}

// wireSize returns what a transaction takes of a block, as CometBFT counts: tag,
// length, bytes.
func wireSize(raw []byte) int64 { return int64(1 + protowire.SizeBytes(len(raw))) }

// ProcessProposal executes the block on an overlay, unless this node did when it
// proposed the same, and keeps the result. It rejects what no honest proposer makes: bytes that are no transaction, a
// signature that does not verify, transactions that cannot be admitted in their
// order, more gas than a block has, and whatever panics. It fails as
// PrepareProposal does.
func (a *Application) ProcessProposal(_ context.Context, req *types.RequestProcessProposal) (answer *types.ResponseProcessProposal, _ error) {
	defer a.enter()()
	answer = &types.ResponseProcessProposal{Status: types.ResponseProcessProposal_REJECT}
	defer func() {
		if r := recover(); r != nil {
			a.log.Error("panic while processing a proposal, rejecting it",
				slog.Int64("height", req.Height), slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			answer = &types.ResponseProcessProposal{Status: types.ResponseProcessProposal_REJECT}
		}
	}()
	done, err := a.foreseenOr(proposal{
		hash: req.Hash, height: req.Height, at: req.Time, txs: req.Txs, proposer: req.ProposerAddress, commit: req.ProposedLastCommit, misbehavior: req.Misbehavior,
	})
	if err == nil {
		err = done.refusal
	}
	if errors.Is(err, mman.ErrUpgrade) {
		return nil, err
	}
	if err != nil {
		a.log.Warn("rejecting a proposal", slog.Int64("height", req.Height), slog.Any("error", err))
		return answer, nil
	}
	if len(a.kept) >= maxKept {
		a.kept = slices.Delete(a.kept, 0, 1)
	}
	a.kept = append(a.kept, done)
	a.stageAhead(done)
	answer.Status = types.ResponseProcessProposal_ACCEPT
	return answer, nil
}

// proposal is a block as CometBFT hands it over, before or after the decision.
type proposal struct {
	hash        []byte
	height      int64
	at          time.Time
	txs         [][]byte
	proposer    []byte // consensus address
	commit      types.CommitInfo
	misbehavior []types.Misbehavior
	// decided says that the state after the block is wanted at once.
	decided bool
}

// consensus translates what the block says of validators.
func (p proposal) consensus(aside []byte) *block.Consensus {
	c := &block.Consensus{Proposer: consensusAddress(p.proposer), Aside: aside}
	for _, v := range p.commit.Votes {
		c.Votes = append(c.Votes, block.Vote{
			Validator: consensusAddress(v.Validator.Address), Power: uint64(max(v.Validator.Power, 0)),
			Signed: v.BlockIdFlag != cmtproto.BlockIDFlagAbsent,
		})
	}
	for _, m := range p.misbehavior {
		c.Misbehavior = append(c.Misbehavior, block.Misbehavior{Validator: consensusAddress(m.Validator.Address), Height: uint64(max(m.Height, 0))})
	}
	return c
}

func consensusAddress(address []byte) (a block.ConsensusAddress) {
	copy(a[:], address)
	return a
}

// execute runs a block on a new overlay above the last commit.
func (a *Application) execute(p proposal) (*executed, error) {
	begun, rooting := a.clock(), a.spent.Rooting
	defer func() { a.spent.Executing += a.clock() - begun - (a.spent.Rooting - rooting) }()
	if p.height < 1 || uint64(p.height) != a.next() {
		return nil, fmt.Errorf("%w: block %d where %d is due", mman.ErrInvalid, p.height, a.next())
	}
	a.executions.Add(1)
	e, err := a.prepare(p)
	if err != nil {
		return nil, err
	}
	e.gate.signatures = &signatures{chainID: e.gate.chainID, before: a.store.Latest()}
	if err = e.run(p.txs); err == nil && p.decided {
		e.out.staged, err = a.stage(e.out) // while signatures are verified
	}
	if !e.gate.signatures.settled(a.verified) {
		// Now those that are valid are known, and the others are refused where they
		// stand.
		if e, err = a.prepare(p); err != nil {
			return nil, err
		}
		err = e.run(p.txs)
	}
	e.gate.signatures = nil
	if err != nil || !e.doubtful {
		return e.out, err
	}
	before, err := a.begin()
	if err != nil {
		return nil, err
	}
	if _, err := a.changes.migrate(before, &e.header); err != nil {
		return nil, err
	}
	if err := e.inOrder(before); err != nil {
		e.refuse(err)
		return e.out, fatal(err)
	}
	return e.out, nil
}

// prepare returns the execution of a block before its first transaction.
func (a *Application) prepare(p proposal) (*execution, error) {
	next := a.next()
	o, err := a.begin()
	if err != nil {
		return nil, err
	}
	header := block.Header{Height: next, Time: p.at.Unix()}
	begun, err := a.changes.migrate(o, &header)
	if err != nil {
		return nil, err
	}
	g, err := a.gate(o, next)
	if err != nil {
		return nil, err
	}
	out := &executed{hash: string(p.hash), height: next, at: p.at.Unix(), overlay: o}
	if len(begun) > 0 {
		out.version = header.Version
	}
	return &execution{
		routes: a.routes, gate: g, state: o, gas: g.params.MaxGasPerBlock, out: out, consensus: p.consensus(a.aside()), begun: begun,
		header: header, proposer: consensusAddress(p.proposer),
	}, nil
}
