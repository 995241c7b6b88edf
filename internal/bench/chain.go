package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/node/consensus"
	"github.com/limboid/massive-man/node/store"
)

// ErrOptions is for options of Chain that are out of their range.
var ErrOptions = fmt.Errorf("%w: bench chain", mman.ErrInvalid)

// ChainOptions size the benchmark of the ledger.
type ChainOptions struct {
	// Accounts hold coins and send; 100 to 60,000, a multiple of 4.
	Accounts int
	// Crowd is how many further accounts send and receive in the run with many
	// accounts, by 500s; 0 leaves that run out, at most 2,000,000.
	Crowd int
	// Transfers are sent in each run; at least 1,000.
	Transfers int
	// Rounds are made of each setting, of which the median counts; 1 to 99.
	Rounds int
	// Progress is told what begins and each figure as it is known; nil tells nobody.
	Progress func(string)
}

const (
	// loadShare is the part of the measured rate at which latency is measured.
	loadShare = 0.7
	// feeders hand transactions to the nodes at one time.
	feeders = 4
	// fullPause is how long a feeder waits when a mempool is full.
	fullPause = 2 * time.Millisecond
	// stallAfter is how long no transaction may be committed.
	stallAfter = time.Minute
	// unsignedLeast is how fast the reference must be without signatures, with one
	// validator, or the machine was too busy to compare anything.
	unsignedLeast = 50_000
	// verificationsMost and rootShareMost, in percent, are bounds of the design.
	verificationsMost = 1.05
	rootShareMost     = 25
	// plentyOfGas keeps blocks far from full by gas, so that the base fee falls:
	// what is measured is the ledger, not the market for its space.
	plentyOfGas = 10_000_000_000
)

