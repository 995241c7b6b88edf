package stake

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
)

// InitGenesis makes the document's validators in canonical order, each backed
// by its operator's own stake. The bank has counted the money already.
func (Module) InitGenesis(ctx *block.Context, doc genesis.Document) error {
	for _, g := range doc.Canonical().Validators {
		stake, err := doc.Stake(g)
		if err != nil {
			return err
		}
		v := Validator{Name: g.Name, Key: g.ConsensusKey, Beacon: g.BeaconKey, Power: g.Power}
		if err := bond(ctx.State, g.Operator, &v, g.Operator, stake); err != nil {
			return err
		}
		if err := add(ctx.State, g.Operator, v); err != nil {
			return err
		}
	}
	return nil
}

// Electorate returns the validators with power, as a genesis names them.
func Electorate(r state.Reader) ([]genesis.Validator, error) {
	var out []genesis.Validator
	err := validators().Each(r, nil, func(key []byte, v Validator) error {
		if v.Power > 0 {
			out = append(out, genesis.Validator{Operator: mman.Address(key), Name: v.Name, ConsensusKey: v.Key, BeaconKey: v.Beacon, Power: v.Power})
		}
		return nil
	})
	return out, err
}

// Invariants checks that the pools hold what the bank says is staked, that
// their shares are those of delegations and unbondings, and that each validator
// is found by its key; mman.ErrInvariant. It reads every record.
func (m Module) Invariants(r state.Reader) error {
	active, leaving, err := m.shares(r)
	if err != nil {
		return err
	}
	var tokens mman.Amount
	n, power := uint64(0), uint64(0)
	if err := validators().Each(r, nil, func(key []byte, v Validator) error {
		operator := mman.Address(key)
		n, power = n+1, power+v.Power
		for _, p := range []Pool{v.Active, v.Debonding} {
			if (p.Shares == 0) != (p.Tokens == 0) {
				return fmt.Errorf("%w: validator %s has a pool of %d uman and %d shares", mman.ErrInvariant, operator, uint64(p.Tokens), p.Shares)
			}
			if tokens, err = tokens.Add(p.Tokens); err != nil {
				return err
			}
		}
		if active[operator] != v.Active.Shares || leaving[operator] != v.Debonding.Shares {
			return fmt.Errorf("%w: validator %s has %d and %d shares, others hold %d and %d", mman.ErrInvariant, operator,
				v.Active.Shares, v.Debonding.Shares, active[operator], leaving[operator])
		}
		delete(active, operator)
		delete(leaving, operator)
		found, ok, err := byKey(r, block.NewConsensusAddress(v.Key))
		if err == nil && (!ok || found != operator) {
			err = fmt.Errorf("%w: the key of validator %s leads to %s", mman.ErrInvariant, operator, found)
		}
		return err
	}); err != nil {
		return err
	}
	staked, err := m.bank.Staked(r)
	if err != nil {
		return err
	}
	counted, err := count().Get(r)
	switch {
	case err != nil:
		return err
	case tokens != staked:
		return fmt.Errorf("%w: pools hold %d uman, %d are staked", mman.ErrInvariant, uint64(tokens), uint64(staked))
	case len(active)+len(leaving) > 0:
		return fmt.Errorf("%w: %d delegations and %d unbondings belong to no validator", mman.ErrInvariant, len(active), len(leaving))
	case n != counted:
		return fmt.Errorf("%w: there are %d validators, %d are counted", mman.ErrInvariant, n, counted)
	case n > 0 && power == 0:
		return fmt.Errorf("%w: nobody has power", mman.ErrInvariant)
	}
	return nil
}

// shares adds up what delegators hold of each validator's pools.
func (Module) shares(r state.Reader) (active, leaving map[mman.Address]uint64, err error) {
	active, leaving = map[mman.Address]uint64{}, map[mman.Address]uint64{}
	if err := delegations().Each(r, nil, func(key []byte, d Delegation) error {
		operator, delegator := mman.Address(key[:mman.AddressSize]), mman.Address(key[mman.AddressSize:])
		active[operator] += d.Shares
		ok, err := byAccount().Has(r, pair(delegator, operator))
		if err == nil && !ok {
			err = fmt.Errorf("%w: the delegation of %s is not indexed", mman.ErrInvariant, delegator)
		}
		return err
	}); err != nil {
		return nil, nil, err
	}
	return active, leaving, unbondings().Each(r, nil, func(key []byte, u Unbonding) error {
		e, err := parseExit(key)
		if err != nil {
			return err
		}
		leaving[e.operator] += u.Shares
		ok, err := unbondingsByAccount().Has(r, e.accountKey())
		if err == nil && !ok {
			err = fmt.Errorf("%w: the unbonding of %s is not indexed", mman.ErrInvariant, e.delegator)
		}
		return err
	})
}
