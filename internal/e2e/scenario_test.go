package e2e_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/sdk/chain"
)

// every is how often a validator is killed.
const every = 4 * time.Second

// TestScenario is the life of a network in short: four validators under load, a
// fifth machine fetches the ledger and becomes a validator, then, for 20 seconds or
// MMAN_SCENARIO, one of them is killed every few seconds and one signs twice. Blocks
// go on, all agree, and at every height there is as much money as there was.
func TestScenario(t *testing.T) {
	life := 20 * time.Second
	if text := os.Getenv("MMAN_SCENARIO"); text != "" {
		var err error
		life, err = time.ParseDuration(text)
		require.NoError(t, err, "MMAN_SCENARIO")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 6))
	params := shortEpochs(20)
	n := raise(t, localnet.Spec{Validators: 4, Providers: []string{"watch"}, Consumers: []string{"me", "bank"}, Params: params}, 1000)
	watch := n.rpc(t, n.Providers[0])
	watched := n.watch(t, watch)
	all := n.rpcs()
	stop := n.load(t, func() []string { return all })

	// The fifth.
	eventually(t, 2*within, "two epochs", func(ctx context.Context) (bool, error) {
		st, err := watch.Status(ctx)
		return st.Height > 2*params.EpochBlocks+4, err
	})
	alone := n.loaded(t, watch)
	require.Positive(t, alone, "transfers before the fifth came")
	fifth := filepath.Join(t.TempDir(), "fifth")
	joined := run(t, fifth, "join", "--home", fifth, "-o", "json", all[0], all[1])
	require.Zero(t, joined.code, "%s", &joined.errs)
	account, ok := object(t, joined.out.Bytes())["account"].(string)
	require.True(t, ok)
	five := serve(t, fifth)
	require.NotZero(t, height(t, five, fifth, 1), "%s", &five.errs)
	running, err := node.ReadRunning(fifth)
	require.NoError(t, err)
	own, err := chain.New(running.RPC)
	require.NoError(t, err)
	defer own.Close()
	st, err := own.Status(t.Context())
	require.NoError(t, err)
	require.Greater(t, st.Earliest, uint64(1), "it fetched a state, not all blocks")
	ask(t, n.Consumers[1].Home, 0, "send", account, "30MAN")
	eventually(t, within, "the money at the fifth", func(context.Context) (bool, error) {
		j := run(t, fifth, "client", "-o", "json", "stake", "create", "five", "10MAN", "--key-file", filepath.Join(fifth, "consensus", "priv_validator_key.json"))
		if j.code != 0 {
			return false, errors.New(j.errs.String())
		}
		return true, nil
	})
	eventually(t, within, "the fifth signs", func(ctx context.Context) (bool, error) {
		st, err := own.Status(ctx)
		return st.IsVoting, err
	})

	whileJoining := n.loaded(t, watch) - alone
	require.Positive(t, whileJoining, "transfers while the fifth joined")

	// Kills, and in the midst of them the equivocation.
	last := n.Validators[3]
	before, err := watch.Validator(t.Context(), last.Address)
	require.NoError(t, err)
	require.NoError(t, n.running[last].Stop())
	delete(n.running, last)
	n.Validators = n.Validators[:3]
	v := corrupt(t, last, deedEquivocate)
	kills := 0
	for end := time.Now().Add(life); time.Now().Before(end); kills++ {
		victim := pick(rng, n.Validators)
		next := time.After(every)
		n.kill(t, victim)
		n.start(t, victim)
		n.await(t, victim, 1)
		<-next
	}
	whileKilled := n.loaded(t, watch) - whileJoining - alone
	require.Positive(t, whileKilled, "transfers while validators were killed")
	slashed(t, watch, v, before)

	st, err = watch.Status(t.Context())
	require.NoError(t, err)
	l := n.audit(t, st.Height)
	eventually(t, within, "the same ledger at the fifth", func(ctx context.Context) (bool, error) {
		hash, err := own.AppHash(ctx, l.height)
		return strings.EqualFold(hash, l.hashes[0]), err
	})
	stop()
	first, heights := watched()
	quit(t, five)
	t.Logf("G7: a fifth joined by its state while %d transfers came; %d kills while %d came, %d heights from %d on, at each of them the supply was conserved",
		whileJoining, kills, whileKilled, heights, first)
}

// watch asks a node for the supply at every height until the returned function is
// called, which tells the first height and how many there were.
func (n *network) watch(t *testing.T, c *chain.Client) func() (first, heights uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	st, err := c.Status(ctx)
	require.NoError(t, err)
	next := st.Height - 1
	first := next
	go func() { done <- follow(ctx, c, &next) }()
	t.Cleanup(cancel)
	return func() (uint64, uint64) {
		cancel()
		require.NoError(t, <-done)
		return first, next - first
	}
}

var errSupply = errors.New("the supply is not conserved")

func follow(ctx context.Context, c *chain.Client, next *uint64) error {
	for ctx.Err() == nil {
		st, err := c.Status(ctx)
		for ; err == nil && *next < st.Height; *next++ {
			var supply chain.Supply
			if err = at(ctx, c.URL(), *next, "/mman/supply", &supply); err == nil && !supply.Conserved() {
				return errSupply
			}
			if err != nil {
				break
			}
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
		}
	}
	return nil
}
