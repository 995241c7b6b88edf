package localnet

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/p2p"
)

// Spec says what to lay out.
type Spec struct {
	// Dir is the folder of all homes.
	Dir string
	// Validators is the number of nodes that make blocks, 1 to 16.
	Validators int
	// Providers and Consumers are the names of further homes: of nodes that
	// lend, and of clients that have no node.
	Providers, Consumers []string
	// Params are the parameters of a new chain. Default: those of a local
	// network.
	Params *genesis.Params
}

// Funds of the accounts at genesis.
const (
	validatorFunds = 1_000 * mman.MAN
	providerFunds  = 100 * mman.MAN
	consumerFunds  = 10_000 * mman.MAN
)

// Net is a network that is laid out.
type Net struct {
	Dir        string
	Genesis    genesis.Document
	Validators []*Node
	Providers  []*Node
	Consumers  []Consumer
}

// Node is the home of one node.
type Node struct {
	Name    string
	Home    string
	Address mman.Address

	consensus string // the peer id in consensus
	peer      mman.PeerID
	config    node.Config
}

// Consumer is the home of a client.
type Consumer struct {
	Name    string
	Home    string
	Address mman.Address
}

// Nodes returns all nodes, validators first.
func (n *Net) Nodes() []*Node { return append(append([]*Node{}, n.Validators...), n.Providers...) }

// Layout makes the homes, or opens those that an earlier Layout made in the
// same folder; then spec must be the same.
func Layout(spec Spec) (*Net, error) {
	if spec.Validators < 1 || spec.Validators > 16 {
		return nil, fmt.Errorf("%w: %d validators, 1 to 16 are possible", mman.ErrInvalid, spec.Validators)
	}
	net := &Net{Dir: spec.Dir}
	var names []string
	for i := range spec.Validators {
		names = append(names, "validator-"+strconv.Itoa(i))
	}
	for i, name := range append(names, spec.Providers...) {
		n, err := net.prepare(name)
		if err != nil {
			return nil, err
		}
		if i < spec.Validators {
			net.Validators = append(net.Validators, n.Node)
			net.Genesis.Validators = append(net.Genesis.Validators, genesis.Validator{Operator: n.Address, Name: name, ConsensusKey: n.key, BeaconKey: n.beacon, Power: 10})
			net.fund(n.Address, validatorFunds)
			continue
		}
		net.Providers = append(net.Providers, n.Node)
		net.fund(n.Address, providerFunds)
	}
	for _, name := range spec.Consumers {
		home := filepath.Join(spec.Dir, name)
		if err := os.MkdirAll(home, 0o700); err != nil {
			return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		address, err := node.PlainKey(home, "me")
		if err != nil {
			return nil, err
		}
		net.Consumers = append(net.Consumers, Consumer{name, home, address})
		net.fund(address, consumerFunds)
	}
	return net, net.found(spec.Params)
}

func (n *Net) fund(a mman.Address, amount mman.Amount) {
	n.Genesis.Accounts = append(n.Genesis.Accounts, genesis.Account{Address: a, Balance: amount})
}

type prepared struct {
	*Node

	key, beacon []byte
}

func (n *Net) prepare(name string) (prepared, error) {
	home := filepath.Join(n.Dir, name)
	address, id, err := node.Prepare(home, "node")
	if err != nil {
		return prepared{}, err
	}
	identity, err := p2p.LoadOrCreateIdentity(filepath.Join(home, "identity"))
	if err != nil {
		return prepared{}, err
	}
	config, err := node.LoadConfig(home)
	if err != nil {
		return prepared{}, err
	}
	peer := mman.PeerID(identity.Public().(ed25519.PublicKey)) //nolint:errcheck,forcetypeassert // an ed25519 key's
	return prepared{&Node{Name: name, Home: home, Address: address, consensus: id.PeerID, peer: peer, config: config}, id.ConsensusKey, id.BeaconKey}, nil
}

// found gives every node the same genesis: that of the first home, or a new
// one.
func (n *Net) found(params *genesis.Params) error {
	old, err := node.ReadGenesis(n.Validators[0].Home)
	switch {
	case err == nil:
		old.Accounts, n.Genesis.Accounts = n.Genesis.Accounts, old.Accounts
		n.Genesis.ChainID, n.Genesis.Network, n.Genesis.InitialHeight, n.Genesis.Params = old.ChainID, old.Network, old.InitialHeight, old.Params
	case errors.Is(err, mman.ErrNotFound):
		id, err := node.NewLocalChainID()
		if err != nil {
			return err
		}
		n.Genesis.ChainID, n.Genesis.Network, n.Genesis.InitialHeight, n.Genesis.Params = id, genesis.Local, 1, genesis.Defaults(genesis.Local)
		if params != nil {
			n.Genesis.Params = *params
		}
	default:
		return err
	}
	for _, one := range n.Nodes() {
		if err := node.WriteGenesis(one.Home, n.Genesis); err != nil {
			return err
		}
	}
	return nil
}
