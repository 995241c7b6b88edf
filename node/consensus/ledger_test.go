package consensus_test

import (
	"context"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/config"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	mmanabci "github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/node/consensus"
	"github.com/limboid/massive-man/node/store"
)

// book is the ledger's own application over a store, and the roots that it committed.
type book struct {
	*mmanabci.Application

	data *store.Data

	mu      sync.Mutex
	roots   map[uint64]mman.Hash
	commits chan uint64
}

func openBook(t *testing.T, stores *store.Store) *book {
	t.Helper()
	app, err := mmanabci.New(mmanabci.Config{DB: stores.State()})
	require.NoError(t, err)
	b := &book{Application: app, data: stores.Data(), roots: map[uint64]mman.Hash{}, commits: make(chan uint64, 10_000)}
	app.OnCommit(func(height uint64) {
		b.mu.Lock()
		b.roots[height] = app.View().Root()
		b.mu.Unlock()
		b.commits <- height
	})
	return b
}

// reach waits until the height is committed.
func (b *book) reach(t *testing.T, height uint64) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case at := <-b.commits:
			if at >= height {
				return
			}
		case <-late:
			require.FailNow(t, "the height was not reached", "%d", height)
		}
	}
}

// root is that of a height that was committed.
func (b *book) root(height uint64) mman.Hash {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.roots[height]
}

// TestFollowerExecutesTheLedger: a node that has nothing fetches the blocks of a chain
// with transfers, and comes to the same root at every height.
func TestFollowerExecutesTheLedger(t *testing.T) {
	t.Parallel()
	home, alice := t.TempDir(), abcitest.NewActor(t, "alice")
	doc := document(t, "mman-local-replica", home)
	doc.Accounts = append(doc.Accounts, genesis.Account{Address: alice.Address, Balance: 100 * mman.MAN})
	stores := openStores(t, t.TempDir())
	first := openBook(t, stores)
	n := run(t, testConfig(home, doc), first, first.data)
	first.reach(t, 1)
	target := uint64(0)
	for i := range 4 {
		account, _, err := first.View().Account(alice.Address)
		require.NoError(t, err)
		signed, err := tx.Sign(alice.Key, doc.ChainID, account.Number, tx.Draft{
			Msgs:     []tx.Msg{tx.MsgSend{From: alice.Address, To: mman.Address{9, byte(i)}, Amount: 1000}},
			Sequence: account.Sequence, GasLimit: 200_000, Fee: mman.MAN / 10,
		})
		require.NoError(t, err)
		sent, err := client(t, n).BroadcastTxCommit(t.Context(), signed.Raw())
		require.NoError(t, err)
		require.Zero(t, sent.CheckTx.Code, sent.CheckTx.Log)
		require.Zero(t, sent.TxResult.Code, sent.TxResult.Log)
		target = uint64(sent.Height)
	}

	others := openStores(t, t.TempDir())
	second := openBook(t, others)
	cfg := testConfig(t.TempDir(), doc)
	cfg.Peers = []string{n.P2PAddr()}
	follower := run(t, cfg, second, second.data)
	second.reach(t, target)
	require.NoError(t, follower.stop())
	require.NoError(t, n.stop())
	distinct := map[mman.Hash]bool{}
	for height := uint64(1); height <= target; height++ {
		require.Equal(t, first.root(height), second.root(height), "height %d", height)
		distinct[second.root(height)] = true
	}
	require.GreaterOrEqual(t, len(distinct), 4, "each transfer has changed the root")
	require.NoError(t, second.Invariants())
	require.NoError(t, stores.Close())
	require.NoError(t, others.Close())
}

// TestLedgerThatFitsNoBlock: one pair of the stopped ledger is another one, and its root
// with it. The node does not go on from there, and says what to do.
func TestLedgerThatFitsNoBlock(t *testing.T) {
	t.Parallel()
	home, dir := t.TempDir(), t.TempDir()
	doc := document(t, "mman-local-misfit", home)
	stores := openStores(t, dir)
	app := openBook(t, stores)
	n := run(t, testConfig(home, doc), app, app.data)
	app.reach(t, 3)
	require.NoError(t, n.stop())

	was, err := stores.State().Marker(math.MaxUint64)
	require.NoError(t, err)
	require.NoError(t, stores.State().Rewind(was.Height-1)) // a quiet block, which wrote nothing
	ledger, err := state.Open(stores.State())
	require.NoError(t, err)
	require.Equal(t, was.Root, ledger.Root())
	pairs, err := ledger.Iterate("bank", nil, nil, 1)
	require.NoError(t, err)
	require.Len(t, pairs, 1)
	o := ledger.Begin()
	require.NoError(t, o.Set("bank", pairs[0].Key, append([]byte{1}, pairs[0].Value...)))
	staged, err := ledger.Stage(o)
	require.NoError(t, err)
	require.NoError(t, ledger.Commit(staged, was.Height, was.Data))
	require.NotEqual(t, was.Root, ledger.Root())
	require.NoError(t, stores.Close())

	stores = openStores(t, dir)
	app = openBook(t, stores)
	again, err := consensus.New(testConfig(home, doc), app, stores.Data())
	require.NoError(t, err)
	err = again.Run(t.Context())
	require.ErrorIs(t, err, mman.ErrCorrupt)
	require.EqualError(t, err, "start consensus: stored data is damaged: the ledger and the blocks in "+home+
		" do not belong together: move its store away and let the node fetch both again")
	require.NoError(t, stores.Close())
}

