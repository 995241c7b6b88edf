package stake

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
)

// Nouns returns the first path elements that the module answers.
func (Module) Nouns() []string { return []string{"validators", "delegations", "unbondings"} }

// ValidatorAnswer is a validator and what it is called.
type ValidatorAnswer struct {
	// Operator is the account, Validator the same as wallets write it.
	Operator  mman.Address `json:"operator"`
	Validator string       `json:"validator"`

	// Own is the operator's own active stake.
	Own mman.Amount `json:"own_uman"`

	Record
}

// Record is a validator's record.
type Record = Validator

// DelegationAnswer is what an account holds with a validator.
type DelegationAnswer struct {
	Delegator mman.Address `json:"delegator"`
	Validator string       `json:"validator"`
	Shares    uint64       `json:"shares"`
	Amount    mman.Amount  `json:"amount_uman"`
}

// UnbondingAnswer is stake that is on its way out.
type UnbondingAnswer struct {
	Delegator mman.Address `json:"delegator"`
	Validator string       `json:"validator"`
	// To is the validator that gets it, empty when the account does.
	To     string      `json:"to,omitempty"`
	Amount mman.Amount `json:"amount_uman"`
	// Height and Time are when it ends at the earliest, both must be reached.
	Height uint64 `json:"height"`
	Time   int64  `json:"time"`
}

// Query answers validators, validators/OPERATOR, delegations?account=ADDR or
// ?validator=OPERATOR, and unbondings?account=ADDR. Lists take limit and after.
func (Module) Query(q block.Query) (any, error) {
	switch {
	case len(q.Path) == 2 && q.Path[0] == "validators":
		if err := q.Allow(); err != nil {
			return nil, err
		}
		operator, err := parseOperator(q.Path[1])
		if err != nil {
			return nil, err
		}
		v, err := must(q.State, operator)
		if err != nil {
			return nil, err
		}
		return answer(q.State, operator, v)
	case len(q.Path) != 1:
		return nil, fmt.Errorf("%w: use /mman/validators/OPERATOR, or /mman/%s and arguments", mman.ErrInvalid, q.Path[0])
	case q.Path[0] == "validators":
		return listValidators(q)
	case q.Path[0] == "delegations":
		return listDelegations(q)
	default:
		return listUnbondings(q)
	}
}

// parseOperator reads manvaloper1… or man1….
func parseOperator(s string) (mman.Address, error) {
	if a, err := mman.ParseValidatorAddress(s); err == nil {
		return a, nil
	}
	return mman.ParseAddress(s)
}

func answer(r state.Reader, operator mman.Address, v Validator) (ValidatorAnswer, error) {
	own, err := selfStake(r, operator, v)
	return ValidatorAnswer{Operator: operator, Validator: operator.ValidatorString(), Own: own, Record: v}, err
}

func listValidators(q block.Query) (any, error) {
	if err := q.Allow("limit", "after"); err != nil {
		return nil, err
	}
	return block.List(q, nil, block.TableKeys(q, validators(), nil), func(key []byte) (ValidatorAnswer, error) {
		operator := mman.Address(key)
		v, err := known(q.State, operator)
		if err != nil {
			return ValidatorAnswer{}, err
		}
		return answer(q.State, operator, v)
	})
}

func listDelegations(q block.Query) (any, error) {
	if err := q.Allow("account", "validator", "limit", "after"); err != nil {
		return nil, err
	}
	take := func(operator, delegator mman.Address) (DelegationAnswer, error) {
		d, _, err := delegations().Get(q.State, pair(operator, delegator))
		if err != nil {
			return DelegationAnswer{}, err
		}
		v, err := known(q.State, operator)
		if err != nil {
			return DelegationAnswer{}, err
		}
		amount, err := v.Active.Value(d.Shares)
		return DelegationAnswer{delegator, operator.ValidatorString(), d.Shares, amount}, err
	}
	const n = mman.AddressSize
	if s, ok := q.Args["validator"]; ok && q.Args["account"] == "" {
		operator, err := parseOperator(s)
		if err != nil {
			return nil, err
		}
		return block.List(q, operator[:], block.TableKeys(q, delegations(), operator[:]), func(key []byte) (DelegationAnswer, error) {
			return take(operator, mman.Address(key[n:]))
		})
	}
	account, err := account(q)
	if err != nil {
		return nil, err
	}
	return block.List(q, account[:], block.IndexKeys(q, byAccount(), account[:]), func(key []byte) (DelegationAnswer, error) { return take(mman.Address(key[n:]), account) })
}

func account(q block.Query) (mman.Address, error) {
	s, ok := q.Args["account"]
	if _, both := q.Args["validator"]; !ok || both {
		return mman.Address{}, fmt.Errorf("%w: /mman/%s needs account=ADDRESS, and takes no other filter beside it", mman.ErrInvalid, q.Path[0])
	}
	return mman.ParseAddress(s)
}

func listUnbondings(q block.Query) (any, error) {
	if err := q.Allow("account", "limit", "after"); err != nil {
		return nil, err
	}
	account, err := account(q)
	if err != nil {
		return nil, err
	}
	return block.List(q, account[:], block.IndexKeys(q, unbondingsByAccount(), account[:]), func(key []byte) (UnbondingAnswer, error) {
		const n = mman.AddressSize
		height, rest, err := state.ParseUint64Key(key[n:])
		if err != nil || len(rest) != 2*n {
			return UnbondingAnswer{}, fmt.Errorf("%w: unbonding %x", mman.ErrCorrupt, key)
		}
		e := exit{height, account, mman.Address(rest[:n]), mman.Address(rest[n:])}
		u, _, err := unbondings().Get(q.State, e.key())
		if err != nil {
			return UnbondingAnswer{}, err
		}
		v, err := known(q.State, e.operator)
		if err != nil {
			return UnbondingAnswer{}, err
		}
		amount, err := v.Debonding.Value(u.Shares)
		out := UnbondingAnswer{Delegator: account, Validator: e.operator.ValidatorString(), Amount: amount, Height: height, Time: u.Time}
		if !e.to.IsZero() {
			out.To = e.to.ValidatorString()
		}
		return out, err
	})
}
