package consensus_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	coretypes "github.com/cometbft/cometbft/rpc/core/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	mmanabci "github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/node/consensus"
	"github.com/limboid/massive-man/node/store"
)

// tally is an application whose hash is the hash of all transactions in order.
// It lives longer than a node, as a state on disk does.
type tally struct {
	abci.BaseApplication

	mu      sync.Mutex
	height  int64
	hash    []byte
	next    []byte
	breakAt int64
	taken   int // transactions in blocks, counted by closed
	commits chan int64
}

func newTally() *tally { return &tally{commits: make(chan int64, 10_000)} }

func (a *tally) Info(context.Context, *abci.RequestInfo) (*abci.ResponseInfo, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &abci.ResponseInfo{LastBlockHeight: a.height, LastBlockAppHash: a.hash, AppVersion: 1}, nil
}

func (a *tally) InitChain(_ context.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	doc, err := genesis.Decode(req.AppStateBytes)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hash = []byte(doc.ChainID)
	return &abci.ResponseInitChain{AppHash: a.hash}, nil
}

func (a *tally) CheckTx(_ context.Context, req *abci.RequestCheckTx) (*abci.ResponseCheckTx, error) {
	if bytes.HasPrefix(req.Tx, []byte("bad")) {
		return &abci.ResponseCheckTx{Code: uint32(mman.ErrFunds.Code), Log: "not enough"}, nil
	}
	return &abci.ResponseCheckTx{}, nil
}

func (a *tally) FinalizeBlock(_ context.Context, req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.breakAt > 0 && req.Height >= a.breakAt {
		return nil, fmt.Errorf("%w: no space", mman.ErrDiskFull)
	}
	a.height, a.next = req.Height, a.hash
	results := make([]*abci.ExecTxResult, len(req.Txs))
	for i, tx := range req.Txs {
		sum := sha256.Sum256(append(bytes.Clone(a.next), tx...))
		a.next, results[i] = sum[:], &abci.ExecTxResult{}
	}
	return &abci.ResponseFinalizeBlock{TxResults: results, AppHash: a.next}, nil
}

func (a *tally) Commit(context.Context, *abci.RequestCommit) (*abci.ResponseCommit, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hash = a.next
	select {
	case a.commits <- a.height:
	default:
	}
	return &abci.ResponseCommit{}, nil
}

func (a *tally) now() (height int64, hash string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.height, hex.EncodeToString(a.hash)
}

// reach waits for a commit at or above a height.
func (a *tally) reach(t *testing.T, height int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		if now, _ := a.now(); now >= height {
			return
		}
		select {
		case <-a.commits:
		case <-ctx.Done():
			now, _ := a.now()
			require.Failf(t, "too slow", "height %d, not %d", now, height)
		}
	}
}

// document is a local network of the homes' validators.
func document(t *testing.T, chain string, homes ...string) genesis.Document {
	t.Helper()
	doc := genesis.Document{
		ChainID: chain, Network: genesis.Local, InitialHeight: 1, Params: genesis.Defaults(genesis.Local),
		Accounts: []genesis.Account{{Address: mman.Address{1}, Balance: 1_000_000}},
	}
	for i, home := range homes {
		id, err := consensus.Init(home)
		require.NoError(t, err)
		doc.Validators = append(doc.Validators, genesis.Validator{
			Operator: mman.Address{byte(i + 1)}, Name: fmt.Sprintf("v%d", i), ConsensusKey: id.ConsensusKey, BeaconKey: id.BeaconKey, Power: 10,
		})
	}
	return doc
}

// quiet returns a logger and what it was told at WARN and above.
func quiet() (*slog.Logger, *lines) {
	out := &lines{}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn})), out
}

type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testConfig(home string, doc genesis.Document) consensus.Config {
	cfg := consensus.DefaultConfig(home, doc, slog.New(slog.DiscardHandler))
	cfg.RPCListen, cfg.P2PListen = "tcp://127.0.0.1:0", "127.0.0.1:0"
	return cfg
}

// running is a node and the way to end it.
type running struct {
	*consensus.Node

	stop func() error
}

// run starts a node and waits until it is ready.
func run(t *testing.T, cfg consensus.Config, app abci.Application, data *store.Data) running {
	t.Helper()
	n, err := consensus.New(cfg, app, data)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	select {
	case <-n.Ready():
	case err := <-done:
		done <- err
		require.NoError(t, err)
		require.Fail(t, "ended before it was ready")
	}
	return running{n, stop}
}

