package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
)

// counter is an application that counts what its blocks hold.
type counter struct {
	types.Application

	mu     sync.Mutex
	done   int
	failed error
	last   time.Time               // of the last block that held something
	moved  chan struct{}           // closed by the next such block
	at     map[mman.Hash]time.Time // when what is timed was submitted
	took   []time.Duration
	blocks []*types.RequestFinalizeBlock // all of them, in order
	begun  func()                        // closes first
	first  chan struct{}                 // closed when the first block is committed
}

func newCounter(app types.Application) *counter {
	first := make(chan struct{})
	return &counter{
		Application: app, moved: make(chan struct{}), at: map[mman.Hash]time.Time{},
		first: first, begun: sync.OnceFunc(func() { close(first) }),
	}
}

// Commit implements abci.Application.
func (c *counter) Commit(ctx context.Context, req *types.RequestCommit) (*types.ResponseCommit, error) {
	answer, err := c.Application.Commit(ctx, req)
	if err == nil {
		c.begun()
	}
	return answer, err
}

// decided returns the blocks so far.
func (c *counter) decided() []*types.RequestFinalizeBlock {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.blocks)
}

// FinalizeBlock implements abci.Application.
func (c *counter) FinalizeBlock(ctx context.Context, req *types.RequestFinalizeBlock) (*types.ResponseFinalizeBlock, error) {
	answer, err := c.Application.FinalizeBlock(ctx, req)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks = append(c.blocks, req)
	if err != nil || len(req.Txs) == 0 {
		return answer, err
	}
	c.last = time.Now()
	c.done += len(req.Txs)
	for i, r := range answer.TxResults {
		if r.Code != 0 && c.failed == nil {
			c.failed = mman.RemoteError(mman.Code(r.Code), mman.RetryNever, r.Log)
		}
		if len(c.at) == 0 {
			continue
		}
		hash := mman.Sum256(req.Txs[i])
		if since, ok := c.at[hash]; ok {
			c.took = append(c.took, c.last.Sub(since))
			delete(c.at, hash)
		}
	}
	close(c.moved)
	c.moved = make(chan struct{})
	return answer, nil
}

// reset begins to count anew.
func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done, c.took = 0, nil
}

// await waits until so many are in blocks, and returns when the last one was.
func (c *counter) await(ctx context.Context, n int) (time.Time, error) {
	for {
		c.mu.Lock()
		done, failed, last, moved := c.done, c.failed, c.last, c.moved
		c.mu.Unlock()
		switch {
		case failed != nil:
			return last, failed
		case done >= n:
			return last, nil
		}
		select {
		case <-moved:
		case <-time.After(stallAfter):
			return last, fmt.Errorf("%w: %d of %d transactions are in blocks, and none came for %s", mman.ErrTimeout, done, n, stallAfter)
		case <-ctx.Done():
			return last, context.Cause(ctx)
		}
	}
}

const (
	// waiting is how many transactions wait for a block at most: fewer than a mempool
	// takes.
	waiting = 8000
	// waitingPacked is the same for transactions of many payments: some blocks full.
	// Whatever waits is checked again after each block.
	waitingPacked = 128
)

