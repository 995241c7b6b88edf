package stake

import (
	"fmt"

	mman "github.com/limboid/massive-man"
)

// million is the whole in millionths.
const million = 1_000_000

// Pool is tokens of which several hold shares.
type Pool struct {
	Tokens mman.Amount `cbor:"tokens" json:"tokens_uman"`
	Shares uint64      `cbor:"shares" json:"shares"`
}

// Value returns what shares are worth, rounded down. Shares are at most those of
// the pool.
func (p *Pool) Value(shares uint64) (mman.Amount, error) {
	if shares == 0 {
		return 0, nil
	}
	return p.Tokens.MulDivFloor(shares, p.Shares)
}

// Deposit adds tokens and returns the shares that they buy, rounded down. It
// refuses with mman.ErrInvalid a deposit of which rounding would give more than
// a thousandth to the other owners.
func (p *Pool) Deposit(amount mman.Amount) (shares uint64, err error) {
	after := *p
	if shares, err = after.Award(amount); err != nil {
		return 0, err
	}
	worth, err := after.Value(shares)
	if err != nil {
		return 0, err
	}
	if amount-worth > amount/1000 {
		return 0, fmt.Errorf("%w: %duman buy shares worth %duman: one share costs more, add to the amount", mman.ErrInvalid, uint64(amount), uint64(worth))
	}
	*p = after
	return shares, nil
}

// Award adds tokens and returns the shares that they buy, rounded down; what is less
// than a share belongs to all owners.
func (p *Pool) Award(amount mman.Amount) (shares uint64, err error) {
	shares = uint64(amount)
	if p.Shares > 0 {
		bought, err := amount.MulDivFloor(p.Shares, uint64(p.Tokens))
		if err != nil {
			return 0, err
		}
		shares = uint64(bought)
	}
	tokens, err := p.Tokens.Add(amount)
	if err != nil {
		return 0, err
	}
	total, err := mman.Amount(p.Shares).Add(mman.Amount(shares))
	if err != nil {
		return 0, err
	}
	p.Tokens, p.Shares = tokens, uint64(total)
	return shares, nil
}

// Withdraw takes shares out and returns what they are worth.
func (p *Pool) Withdraw(shares uint64) (mman.Amount, error) {
	if shares > p.Shares {
		return 0, fmt.Errorf("%w: %d shares of a pool that has %d", mman.ErrInvariant, shares, p.Shares)
	}
	amount, err := p.Value(shares)
	if err != nil {
		return 0, err
	}
	p.Tokens -= amount
	p.Shares -= shares
	return amount, nil
}

// Price returns how many shares must be given for an amount, rounded up.
func (p *Pool) Price(amount mman.Amount) (uint64, error) {
	if p.Tokens == 0 {
		return 0, fmt.Errorf("%w: the pool is empty", mman.ErrFunds)
	}
	shares, err := amount.MulDivCeil(p.Shares, uint64(p.Tokens))
	return uint64(shares), err
}

// Slash takes a part, in millionths, of the tokens, rounded down, and returns
// it. One token stays as long as there are shares, so that they keep a price.
func (p *Pool) Slash(ppm uint64) (mman.Amount, error) {
	cut, err := p.Tokens.MulDivFloor(min(ppm, million), million)
	if err != nil {
		return 0, err
	}
	if cut == p.Tokens && cut > 0 {
		cut--
	}
	p.Tokens -= cut
	return cut, nil
}