func client(t *testing.T, n running) *rpchttp.HTTP {
	t.Helper()
	c, err := rpchttp.New("http://"+n.RPCAddr(), "/websocket")
	require.NoError(t, err)
	return c
}

func TestOneValidatorCommitsAndContinues(t *testing.T) {
	t.Parallel()
	home, data, app := t.TempDir(), openData(t), newTally()
	doc := document(t, "mman-local-one", home)
	cfg := testConfig(home, doc)
	log, told := quiet()
	cfg.Logger = log
	n := run(t, cfg, app, data)

	c := client(t, n)
	res, err := c.BroadcastTxCommit(t.Context(), []byte("first"))
	require.NoError(t, err)
	require.Zero(t, res.TxResult.Code)
	hash, err := n.Submit(t.Context(), []byte("second"))
	require.NoError(t, err)
	app.reach(t, res.Height+2)
	require.EventuallyWithT(t, func(check *assert.CollectT) { // the index follows the block
		found, err := c.Tx(t.Context(), hash[:], false)
		require.NoError(check, err)
		require.Greater(check, found.Height, res.Height)
	}, time.Minute, 10*time.Millisecond)

	_, err = n.Submit(t.Context(), []byte("second"))
	require.ErrorIs(t, err, mman.ErrExists)
	_, err = n.Submit(t.Context(), []byte("bad"))
	require.ErrorIs(t, err, mman.ErrFunds)
	_, err = n.Submit(t.Context(), make([]byte, 70_000))
	require.ErrorIs(t, err, mman.ErrTooLarge)

	got, err := c.Genesis(t.Context())
	require.NoError(t, err)
	require.Equal(t, doc.ChainID, got.Genesis.ChainID)
	require.Equal(t, int64(1<<20), got.Genesis.ConsensusParams.Block.MaxBytes)
	require.Equal(t, int64(64<<10), got.Genesis.ConsensusParams.Evidence.MaxBytes)
	require.Zero(t, got.Genesis.ConsensusParams.ABCI.VoteExtensionsEnableHeight)
	first, err := c.Block(t.Context(), new(int64(1)))
	require.NoError(t, err)
	require.Equal(t, got.Genesis.GenesisTime, first.Block.Time)

	require.NoError(t, n.stop())
	require.Empty(t, told.String(), "nobody needs to act")
	_, err = n.Submit(t.Context(), []byte("late"))
	require.ErrorIs(t, err, mman.ErrBusy)
	_, err = n.Status()
	require.ErrorIs(t, err, mman.ErrBusy)
	require.ErrorIs(t, n.Run(t.Context()), mman.ErrInvalid)
	height, before := app.now()

	who, err := consensus.LoadIdentity(home)
	require.NoError(t, err)
	again := run(t, testConfig(home, doc), app, data)
	same, err := consensus.LoadIdentity(home)
	require.NoError(t, err)
	require.Equal(t, who, same)
	require.Contains(t, again.P2PAddr(), who.PeerID)
	app.reach(t, height+2)
	_, after := app.now()
	require.Equal(t, before, after, "quiet blocks change nothing")
	status, err := again.Status()
	require.NoError(t, err)
	require.Greater(t, status.Height, uint64(height))
	require.False(t, status.CatchingUp)
	found, err := client(t, again).Tx(t.Context(), hash[:], false)
	require.NoError(t, err)
	require.Positive(t, found.Height)
	require.NoError(t, again.stop())
}

func TestLedgerContinues(t *testing.T) {
	t.Parallel()
	home, dir := t.TempDir(), t.TempDir()
	doc := document(t, "mman-local-ledger", home)
	var last *coretypes.ResultBlock
	for range 2 {
		stores := openStores(t, dir)
		app, err := mmanabci.New(mmanabci.Config{DB: stores.State()})
		require.NoError(t, err)
		heights := make(chan uint64, 100)
		app.OnCommit(func(height uint64) { heights <- height })
		n := run(t, testConfig(home, doc), app, stores.Data())
		for range 3 {
			<-heights
		}
		status, err := n.Status()
		require.NoError(t, err)
		newest, err := client(t, n).Block(t.Context(), nil)
		require.NoError(t, err)
		if last != nil {
			require.Greater(t, newest.Block.Height, last.Block.Height)
			require.Equal(t, last.Block.AppHash, newest.Block.AppHash, "quiet blocks change nothing")
		}
		last = newest
		require.NoError(t, n.stop())
		require.NoError(t, app.Invariants())
		c, err := app.Chain()
		require.NoError(t, err)
		hash, err := doc.Hash()
		require.NoError(t, err)
		require.Equal(t, hash, c.Genesis)
		require.GreaterOrEqual(t, status.Height, uint64(3))
		require.NoError(t, stores.Close())
	}
}

