package abci_test

import (
	"testing"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
)

// toys are two migrations that write down in which order they ran, and double a
// parameter.
func toys() []abci.Migration {
	note := func(version byte) func(*block.Context) error {
		return func(ctx *block.Context) error {
			key := []byte("toy")
			old, _, err := ctx.State.Get("toys", key)
			if err != nil {
				return err
			}
			return ctx.State.Set("toys", key, append(append([]byte{}, old...), version, byte(ctx.Version), byte(ctx.Height)))
		}
	}
	return []abci.Migration{{Version: 2, Run: note(2)}, {Version: 3, Run: note(3)}}
}

func upgradeGenesis(t *testing.T, plan ...genesis.Upgrade) genesis.Document {
	t.Helper()
	doc := abcitest.Genesis(t, 1000*mman.MAN, abcitest.NewActor(t, "a"), abcitest.NewActor(t, "b"))
	doc.Upgrades = plan
	require.NoError(t, doc.Validate())
	return doc
}

func knows(migrations []abci.Migration, plan ...genesis.Upgrade) func(*abci.Config) {
	return func(c *abci.Config) { c.Migrations, c.Plan = migrations, plan }
}

func toy(t *testing.T, c *abcitest.Chain) []byte {
	t.Helper()
	answer, err := c.App.Query(t.Context(), &types.RequestQuery{Path: "/store/toys/key", Data: []byte("toy")})
	require.NoError(t, err)
	return answer.Value
}

// TestUpgrade goes through two migrations at the height of the plan, and a third
// node replays them from the first block.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	plan := genesis.Upgrade{Height: 6, Version: 3}
	c := abcitest.New(t, upgradeGenesis(t, plan), knows(toys()))
	a, b := abcitest.NewActor(t, "a"), abcitest.NewActor(t, "b")
	c.Pass(5)
	require.Empty(t, toy(t, c))
	root := c.Root()
	var answer abci.UpgradesAnswer
	code, log := c.Query("/mman/upgrades", &answer)
	require.Zero(t, code, log)
	require.Equal(t, abci.UpgradesAnswer{Version: 1, Newest: 3, Plan: []genesis.Upgrade{plan}}, answer)
	c.Restart()
	events := c.Block(c.Sign(a, send(a, b, 5))).Events
	version, ok := abcitest.Attribute(events, "mman.upgrade", "version")
	require.True(t, ok)
	require.Equal(t, "2", version)
	require.Equal(t, []byte{2, 2, 6, 3, 3, 6}, toy(t, c), "in order, once, at the height")
	require.NotEqual(t, root, c.Root())
	c.Restart()
	c.Pass(3)
	require.Equal(t, []byte{2, 2, 6, 3, 3, 6}, toy(t, c))
	info, err := c.App.Info(t.Context(), &types.RequestInfo{})
	require.NoError(t, err)
	require.Equal(t, uint64(3), info.AppVersion)
	c.Replay(func(h uint64) (restart, drop bool) { return h%2 == 0, h%3 == 0 })
	doc, err := c.App.Export()
	require.NoError(t, err)
	doc.Upgrades = nil
	raw, err := doc.Encode()
	require.NoError(t, err)
	old, err := abci.New(abci.Config{DB: state.NewMemory()})
	require.NoError(t, err)
	_, err = old.InitChain(t.Context(), &types.RequestInitChain{ChainId: doc.ChainID, InitialHeight: int64(doc.InitialHeight), AppStateBytes: raw})
	require.ErrorIs(t, err, mman.ErrUpgrade, "an old program does not go on with a state of newer rules")
}

// TestMissedUpgrade: a program that does not know the rules stops at the height
// with a sentence, keeps its state, and does not start again; the newer one goes
// on from there.
func TestMissedUpgrade(t *testing.T) {
	t.Parallel()
	plan := genesis.Upgrade{Height: 4, Version: 2}
	for _, byOperators := range []bool{false, true} {
		doc, old, newer := upgradeGenesis(t, plan), knows(nil), knows(toys())
		if byOperators {
			doc, old, newer = upgradeGenesis(t), knows(nil, plan), knows(toys(), plan)
		}
		change := old
		c := abcitest.New(t, doc, func(cfg *abci.Config) { change(cfg) })
		c.Pass(3)
		root, req := c.Root(), c.Request()
		check := func(err error) {
			t.Helper()
			require.ErrorIs(t, err, mman.ErrUpgrade)
			require.Contains(t, err.Error(), "from height 4 on the rules have version 2, this program knows 1: install a newer mman-node and start it again, the state of height 3 is kept")
		}
		_, err := c.App.PrepareProposal(t.Context(), &types.RequestPrepareProposal{Height: 4, Time: req.Time, MaxTxBytes: 1 << 20})
		check(err)
		_, err = c.App.ProcessProposal(t.Context(), abcitest.Proposal(req))
		check(err)
		_, err = c.App.FinalizeBlock(t.Context(), &req)
		check(err)
		require.Equal(t, root, c.Root())
		_, err = abci.New(abci.Config{DB: c.DB(), Plan: planOf(byOperators, plan)})
		check(err)
		change = newer
		c.Restart()
		require.Equal(t, root, c.Root())
		c.Pass(2)
		require.Equal(t, []byte{2, 2, 4}, toy(t, c))
		// Who is told of the upgrade too late cannot go on as if nothing had been.
		if byOperators {
			late := abcitest.New(t, doc, knows(toys()))
			late.Pass(5)
			_, err = abci.New(abci.Config{DB: late.DB(), Migrations: toys(), Plan: []genesis.Upgrade{plan}})
			require.ErrorIs(t, err, mman.ErrUpgrade)
			require.Contains(t, err.Error(), "was to begin at height 4")
		}
		// And the newer state is none for the old program.
		_, err = abci.New(abci.Config{DB: c.DB(), Plan: planOf(byOperators, plan)})
		require.ErrorIs(t, err, mman.ErrUpgrade)
	}
	for _, bad := range [][]genesis.Upgrade{{{Height: 1, Version: 2}}, {{Height: 5, Version: 1}}, {{Height: 5, Version: 2}, {Height: 5, Version: 3}}, {{Height: 5, Version: 3}, {Height: 6, Version: 2}}, make([]genesis.Upgrade, 65)} {
		_, err := abci.New(abci.Config{DB: state.NewMemory(), Plan: bad})
		require.ErrorIs(t, err, mman.ErrGenesis)
	}
	_, err := abci.New(abci.Config{DB: state.NewMemory(), Migrations: toys()[1:]})
	require.ErrorIs(t, err, mman.ErrInternal)
}

func planOf(byOperators bool, plan genesis.Upgrade) []genesis.Upgrade {
	if byOperators {
		return []genesis.Upgrade{plan}
	}
	return nil
}
