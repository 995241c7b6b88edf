package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
)

const (
	// crowdBalance is what each of the crowd has: more than the fee that it offers.
	crowdBalance = 2 * mman.MAN
	// packOutputs are the payments of one transaction of many.
	packOutputs = 500
	// packs are the transactions of many payments that are measured.
	packs = 100
	// crowdBlock is how many accounts are made in one block of the setting up.
	crowdBlock = 50_000
)

// crowded measures one validator whose state holds many accounts more, all of which
// send and receive.
func (b *chainBench) crowded(ctx context.Context, alone float64) (err error) {
	if b.Crowd == 0 {
		return nil
	}
	if err := b.gather(); err != nil {
		return err
	}
	joiner, err := b.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, joiner.Close()) }()
	b.joiner = joiner.State()
	var rates, references, shares []float64
	var blocks []*types.RequestFinalizeBlock
	var rounds [][][]byte
	packed := 0.0
	if err := b.with(ctx, 1, crowded, func(ctx context.Context, t *town) error {
		app, ok := t.counter.Application.(settled)
		if !ok {
			return fmt.Errorf("%w: the application with a crowd is another", mman.ErrInternal)
		}
		turns := b.newTurns()
		for round := range b.Rounds {
			b.report.tell("%d accounts, round %d of %d: %d transfers", turns.accounts, round+1, b.Rounds, b.Transfers)
			senders := turns.next(b.Transfers)
			transfers, err := b.transfers(
				func(i int) (sender, error) { return b.sender(senders[i].account, senders[i].sequence) },
				func(i int) mman.Address { return b.address((i*receiverStride + round) % turns.accounts) },
			)
			if err != nil {
				return err
			}
			before := app.Spent()
			rate, err := t.flood(ctx, transfers, waiting)
			if err != nil {
				return err
			}
			rates, shares, rounds = append(rates, rate), append(shares, rootShare(before, app.Spent())), append(rounds, transfers)
		}
		blocks = t.counter.decided()
		b.report.tell("%d transactions of %d payments", packs, packOutputs)
		many, err := b.packs(turns.sent)
		if err != nil {
			return err
		}
		rate, err := t.flood(ctx, many, waitingPacked)
		packed = rate * packOutputs
		return err
	}); err != nil {
		return err
	}
	b.report.tell("%d blocks once more, by a node that joined", len(blocks))
	before := b.joined.Spent()
	again, err := execute(ctx, b.joined, blocks)
	if err != nil {
		return err
	}
	share := rootShare(before, b.joined.Spent())
	for i, transfers := range rounds {
		b.report.tell("the reference with them, round %d of %d", i+1, len(rounds))
		if err := b.with(ctx, 1, beheld, func(ctx context.Context, t *town) error {
			rate, err := t.flood(ctx, transfers, waiting)
			references = append(references, rate)
			return err
		}); err != nil {
			return err
		}
	}
	name := "tps_" + count(b.Crowd) + "_accounts"
	b.report.set(name, "tx/s", median(rates), alone)
	b.report.set(name+"_of_reference", "tx/s", median(rates), median(references))
	b.report.set("root_share_"+count(b.Crowd)+"_accounts", "%", share, rootShareMost)
	b.report.set("root_share_"+count(b.Crowd)+"_accounts_verified", "%", median(shares), rootShareMost)
	b.report.set("tps_replay_"+count(b.Crowd)+"_accounts", "tx/s", again, median(rates))
	b.report.set("payments_per_second_packed", "1/s", packed, alone)
	return nil
}

// Accounts send, and receive, in an order that jumps among all of them: no two numbers
// of accounts that ChainOptions allow have these primes as a divisor.
const (
	senderStride   = 2_000_003
	receiverStride = 2_100_001
)

// turns is the order in which accounts send.
type turns struct {
	accounts int
	at       int
	sent     map[int]uint64 // transactions of an account so far
}

// turn is the next transaction of an account.
type turn struct {
	account  int
	sequence uint64
}

func (b *chainBench) newTurns() *turns {
	return &turns{accounts: len(b.keys) + b.Crowd, sent: map[int]uint64{}}
}

func (t *turns) next(n int) []turn {
	out := make([]turn, n)
	for i := range out {
		account := t.at * senderStride % t.accounts
		out[i] = turn{account, t.sent[account]}
		t.sent[account]++
		t.at++
	}
	return out
}

// gather finds the addresses of the crowd.
func (b *chainBench) gather() error {
	b.report.tell("%d keys", b.Crowd)
	b.crowd = make([]mman.Address, b.Crowd)
	var g errgroup.Group
	for f := range feeders {
		g.Go(func() error {
			for i := f; i < b.Crowd; i += feeders {
				key, err := crowdKey(i)
				if err != nil {
					return err
				}
				b.crowd[i] = key.Public().Address()
			}
			return nil
		})
	}
	return g.Wait()
}

func crowdKey(i int) (sig.PrivateKey, error) {
	seed := mman.Sum256([]byte("bench crowd"), []byte(strconv.Itoa(i)))
	return sig.FromSeed(sig.Ed25519, seed[:])
}

// sender returns one of all accounts, by its number.
func (b *chainBench) sender(account int, sequence uint64) (sender, error) {
	s := sender{number: uint64(account), sequence: sequence} //nolint:gosec // an index
	if account < len(b.keys) {
		s.key = b.keys[account]
		return s, nil
	}
	var err error
	s.key, err = crowdKey(account - len(b.keys))
	return s, err
}

func (b *chainBench) address(account int) mman.Address {
	if account < len(b.keys) {
		return b.keys[account].Public().Address()
	}
	return b.crowd[account-len(b.keys)]
}

