package node_test

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/p2p/protocol/offers"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/p2p/protocol/wire"
	"github.com/limboid/massive-man/sdk/chain"
)

// TestStartingNode: whoever comes before the chain does is asked to come again.
// The other half of the voting power never starts, so this node never serves.
func TestStartingNode(t *testing.T) {
	t.Parallel()
	homes := []string{t.TempDir(), t.TempDir()}
	id, err := node.NewLocalChainID()
	require.NoError(t, err)
	doc := genesis.Document{ChainID: id, Network: genesis.Local, InitialHeight: 1, Params: genesis.Defaults(genesis.Local)}
	for i, home := range homes {
		address, keys, err := node.Prepare(home, "node")
		require.NoError(t, err)
		doc.Accounts = append(doc.Accounts, genesis.Account{Address: address, Balance: mman.MAN})
		doc.Validators = append(doc.Validators, genesis.Validator{Operator: address, Name: []string{"here", "away"}[i], ConsensusKey: keys.ConsensusKey, BeaconKey: keys.BeaconKey, Power: 10})
	}
	require.NoError(t, node.WriteGenesis(homes[0], doc))
	key, err := p2p.LoadOrCreateIdentity(filepath.Join(homes[0], "identity"))
	require.NoError(t, err)
	cfg, err := node.LoadConfig(homes[0])
	require.NoError(t, err)
	ports, err := localnet.FreePorts(t.Context(), 2)
	require.NoError(t, err)
	port, rpc := strconv.Itoa(ports[0]), "127.0.0.1:"+strconv.Itoa(ports[1])
	cfg.RPC, cfg.API, cfg.P2P, cfg.Listen = rpc, "127.0.0.1:0", "127.0.0.1:0", []string{"/ip4/127.0.0.1/tcp/" + port}
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg.Clock = node.Clock{Now: time.Now, After: time.After, Tick: func(d time.Duration) (<-chan time.Time, func()) {
		tick := time.NewTicker(d)
		return tick.C, tick.Stop
	}}
	n, err := node.New(t.Context(), cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
		require.NoError(t, n.Close())
	})

	guest := p2ptest.Start(t, 0, func(_ int, c *p2p.Config) { c.NetworkID = id })
	peer, err := guest.Connect(t.Context(), []string{"/ip4/127.0.0.1/tcp/" + port + "/p2p/" + mman.PeerID(key[ed25519.SeedSize:]).String()})
	require.NoError(t, err)
	for _, name := range []string{session.Protocol, blocks.Protocol, offers.Protocol} {
		require.Eventually(t, func() bool {
			stream, err := guest.Open(t.Context(), peer, name)
			if err != nil { // before Run
				require.ErrorIs(t, err, mman.ErrUnsupported)
				return false
			}
			conn := wire.New(stream, wire.Config{MaxRead: wire.MaxFrame, FrameTimeout: time.Minute})
			require.NoError(t, conn.Write(1, []byte("a question")))
			_, err = conn.Read()
			require.ErrorIs(t, err, mman.ErrBusy, name)
			require.ErrorContains(t, err, "try again")
			return true
		}, time.Minute, 10*time.Millisecond, name)
	}

	client, err := chain.New("http://" + rpc)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.ErrorIs(c, client.Broadcast(t.Context(), []byte("a transaction")), mman.ErrBusy)
	}, time.Minute, 10*time.Millisecond)
}
