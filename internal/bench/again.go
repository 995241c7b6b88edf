package bench

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cometbft/cometbft/abci/types"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/node/store"
)

// unsigned measures what the engine itself can do here.
func (b *chainBench) unsigned(ctx context.Context) error {
	b.report.tell("the engine by itself")
	var rates []float64
	for range b.Rounds {
		if err := b.with(ctx, 1, unsigned, func(ctx context.Context, t *town) error {
			rate, err := t.flood(ctx, b.own, waiting)
			rates = append(rates, rate)
			return err
		}); err != nil {
			return err
		}
	}
	b.report.set("tps_reference_unsigned", "tx/s", median(rates), unsignedLeast)
	return nil
}

// replay lets a new application with a store of its own execute the blocks of a
// run again, as a node does that catches up.
func (b *chainBench) replay(ctx context.Context, live float64) error {
	var rates []float64
	for range b.Rounds {
		var blocks []*types.RequestFinalizeBlock
		var doc genesis.Document
		if err := b.with(ctx, 1, ours, func(ctx context.Context, t *town) error {
			_, err := t.flood(ctx, b.own, waiting)
			blocks, doc = t.counter.decided(), t.doc
			return err
		}); err != nil {
			return err
		}
		b.report.tell("%d blocks once more", len(blocks))
		rate, err := b.again(ctx, doc, blocks)
		if err != nil {
			return err
		}
		rates = append(rates, rate)
	}
	b.report.set("tps_replay", "tx/s", median(rates), live)
	return nil
}

func (b *chainBench) again(ctx context.Context, doc genesis.Document, blocks []*types.RequestFinalizeBlock) (rate float64, err error) {
	b.runs++
	db, err := store.Open(store.DefaultConfig(filepath.Join(b.dir, strconv.Itoa(b.runs)), slog.New(slog.DiscardHandler)))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	app, err := abci.New(abci.Config{DB: db.State()})
	if err != nil {
		return 0, err
	}
	first, err := doc.Encode()
	if err != nil {
		return 0, err
	}
	if _, err := app.InitChain(ctx, &types.RequestInitChain{ChainId: doc.ChainID, InitialHeight: 1, AppStateBytes: first}); err != nil {
		return 0, err
	}
	start, n := time.Now(), 0
	for _, req := range blocks {
		if _, err := app.FinalizeBlock(ctx, req); err != nil {
			return 0, err
		}
		if _, err := app.Commit(ctx, &types.RequestCommit{}); err != nil {
			return 0, err
		}
		n += len(req.Txs)
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// crowded measures one validator whose state holds many accounts more, which
// receive.
func (b *chainBench) crowded(ctx context.Context, alone float64) error {
	if b.Crowd == 0 {
		return nil
	}
	sent := make([]uint64, len(b.keys))
	making, err := b.crowd(sent)
	if err != nil {
		return err
	}
	var rates, shares []float64
	packed := 0.0
	b.report.tell("%d further accounts, by %d transactions", b.Crowd, len(making))
	if err := b.with(ctx, 1, ours, func(ctx context.Context, t *town) error {
		rate, err := t.flood(ctx, making, waitingPacked)
		if err != nil {
			return err
		}
		packed = rate * crowdOutputs
		for round := range b.Rounds {
			b.report.tell("%d accounts, round %d of %d", len(b.keys)+b.Crowd, round+1, b.Rounds)
			transfers, err := b.transfers(sent, func(i int) mman.Address { return stranger((i*7919 + round) % b.Crowd) })
			if err != nil {
				return err
			}
			for i := range transfers {
				sent[i%len(sent)]++
			}
			t.counter.reset()
			if rate, err = t.flood(ctx, transfers, waiting); err != nil {
				return err
			}
			rates, shares = append(rates, rate), append(shares, t.counter.rootShare())
		}
		return nil
	}); err != nil {
		return err
	}
	b.report.set("tps_"+count(b.Crowd)+"_accounts", "tx/s", median(rates), alone)
	b.report.set("root_share_"+count(b.Crowd)+"_accounts", "%", median(shares), rootShareMost)
	b.report.set("payments_per_second_packed", "1/s", packed, alone)
	return nil
}

// crowd signs the payments that make the accounts, and counts what each account
// sends for it.
func (b *chainBench) crowd(sent []uint64) (making [][]byte, err error) {
	for i := range b.Crowd / crowdOutputs {
		n := i % len(b.keys)
		m := tx.MsgMultiSend{From: b.keys[n].Public().Address()}
		for j := range crowdOutputs {
			m.Outputs = append(m.Outputs, tx.Output{To: stranger(i*crowdOutputs + j), Amount: 1})
		}
		raw, err := b.sign(n, sent[n], m)
		if err != nil {
			return nil, err
		}
		making, sent[n] = append(making, raw), sent[n]+1
	}
	return making, nil
}

// count writes a round number as people say it.
func count(n int) string {
	switch {
	case n%1_000_000 == 0:
		return strconv.Itoa(n/1_000_000) + "m"
	case n%1000 == 0:
		return strconv.Itoa(n/1000) + "k"
	default:
		return strconv.Itoa(n)
	}
}
