package abci

import (
	"bytes"
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/stake"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
)

// Export returns the document from which the chain goes on with everything that
// it has: accounts, stake, unbondings, offers, requests and leases. It is of the
// last committed height; before the first block it is what the genesis said.
// State.Time is 0 unless the chain began with it: only blocks know the time.
func (a *Application) Export() (genesis.Document, error) {
	defer a.enter()()
	snapshot, height, s := a.store.Latest(), a.store.Height(), &genesis.State{Aside: a.aside()}
	if height == 0 {
		o, err := a.begin()
		if err != nil {
			return genesis.Document{}, err
		}
		staged, err := a.store.Stage(o)
		if err != nil {
			return genesis.Document{}, err
		}
		snapshot, height = staged.Snapshot(), a.genesis.InitialHeight-1
		if a.genesis.State != nil {
			s.Time = a.genesis.State.Time
		}
	}
	c, err := readChain(snapshot)
	if err != nil {
		return genesis.Document{}, err
	}
	doc := genesis.Document{ChainID: c.ID, Network: genesis.Network(c.Network), InitialHeight: height + 1, State: s}
	if doc.Params, err = readParams(snapshot); err != nil {
		return genesis.Document{}, err
	}
	if doc.Upgrades, err = readPlan(snapshot); err != nil {
		return genesis.Document{}, err
	}
	if doc.Validators, err = stake.Electorate(snapshot); err != nil {
		return genesis.Document{}, err
	}
	s.Height = height
	own := ownKeys()
	snapshot.Walk("", func(flat string, value []byte) bool {
		if !slices.Contains(own, flat) {
			s.Pairs = append(s.Pairs, genesis.Pair{Key: []byte(flat), Value: bytes.Clone(value)})
		}
		return true
	})
	return doc, doc.Validate()
}

// ownKeys are what the document says outside of the pairs.
func ownKeys() []string {
	var out []string
	for _, name := range []string{chainKey, paramsKey, planKey} {
		out = append(out, state.ParamsValues.Store()+"/"+string(state.ParamsValues.Key([]byte(name))))
	}
	return out
}

// importState writes the pairs of a chain that goes on.
func importState(w state.Writer, s genesis.State) error {
	own := ownKeys()
	for i, p := range s.Pairs {
		store, key, ok := bytes.Cut(p.Key, []byte{'/'})
		if !ok || slices.Contains(own, string(p.Key)) {
			return fmt.Errorf("%w: state.pairs[%d]: the key %.40q is none of an export", mman.ErrGenesis, i, p.Key)
		}
		if err := w.Set(string(store), key, p.Value); err != nil {
			return fmt.Errorf("%w: state.pairs[%d]: %w", mman.ErrGenesis, i, err)
		}
	}
	return nil
}

// judge checks what a document alone cannot say: that the state of a chain that
// goes on is whole, that its money is counted, and that its validators are those
// of the document; and that this program knows its rules.
func (a *Application) judge(o *state.Overlay, doc genesis.Document) error {
	if err := a.changes.fit(o, doc.InitialHeight); err != nil {
		return err
	}
	if doc.State == nil {
		return nil
	}
	for _, m := range a.routes.modules {
		if err := m.Invariants(o); err != nil {
			return fmt.Errorf("%w: the state in the genesis, %s: %w", mman.ErrGenesis, m.Name(), err)
		}
	}
	supply, err := bank.Totals(o)
	if err != nil {
		return fmt.Errorf("%w: the state in the genesis: %w", mman.ErrGenesis, err)
	}
	if made, err := supply.Genesis.Add(supply.Minted); err != nil || made > mman.MaxSupply {
		return fmt.Errorf("%w: the state in the genesis has more than 2^53-1 uman", mman.ErrGenesis)
	}
	elected, err := stake.Electorate(o)
	if err != nil {
		return fmt.Errorf("%w: the state in the genesis: %w", mman.ErrGenesis, err)
	}
	same := func(a, b genesis.Validator) bool {
		return a.Operator == b.Operator && a.Name == b.Name && a.Power == b.Power &&
			bytes.Equal(a.ConsensusKey, b.ConsensusKey) && bytes.Equal(a.BeaconKey, b.BeaconKey)
	}
	if !slices.EqualFunc(elected, doc.Canonical().Validators, same) {
		return fmt.Errorf("%w: the %d validators are not the %d that the state has elected", mman.ErrGenesis, len(doc.Validators), len(elected))
	}
	return nil
}

// begin returns an overlay for the next block. Above an empty store it holds
// the first state, which is persisted with the first block.
func (a *Application) begin() (*state.Overlay, error) {
	o := a.store.Begin()
	if a.store.Height() > 0 {
		return o, nil
	}
	if a.genesis == nil {
		return nil, fmt.Errorf("%w: the chain is not initialised", mman.ErrBusy)
	}
	return o, initGenesis(a.routes.modules, o, *a.genesis)
}

// next returns the height of the next block.
func (a *Application) next() uint64 {
	if a.store.Height() == 0 && a.genesis != nil {
		return a.genesis.InitialHeight
	}
	return a.store.Height() + 1
}

// aside returns what is remembered outside of the tree.
func (a *Application) aside() []byte {
	if a.store.Height() == 0 && a.genesis != nil && a.genesis.State != nil {
		return a.genesis.State.Aside
	}
	return a.store.Latest().Data()
}