func openStores(t *testing.T, dir string) *store.Store {
	t.Helper()
	cfg := store.DefaultConfig(dir, slog.New(slog.DiscardHandler))
	cfg.MemTable, cfg.MinFree = 1<<20, 0
	s, err := store.Open(cfg)
	require.NoError(t, err)
	return s
}

func TestApplicationBehindIsCaughtUp(t *testing.T) {
	t.Parallel()
	home, data, app := t.TempDir(), openData(t), newTally()
	doc := document(t, "mman-local-replay", home)
	n := run(t, testConfig(home, doc), app, data)
	_, err := client(t, n).BroadcastTxCommit(t.Context(), []byte("kept in the block store"))
	require.NoError(t, err)
	require.NoError(t, n.stop())
	_, want := app.now()

	empty := newTally()
	n = run(t, testConfig(home, doc), empty, data)
	height, got := empty.now()
	require.Positive(t, height)
	require.Equal(t, want, got)
	require.NoError(t, n.stop())
}

func TestFourValidatorsAgree(t *testing.T) {
	t.Parallel()
	const count = 4
	homes := make([]string, count)
	for i := range homes {
		homes[i] = t.TempDir()
	}
	doc := document(t, "mman-local-four", homes...)
	nodes, apps, peers := make([]running, count), make([]*tally, count), []string{}
	for i, home := range homes {
		cfg := testConfig(home, doc)
		cfg.Peers, cfg.Index = append([]string{}, peers...), i == 0
		apps[i] = newTally()
		nodes[i] = run(t, cfg, apps[i], openData(t))
		peers = append(peers, nodes[i].P2PAddr())
	}
	apps[0].reach(t, 1)
	res, err := client(t, nodes[0]).BroadcastTxCommit(t.Context(), []byte("for all"))
	require.NoError(t, err)
	for i, app := range apps {
		app.reach(t, res.Height+1)
		own, err := client(t, nodes[i]).Block(t.Context(), new(res.Height+1))
		require.NoError(t, err)
		first, err := client(t, nodes[0]).Block(t.Context(), new(res.Height+1))
		require.NoError(t, err)
		require.Equal(t, first.Block.AppHash, own.Block.AppHash)
		require.Len(t, own.Block.AppHash, sha256.Size)
	}
	for _, n := range nodes {
		require.NoError(t, n.stop())
	}
}

// closed is a tally that proposes nothing until it is opened.
type closed struct {
	*tally

	open atomic.Bool
}

func (a *closed) PrepareProposal(ctx context.Context, req *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	if !a.open.Load() {
		return &abci.ResponsePrepareProposal{}, nil
	}
	return a.tally.PrepareProposal(ctx, req)
}

func (a *closed) FinalizeBlock(ctx context.Context, req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	a.mu.Lock()
	a.taken += len(req.Txs)
	a.mu.Unlock()
	return a.tally.FinalizeBlock(ctx, req)
}

// TestFullMempool: whatever a full mempool says yes to comes into a block, however
// many bring transactions at one time, and to all others it says at once that it is
// full.
func TestFullMempool(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	cfg := testConfig(home, document(t, "mman-local-00000011", home))
	cfg.MempoolTxs = 4
	app := &closed{tally: newTally()}
	n := run(t, cfg, app, openStores(t, filepath.Join(home, "store")).Data())
	const callers = 64
	answers := make(chan error, callers)
	for i := range callers {
		go func() {
			_, err := n.Submit(t.Context(), fmt.Appendf(nil, "transaction %d", i))
			answers <- err
		}()
	}
	kept := 0
	for range callers {
		if err := <-answers; err == nil {
			kept++
		} else {
			require.ErrorIs(t, err, mman.ErrBusy)
			require.ErrorContains(t, err, "the mempool is full")
		}
	}
	require.GreaterOrEqual(t, kept, cfg.MempoolTxs)
	st, err := n.Status()
	require.NoError(t, err)
	require.Equal(t, kept, st.MempoolTxs, "what it said yes to it keeps")
	late := []byte("one too many")
	_, err = n.Submit(t.Context(), late)
	require.ErrorIs(t, err, mman.ErrBusy)
	told, err := client(t, n).BroadcastTxSync(t.Context(), late)
	require.NoError(t, err)
	require.Equal(t, uint32(mman.ErrBusy.Code), told.Code, "the RPC says the same")
	require.Equal(t, mman.Codespace, told.Codespace)
	require.Contains(t, told.Log, "send it again")

	app.open.Store(true)
	require.Eventually(t, func() bool {
		app.mu.Lock()
		defer app.mu.Unlock()
		return app.taken == kept
	}, time.Minute, 10*time.Millisecond, "all that was kept is in blocks")
	require.Eventually(t, func() bool {
		_, err := n.Submit(t.Context(), late)
		return err == nil
	}, time.Minute, 10*time.Millisecond, "then there is room again")

	book := filepath.Join(home, "consensus", "addrbook.json")
	require.NoError(t, os.Remove(book))
	require.NoError(t, n.stop())
	require.FileExists(t, book, "a stopped node has written its address book")
}

