package abci

import (
	"errors"
	"fmt"
	"math"

	"github.com/cometbft/cometbft/abci/types"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
)

const (
	// codespace names the owner of result codes.
	codespace = "mman"
	// eventsOften is how many events most transactions have.
	eventsOften = 6
)

// executed is a block that was executed on an overlay and not decided yet.
type executed struct {
	hash   string
	height uint64
	at     int64 // the block's time
	// version is that of the rules which begin with this block, 0 for a block
	// that changes none.
	version uint64
	overlay *state.Overlay
	staged  *state.Staged // nil until its root is computed
	results []*types.ExecTxResult
	events  []types.Event
	// updates and aside are what package block calls so in Consensus.
	updates []block.Update
	aside   []byte
	// refusal is set when no honest proposer would have made the block.
	refusal error
	// taken are the transactions without the beacon's.
	taken []entry
}

// execution runs one block.
type execution struct {
	routes routes
	gate   gate
	header block.Header
	state  *state.Overlay
	gas    uint64 // left in the block
	fees   mman.Amount
	used   uint64 // gas that admitted transactions reserved and paid for
	out    *executed
	// proposer made the block.
	proposer block.ConsensusAddress
	// doubtful says that one of the transactions was not admitted.
	doubtful bool

	consensus *block.Consensus
	// begun is what happened before the first transaction.
	begun []block.Event
	// now is what a module works on at the moment.
	now block.Context
}

// run executes the transactions and what is due. Its error is one of the store
// or a broken invariant, never one of a transaction.
func (e *execution) run(txs [][]byte) error {
	entries, err := e.advance(e.gate.openAll(txs))
	if err != nil {
		return err
	}
	e.out.taken = entries
	for _, entry := range entries {
		result, err := e.deliver(entry)
		if err != nil {
			return err
		}
		e.out.results = append(e.out.results, result)
	}
	events := e.begun
	if err := bank.Collect(e.context(e.state, &events), e.gate.baseFee, e.fees, e.used); err != nil {
		return fmt.Errorf("fees of block %d: %w", e.header.Height, err)
	}
	for _, m := range e.routes.modules {
		if err := m.EndBlock(e.context(e.state, &events)); err != nil {
			return fmt.Errorf("end of block %d in %s: %w", e.header.Height, m.Name(), err)
		}
	}
	if err := e.routes.elector.Elect(e.context(e.state, &events), e.consensus); err != nil {
		return fmt.Errorf("election in block %d: %w", e.header.Height, err)
	}
	e.out.events, e.out.updates, e.out.aside = wireEvents(events), e.consensus.Updates, e.consensus.Aside
	return nil
}

// context returns what a module works on until context is called again.
func (e *execution) context(w state.Writer, events *[]block.Event) *block.Context {
	e.now = block.Context{Header: e.header, Params: e.gate.params, State: w, Events: events}
	return &e.now
}

// inOrder returns why no honest proposer would have taken the transactions in this
// order: it admits each after the others, above the state before the block, and
// executes none. What a message did meanwhile is not the proposer's fault.
func (e *execution) inOrder(before *state.Overlay) error {
	for i, t := range e.out.taken {
		if t.err != nil {
			return t.err
		}
		if err := e.gate.admit(before, t.opened, e.header.Height); err != nil {
			return fmt.Errorf("transaction %d of the proposal: %w", i, err)
		}
	}
	return nil
}

