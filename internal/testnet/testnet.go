package testnet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/sdk"
	"github.com/limboid/massive-man/sdk/chain"
)

// Net is a network whose nodes run in this process. It ends with the test.
type Net struct {
	Genesis    genesis.Document
	Validators []*Node
	Providers  []*Node

	dir string
	key sig.PrivateKey // of the consumer
}

// Node is one node of a Net.
type Node struct {
	Name     string
	Home     string
	Address  mman.Address
	Running  node.Running
	Provider *provider.Provider

	config node.Config
	ready  func(ctx context.Context) error
	stop   func()
}

// New lays out and starts a network of validators and providers, and a funded
// consumer without a node. All nodes serve when it returns.
func New(t *testing.T, validators int, providers ...string) *Net {
	t.Helper()
	return NewWith(t, genesis.Defaults(genesis.Local), validators, providers...)
}

// NewWith is New with other parameters.
func NewWith(t *testing.T, params genesis.Params, validators int, providers ...string) *Net {
	t.Helper()
	n := &Net{dir: t.TempDir()}
	key, err := sig.Generate(sig.Ed25519, rand.Reader)
	require.NoError(t, err)
	n.key = key
	id, err := node.NewLocalChainID()
	require.NoError(t, err)
	n.Genesis = genesis.Document{ChainID: id, Network: genesis.Local, InitialHeight: 1, Params: params}
	n.Genesis.Accounts = []genesis.Account{{Address: key.Public().Address(), Balance: 1000 * mman.MAN}}
	for i := range validators {
		n.Validators = append(n.Validators, n.add(t, "validator-"+strconv.Itoa(i), true))
	}
	for _, name := range providers {
		n.Providers = append(n.Providers, n.add(t, name, false))
	}
	n.connect(t)
	for _, one := range n.Nodes() {
		require.NoError(t, node.WriteGenesis(one.Home, n.Genesis))
		one.Start(t)
	}
	for _, one := range n.Nodes() {
		one.Await(t)
	}
	return n
}

// Nodes returns all nodes, validators first.
func (n *Net) Nodes() []*Node { return append(append([]*Node{}, n.Validators...), n.Providers...) }

func (n *Net) add(t *testing.T, name string, validator bool) *Node {
	t.Helper()
	home := filepath.Join(n.dir, name)
	address, id, err := node.Prepare(home, "node")
	require.NoError(t, err)
	n.Genesis.Accounts = append(n.Genesis.Accounts, genesis.Account{Address: address, Balance: 100 * mman.MAN})
	if validator {
		n.Genesis.Validators = append(n.Genesis.Validators, genesis.Validator{Operator: address, Name: name, ConsensusKey: id.ConsensusKey, BeaconKey: id.BeaconKey, Power: 10})
	}
	cfg, err := node.LoadConfig(home)
	require.NoError(t, err)
	cfg.Moniker, cfg.RPC, cfg.API, cfg.SettleBlocks = name, "127.0.0.1:0", "127.0.0.1:0", 2
	ports, err := localnet.FreePorts(t.Context(), 1)
	require.NoError(t, err)
	cfg.P2P = "127.0.0.1:" + strconv.Itoa(ports[0])
	cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
	cfg.Logger, cfg.Clock = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), clock()
	cfg.Prepare = time.Hour // the race detector compiles some twenty times as long
	if validator {
		cfg.Peers = []string{id.PeerID + "@" + cfg.P2P}
	}
	return &Node{Name: name, Home: home, Address: address, config: cfg}
}

// connect tells every node where the validators meet; before it a validator's
// list of peers holds its own entry.
func (n *Net) connect(t *testing.T) {
	t.Helper()
	var peers []string
	for _, v := range n.Validators {
		peers = append(peers, v.config.Peers...)
	}
	for i, one := range n.Nodes() {
		one.config.Peers = append([]string{}, peers...)
		if i < len(n.Validators) {
			one.config.Peers = append(one.config.Peers[:i], one.config.Peers[i+1:]...)
		}
	}
}

func clock() node.Clock {
	return node.Clock{Now: time.Now, After: time.After, Tick: func(d time.Duration) (<-chan time.Time, func()) {
		tick := time.NewTicker(d)
		return tick.C, tick.Stop
	}}
}

// Start starts the node.
func (o *Node) Start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	n, err := node.New(ctx, o.config)
	if err != nil {
		cancel()
	}
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- errors.Join(n.Run(ctx), n.Close()) }()
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			cancel()
			assert.NoError(t, <-done, o.Name)
		}
	}
	o.stop = stop
	o.ready = func(ctx context.Context) error {
		var err error
		o.Running, o.Provider, err = n.Ready(ctx)
		return err
	}
	t.Cleanup(stop)
}

// Await waits until the node serves.
func (o *Node) Await(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	require.NoError(t, o.ready(ctx), o.Name)
}

// Stop ends the node as its operator would.
func (o *Node) Stop() { o.stop() }

// within bounds every wait of a test.
const within = 30 * time.Second

// Consumer returns a client of its own, which enters at the first validator's
// RPC and has met nobody.
func (n *Net) Consumer(t *testing.T) *sdk.Client {
	t.Helper()
	c, err := sdk.Connect(t.Context(), sdk.Config{
		Node: n.Validators[0].Running.RPC, Leases: filepath.Join(n.dir, "consumer"), Key: n.key,
		Lock: func(context.Context, mman.Address) (func(), error) { return func() {}, nil },
		Now:  time.Now, After: time.After,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// Eventually waits until ok says so, or fails the test.
func Eventually(t *testing.T, what string, ok func() (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		done, err := ok()
		require.NoError(t, err, what)
		if done {
			return
		}
		select {
		case <-ctx.Done():
			require.FailNow(t, fmt.Sprintf("%s did not happen within %s", what, within))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// RPC returns a client of the node's RPC.
func (o *Node) RPC(t *testing.T) *chain.Client {
	t.Helper()
	c, err := chain.New(o.Running.RPC)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}