func TestNodeThatOnlyFollowsFetchesBlocks(t *testing.T) {
	t.Parallel()
	home, app := t.TempDir(), newTally()
	doc := document(t, "mman-local-follow", home)
	n := run(t, testConfig(home, doc), app, openData(t))
	for i := range 3 {
		_, err := client(t, n).BroadcastTxCommit(t.Context(), fmt.Appendf(nil, "tx %d", i))
		require.NoError(t, err)
	}

	follow := func(app *tally) (*consensus.Node, error) {
		cfg := testConfig(t.TempDir(), doc)
		cfg.Peers = []string{n.P2PAddr()}
		return consensus.New(cfg, app, openData(t))
	}
	broken := newTally()
	broken.breakAt = 2
	bad, err := follow(broken)
	require.NoError(t, err)
	err = bad.Run(t.Context())
	require.ErrorIs(t, err, mman.ErrDiskFull, "an application that breaks while blocks are fetched ends Run")

	good := newTally()
	f, err := follow(good)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	height, _ := app.now()
	good.reach(t, height)
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, n.stop())
}

func TestHaltEndsRun(t *testing.T) {
	t.Parallel()
	home, app := t.TempDir(), newTally()
	app.breakAt = 3
	cfg := testConfig(home, document(t, "mman-local-halt", home))
	log, told := quiet()
	cfg.Logger = log
	n, err := consensus.New(cfg, app, openData(t))
	require.NoError(t, err)
	err = n.Run(t.Context())
	require.Contains(t, told.String(), "level=ERROR msg=\"consensus halted\"")
	require.ErrorIs(t, err, mman.ErrDiskFull)
	require.ErrorContains(t, err, "consensus halted: block 3")
}

func TestHomeOfAnotherNetworkIsRefused(t *testing.T) {
	t.Parallel()
	home, data := t.TempDir(), openData(t)
	doc := document(t, "mman-local-mine", home)
	_, err := consensus.New(testConfig(home, doc), newTally(), data)
	require.NoError(t, err)
	doc.Accounts[0].Balance++
	_, err = consensus.New(testConfig(home, doc), newTally(), data)
	require.ErrorIs(t, err, mman.ErrHome)
	require.ErrorContains(t, err, "another home")
}

func TestPortsInUseAreNamed(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	tests := map[string]func(*consensus.Config){
		consensus.FlagRPC: func(c *consensus.Config) { c.RPCListen = taken.Addr().String() },
		consensus.FlagP2P: func(c *consensus.Config) { c.P2PListen = taken.Addr().String() },
	}
	for flag, set := range tests {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			cfg := testConfig(home, document(t, "mman-local-port", home))
			set(&cfg)
			n, err := consensus.New(cfg, newTally(), openData(t))
			require.NoError(t, err)
			err = n.Run(t.Context())
			require.ErrorIs(t, err, mman.ErrPortInUse)
			require.ErrorContains(t, err, taken.Addr().String())
			require.ErrorContains(t, err, flag)
		})
	}
}

func TestRPCRefusesForeignPages(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	n := run(t, testConfig(home, document(t, "mman-local-page", home)), newTally(), openData(t))
	tests := map[string]struct {
		host, origin string
		want         int
	}{
		"plain":          {n.RPCAddr(), "", http.StatusOK},
		"localhost":      {"localhost", "", http.StatusOK},
		"own page":       {n.RPCAddr(), "http://" + n.RPCAddr(), http.StatusOK},
		"foreign page":   {n.RPCAddr(), "https://example.org", http.StatusForbidden},
		"sandboxed page": {n.RPCAddr(), "null", http.StatusForbidden},
		"rebound name":   {"example.org:26657", "", http.StatusForbidden},
	}
	for name, tt := range tests {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.RPCAddr()+"/status", http.NoBody)
		require.NoError(t, err)
		req.Host = tt.host
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err, name)
		require.NoError(t, res.Body.Close())
		require.Equal(t, tt.want, res.StatusCode, name)
		require.Empty(t, res.Header.Get("Access-Control-Allow-Origin"), name)
	}
	require.NoError(t, n.stop())
}