// Chain measures signed transfers per second, with all validators in this
// process over real sockets, beside a reference application that verifies the same
// signatures and answers as much but keeps no state. Metrics:
//
//	tps_1_validator, tps_4_validators   committed transfers per second, beside the reference's
//	tps_reference_unsigned              those of the reference without signatures, beside what makes the run valid
//	cpu_per_tx                          processor time of a transfer in µs, one validator
//	verifications_per_tx                signatures verified for each transfer on one node, beside the bound
//	tps_replay                          blocks executed again by a new application, beside the rate at which they were made
//	tps_1m_accounts                     with so many accounts more, all of which send and receive,
//	                                    beside our own without them
//	tps_1m_accounts_of_reference        the same beside the reference with the same transfers
//	root_share_1m_accounts              the root's part of FinalizeBlock, in percent, on a node that joined and
//	                                    executes these blocks with their signatures, beside the bound
//	root_share_1m_accounts_verified     the same of execution alone, on the validator, which had verified before
//	tps_replay_1m_accounts              the rate of the node that joined, beside the validator's
//	payments_per_second_packed          payments in transactions of 500, beside single ones
//	latency_p50, latency_p99            ms from submission to the block, one validator at 70 % of its rate
func Chain(ctx context.Context, o ChainOptions) (_ *Report, err error) {
	// With such a number each account's transfers go through one feeder.
	if o.Accounts < 100 || o.Accounts > 60_000 || o.Accounts%feeders != 0 || o.Crowd < 0 || o.Crowd > 2_000_000 || o.Crowd%packOutputs != 0 || o.Transfers < 1000 || o.Rounds < 1 || o.Rounds > 99 {
		return nil, fmt.Errorf("%w: 100 to 60000 accounts by fours, a crowd of at most 2000000 by 500s, at least 1000 transfers, 1 to 99 rounds", ErrOptions)
	}
	dir, err := os.MkdirTemp("", "mman-bench-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := newChainBench(dir, o)
	if err != nil {
		return nil, err
	}
	if err := b.unsigned(ctx); err != nil {
		return nil, err
	}
	own, reference, err := b.compare(ctx, 1)
	if err != nil {
		return nil, err
	}
	b.report.set("tps_1_validator", "tx/s", own, reference)
	if err := b.replay(ctx); err != nil {
		return nil, err
	}
	if err := b.latency(ctx); err != nil {
		return nil, err
	}
	if err := b.crowded(ctx, own); err != nil {
		return nil, err
	}
	if own, reference, err = b.compare(ctx, 4); err != nil {
		return nil, err
	}
	b.report.set("tps_4_validators", "tx/s", own, reference)
	return b.report, nil
}

type chainBench struct {
	ChainOptions

	dir    string
	runs   int // homes that were made
	report *Report
	doc    genesis.Document // without validators
	keys   []sig.PrivateKey // of the accounts, by their numbers
	own    [][]byte         // the transfers among the accounts
	crowd  []mman.Address   // the further accounts, in the order of their numbers
	// joiner is the database of a node that has the state with the crowd, joined its
	// application.
	joiner state.DB
	joined *abci.Application
}

func newChainBench(dir string, o ChainOptions) (*chainBench, error) {
	b := &chainBench{ChainOptions: o, dir: dir, report: newReport("chain")}
	b.report.told = o.Progress
	b.doc = genesis.Document{ChainID: "mman-local-00000001", Network: genesis.Local, InitialHeight: 1, Params: genesis.Defaults(genesis.Local)}
	b.doc.Params.MaxGasPerBlock = plentyOfGas
	byAddress := map[mman.Address]sig.PrivateKey{}
	for i := range o.Accounts {
		seed := mman.Sum256([]byte("bench chain"), []byte(strconv.Itoa(i)))
		key, err := sig.FromSeed(sig.Ed25519, seed[:])
		if err != nil {
			return nil, err
		}
		byAddress[key.Public().Address()] = key
		b.doc.Accounts = append(b.doc.Accounts, genesis.Account{Address: key.Public().Address(), Balance: 100_000 * mman.MAN})
	}
	for _, a := range b.doc.Canonical().Accounts {
		b.keys = append(b.keys, byAddress[a.Address])
	}
	var err error
	n := len(b.keys)
	b.own, err = b.transfers(
		func(i int) (sender, error) { return sender{b.keys[i%n], uint64(i % n), uint64(i / n)}, nil }, //nolint:gosec // indexes
		func(i int) mman.Address { return b.keys[(i*7919+1)%n].Public().Address() },
	)
	return b, err
}

// sender is an account that sends its next transaction.
type sender struct {
	key              sig.PrivateKey
	number, sequence uint64
}

// transfers signs the transfers of one run.
func (b *chainBench) transfers(from func(i int) (sender, error), to func(i int) mman.Address) ([][]byte, error) {
	out := make([][]byte, b.Transfers)
	var g errgroup.Group
	for f := range feeders {
		g.Go(func() error {
			for i := f; i < len(out); i += feeders {
				s, err := from(i)
				if err != nil {
					return err
				}
				if out[i], err = b.sign(s, tx.MsgSend{From: s.key.Public().Address(), To: to(i), Amount: 1}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return out, g.Wait()
}

func (b *chainBench) sign(s sender, msg tx.Msg) ([]byte, error) {
	draft := tx.Draft{Msgs: []tx.Msg{msg}, Sequence: s.sequence, GasLimit: b.doc.Params.MaxGasPerTx, Fee: mman.MAN}
	measured, err := tx.Sign(s.key, b.doc.ChainID, s.number, draft)
	if err != nil {
		return nil, err
	}
	if draft.GasLimit, err = tx.Limit(b.doc.Params.Gas, s.key.Type(), draft.Msgs, len(measured.Raw())+8); err != nil {
		return nil, err
	}
	signed, err := tx.Sign(s.key, b.doc.ChainID, s.number, draft)
	if err != nil {
		return nil, err
	}
	return signed.Raw(), nil
}

// kind is which application is measured.
type kind int

const (
	ours     kind = iota
	signed        // the reference
	unsigned      // the reference without signatures
	crowded       // the ledger with many accounts more
	beheld        // the reference of that one
)

// compare measures the ledger and the reference in turns and returns the medians.
func (b *chainBench) compare(ctx context.Context, validators int) (own, reference float64, err error) {
	var rates, costs [2][]float64
	var verified []float64
	per := float64(len(b.own))
	for round := range b.Rounds {
		for i, k := range []kind{ours, signed} {
			b.report.tell("%d validators, round %d of %d, %s: %d transfers", validators, round+1, b.Rounds, []string{"ledger", "reference"}[i], len(b.own))
			if err := b.with(ctx, validators, k, func(ctx context.Context, t *town) error {
				before := processor()
				rate, err := t.flood(ctx, b.own, waiting)
				rates[i] = append(rates[i], rate)
				costs[i] = append(costs[i], float64((processor()-before).Microseconds())/per)
				if app, ok := t.counter.Application.(*abci.Application); ok {
					verified = append(verified, float64(app.Verifications())/per)
				}
				return err
			}); err != nil {
				return 0, 0, err
			}
		}
	}
	if validators == 1 {
		b.report.set("cpu_per_tx", "us", median(costs[0]), median(costs[1]))
	}
	// The last setting counts, in which transactions also come from other nodes.
	b.report.set("verifications_per_tx", "", median(verified), verificationsMost)
	return median(rates[0]), median(rates[1]), nil
}

// latency measures how long a transfer takes into a block while the chain has
// less to do than it can: in turns, each time beside the rate that the same chain
// reached a moment before, since a machine's speed drifts.
func (b *chainBench) latency(ctx context.Context) error {
	half := len(b.own) / 2
	quantiles := []struct {
		name string
		at   float64
		of   [2][]float64
	}{{name: "latency_p50", at: 0.5}, {name: "latency_p99", at: 0.99}}
	for round := range b.Rounds {
		b.report.tell("latency at %.0f%% of each one's rate, round %d of %d", 100*loadShare, round+1, b.Rounds)
		for i, k := range []kind{ours, signed} {
			if err := b.with(ctx, 1, k, func(ctx context.Context, t *town) error {
				rate, err := t.flood(ctx, b.own[:half], waiting)
				if err != nil {
					return err
				}
				took, err := t.pace(ctx, b.own[half:], rate*loadShare)
				for q := range quantiles {
					quantiles[q].of[i] = append(quantiles[q].of[i], quantile(took, quantiles[q].at))
				}
				return err
			}); err != nil {
				return err
			}
		}
	}
	for _, q := range quantiles {
		b.report.set(q.name, "ms", median(q.of[0]), median(q.of[1]))
	}
	return nil
}

// town is a chain of validators in this process.
type town struct {
	nodes   []*consensus.Node
	counter *counter // of the first
	doc     genesis.Document
}

// with runs fn beside a new chain of that kind.
func (b *chainBench) with(ctx context.Context, validators int, of kind, fn func(context.Context, *town) error) (err error) {
	doc := b.doc
	ports, err := localnet.FreePorts(ctx, validators)
	if err != nil {
		return err
	}
	homes, peers := make([]string, validators), make([]string, validators)
	for i := range validators {
		b.runs++
		homes[i] = filepath.Join(b.dir, strconv.Itoa(b.runs))
		if err := os.MkdirAll(homes[i], 0o700); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		id, err := consensus.Init(homes[i])
		if err != nil {
			return err
		}
		peers[i] = id.PeerID + "@127.0.0.1:" + strconv.Itoa(ports[i])
		doc.Validators = append(doc.Validators, genesis.Validator{
			Operator: b.keys[i].Public().Address(), Name: strconv.Itoa(i), ConsensusKey: id.ConsensusKey, BeaconKey: id.BeaconKey, Power: 10,
		})
	}
	life, stop := context.WithCancel(ctx)
	defer stop()
	g, life := errgroup.WithContext(life)
	t := &town{doc: doc}
	var begun []<-chan struct{}
	for i, home := range homes {
		n, c, err := b.start(life, g, doc, home, peers, i, of)
		if err != nil {
			stop()
			return errors.Join(err, g.Wait())
		}
		t.nodes = append(t.nodes, n)
		if i == 0 {
			t.counter = c
		}
		begun = append(begun, n.Ready(), c.first)
	}
	// The first block holds the genesis, which the reference does not keep: what is
	// measured begins after it.
	for _, ready := range begun {
		select {
		case <-ready:
		case <-life.Done():
			return g.Wait()
		}
	}
	err = fn(life, t)
	stop()
	if werr := g.Wait(); !errors.Is(werr, context.Canceled) {
		err = errors.Join(err, werr)
	}
	for _, home := range homes {
		err = errors.Join(err, os.RemoveAll(home))
	}
	return err
}

// start starts one validator in the group.
func (b *chainBench) start(ctx context.Context, g *errgroup.Group, doc genesis.Document, home string, peers []string, i int, of kind) (*consensus.Node, *counter, error) {
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(store.DefaultConfig(filepath.Join(home, "store"), log))
	if err != nil {
		return nil, nil, err
	}
	app, err := b.application(ctx, of, db.State(), &doc)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	c := newCounter(app)
	cfg := consensus.DefaultConfig(home, doc, log)
	_, listen, _ := strings.Cut(peers[i], "@")
	cfg.RPCListen, cfg.P2PListen, cfg.Index = "127.0.0.1:0", listen, false
	if len(peers) == 1 {
		cfg.Timeouts.Commit = 0 // a pause for late votes, of which there are none
	}
	cfg.Peers = slices.Delete(slices.Clone(peers), i, i+1)
	n, err := consensus.New(cfg, c, db.Data())
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	g.Go(func() error { return errors.Join(n.Run(ctx), db.Close()) })
	return n, c, nil
}

// application returns what is measured, over an empty database.
func (b *chainBench) application(ctx context.Context, of kind, db state.DB, doc *genesis.Document) (types.Application, error) {
	switch of {
	case ours:
		return abci.New(abci.Config{DB: db})
	case crowded:
		return b.settle(ctx, db, doc)
	case beheld:
		r := newReference(*doc, b.keys, true)
		for i, address := range b.crowd {
			r.numbers[address] = uint64(len(b.keys) + i)
		}
		return r, nil
	case signed, unsigned:
	}
	return newReference(*doc, b.keys, of == signed), nil
}
