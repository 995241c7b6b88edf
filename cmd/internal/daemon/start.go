package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/gpu"
)

const flagProvide = "provide"

// provideAll is the value of --provide without files.
const provideAll = "all"

type startFlags struct {
	home           string
	provide        []string
	watch          bool
	drain          time.Duration
	passphraseFile string
	given          node.Config
}

func (p *program) start(use, short string) *cobra.Command {
	f := &startFlags{}
	cmd := &cobra.Command{
		Use: use, Short: short,
		Example: "  mman-node --provide\n  mman-node --provide dataset.yaml compute.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && !cmd.Flags().Changed(flagProvide) {
				return console.Wrong("%s takes no argument, got %.80q: listings come after --provide; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && len(f.provide) == 1 && f.provide[0] == provideAll {
				f.provide = nil // the files say what is lent
			}
			f.provide = append(f.provide, args...)
			return p.runStart(cmd.Context(), cmd, f)
		},
	}
	flags := cmd.Flags()
	homeFlag(cmd, &f.home)
	flags.StringSliceVar(&f.provide, flagProvide, nil, "lend resources: all of this machine's compute, or what the listing FILES say")
	flags.Lookup(flagProvide).NoOptDefVal = provideAll
	flags.StringVar(&f.given.RPC, "rpc-listen", "", "where CometBFT's RPC listens (default "+node.DefaultRPC+")")
	flags.StringVar(&f.given.P2P, "p2p-listen", "", "where nodes of the ledger meet (default "+node.DefaultP2P+")")
	flags.StringSliceVar(&f.given.Peers, "peers", nil, "other nodes of the ledger, id@host:port")
	flags.StringSliceVar(&f.given.Listen, "listen", nil, "multiaddrs of the peer-to-peer host (default port 4051 on loopback)")
	flags.StringSliceVar(&f.given.Bootstrap, "bootstrap", nil, "multiaddrs at which to enter the peer-to-peer network")
	flags.StringVar(&f.given.API, "api", "", "where the loopback API listens (default "+node.DefaultAPI+")")
	flags.StringVar(&f.given.HostListen, "host-listen", "", "address of this machine at which hosted containers are reached from the network where their policy says port (default nowhere)")
	flags.StringVar(&f.given.Engine, "engine", "", "container engine, for example unix:///var/run/docker.sock, or none (default one with gVisor, if there is)")
	flags.StringVar(&f.given.Account, "account", "", `name of the account's key (default "node")`)
	flags.StringVar(&f.given.Moniker, "moniker", "", "name that other nodes see")
	flags.Uint64Var(&f.given.KeepBlocks, "keep-blocks", 0, "blocks to keep beside those that evidence needs (default all)")
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase of the account's key")
	flags.DurationVar(&f.drain, "drain", drainUsual, "how long what runs may go on after SIGTERM before it is ended in order; a second signal ends the node at once")
	flags.BoolVar(&f.watch, strings.TrimPrefix(localnet.FlagWatch, "--"), false, "end when standard input ends")
	cmd.Flags().Lookup(strings.TrimPrefix(localnet.FlagWatch, "--")).Hidden = true
	return cmd
}

func (p *program) runStart(ctx context.Context, cmd *cobra.Command, f *startFlags) error {
	if err := p.resolveHome(&f.home); err != nil {
		return err
	}
	// What was typed is looked at before anything is made.
	if f.drain < 0 || f.drain > drainMost {
		return console.Wrong("--drain %s: up to %s", f.drain, drainMost)
	}
	listings, err := readListings(f.provide)
	if err != nil {
		return err
	}
	cfg, err := node.LoadConfig(f.home)
	if errors.Is(err, mman.ErrInvalid) {
		return console.Wrong("%w", err)
	}
	if err != nil {
		return err
	}
	if _, err := node.ReadGenesis(f.home); errors.Is(err, mman.ErrNotFound) {
		doc, err := initHome(f.home)
		if err != nil {
			return err
		}
		p.printf("made a new local network %s in %s\n", doc.ChainID, f.home)
	} else if err != nil {
		return err
	}
	cfg = override(cfg, f.given, cmd.Flags().Changed)
	cfg.Logger, cfg.Clock, cfg.Metrics, cfg.Compile = p.logger(), systemClock(), true, compileApart()
	asker := console.Asker{Streams: p.streams, File: f.passphraseFile}
	cfg.Passphrase = func(name string) ([]byte, error) { return asker.Ask(ctx, name) }
	if f.watch {
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		defer stop()
		go func() {
			_, _ = io.Copy(io.Discard, p.streams.In) // its end is all that matters
			stop()
		}()
	}
	return mend(f.home, p.live(ctx, cfg, listings, slices.Contains(f.provide, provideAll), f.drain))
}