func TestKeysOfAHome(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir := filepath.Join(home, "consensus")
	_, err := consensus.LoadIdentity(home)
	require.ErrorIs(t, err, mman.ErrHome, "no keys yet")
	id, err := consensus.Init(home)
	require.NoError(t, err)
	require.Len(t, id.ConsensusKey, ed25519.PublicKeySize)
	again, err := consensus.Init(home)
	require.NoError(t, err)
	require.Equal(t, id, again)
	loaded, err := consensus.LoadIdentity(home)
	require.NoError(t, err)
	require.Equal(t, id, loaded)
	for _, name := range []string{"priv_validator_key.json", "priv_validator_state.json", "node_key.json"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}

	path := filepath.Join(dir, "priv_validator_key.json")
	require.NoError(t, os.Chmod(path, 0o644))
	_, err = consensus.LoadIdentity(home)
	require.ErrorIs(t, err, mman.ErrHome)
	require.ErrorContains(t, err, "chmod 600")
	require.NoError(t, os.Chmod(path, 0o600))

	record := filepath.Join(dir, "priv_validator_state.json")
	require.NoError(t, os.Rename(record, record+".away"))
	_, err = consensus.Init(home)
	require.ErrorIs(t, err, mman.ErrHome)
	require.ErrorContains(t, err, "sign a height twice")
	require.NoError(t, os.WriteFile(record, []byte(`{"height": "7", "round": 0, "step": 3}`), 0o600))
	require.NoError(t, os.Remove(path))
	_, err = consensus.Init(home)
	require.ErrorIs(t, err, mman.ErrHome)
	require.ErrorContains(t, err, "signed height 7")
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	_, err = consensus.Init(home)
	require.ErrorIs(t, err, mman.ErrHome)
	require.ErrorContains(t, err, "does not read")
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	doc := document(t, "mman-local-config", home)
	require.NoError(t, testConfig(home, doc).Validate())
	public := doc
	public.Network = genesis.Public
	require.Equal(t, consensus.PublicTimeouts(), consensus.DefaultConfig(home, public, nil).Timeouts)
	tests := map[string]func(*consensus.Config){
		"no home":       func(c *consensus.Config) { c.Home = "" },
		"no logger":     func(c *consensus.Config) { c.Logger = nil },
		"no port":       func(c *consensus.Config) { c.RPCListen = "127.0.0.1" },
		"two addresses": func(c *consensus.Config) { c.P2PListen = "127.0.0.1:1,127.0.0.1:2" },
		"external":      func(c *consensus.Config) { c.ExternalAddress = "example.org:70000" },
		"peer":          func(c *consensus.Config) { c.Peers = []string{"127.0.0.1:26656"} },
		"peers":         func(c *consensus.Config) { c.Peers = make([]string, 65) },
		"moniker":       func(c *consensus.Config) { c.Moniker = "a\nb" },
		"mempool":       func(c *consensus.Config) { c.MempoolTxs = 0 },
		"mempool bytes": func(c *consensus.Config) { c.MempoolBytes = 1 },
		"timeout":       func(c *consensus.Config) { c.Timeouts.Propose = time.Millisecond },
	}
	for name, spoil := range tests {
		cfg := testConfig(home, doc)
		spoil(&cfg)
		require.ErrorIs(t, cfg.Validate(), mman.ErrInvalid, name)
	}
	_, err := consensus.CometGenesis(genesis.Document{})
	require.ErrorIs(t, err, mman.ErrGenesis)
	a, err := consensus.CometGenesis(doc)
	require.NoError(t, err)
	b, err := consensus.CometGenesis(doc)
	require.NoError(t, err)
	require.Equal(t, a, b)
}