// rootShare returns the root's part of executing blocks, in percent.
func rootShare(before, after abci.Spent) float64 {
	root, rest := after.Rooting-before.Rooting, after.Executing-before.Executing
	return 100 * float64(root) / float64(max(root+rest, 1))
}

// packs signs transactions of many payments, by accounts that have sent so many.
func (b *chainBench) packs(sent map[int]uint64) ([][]byte, error) {
	out := make([][]byte, packs)
	for i := range out {
		n := i % len(b.keys)
		s, err := b.sender(n, sent[n])
		if err != nil {
			return nil, err
		}
		sent[n]++
		m := tx.MsgMultiSend{From: b.address(n)}
		for j := range packOutputs {
			m.Outputs = append(m.Outputs, tx.Output{To: b.crowd[(i*packOutputs+j)%b.Crowd], Amount: 1})
		}
		if out[i], err = b.sign(s, m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// settled is an application whose chain begins for consensus where the setting up
// ended: it says that it is new, and answers the start of the chain itself.
type settled struct {
	*abci.Application

	first *types.ResponseInitChain
}

// Info implements abci.Application.
func (s settled) Info(ctx context.Context, req *types.RequestInfo) (*types.ResponseInfo, error) {
	answer, err := s.Application.Info(ctx, req)
	if err == nil {
		answer.LastBlockHeight, answer.LastBlockAppHash = 0, nil
	}
	return answer, err
}

// InitChain implements abci.Application.
func (s settled) InitChain(context.Context, *types.RequestInitChain) (*types.ResponseInitChain, error) {
	return s.first, nil
}

// settle fills a new state with the crowd, by the bank itself and block by block but
// without consensus and transactions, and opens it again. The document becomes that
// of a chain that goes on from there.
func (b *chainBench) settle(ctx context.Context, db state.DB, doc *genesis.Document) (types.Application, error) {
	app, err := abci.New(abci.Config{DB: db})
	if err != nil {
		return nil, err
	}
	raw, err := doc.Encode()
	if err != nil {
		return nil, err
	}
	first, err := app.InitChain(ctx, &types.RequestInitChain{ChainId: doc.ChainID, InitialHeight: 1, AppStateBytes: raw})
	if err != nil {
		return nil, err
	}
	if _, err := app.FinalizeBlock(ctx, &types.RequestFinalizeBlock{Height: 1, Time: time.Unix(1, 0)}); err != nil {
		return nil, err
	}
	if _, err := app.Commit(ctx, &types.RequestCommit{}); err != nil {
		return nil, err
	}
	full, err := b.populate(ctx, db, doc.Params)
	if err != nil {
		return nil, err
	}
	b.report.tell("a second node joins by the state of %d accounts", len(b.keys)+b.Crowd)
	if b.joined, err = join(b.joiner, full); err != nil {
		return nil, err
	}
	b.report.tell("open the state of %d accounts", len(b.keys)+b.Crowd)
	if app, err = timed(db); err != nil {
		return nil, err
	}
	info, err := app.Info(ctx, &types.RequestInfo{})
	if err != nil {
		return nil, err
	}
	height := uint64(info.LastBlockHeight) //nolint:gosec // a height
	// Consensus is told that the chain goes on, and asks nothing of the state but that
	// there is some.
	doc.InitialHeight, doc.Accounts = height+1, nil
	doc.State = &genesis.State{Height: height, Pairs: []genesis.Pair{{Key: []byte("accounts"), Value: state.Uint64Key(uint64(len(b.keys) + b.Crowd))}}} //nolint:gosec // a number
	first.AppHash = info.LastBlockAppHash
	return settled{app, first}, nil
}

// populate lets the accounts pay each of the crowd, in blocks of many.
func (b *chainBench) populate(ctx context.Context, db state.DB, params genesis.Params) (*state.Snapshot, error) {
	st, err := state.Open(db)
	if err != nil {
		return nil, err
	}
	for made := 0; made < b.Crowd; {
		overlay := st.Begin()
		for end := min(made+crowdBlock, b.Crowd); made < end; {
			m := tx.MsgMultiSend{From: b.keys[made/packOutputs%len(b.keys)].Public().Address()}
			for ; len(m.Outputs) < packOutputs && made < end; made++ {
				m.Outputs = append(m.Outputs, tx.Output{To: b.crowd[made], Amount: crowdBalance})
			}
			if err := bank.New().Execute(&block.Context{
				Header: block.Header{ChainID: b.doc.ChainID, Height: st.Height() + 1}, Params: params, State: overlay, Events: new([]block.Event),
			}, m); err != nil {
				return nil, err
			}
		}
		staged, err := st.Stage(overlay)
		if err != nil {
			return nil, err
		}
		if err := st.Commit(staged, st.Height()+1, nil); err != nil {
			return nil, err
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		b.report.tell("%d of %d further accounts", made, b.Crowd)
	}
	return st.Latest(), nil
}

// join fills an empty database with the state of another node, as state sync does, and
// returns the application above it.
func join(db state.DB, from *state.Snapshot) (*abci.Application, error) {
	st, err := state.Open(db)
	if err != nil {
		return nil, err
	}
	r, err := st.Restore()
	if err != nil {
		return nil, err
	}
	from.Walk("", func(flat string, value []byte) bool {
		err = r.Add(flat, value)
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	if err := r.Commit(from.Height(), from.Root()); err != nil {
		return nil, err
	}
	return timed(db)
}

// timed returns an application that measures what it does.
func timed(db state.DB) (*abci.Application, error) {
	start := time.Now()
	return abci.New(abci.Config{DB: db, Clock: func() time.Duration { return time.Since(start) }})
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