// flood hands over all transactions as fast as the chain takes them, while so many
// wait at most, and returns how many it committed in a second.
func (t *town) flood(ctx context.Context, txs [][]byte, waiting int) (float64, error) {
	t.counter.reset()
	start := time.Now()
	g, feeding := errgroup.WithContext(ctx)
	// A sender's transactions go through one feeder to one node, in their order.
	for f := range feeders {
		g.Go(func() error {
			for i := f; i < len(txs); i += feeders {
				if _, err := t.counter.await(feeding, i-waiting); err != nil {
					return err
				}
				if err := t.submit(feeding, f, txs[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	last, err := t.counter.await(ctx, len(txs))
	return float64(len(txs)) / last.Sub(start).Seconds(), err
}

func (t *town) submit(ctx context.Context, feeder int, raw []byte) error {
	for {
		_, err := t.nodes[feeder%len(t.nodes)].Submit(ctx, raw)
		if !errors.Is(err, mman.ErrBusy) {
			return err
		}
		select {
		case <-time.After(fullPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pace hands over transactions at a rate per second, for five seconds or as long
// as there are some, and returns how long each took into a block.
func (t *town) pace(ctx context.Context, txs [][]byte, rate float64) ([]time.Duration, error) {
	const seconds = 5
	txs = txs[:min(len(txs), int(rate*seconds))]
	t.counter.reset()
	start := time.Now()
	for i, raw := range txs {
		if ahead := time.Duration(float64(i)/rate*float64(time.Second)) - time.Since(start); ahead > fullPause {
			select {
			case <-time.After(ahead):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		t.counter.time(mman.Sum256(raw))
		if err := t.submit(ctx, 0, raw); err != nil {
			return nil, err
		}
	}
	_, err := t.counter.await(ctx, len(txs))
	t.counter.mu.Lock()
	defer t.counter.mu.Unlock()
	return t.counter.took, err
}

// time begins to time a transaction.
func (c *counter) time(hash mman.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at[hash] = time.Now()
}

// reference is the yardstick: it verifies each signature once, unless it is to be
// without signatures, and answers as many events as the ledger, of about the same length, but keeps no state.
type reference struct {
	types.BaseApplication

	doc     genesis.Document
	numbers map[mman.Address]uint64
	signed  bool

	mu       sync.Mutex
	verified map[mman.Hash]bool
}

func newReference(doc genesis.Document, keys []sig.PrivateKey, signed bool) *reference {
	r := &reference{doc: doc, signed: signed, numbers: map[mman.Address]uint64{}, verified: map[mman.Hash]bool{}}
	for i, k := range keys {
		r.numbers[k.Public().Address()] = uint64(i)
	}
	return r
}

// check verifies a transaction's signature unless it did.
func (r *reference) check(raw []byte) error {
	if !r.signed {
		return nil
	}
	hash := mman.Sum256(raw)
	r.mu.Lock()
	known := r.verified[hash]
	r.mu.Unlock()
	if known {
		return nil
	}
	t, err := tx.Decode(raw)
	if err != nil {
		return err
	}
	if err := t.Verify(r.doc.ChainID, r.numbers[t.Signer.Address()]); err != nil {
		return err
	}
	r.mu.Lock()
	r.verified[hash] = true
	r.mu.Unlock()
	return nil
}

// Info implements abci.Application.
func (r *reference) Info(context.Context, *types.RequestInfo) (*types.ResponseInfo, error) {
	return &types.ResponseInfo{AppVersion: 1}, nil
}

// CheckTx implements abci.Application.
func (r *reference) CheckTx(_ context.Context, req *types.RequestCheckTx) (*types.ResponseCheckTx, error) {
	if err := r.check(req.Tx); err != nil {
		return &types.ResponseCheckTx{Code: uint32(mman.CodeOf(err)), Log: err.Error()}, nil
	}
	return &types.ResponseCheckTx{GasWanted: 1}, nil
}

// ProcessProposal implements abci.Application.
func (r *reference) ProcessProposal(_ context.Context, req *types.RequestProcessProposal) (*types.ResponseProcessProposal, error) {
	for _, raw := range req.Txs {
		if r.check(raw) != nil {
			return &types.ResponseProcessProposal{Status: types.ResponseProcessProposal_REJECT}, nil //nolint:nilerr // that is the answer
		}
	}
	return &types.ResponseProcessProposal{Status: types.ResponseProcessProposal_ACCEPT}, nil
}

// FinalizeBlock implements abci.Application.
func (r *reference) FinalizeBlock(_ context.Context, req *types.RequestFinalizeBlock) (*types.ResponseFinalizeBlock, error) {
	answer := &types.ResponseFinalizeBlock{AppHash: make([]byte, len(mman.Hash{}))}
	for _, raw := range req.Txs {
		if err := r.check(raw); err != nil {
			return nil, err
		}
		answer.TxResults = append(answer.TxResults, transferResult())
	}
	return answer, nil
}

// transferResult has the events of a transfer, with other values of about the same
// length.
func transferResult() *types.ExecTxResult {
	const address = "man1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
	event := func(typ string, keys ...string) types.Event {
		e := types.Event{Type: typ}
		for _, k := range keys {
			value := address
			if k == "amount" || k == "fee" {
				value = "2000uman"
			}
			e.Attributes = append(e.Attributes, types.EventAttribute{Key: k, Value: value, Index: true})
		}
		return e
	}
	return &types.ExecTxResult{GasWanted: 1, GasUsed: 1, Events: []types.Event{
		event("tx", "fee", "fee_payer"), event("message", "action", "sender", "module"),
		event("transfer", "recipient", "sender", "amount"), event("coin_spent", "spender", "amount"), event("coin_received", "receiver", "amount"),
	}}
}
