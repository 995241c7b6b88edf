package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/examples/stats"
	"github.com/limboid/massive-man/examples/wordcount"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/sdk"
)

const (
	computeListing = `resource: {kind: compute, facet: wasm, name: compute}
policy: {default: allow, limits: {network: none}}
price: {units: [{unit: wall_ms, per: 1000, price: 0.01MAN}, {unit: calls, per: 1, price: 0.0001MAN}]}
capacity: 64
`
	dataListing = `resource: {kind: dataset, facet: file, name: penguins, content: penguins.csv, private: true}
policy: {default: allow, algorithms: [%s]}
price: {per_lease: 0.002MAN, share_bp: 1000}
capacity: 64
`
	codeListing = `resource: {kind: algorithm, facet: wasm, name: summary, content: stats.wasm, private: true}
policy: {default: allow}
price: {per_lease: 0.001MAN, share_bp: 500}
capacity: 64
`
)

// TestKill lets two workers of one consumer run requests all the time, on data
// that never leaves its provider and on files of their own, and in each round
// kills a validator and a provider at random instants and starts them again.
// After each round the validators agree and every coin is where it belongs; at
// the end every lease has ended by its rules, no provider got more than was
// signed, and none lost what it had acknowledged.
func TestKill(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	net := raise(t, localnet.Spec{
		Validators: 4, Providers: []string{"data", "code"}, Consumers: []string{"consumer"}, Params: shortLeases(40, 10),
	}, 5)
	code := net.publish(t, net.Providers[1], "code", codeListing, map[string][]byte{"stats.wasm": examples.StatsModule()})
	data := net.publish(t, net.Providers[0], "data", fmt.Sprintf(dataListing, code.Resource), map[string][]byte{"penguins.csv": examples.Penguins()})
	net.publish(t, net.Providers[0], "compute", computeListing, nil)
	net.publish(t, net.Providers[1], "compute", computeListing, nil)

	client, dir := net.consumer(t), t.TempDir()
	terms := sdk.DefaultWanted()
	terms.Cap, terms.Blocks, terms.Patience = 200_000, 40, 20
	stat, count := terms, terms
	stat.Algorithm, stat.Data = sdk.Content{Resource: code.Resource}, []sdk.Content{{Resource: data.Resource}}
	count.Algorithm = sdk.Content{File: write(t, dir, "wordcount.wasm", examples.WordcountModule())}
	words, err := wordcount.Count(bytes.NewReader(examples.Book()))
	require.NoError(t, err)
	workers := []*worker{
		{name: "stats", client: client, wanted: stat, rng: rand.New(rand.NewPCG(seed, 2)), next: func(rng *rand.Rand) (sdk.Work, []byte, error) {
			n := rng.Uint64N(1000)
			want, err := stats.Summarize(examples.Penguins(), stats.Options{Sample: true, Seed: n})
			return sdk.Work{Args: []string{"--seed", strconv.FormatUint(n, 10)}}, want, err
		}},
		{name: "wordcount", client: client, wanted: count, rng: rand.New(rand.NewPCG(seed, 3)), next: func(*rand.Rand) (sdk.Work, []byte, error) {
			return sdk.Work{Stdin: bytes.NewReader(examples.Book())}, words, nil
		}},
	}
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	defer func() {
		stop()
		working.Wait()
	}()
	for _, w := range workers {
		w.signed, w.acked = map[mman.LeaseID]mman.Amount{}, map[mman.LeaseID]mman.Amount{}
		w.log = t.Logf
		working.Go(func() { w.run(ctx) })
	}

	for round := range abcitest.Setting(t, "MMAN_KILLS", 4) {
		for _, w := range workers {
			w.progress(t)
		}
		for _, victim := range []*localnet.Node{pick(rng, net.Validators), pick(rng, net.Providers)} {
			// An instant of a run: nothing happens at it that could be waited for.
			instant := time.Duration(rng.IntN(300_000)) * time.Microsecond
			select {
			case <-time.After(instant):
			case <-ctx.Done():
			}
			net.kill(t, victim)
			net.start(t, victim)
			t.Logf("round %d: killed %s", round, victim.Name)
		}
		before := uint64(0)
		for _, one := range net.Nodes() {
			net.await(t, one, 1)
			st, err := net.rpc(t, one).Status(t.Context())
			require.NoError(t, err)
			before = max(before, st.Height)
		}
		l := net.audit(t, before)
		check(t, l, workers)
	}
	for _, w := range workers {
		w.progress(t) // the last kill stopped nobody for good
	}
	stop()
	working.Wait()

	// Nobody asks for anything any more: what is still open ends by itself.
	final := net.expire(t, client)
	check(t, final, workers)
	open, runs := 0, int64(0)
	for id, lease := range final.leases {
		require.Equal(t, market.LeaseClosed, lease.State, id.String())
		for _, w := range workers {
			require.GreaterOrEqual(t, lease.Paid, w.acked[id], "its provider acknowledged a receipt that was never settled: %+v", lease)
			if _, ok := w.acked[id]; ok {
				open++
			}
		}
	}
	for _, w := range workers {
		failed, last, wrong := w.state()
		t.Logf("%s: %d runs; %d visits failed, the last with: %v", w.name, w.done.Load(), failed, last)
		require.NoError(t, wrong)
		runs += w.done.Load()
	}
	require.Zero(t, final.supply[0].Escrow)
	t.Logf("%d runs on %d leases (%d of them acknowledged) up to height %d", runs, len(final.leases), open, final.height)
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// check holds what the chain paid against what the consumer signed. What it
// signed was read after the chain was, and only grows.
func check(t *testing.T, l ledger, workers []*worker) {
	t.Helper()
	for id, lease := range l.leases {
		signed := mman.Amount(0)
		for _, w := range workers {
			signed += w.paid(t, id)
		}
		if lease.Accepted > 0 && lease.State == market.LeaseClosed {
			owed, err := lease.Fixed() // at its end, with or without a receipt
			require.NoError(t, err)
			signed = max(signed, owed)
		}
		require.LessOrEqual(t, lease.Paid, signed, "height %d: lease %s was paid more than was signed", l.height, id)
	}
}

// expire makes blocks, for an idle chain makes few, until every lease of the
// consumer is closed.
func (n *network) expire(t *testing.T, client *sdk.Client) ledger {
	t.Helper()
	submitter, err := client.Submitter()
	require.NoError(t, err)
	var l ledger
	eventually(t, 2*within, "the end of all leases", func(ctx context.Context) (bool, error) {
		if _, err := submitter.Submit(ctx, tx.MsgSend{From: submitter.Address(), To: submitter.Address(), Amount: 1}); err != nil {
			return false, err
		}
		st, err := client.Chain().Status(ctx)
		if err != nil {
			return false, err
		}
		l = n.audit(t, st.Height-2)
		for id, lease := range l.leases {
			if lease.State != market.LeaseClosed {
				return false, fmt.Errorf("height %d: lease %s is %s and closes at %d", l.height, id, lease.State, lease.CloseAt)
			}
		}
		return l.queued == 0, nil
	})
	return l
}

// worker asks for runs, one after the other.
type worker struct {
	name   string
	client *sdk.Client
	wanted sdk.Wanted
	rng    *rand.Rand
	next   func(*rand.Rand) (work sdk.Work, want []byte, err error)

	log  func(format string, args ...any)
	done atomic.Int64 // runs

	mu     sync.Mutex
	failed int
	last   error                        // why the latest visit failed
	wrong  error                        // what must never happen
	signed map[mman.LeaseID]mman.Amount // the highest receipt
	acked  map[mman.LeaseID]mman.Amount // that the provider said it has
}

// slow is a visit worth a word in the log.
const slow = 5 * time.Second

// errWrong is what no kill excuses.
var errWrong = errors.New("wrong")

func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		begun := time.Now()
		err := w.visit(ctx)
		if took := time.Since(begun); took > slow {
			w.log("%s: a visit took %s: %v", w.name, took, err)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		w.mu.Lock()
		w.failed, w.last = w.failed+1, err
		if errors.Is(err, errWrong) {
			w.wrong = err
		}
		wrong := w.wrong
		w.mu.Unlock()
		if wrong != nil {
			return
		}
		select { // the other side may be down
		case <-time.After(poll):
		case <-ctx.Done():
		}
	}
}