// TestStopLeavesNothingBehind does not run beside other tests: it counts.
func TestStopLeavesNothingBehind(t *testing.T) { //nolint:paralleltest // it counts goroutines
	home, data, app := t.TempDir(), openData(t), newTally()
	doc := document(t, "mman-local-leak", home)
	cycle := func() {
		height, _ := app.now()
		n := run(t, testConfig(home, doc), app, data)
		app.reach(t, height+1)
		require.NoError(t, n.stop())
	}
	cycle()
	before := runtime.NumGoroutine()
	const (
		cycles = 3
		// CometBFT never ends the two goroutines of a log file it opened.
		logFile = 2
		// other tests' leftovers and the runtime's own may come and go
		slack = 3
	)
	for range cycles {
		cycle()
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+cycles*logFile+slack }, 20*time.Second, 50*time.Millisecond,
		"%d goroutines before", before)
}

func TestRunIsCanceledAtOnce(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	n, err := consensus.New(testConfig(home, document(t, "mman-local-cancel", home)), newTally(), openData(t))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = n.Run(ctx)
	require.True(t, err == nil || errors.Is(err, context.Canceled), "%v", err)
}

// TestOldBlocksGo: a node that keeps few blocks forgets the others, once no
// evidence can be about them and the state is on the disk.
func TestOldBlocksGo(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	doc := document(t, "mman-local-prune", home)
	doc.Params.EvidenceMaxBlocks, doc.Params.EvidenceMaxSeconds, doc.Params.EpochBlocks = 5, 1, 10
	stores := openStores(t, t.TempDir())
	var height atomic.Uint64
	app, err := mmanabci.New(mmanabci.Config{DB: stores.State(), KeepBlocks: 7, Flushed: height.Load})
	require.NoError(t, err)
	app.OnCommit(height.Store)
	cfg := testConfig(home, doc)
	cfg.Timeouts.Quiet = 100 * time.Millisecond
	n := run(t, cfg, app, stores.Data())
	rpc := client(t, n)
	require.Eventually(t, func() bool {
		status, err := rpc.Status(t.Context())
		return err == nil && status.SyncInfo.EarliestBlockHeight > 5
	}, time.Minute, 20*time.Millisecond)
	one := int64(1)
	_, err = rpc.Block(t.Context(), &one)
	require.Error(t, err)
}

// TestUpgradeAcrossRestart: a node whose program does not know the rules of a
// height ends there with what to do; the newer program goes on from its state,
// migrates it, and says so in the headers.
func TestUpgradeAcrossRestart(t *testing.T) {
	t.Parallel()
	home, dir := t.TempDir(), t.TempDir()
	doc := document(t, "mman-local-upgrade", home)
	doc.Upgrades = []genesis.Upgrade{{Height: 5, Version: 2}}
	begin := func(migrations ...mmanabci.Migration) (*consensus.Node, *store.Store, *mmanabci.Application, error) {
		stores, err := store.Open(store.DefaultConfig(dir, slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		app, err := mmanabci.New(mmanabci.Config{DB: stores.State(), Migrations: migrations})
		if err != nil {
			return nil, nil, nil, errors.Join(err, stores.Close())
		}
		cfg := testConfig(home, doc)
		cfg.Timeouts.Quiet = 100 * time.Millisecond
		n, err := consensus.New(cfg, app, stores.Data())
		require.NoError(t, err)
		return n, stores, app, nil
	}
	n, stores, app, err := begin()
	require.NoError(t, err)
	err = n.Run(t.Context())
	require.ErrorIs(t, err, mman.ErrUpgrade)
	require.ErrorContains(t, err, "from height 5 on the rules have version 2, this program knows 1: install a newer mman-node")
	require.Equal(t, uint64(4), app.View().Height())
	require.NoError(t, stores.Close())
	_, _, _, err = begin()
	require.ErrorIs(t, err, mman.ErrUpgrade, "it does not start again")

	n, stores, app, err = begin(mmanabci.Migration{Version: 2, Run: func(ctx *block.Context) error {
		return ctx.State.Set("toys", []byte("toy"), []byte("new"))
	}})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	require.Eventually(t, func() bool { return app.View().Height() > 7 }, time.Minute, 20*time.Millisecond)
	answer, err := client(t, running{Node: n}).ABCIQuery(t.Context(), "/store/toys/key", []byte("toy"))
	require.NoError(t, err)
	require.Equal(t, "new", string(answer.Response.Value))
	height := int64(6)
	header, err := client(t, running{Node: n}).Header(t.Context(), &height)
	require.NoError(t, err)
	require.Equal(t, uint64(2), header.Header.Version.App)
	stop()
	require.NoError(t, <-done)
	require.NoError(t, stores.Close())
}