// deliver executes one transaction and returns its result.
func (e *execution) deliver(t entry) (*types.ExecTxResult, error) {
	if t.err != nil {
		e.refuse(t.err)
		return failed(t.err, 0, 0), fatal(t.err)
	}
	o := t.opened
	if o.GasLimit > e.gas {
		err := fmt.Errorf("%w: gas limit %d, the block has %d left", mman.ErrOutOfGas, o.GasLimit, e.gas)
		e.refuse(err)
		return failed(err, o.GasLimit, 0), nil
	}
	e.gas -= o.GasLimit
	if err := e.gate.admit(e.state, o, e.header.Height); err != nil {
		e.doubtful = true
		if errors.Is(err, mman.ErrBadSignature) {
			e.refuse(err)
		}
		return failed(err, o.GasLimit, 0), fatal(err)
	}
	fee, err := e.gate.fee(o)
	if err != nil {
		return nil, err
	}
	if e.fees, err = e.fees.Add(fee); err != nil {
		return nil, err
	}
	e.used += o.GasLimit
	signer := o.Address().String()
	events := make([]block.Event, 1, eventsOften)
	events[0] = block.Event{Type: "tx", Attributes: []block.Attribute{{Key: "fee", Value: block.Coins(fee)}, {Key: "fee_payer", Value: signer}}}
	after, used, err := e.messages(o, signer, events)
	if err != nil {
		if err := fatal(err); err != nil {
			return nil, err
		}
		result := failed(err, o.GasLimit, used)
		result.Events = wireEvents(events)
		return result, nil
	}
	return &types.ExecTxResult{
		Data: resultData(o.msgs), GasWanted: wireInt(o.GasLimit), GasUsed: wireInt(used), Events: wireEvents(after),
	}, nil
}

func resultData(msgs []tx.Msg) []byte {
	urls := make([]string, len(msgs))
	for i, m := range msgs {
		urls[i] = m.TypeURL()
	}
	return tx.ResultData(urls)
}

// messages executes all messages of a transaction or none, and returns the
// events with theirs, and the gas: what the table says of the transaction and what
// the messages did to the state, which may not exceed the transaction's limit.
func (e *execution) messages(o opened, signer string, events []block.Event) (after []block.Event, gas uint64, err error) {
	work := e.state.Nest()
	table := e.gate.params.Gas
	meter := state.NewMeter(work, state.Prices{Read: table.Read, Write: table.Write}, o.GasLimit-o.gas)
	for i, msg := range o.msgs {
		m, err := e.routes.message(msg)
		if err != nil {
			return nil, o.gas + meter.Used(), err
		}
		ctx := e.context(meter, &events)
		ctx.TxHash, ctx.Message = o.hash, uint32(i)
		ctx.Emit("message", "action", msg.TypeURL(), "sender", signer, "module", m.Name())
		err = m.Execute(ctx, msg)
		if meter.Exceeded() { // whatever the module made of it
			err = fmt.Errorf("%w: limit %d is used up: what simulating the transaction says, and some more", mman.ErrOutOfGas, o.GasLimit)
		}
		if err != nil {
			return nil, o.gas + meter.Used(), fmt.Errorf("message %d, %s: %w", i, msg.TypeURL(), err)
		}
	}
	return events, o.gas + meter.Used(), work.Commit()
}

func (e *execution) refuse(err error) {
	if e.out.refusal == nil {
		e.out.refusal = err
	}
}

// fatal returns the error when it is not the transaction's own fault but that
// of the store or of the program: it must halt the node, not fail a message.
func fatal(err error) error {
	for _, class := range []error{mman.ErrCorrupt, mman.ErrInvariant, mman.ErrInternal} {
		if errors.Is(err, class) {
			return err
		}
	}
	return nil
}

func failed(err error, wanted, used uint64) *types.ExecTxResult {
	return &types.ExecTxResult{
		Code: uint32(mman.CodeOf(err)), Codespace: codespace, Log: err.Error(),
		GasWanted: wireInt(wanted), GasUsed: wireInt(used),
	}
}

// wireInt fits a number into CometBFT's signed fields. Heights, gas within the
// limits and everything that genesis bounds are far below the largest int64.
func wireInt(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

func wireEvents(events []block.Event) []types.Event {
	n := 0
	for _, e := range events {
		n += len(e.Attributes)
	}
	out, all := make([]types.Event, len(events)), make([]types.EventAttribute, 0, n)
	for i, e := range events {
		from := len(all)
		for _, a := range e.Attributes {
			all = append(all, types.EventAttribute{Key: a.Key, Value: a.Value, Index: true})
		}
		out[i] = types.Event{Type: e.Type, Attributes: all[from:len(all):len(all)]}
	}
	return out
}