// mend says what to do about a damaged store where the error does not.
func mend(home string, err error) error {
	if !errors.Is(err, mman.ErrCorrupt) || strings.Contains(err.Error(), "let the node ") {
		return err
	}
	return fmt.Errorf("%w: move %s away and let the node fetch its contents again", err, filepath.Join(home, "store"))
}

// live runs a node until ctx ends, and lends what is listed; with all also what it
// finds that this machine can do. When SIGTERM ended ctx what runs is drained.
func (p *program) live(ctx context.Context, cfg node.Config, listings []provider.Listing, all bool, notice time.Duration) (err error) {
	n, err := node.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	done := make(chan error, 1)
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() { done <- n.Run(life) }()
	lender, err := p.greet(ctx, n, done, listings, all)
	if err != nil {
		stop()
		return errors.Join(err, <-done)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if busy(lender) && errors.Is(context.Cause(ctx), console.ErrTerminated) {
		n.Leave(notice)
		select {
		case err := <-done:
			return err
		case <-cfg.Clock.After(notice + drainMore):
		}
	}
	stop()
	return <-done
}

const (
	// drainUsual and drainMost are what --drain is unless it is given, and at most;
	// drainMore is how much longer than that what was told to end may take.
	drainUsual = 10 * time.Second
	drainMost  = 24 * time.Hour
	drainMore  = time.Minute
)

// busy reports whether something runs for somebody.
func busy(lender *provider.Provider) bool {
	if lender == nil {
		return false
	}
	now, _ := lender.Runs()
	return len(now) > 0
}

// greet waits until the node serves, publishes, and says where it is. There is no
// provider when the node ended first, or is asked to.
func (p *program) greet(ctx context.Context, n *node.Node, done chan error, listings []provider.Listing, all bool) (*provider.Provider, error) {
	ready, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		err := <-done // the node ended first
		cancel()
		done <- err
	}()
	run, lender, err := n.Ready(ready)
	if err != nil {
		return nil, nil // why it ended is in done
	}
	p.printf("%s is ready: rpc %s, api %s, peer %s\n", run.ChainID, run.RPC, run.API, strings.Join(run.Peers, " "))
	if sandbox := n.Sandbox(); all && sandbox != "" {
		listings = append(listings, ownContainers(sandbox))
		p.graphics()
	}
	for _, l := range listings {
		got, err := lender.Publish(ready, l)
		if err != nil {
			if ready.Err() != nil {
				return nil, nil // asked to end
			}
			return nil, err
		}
		p.printf("lending %s %q: resource %s, offer %s\n", got.Kind, got.Name, got.Resource, got.Offer)
	}
	return lender, nil
}

// override puts the flags that were typed over the file's values.
func override(cfg, given node.Config, typed func(string) bool) node.Config {
	for flag, set := range map[string]func(){
		"rpc-listen": func() { cfg.RPC = given.RPC },
		"p2p-listen": func() { cfg.P2P = given.P2P },
		"peers":      func() { cfg.Peers = given.Peers },
		"listen":     func() { cfg.Listen = given.Listen },
		"bootstrap":  func() { cfg.Bootstrap = given.Bootstrap },
		"api":        func() { cfg.API = given.API },
		"engine":     func() { cfg.Engine = given.Engine },

		"host-listen": func() { cfg.HostListen = given.HostListen },

		"account": func() { cfg.Account = given.Account },
		"moniker": func() { cfg.Moniker = given.Moniker },

		"keep-blocks": func() { cfg.KeepBlocks = given.KeepBlocks },
	} {
		if typed(flag) {
			set()
		}
	}
	return cfg
}

