package abci

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
)

// Chain is what the state remembers of its genesis.
type Chain struct {
	ID      string    `cbor:"id"      json:"chain_id"`
	Network string    `cbor:"network" json:"network"`
	Genesis mman.Hash `cbor:"genesis" json:"genesis_hash"`
	// Operators are the accounts of the validators of the first block, sorted.
	Operators []mman.Address `cbor:"operators" json:"operators"`
}

const (
	chainKey       = "chain"
	paramsKey      = "params"
	planKey        = "plan"
	versionKey     = "version"
	chainMaxBytes  = 8 << 10
	paramsMaxBytes = 4 << 10
)

func chains() state.Table[Chain] { return state.NewTable[Chain](state.ParamsValues, chainMaxBytes) }

func paramsTable() state.Table[genesis.Params] {
	return state.NewTable[genesis.Params](state.ParamsValues, paramsMaxBytes)
}

// readChain returns what InitGenesis wrote.
func readChain(r state.Reader) (Chain, error) {
	c, ok, err := chains().Get(r, []byte(chainKey))
	if err == nil && !ok {
		return Chain{}, fmt.Errorf("%w: there is no chain yet, wait for the first block", mman.ErrNotFound)
	}
	return c, err
}

// readParams returns the parameters in force.
func readParams(r state.Reader) (genesis.Params, error) {
	p, ok, err := paramsTable().Get(r, []byte(paramsKey))
	if err == nil && !ok {
		return genesis.Params{}, fmt.Errorf("%w: there are no parameters yet, wait for the first block", mman.ErrNotFound)
	}
	return p, err
}

// initGenesis writes the first state.
func initGenesis(modules []Module, w state.Writer, doc genesis.Document) error {
	hash, err := doc.Hash()
	if err != nil {
		return err
	}
	if doc.State != nil {
		if err := importState(w, *doc.State); err != nil {
			return err
		}
	}
	c := Chain{ID: doc.ChainID, Network: string(doc.Network), Genesis: hash}
	for _, v := range doc.Canonical().Validators {
		c.Operators = append(c.Operators, v.Operator)
	}
	if err := chains().Set(w, []byte(chainKey), c); err != nil {
		return err
	}
	if err := paramsTable().Set(w, []byte(paramsKey), doc.Params); err != nil {
		return err
	}
	if len(doc.Upgrades) > 0 {
		if err := plans().Set(w, []byte(planKey), doc.Upgrades); err != nil {
			return err
		}
	}
	if doc.State != nil {
		return nil
	}
	ctx := &block.Context{
		Header: block.Header{ChainID: doc.ChainID, Version: firstVersion}, Params: doc.Params, State: w, Events: new([]block.Event),
	}
	for _, m := range modules {
		if err := m.InitGenesis(ctx, doc); err != nil {
			return fmt.Errorf("genesis of %s: %w", m.Name(), err)
		}
	}
	return nil
}