// heretic is a book that answers another root from a height on.
type heretic struct {
	*book

	from atomic.Int64
}

func (h *heretic) FinalizeBlock(ctx context.Context, req *types.RequestFinalizeBlock) (*types.ResponseFinalizeBlock, error) {
	answer, err := h.book.FinalizeBlock(ctx, req)
	if err == nil && req.Height >= h.from.Load() {
		answer.AppHash[0] ^= 1
	}
	return answer, err
}

// TestLedgerThatGoesAnotherWay: a node whose ledger answers another root than the
// validators signed ends and says what to do, while it fetches blocks and when it follows.
func TestLedgerThatGoesAnotherWay(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	doc := document(t, "mman-local-heresy", home)
	stores := openStores(t, t.TempDir())
	app := openBook(t, stores)
	n := run(t, testConfig(home, doc), app, app.data)
	app.reach(t, 5)
	for name, from := range map[string]int64{"fetching": 2, "following": math.MaxInt64} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := openStores(t, t.TempDir())
			other := &heretic{book: openBook(t, own)}
			other.from.Store(from)
			cfg := testConfig(t.TempDir(), doc)
			cfg.Peers = []string{n.P2PAddr()}
			log, told := quiet()
			cfg.Logger = log
			follower, err := consensus.New(cfg, other, other.data)
			require.NoError(t, err)
			ended := make(chan error, 1)
			go func() { ended <- follower.Run(t.Context()) }()
			if name == "following" {
				<-follower.Ready()
				require.Eventually(t, func() bool { return !catchesUp(t, follower) }, time.Minute, 50*time.Millisecond)
				other.from.Store(0)
			}
			err = <-ended
			require.ErrorIs(t, err, mman.ErrCorrupt)
			require.ErrorContains(t, err, "this node's ledger came to another result than two thirds of the validators: run the version of mman-node that they run, move the store in "+cfg.Home+" away")
			require.ErrorContains(t, err, "AppHash")
			require.Contains(t, told.String(), "level=ERROR msg=\"consensus halted\"")
		})
	}
}

// catchesUp reports whether a node fetches blocks still.
func catchesUp(t *testing.T, n *consensus.Node) bool {
	t.Helper()
	status, err := client(t, running{Node: n}).Status(t.Context())
	return err != nil || status.SyncInfo.CatchingUp
}

// TestSettingsOfCometBFT pins those that the design names, which CometBFT's defaults
// are not.
func TestSettingsOfCometBFT(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	doc := document(t, "mman-local-settings", home)
	for _, network := range []genesis.Network{genesis.Local, genesis.Public} {
		doc.Network = network
		cfg := consensus.DefaultConfig(home, doc, nil)
		got := cfg.CometConfig("127.0.0.1:1", "127.0.0.1:2")
		for name, one := range map[string]struct{ is, want any }{
			"p2p.send_rate":                     {got.P2P.SendRate, int64(64 << 20)},
			"p2p.recv_rate":                     {got.P2P.RecvRate, int64(64 << 20)},
			"p2p.flush_throttle_timeout":        {got.P2P.FlushThrottleTimeout, time.Millisecond},
			"p2p.libp2p.enabled":                {got.P2P.LibP2PEnabled(), false},
			"mempool.type":                      {got.Mempool.Type, config.MempoolTypeFlood},
			"mempool.max_tx_bytes":              {got.Mempool.MaxTxBytes, 64 << 10},
			"mempool.recheck":                   {got.Mempool.Recheck, true},
			"consensus.create_empty_blocks":     {got.Consensus.CreateEmptyBlocks, true},
			"rpc.unsafe":                        {got.RPC.Unsafe, false},
			"rpc.pprof_laddr":                   {got.RPC.PprofListenAddress, ""},
			"instrumentation.prometheus_listen": {got.Instrumentation.PrometheusListenAddr, ""},
			"consensus folder":                  {got.RootDir, filepath.Join(home, "consensus")},
		} {
			require.Equal(t, one.want, one.is, "%s: %s", network, name)
		}
		require.GreaterOrEqual(t, got.Consensus.TimeoutPropose, time.Second, network)
		require.LessOrEqual(t, got.Consensus.CreateEmptyBlocksInterval, time.Second, network)
		require.NoError(t, got.ValidateBasic())
	}
	doc.Network = genesis.Local
	comet, err := consensus.CometGenesis(doc)
	require.NoError(t, err)
	require.Equal(t, int64(1<<20), comet.ConsensusParams.Block.MaxBytes)
	require.Equal(t, int64(64<<10), comet.ConsensusParams.Evidence.MaxBytes)
	for _, network := range []genesis.Network{genesis.Local, genesis.Public} {
		p := genesis.Defaults(network)
		require.Equal(t, []uint64{1 << 20, 64 << 10, 64 << 10}, []uint64{p.BlockMaxBytes, p.EvidenceMaxBytes, p.TxMaxBytes}, network)
	}
}