// state says how many visits failed, why the latest did, and what went wrong.
func (w *worker) state() (failed int, last, wrong error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed, w.last, w.wrong
}

// visit is one session with a few runs.
func (w *worker) visit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	lease, err := w.client.Lease(ctx, w.wanted)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	id := lease.Lease.ID
	w.set(w.signed, id, 0)
	session, err := w.client.Open(ctx, lease)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	for range 1 + w.rng.IntN(8) {
		work, want, err := w.next(w.rng)
		if err != nil {
			return errors.Join(errWrong, err)
		}
		var out, errs bytes.Buffer
		work.Stdout, work.Stderr = &out, &errs
		outcome, err := session.Run(ctx, work)
		paid, perr := lease.Paid()
		if perr != nil {
			return errors.Join(errWrong, perr)
		}
		w.set(w.signed, id, paid)
		if err != nil {
			return fmt.Errorf("run: %w", errors.Join(err, session.Close(ctx)))
		}
		if outcome.Result.ExitCode != 0 || outcome.Result.Code != 0 || !bytes.Equal(out.Bytes(), want) {
			return errors.Join(errWrong, fmt.Errorf("code %d, exit code %d, output %q, %q", outcome.Result.Code, outcome.Result.ExitCode, &out, &errs), session.Close(ctx))
		}
		w.done.Add(1)
	}
	paid, err := lease.Paid()
	if err != nil {
		return errors.Join(errWrong, err)
	}
	if w.rng.IntN(4) == 0 {
		_, err = session.Settle(ctx)
	} else {
		err = session.Close(ctx)
	}
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	w.set(w.acked, id, paid) // the provider answered after it had read every receipt
	return nil
}

func (w *worker) set(m map[mman.LeaseID]mman.Amount, id mman.LeaseID, amount mman.Amount) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m[id] = max(m[id], amount)
}

// paid is what the worker has signed for a lease: by the book of leases, or
// what it noted of one that has ended and is forgotten there.
func (w *worker) paid(t *testing.T, id mman.LeaseID) mman.Amount {
	t.Helper()
	w.mu.Lock()
	_, mine := w.signed[id]
	w.mu.Unlock()
	if !mine {
		return 0 // another's, or one whose lease never reached its consumer
	}
	book := mman.Amount(0)
	if own, err := w.client.Leases().Get(id); err == nil {
		if paid, err := own.Paid(); err == nil {
			book = paid
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(book, w.signed[id])
}

// progress waits until the worker has finished one more run.
func (w *worker) progress(t *testing.T) {
	t.Helper()
	before := w.done.Load()
	eventually(t, within, w.name+" finishes a run", func(context.Context) (bool, error) {
		_, last, wrong := w.state()
		require.NoError(t, wrong)
		if w.done.Load() > before {
			return true, nil
		}
		return false, last
	})
}
