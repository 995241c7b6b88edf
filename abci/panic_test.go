package abci_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/genesis"
)

// TestPanicRejects: what panics in a proposal makes it no block and this node no
// wreck: it proposes an empty block, rejects what others propose, and goes on with
// the same proposal when nothing panics any more.
func TestPanicRejects(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	rules := []abci.Migration{{Version: 2, Run: func(ctx *block.Context) error {
		if broken.Load() {
			panic("a fault of the program")
		}
		return ctx.State.Set("toys", []byte("toy"), []byte{2})
	}}}
	c := abcitest.New(t, upgradeGenesis(t, genesis.Upgrade{Height: 4, Version: 2}), knows(rules))
	a, b := abcitest.NewActor(t, "a"), abcitest.NewActor(t, "b")
	c.Pass(3)
	root, raw := c.Root(), c.Sign(a, send(a, b, 5*mman.MAN))
	req := c.Request(raw)

	broken.Store(true)
	prepared, err := c.App.PrepareProposal(t.Context(), c.Preparation(req))
	require.NoError(t, err)
	require.Empty(t, prepared.Txs)
	answer, err := c.App.ProcessProposal(t.Context(), abcitest.Proposal(req))
	require.NoError(t, err)
	require.False(t, answer.IsAccepted())
	require.Equal(t, root, c.Root())

	broken.Store(false)
	before := c.Balance(b)
	made := c.Block(raw)
	require.Zero(t, made.Results[0].Code, made.Results[0].Log)
	require.Equal(t, []byte{2}, toy(t, c))
	require.Equal(t, before+5*mman.MAN, c.Balance(b))
	require.NotEqual(t, root, c.Root())
}
