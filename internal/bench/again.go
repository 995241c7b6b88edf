package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cometbft/cometbft/abci/types"

	"github.com/limboid/massive-man/abci"
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
	rate := median(rates)
	b.report.set("tps_reference_unsigned", "tx/s", rate, unsignedLeast)
	if rate < unsignedLeast {
		b.report.Void = fmt.Sprintf("the reference without signatures reached %.0f tx/s, and below %d the machine is too slow or too busy to compare anything", rate, unsignedLeast)
	}
	return nil
}

// replay lets a new application with a store of its own execute the blocks of a
// run again, as a node does that catches up.
func (b *chainBench) replay(ctx context.Context) error {
	var lives, rates []float64
	for range b.Rounds {
		var blocks []*types.RequestFinalizeBlock
		var doc genesis.Document
		if err := b.with(ctx, 1, ours, func(ctx context.Context, t *town) error {
			live, err := t.flood(ctx, b.own, waiting)
			lives = append(lives, live)
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
	b.report.set("tps_replay", "tx/s", median(rates), median(lives))
	return nil
}

func (b *chainBench) again(ctx context.Context, doc genesis.Document, blocks []*types.RequestFinalizeBlock) (rate float64, err error) {
	db, err := b.open()
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
	return execute(ctx, app, blocks)
}

// open opens a store in a new home.
func (b *chainBench) open() (*store.Store, error) {
	b.runs++
	return store.Open(store.DefaultConfig(filepath.Join(b.dir, strconv.Itoa(b.runs)), slog.New(slog.DiscardHandler)))
}

// execute lets an application decide blocks that are not its own, and returns how many
// transactions it executed in a second.
func execute(ctx context.Context, app *abci.Application, blocks []*types.RequestFinalizeBlock) (float64, error) {
	start, n := time.Now(), 0
	for i, req := range blocks {
		if _, err := app.FinalizeBlock(ctx, req); err != nil {
			return 0, err
		}
		if _, err := app.Commit(ctx, &types.RequestCommit{}); err != nil {
			return 0, err
		}
		n += len(req.Txs)
		if i == 0 {
			start, n = time.Now(), 0 // it holds the genesis, and is left out of the live rate too
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}
