package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/sdk/chain"
)

// load sends batches of transfers from the first consumer to itself through one
// node after the other until the test stops it, whatever becomes of them.
func (n *network) load(t *testing.T, rpcs func() []string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.send(ctx, rpcs) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		require.NoError(t, <-done)
	}
	t.Cleanup(stop)
	return stop
}

// loaded returns how many transfers of load the ledger has.
func (n *network) loaded(t *testing.T, c *chain.Client) uint64 {
	t.Helper()
	a, err := c.Account(t.Context(), n.Consumers[0].Address)
	require.NoError(t, err)
	return a.Sequence
}

// batch is how many transfers wait for a block at a time.
const batch = 20

func (n *network) send(ctx context.Context, rpcs func() []string) error {
	me := n.Consumers[0]
	ring, err := node.OpenKeyring(me.Home, true)
	if err != nil {
		return err
	}
	key, err := ring.Get("me", nil)
	if err != nil {
		return err
	}
	for turn := 0; ctx.Err() == nil; turn++ {
		all := rpcs()
		if len(all) > 0 && !n.quiet.Load() {
			if err := transfers(ctx, all[turn%len(all)], me.Address, func(a chain.Account) ([][]byte, error) {
				var out [][]byte
				for i := range uint64(batch) {
					draft := tx.Draft{
						Msgs: []tx.Msg{tx.MsgSend{From: me.Address, To: mman.Address{9, byte(i)}, Amount: 1000}}, Sequence: a.Sequence + i,
						GasLimit: 200_000, Fee: mman.MAN / 10,
					}
					signed, err := tx.Sign(key, n.Genesis.ChainID, a.Number, draft)
					if err != nil {
						return nil, err
					}
					out = append(out, signed.Raw())
				}
				return out, nil
			}); err != nil && ctx.Err() == nil && errors.Is(err, mman.ErrInternal) {
				return err
			}
		}
		select { // the next block, or a node that is down
		case <-time.After(poll):
		case <-ctx.Done():
		}
	}
	return nil
}

func transfers(ctx context.Context, rpc string, from mman.Address, sign func(chain.Account) ([][]byte, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := chain.New(rpc)
	if err != nil {
		return err
	}
	defer c.Close()
	a, err := c.Account(ctx, from)
	if err != nil {
		return err
	}
	all, err := sign(a)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	for _, raw := range all {
		if err := c.Broadcast(ctx, raw); err != nil {
			return err
		}
	}
	return nil
}

// TestMaliciousProposer is gate G4: one of four validators proposes what no honest
// one would, each kind once or MMAN_MISDEEDS blocks. Of each kind one at least came to
// an honest validator, which refused it for its reason; none is decided, and the chain
// goes on.
func TestMaliciousProposer(t *testing.T) {
	n := raise(t, localnet.Spec{Validators: 4, Consumers: []string{"me"}}, 2)
	last := n.Validators[3]
	require.NoError(t, n.running[last].Stop())
	delete(n.running, last)
	n.Validators = n.Validators[:3] // of whom the audit asks
	stop := n.load(t, n.rpcs)
	v := corrupt(t, last, deedPropose)
	wanted := abcitest.Setting(t, "MMAN_MISDEEDS", len(misdeeds()))
	var all [][3]string
	var kinds map[string]int
	for some := len(misdeeds()); ; some = min(some+len(misdeeds()), wanted) {
		eventually(t, 2*within, "further misdeeds", func(context.Context) (bool, error) {
			all = v.done(t)
			kinds = caught(t, n.Validators, all)
			if len(kinds) < len(misdeeds()) || len(all) < some {
				return false, fmt.Errorf("only %v, of which were refused for their reason: %v", all, kinds)
			}
			return true, nil
		})
		if len(all) >= wanted {
			break
		}
	}
	stop()
	honest := n.rpc(t, n.Validators[0])
	top := uint64(0)
	for _, one := range all {
		height, err := strconv.ParseUint(one[1], 10, 64)
		require.NoError(t, err)
		top = max(top, height)
		n.await(t, n.Validators[0], height+1)
		decided, err := honest.BlockHash(t.Context(), height)
		require.NoError(t, err)
		require.NotEqual(t, one[2], decided.String(), "%s at height %d was decided", one[0], height)
	}
	n.audit(t, top+4)
	t.Logf("G4: %d misdeeds, none decided, height %d, refused for their reason: %v", len(all), top, kinds)
}

func (n *network) rpcs() (out []string) {
	for _, v := range n.Validators {
		if p := n.running[v]; p != nil {
			out = append(out, p.Running.RPC)
		}
	}
	return out
}

// shortEpochs are the parameters of a chain whose validators change soon.
func shortEpochs(blocks uint64) *genesis.Params {
	p := genesis.Defaults(genesis.Local)
	p.EpochBlocks = blocks
	return &p
}

// TestEquivocator: one of four validators signs two votes in one round. The others
// bring the evidence into a block by themselves; it is slashed and tombstoned,
// leaves at the end of the epoch, and blocks go on.
func TestEquivocator(t *testing.T) {
	n := raise(t, localnet.Spec{Validators: 4, Consumers: []string{"me"}, Params: shortEpochs(20)}, 2)
	last, c := n.Validators[3], n.rpc(t, n.Validators[0])
	before, err := c.Validator(t.Context(), last.Address)
	require.NoError(t, err)
	require.NoError(t, n.running[last].Stop())
	delete(n.running, last)
	n.Validators = n.Validators[:3]
	v := corrupt(t, last, deedEquivocate)
	slashed(t, c, v, before)
	n.audit(t, 1)
}

// slashed waits until an equivocator has lost its stake and its place.
func slashed(t *testing.T, c *chain.Client, v *villain, before chain.Validator) {
	t.Helper()
	var after chain.Validator
	eventually(t, 2*within, "a tombstone", func(ctx context.Context) (_ bool, err error) {
		after, err = c.Validator(ctx, before.Operator)
		if err != nil || !after.Tombstoned || after.Power > 0 {
			return false, errors.Join(err, fmt.Errorf("%+v after %v", after, v.done(t)))
		}
		return true, nil
	})
	require.NotEmpty(t, v.done(t))
	kept := float64(before.Active.Tokens - before.Active.Tokens/20)
	require.InEpsilon(t, kept, float64(after.Active.Tokens+after.Debonding.Tokens), 0.01, "5 %% are burned, once for all votes; fees were added")
	st, err := c.Status(t.Context())
	require.NoError(t, err)
	eventually(t, within, "further blocks", func(ctx context.Context) (bool, error) {
		now, err := c.Status(ctx)
		return now.Height > st.Height+5, err
	})
	supply, err := c.Supply(t.Context())
	require.NoError(t, err)
	require.True(t, supply.Conserved())
	require.Positive(t, supply.Burned)
}