func systemClock() node.Clock {
	return node.Clock{
		Now:   time.Now,
		After: time.After,
		Tick: func(d time.Duration) (<-chan time.Time, func()) {
			t := time.NewTicker(d)
			return t.C, t.Stop
		},
	}
}

func readListings(files []string) ([]provider.Listing, error) {
	var out []provider.Listing
	for _, file := range files {
		if file == provideAll {
			out = append(out, ownCompute())
			continue
		}
		l, err := provider.ReadListing(file)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// ownCompute lends this machine's compute to everybody on a local network: WASM
// only, half of the memory limit of a guest, at a price that is next to
// nothing.
func ownCompute() provider.Listing {
	return provider.Listing{
		Manifest: resources.Manifest{Version: 1, Kind: resources.KindCompute, Facet: resources.FacetWasm, Name: "WASM compute", Summary: "Runs WASI preview 1 commands, without network"},
		Policy:   policy.Policy{Default: policy.Allow, Limits: policy.Limits{WallMs: 600_000, MemoryBytes: 1 << 30, InputBytes: 1 << 30, OutputBytes: 256 << 20, Network: "none"}},
		Price:    price.Price{Units: []price.UnitPrice{{Unit: resources.UnitFuel, Per: 1_000_000_000, UMan: 100}}},
		Capacity: provider.DefaultCapacity,
	}
}

// graphics says which graphics processors are here. None is lent: no sandbox of this
// node gives programs a device, and the offer says gpu=none.
func (p *program) graphics() {
	found, err := gpu.Detect(os.DirFS("/"))
	switch {
	case err != nil:
		p.printf("graphics processors: not known: %v\n", err)
	case len(found) == 0:
		p.printf("graphics processors: none\n")
	default:
		p.printf("graphics processors: %s; not lent, containers are given no devices\n", strings.Join(found, ", "))
	}
}

// ownContainers lends this machine's container engine to everybody on a local
// network, without a network of its own.
func ownContainers(sandbox string) provider.Listing {
	return provider.Listing{
		Manifest: resources.Manifest{
			Version: 1, Kind: resources.KindCompute, Facet: resources.FacetContainer, Name: "Container compute",
			Summary:    "Runs and hosts images, without network",
			Attributes: resources.SortedAttributes(map[string]string{provider.AttributeSandbox: sandbox, provider.AttributeGPU: "none"}),
		},
		// A day is for what is hosted; all of it is paid.
		Policy: policy.Policy{Default: policy.Allow, Limits: policy.Limits{WallMs: 24 * 3_600_000, MemoryBytes: 1 << 30, InputBytes: 4 << 30, OutputBytes: 4 << 30, Network: "none"}},
		Price: price.Price{Units: []price.UnitPrice{
			{Unit: resources.UnitCPUMs, Per: 1000, UMan: 100},
			{Unit: resources.UnitMemoryMs, Per: 1 << 20, UMan: 10}, // about a GiB for a second
		}},
		Capacity: provider.DefaultCapacity,
	}
}

// initHome makes a local network with this home as its only validator.
func initHome(home string) (genesis.Document, error) {
	if holdsDevnet(home) {
		return genesis.Document{}, fmt.Errorf("%w: %s is the folder of a devnet: start it with mman-node devnet --home %s, or name another --home", mman.ErrExists, home, home)
	}
	address, id, err := node.Prepare(home, "node")
	if err != nil {
		return genesis.Document{}, err
	}
	chainID, err := node.NewLocalChainID()
	if err != nil {
		return genesis.Document{}, err
	}
	doc := genesis.Document{
		ChainID: chainID, Network: genesis.Local, InitialHeight: 1, Params: genesis.Defaults(genesis.Local),
		Accounts:   []genesis.Account{{Address: address, Balance: 1_000_000 * mman.MAN}},
		Validators: []genesis.Validator{{Operator: address, Name: "node", ConsensusKey: id.ConsensusKey, BeaconKey: id.BeaconKey, Power: 10}},
	}
	return doc, node.WriteGenesis(home, doc)
}
