package bank

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
)

// Module is the bank. It holds nothing: all it knows is in state.
type Module struct{}

// New returns the module.
func New() Module { return Module{} }

// Name returns "bank".
func (Module) Name() string { return "bank" }

// Messages returns the type URLs that the module executes.
func (Module) Messages() []string { return []string{tx.TypeSend, tx.TypeMultiSend} }

// Keep takes coins of an account for storage, a consumer's escrow or a holder's
// deposit; ErrFunds when it has too few.
func (m Module) Keep(ctx *block.Context, from mman.Address, amount mman.Amount) error {
	return m.set(ctx, from, amount, totalKept)
}

// Give returns coins that are kept for storage, or pays with them.
func (m Module) Give(ctx *block.Context, to mman.Address, amount mman.Amount) error {
	return m.unset(ctx, to, amount, totalKept)
}

// Destroy burns coins that are kept for storage.
func (m Module) Destroy(ctx *block.Context, amount mman.Amount) error {
	if amount == 0 {
		return nil
	}
	return move(ctx.State, amount, totalKept, totalBurned)
}

// Kept returns all that is kept for storage.
func (m Module) Kept(r state.Reader) (mman.Amount, error) {
	n, err := total(totalKept).Get(r)
	return mman.Amount(n), err
}

// set moves coins of an account into a total, unset out of it; nothing at all for an
// amount of 0.
func (m Module) set(ctx *block.Context, from mman.Address, amount mman.Amount, into string) error {
	if amount == 0 {
		return nil
	}
	return m.spend(ctx, from, amount, into)
}

func (Module) spend(ctx *block.Context, from mman.Address, amount mman.Amount, into string) error {
	if err := debit(ctx.State, from, amount); err != nil {
		return err
	}
	ctx.Emit("coin_spent", "spender", from.String(), "amount", block.Coins(amount))
	return move(ctx.State, amount, totalLiquid, into)
}

func (m Module) unset(ctx *block.Context, to mman.Address, amount mman.Amount, from string) error {
	if amount == 0 {
		return nil
	}
	if err := move(ctx.State, amount, from, totalLiquid); err != nil {
		return err
	}
	ctx.Emit("coin_received", "receiver", to.String(), "amount", block.Coins(amount))
	return credit(ctx.State, to, amount)
}

// Hold moves coins of an account into escrow; ErrFunds when it has too few.
func (m Module) Hold(ctx *block.Context, from mman.Address, amount mman.Amount) error {
	return m.spend(ctx, from, amount, totalEscrow)
}

// Release moves escrow to an account: a refund, or a payment.
func (m Module) Release(ctx *block.Context, to mman.Address, amount mman.Amount) error {
	return m.unset(ctx, to, amount, totalEscrow)
}

// Burn destroys escrow.
func (m Module) Burn(ctx *block.Context, amount mman.Amount) error {
	if amount == 0 {
		return nil
	}
	return move(ctx.State, amount, totalEscrow, totalBurned)
}

// Lock moves coins of an account into a deposit; ErrFunds when it has too few.
func (m Module) Lock(ctx *block.Context, from mman.Address, amount mman.Amount) error {
	return m.set(ctx, from, amount, totalLocked)
}

// Unlock gives a deposit back.
func (m Module) Unlock(ctx *block.Context, to mman.Address, amount mman.Amount) error {
	return m.unset(ctx, to, amount, totalLocked)
}

// Locked returns all deposits.
func (m Module) Locked(r state.Reader) (mman.Amount, error) {
	n, err := total(totalLocked).Get(r)
	return mman.Amount(n), err
}

// Key returns an account's public key, the zero key before its first
// transaction.
func (m Module) Key(r state.Reader, a mman.Address) (sig.PublicKey, error) {
	account, _, err := Lookup(r, a)
	return account.Key, err
}

// Bill is a charge that was found to be in order and is not taken yet.
type Bill struct {
	address mman.Address
	account Account // after the charge
}

// Number returns the account's number, which the signature covers.
func (b Bill) Number() uint64 { return b.account.Number }

// Take writes the charge to the state on which Charge found it.
func (b Bill) Take(w state.Writer) error { return put(w, b.address, b.account) }

// Charge makes out the fee to the signer and uses up the sequence. Taking the bill is
// the first thing that a transaction does and stays when its messages fail; Collect
// says where the fees of a block go. The transaction's own fee is the most that
// the signer pays, and the account must hold it. The sequence must be the
// account's, ErrSequence; the account must exist and hold the fee, ErrFunds.
func Charge(r state.Reader, t *tx.Tx, fee mman.Amount) (Bill, error) {
	address := t.Address()
	account, ok, err := Lookup(r, address)
	switch {
	case err != nil:
		return Bill{}, err
	case !ok:
		return Bill{}, fmt.Errorf("%w: account %s has never received coins", mman.ErrFunds, address)
	case t.Sequence != account.Sequence:
		return Bill{}, fmt.Errorf("%w: account sequence mismatch, expected %d, got %d", mman.ErrSequence, account.Sequence, t.Sequence)
	case max(t.Fee, fee) > account.Balance:
		return Bill{}, fmt.Errorf("%w: the fee is %s, account %s has %s", mman.ErrFunds, max(t.Fee, fee), address, account.Balance)
	}
	account.Balance -= fee
	account.Sequence++
	account.Key = t.Signer
	return Bill{address, account}, nil
}

// Stake moves coins of an account into stake; ErrFunds when it has too few.
func (m Module) Stake(ctx *block.Context, from mman.Address, amount mman.Amount) error {
	return m.spend(ctx, from, amount, totalStaked)
}

// Unstake moves stake to an account.
func (m Module) Unstake(ctx *block.Context, to mman.Address, amount mman.Amount) error {
	return m.unset(ctx, to, amount, totalStaked)
}

// BurnStake destroys stake.
func (m Module) BurnStake(ctx *block.Context, amount mman.Amount) error {
	return move(ctx.State, amount, totalStaked, totalBurned)
}

// Reward moves fees from the pool to stake.
func (m Module) Reward(ctx *block.Context, amount mman.Amount) error {
	return move(ctx.State, amount, totalPools, totalStaked)
}

// Fees returns the fees that wait for the validators.
func (m Module) Fees(r state.Reader) (mman.Amount, error) {
	n, err := total(totalPools).Get(r)
	return mman.Amount(n), err
}

// Staked returns all stake, active and debonding.
func (m Module) Staked(r state.Reader) (mman.Amount, error) {
	n, err := total(totalStaked).Get(r)
	return mman.Amount(n), err
}

func debit(w state.Writer, from mman.Address, amount mman.Amount) error {
	account, ok, err := Lookup(w, from)
	if err != nil {
		return err
	}
	if !ok || account.Balance < amount {
		return fmt.Errorf("%w: %s has %s, %s are needed", mman.ErrFunds, from, account.Balance, amount)
	}
	account.Balance -= amount
	return put(w, from, account)
}

func credit(w state.Writer, to mman.Address, amount mman.Amount) error {
	account, ok, err := Lookup(w, to)
	if err != nil {
		return err
	}
	if !ok {
		if account, err = create(w, to); err != nil {
			return err
		}
	}
	if account.Balance, err = account.Balance.Add(amount); err != nil {
		return err
	}
	return put(w, to, account)
}

// Escrow returns all that is held.
func (m Module) Escrow(r state.Reader) (mman.Amount, error) {
	n, err := total(totalEscrow).Get(r)
	return mman.Amount(n), err
}
