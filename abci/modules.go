package abci

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/beacon"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/market"
	"github.com/limboid/massive-man/abci/stake"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/storage"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
)

// Module is one part of the state machine. Modules do not know each other: what
// one needs of another it declares as an interface of its own, and newModules
// hands it in.
type Module interface {
	// Name returns a short noun; events and errors carry it.
	Name() string
	// Messages returns the type URLs that Execute takes.
	Messages() []string
	// InitGenesis writes the module's part of the first state.
	InitGenesis(ctx *block.Context, doc genesis.Document) error
	// Execute runs one message. What it wrote is dropped when it fails.
	Execute(ctx *block.Context, msg tx.Msg) error
	// EndBlock does what is due at this height, a bounded part of it.
	EndBlock(ctx *block.Context) error
	// Invariants checks the module's whole state; mman.ErrInvariant.
	Invariants(r state.Reader) error

	Querier
}

// Elector is the one module that is told what the validators did and changes their power.
type Elector interface {
	// Elect ends the block after EndBlock of all modules.
	Elect(ctx *block.Context, c *block.Consensus) error
}

// Querier answers questions about committed state.
type Querier interface {
	// Nouns returns the first path elements behind /mman/ that Query answers.
	Nouns() []string
	// Query returns a value that encoding/json writes.
	Query(q block.Query) (any, error)
}

// newModules wires the modules; the slice is their order in every block.
func newModules() []Module {
	b := bank.New()
	bc := beacon.New()
	return []Module{b, bc, market.New(b), storage.New(b, nodes{}, challenges{bc}), stake.New(b)}
}

// nodes tells storage what the market knows of nodes.
type nodes struct{}

func (nodes) Bound(r state.Reader, peer mman.PeerID) (mman.Address, bool, error) {
	b, ok, err := market.LookupBinding(r, peer)
	return b.Account, ok, err
}

// challenges is the beacon as storage needs it.
type challenges struct{ beacon.Module }

func (d challenges) Drawn(r state.Reader, fixed uint64) (uint64, mman.Hash, bool, error) {
	b, ok, err := d.After(r, fixed)
	return b.Height, b.Value, ok, err
}

// routes finds the module of a message or of a question.
type routes struct {
	modules  []Module
	elector  Elector
	messages map[string]Module
	nouns    map[string]Querier
}

// newRoutes makes the tables. Every message that the envelope knows has one
// module, and one elects; a gap or an overlap is an error of the wiring.
func newRoutes(modules []Module) (routes, error) {
	r := routes{modules: modules, messages: map[string]Module{}, nouns: map[string]Querier{}}
	for _, m := range modules {
		if e, ok := m.(Elector); ok {
			if r.elector != nil {
				return routes{}, fmt.Errorf("%w: two modules elect validators", mman.ErrInternal)
			}
			r.elector = e
		}
		for _, u := range m.Messages() {
			if _, taken := r.messages[u]; taken {
				return routes{}, fmt.Errorf("%w: two modules execute %s", mman.ErrInternal, u)
			}
			r.messages[u] = m
		}
		for _, n := range m.Nouns() {
			if _, taken := r.nouns[n]; taken {
				return routes{}, fmt.Errorf("%w: two modules answer /mman/%s", mman.ErrInternal, n)
			}
			r.nouns[n] = m
		}
	}
	if r.elector == nil {
		return routes{}, fmt.Errorf("%w: no module elects validators", mman.ErrInternal)
	}
	return r, nil
}

func (r routes) message(msg tx.Msg) (Module, error) {
	m, ok := r.messages[msg.TypeURL()]
	if !ok {
		return nil, fmt.Errorf("%w: %s: this chain does not have it", mman.ErrUnknownMsg, msg.TypeURL())
	}
	return m, nil
}
