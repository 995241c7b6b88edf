package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/node/consensus"
)

// Config is what a node can be told. Its zero fields take the defaults; every
// field has its place in <home>/config.yaml and a flag of the same name.
type Config struct {
	// Home is the node's folder.
	Home string `yaml:"-"`
	// RPC is where CometBFT's RPC listens, host:port; port 0 takes a free one.
	// Default 127.0.0.1:26657.
	RPC string `yaml:"rpc"`
	// P2P is where validators meet. Default 127.0.0.1:26656.
	P2P string `yaml:"p2p"`
	// Peers are other nodes of the ledger, id@host:port.
	Peers []string `yaml:"peers"`
	// Listen are the multiaddrs of the peer-to-peer host. Default port 4051 on
	// loopback, TCP and QUIC.
	Listen []string `yaml:"listen"`
	// Bootstrap are multiaddrs at which to enter the peer-to-peer network.
	Bootstrap []string `yaml:"bootstrap"`
	// API is where the loopback API listens. Default 127.0.0.1:8642.
	API string `yaml:"api"`
	// Account is the name of the account's key in the home. Default "node".
	Account string `yaml:"account"`
	// Moniker is shown to other nodes. Default "mman".
	Moniker string `yaml:"moniker"`
	// NoIndex keeps no index of transactions: for validators without clients.
	NoIndex bool `yaml:"no_index"`
	// SettleBlocks is how long receipts wait for company. Default 20.
	SettleBlocks uint64 `yaml:"settle_blocks"`

	// KeepBlocks is how many of the last blocks are kept at least, beside those
	// that evidence can still be about; 0, the default, keeps all. Who keeps few
	// cannot answer for old transactions.
	KeepBlocks uint64 `yaml:"keep_blocks"`

	// Upgrades are the changes of rules on which the operators of the network
	// agreed, beside those of its genesis: every node must have the same.
	Upgrades []genesis.Upgrade `yaml:"upgrades,omitempty"`

	// Engine is the container engine's address, for example
	// unix:///var/run/docker.sock. Default "": one is looked for, and used when it
	// has gVisor; "none" looks for none.
	Engine string `yaml:"engine,omitempty"`

	// HostListen is this machine's address, without a port, at which hosted containers
	// are reached from its network where their policy says so. Default "": nowhere.
	HostListen string `yaml:"host_listen,omitempty"`

	// Sync is whom a node without a state believes about the chain, so that it
	// fetches the ledger and not all blocks; mman-node join writes it.
	Sync *consensus.Sync `yaml:"sync,omitempty"`

	// Metrics has CometBFT keep figures of itself, beside those that the API's
	// /metrics always has. At most one node of a process may.
	Metrics bool `yaml:"-"`
	// Compile has another process compile a large WASM module into a folder, see
	// wasm.Config. Default nil: the node compiles all itself, with one thread.
	Compile func(ctx context.Context, folder string, module []byte) error `yaml:"-"`
	// Prepare bounds how long the node compiles one module. Default 0: the executor's
	// own, a minute.
	Prepare time.Duration `yaml:"-"`
	// Passphrase opens the account's key when it is encrypted.
	Passphrase func(name string) ([]byte, error) `yaml:"-"`
	// Logger takes the log. Required.
	Logger *slog.Logger `yaml:"-"`
	// Now, After and Tick are the clock; the time package's in a program.
	Clock Clock `yaml:"-"`
}

// Clock is the time as the node sees it.
type Clock struct {
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
	// Tick returns a channel of ticks and how to stop them.
	Tick func(time.Duration) (<-chan time.Time, func())
}

// The default addresses, all on loopback.
const (
	DefaultRPC = "127.0.0.1:26657"
	DefaultP2P = "127.0.0.1:26656"
	DefaultAPI = "127.0.0.1:8642"
)

// configFile is <home>/config.yaml, which mman reads too: its keys are known here
// and left to it.
type configFile struct {
	Config `yaml:",inline"`

	Node           any `yaml:"node"`
	Peer           any `yaml:"peer"`
	From           any `yaml:"from"`
	Output         any `yaml:"output"`
	PassphraseFile any `yaml:"passphrase_file"`
	Verbose        any `yaml:"verbose"`
	Timeout        any `yaml:"timeout"`
	Request        any `yaml:"request"`
	Keys           any `yaml:"keys"`
	Lease          any `yaml:"lease"`
	Offer          any `yaml:"offer"`
	Resource       any `yaml:"resource"`
	Search         any `yaml:"search"`
}

// configMax bounds a configuration file.
const configMax = 64 << 10

// LoadConfig reads <home>/config.yaml, which need not exist, and fills in the
// defaults. Unknown keys are refused.
func LoadConfig(home string) (Config, error) {
	c := Config{Home: home}
	path := filepath.Join(home, "config.yaml")
	b, err := os.ReadFile(path) //nolint:gosec // the operator's home
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return c, fmt.Errorf("%w: %w", mman.ErrHome, err)
	case len(b) > configMax:
		return c, fmt.Errorf("%s: %w: at most %d bytes are allowed", path, mman.ErrTooLarge, configMax)
	default:
		file := configFile{Config: c}
		if err := yaml.UnmarshalWithOptions(b, &file, yaml.Strict()); err != nil {
			return c, fmt.Errorf("%s: %w: %s", path, mman.ErrInvalid, yaml.FormatError(err, false, false))
		}
		c = file.Config
	}
	return c.withDefaults(), nil
}

// Save writes the configuration to <home>/config.yaml.
func (c Config) Save() error {
	b, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	if err := os.WriteFile(filepath.Join(c.Home, "config.yaml"), b, 0o600); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return nil
}

func (c Config) withDefaults() Config {
	or := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	or(&c.RPC, DefaultRPC)
	or(&c.P2P, DefaultP2P)
	or(&c.API, DefaultAPI)
	or(&c.Account, "node")
	or(&c.Moniker, "mman")
	if len(c.Listen) == 0 {
		c.Listen = []string{"/ip4/127.0.0.1/tcp/4051", "/ip4/127.0.0.1/udp/4051/quic-v1"}
	}
	if c.SettleBlocks == 0 {
		c.SettleBlocks = 20
	}
	return c
}
