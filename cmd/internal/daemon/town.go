package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/node/api"
	"github.com/limboid/massive-man/node/provider"
)

// nullSignal asks whether a process exists.
const nullSignal = syscall.Signal(0)

// town is a local network of processes that runs.
type town struct {
	net        *localnet.Net
	runner     localnet.Runner
	validators []*localnet.Process
	providers  []*localnet.Process
	announced  bool // run.json tells where it is
}

// raise lays out the network in dir, or opens the one that is there, and starts
// it.
func raise(ctx context.Context, dir string, settle uint64) (*town, error) {
	if err := vacant(dir); err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	t := &town{runner: localnet.Runner{Program: program, Settle: settle}}
	if t.net, err = localnet.Layout(spec(dir)); err != nil {
		return nil, err
	}
	if err := t.net.Assign(ctx, t.runner); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if t.validators, err = t.runner.StartAll(ctx, t.net.Validators, 1); err != nil {
		return nil, err
	}
	if t.providers, err = t.runner.StartAll(ctx, t.net.Providers, 1); err != nil {
		return nil, errors.Join(err, t.stop())
	}
	return t, nil
}

// vacant refuses a folder in which other processes are at work, or which is the
// home of a single node.
func vacant(dir string) error {
	if doc, err := node.ReadGenesis(dir); err == nil {
		return fmt.Errorf("%w: %s is the home of a node of %s; choose an empty folder with --home", mman.ErrHome, dir, doc.ChainID)
	}
	if run, err := node.ReadRunning(dir); err == nil && alive(run.PIDs) {
		return fmt.Errorf("%w: network %s runs in %s already; stop it or choose another --home", mman.ErrOtherHolder, run.ChainID, dir)
	}
	return nil
}

// announce writes where the network is into its folder, until stop.
func (t *town) announce() (node.Running, error) {
	run := t.running()
	t.announced = true
	return run, run.Write(t.net.Dir)
}

func (t *town) all() []*localnet.Process {
	return append(append([]*localnet.Process{}, t.providers...), t.validators...)
}

// stop ends the providers, who settle what is due, and then the validators.
func (t *town) stop() error {
	err := errors.Join(localnet.StopAll(t.providers), localnet.StopAll(t.validators))
	if t.announced {
		err = errors.Join(err, os.Remove(filepath.Join(t.net.Dir, "run.json")))
	}
	return err
}

// watch waits until ctx ends, or until a process does.
func (t *town) watch(ctx context.Context) error {
	ended := make(chan string, len(t.all()))
	for _, p := range t.all() {
		go func() {
			<-p.Done()
			ended <- p.Node.Name
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case name := <-ended:
		return fmt.Errorf("%w: %s ended by itself; its log is %s", mman.ErrInternal, name, filepath.Join(t.net.Dir, name, "node.log"))
	}
}

// running says where the network is.
func (t *town) running() node.Running {
	first := t.validators[0].Running
	run := node.Running{RPC: first.RPC, API: first.API, Peers: first.Peers, ChainID: first.ChainID, PIDs: []int{os.Getpid()}}
	for _, p := range t.all() {
		run.PIDs = append(run.PIDs, p.PID())
	}
	return run
}

// publish has a provider lend what a listing says. The listing and its content
// are files in the provider's home.
func (t *town) publish(ctx context.Context, i int, name, listing string, content map[string][]byte) (provider.Published, error) {
	home := t.providers[i].Node.Home
	for file, data := range content {
		if err := os.WriteFile(filepath.Join(home, file), data, 0o600); err != nil {
			return provider.Published{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
	}
	path := filepath.Join(home, name+".yaml")
	if err := os.WriteFile(path, []byte(listing), 0o600); err != nil {
		return provider.Published{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return api.NewClient(t.providers[i].Running.API, t.providers[i].Running.Token).Publish(ctx, path)
}

// lendCompute has the data's owner lend compute to everybody, unless it does.
func (t *town) lendCompute(ctx context.Context) error {
	_, err := t.publish(ctx, 0, "compute", computeListing, nil)
	return err
}

// The listings of demo and devnet. What stands after content is a file beside
// the listing.
const (
	computeListing = `resource:
  kind: compute
  facet: wasm
  name: WASM beside the data
  summary: Runs WASI preview 1 commands, without network
policy:
  default: allow
  limits: {wall: 60s, memory: 512MiB, input: 64MiB, output: 16MiB, network: none}
price:
  units:
    - {unit: fuel, per: 1000000000, price: 0.0001MAN}
    - {unit: out_bytes, per: 1048576, price: 0.001MAN}
bids: {discount_bp: 1000, max_bond: 1MAN}
capacity: 64
region: local
`
	dataListing = `resource:
  kind: dataset
  facet: file
  name: %q
  summary: A table that never leaves this node
  licence: %q
  source: %q
  content: data.csv
  private: true
policy:
  default: allow
  algorithms: [%s]
  limits: {output: 64KiB, network: none}
price:
  per_lease: 0.02MAN
  share_bp: 1000
capacity: 16
region: local
`
	codeListing = `resource:
  kind: algorithm
  facet: wasm
  name: Summary of a table
  summary: Count, mean, minimum and maximum of each numeric column by group
  licence: MIT
  content: stats.wasm
  private: true
policy:
  default: allow
price:
  per_lease: 0.01MAN
  share_bp: 500
capacity: 64
`
)
