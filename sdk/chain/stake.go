package chain

import (
	"context"
	"net/url"

	mman "github.com/limboid/massive-man"
)

// Pool is tokens of which delegators hold shares.
type Pool struct {
	Tokens mman.Amount `json:"tokens_uman"`
	Shares uint64      `json:"shares"`
}

// Validator is a validator as the ledger has it.
type Validator struct {
	Operator      mman.Address `json:"operator"`
	Validator     string       `json:"validator"` // manvaloper1…, the operator as wallets write it
	Name          string       `json:"name"`
	ConsensusKey  []byte       `json:"consensus_key"`
	CommissionPPM uint64       `json:"commission_ppm"`
	Own           mman.Amount  `json:"own_uman"` // the operator's own active stake
	Active        Pool         `json:"active"`
	Debonding     Pool         `json:"debonding"`
	Power         uint64       `json:"power"` // 0 while it does not sign
	Jailed        bool         `json:"jailed"`
	JailedUntil   uint64       `json:"jailed_until"` // height
	Tombstoned    bool         `json:"tombstoned"`
}

// Delegation is what an account holds with a validator.
type Delegation struct {
	Delegator mman.Address `json:"delegator"`
	Validator string       `json:"validator"`
	Shares    uint64       `json:"shares"`
	Amount    mman.Amount  `json:"amount_uman"`
}

// Unbonding is stake on its way out.
type Unbonding struct {
	Delegator mman.Address `json:"delegator"`
	Validator string       `json:"validator"`
	// To is the validator that gets it, "" when the account does.
	To     string      `json:"to,omitempty"`
	Amount mman.Amount `json:"amount_uman"`
	// Height and Time, in seconds since 1970, must both be reached.
	Height uint64 `json:"height"`
	Time   int64  `json:"time"`
}

// Validators lists at most limit validators, also those that do not sign.
func (c *Client) Validators(ctx context.Context, limit int) ([]Validator, error) {
	return list[Validator](ctx, c, "/mman/validators", url.Values{}, limit)
}

// Validator returns a validator, or mman.ErrNotFound.
func (c *Client) Validator(ctx context.Context, operator mman.Address) (Validator, error) {
	return get[Validator](ctx, c, "/mman/validators/%s", operator.ValidatorString())
}

// Delegations lists at most limit delegations of an account.
func (c *Client) Delegations(ctx context.Context, account mman.Address, limit int) ([]Delegation, error) {
	return list[Delegation](ctx, c, "/mman/delegations", url.Values{"account": {account.String()}}, limit)
}

// Unbondings lists at most limit unbondings of an account, the earliest first.
func (c *Client) Unbondings(ctx context.Context, account mman.Address, limit int) ([]Unbonding, error) {
	return list[Unbonding](ctx, c, "/mman/unbondings", url.Values{"account": {account.String()}}, limit)
}
