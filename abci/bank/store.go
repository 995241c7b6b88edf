package bank

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/internal/sig"
)

// Account is an account's record.
type Account struct {
	Number   uint64      `cbor:"number"   json:"number"`
	Sequence uint64      `cbor:"sequence" json:"sequence"`
	Balance  mman.Amount `cbor:"balance"  json:"balance_uman"`
	// Key is the zero key until the account's first transaction.
	Key sig.PublicKey `cbor:"key,omitzero" json:"public_key,omitzero"`
}

const accountMaxBytes = 128

func accounts() state.Table[Account] {
	return state.NewTable[Account](state.BankAccounts, accountMaxBytes)
}

// Lookup returns the account's record; ok is false when there is none.
func Lookup(r state.Reader, a mman.Address) (account Account, ok bool, err error) {
	b, ok, err := r.Get(state.BankAccounts.Store(), state.BankAccounts.Key(a[:]))
	if err != nil || !ok {
		return Account{}, false, err
	}
	if account, ok := readAccount(b); ok {
		return account, true, nil
	}
	account, err = accounts().Decode(a[:], b)
	return account, err == nil, err
}

func put(w state.Writer, a mman.Address, account Account) error {
	b, err := account.encode()
	if err != nil {
		return err
	}
	return w.Set(state.BankAccounts.Store(), state.BankAccounts.Key(a[:]), b)
}

// create makes an account with the next number.
func create(w state.Writer, a mman.Address) (Account, error) {
	next := total(totalNumbers)
	n, err := next.Get(w)
	if err != nil {
		return Account{}, err
	}
	if err := next.Set(w, n+1); err != nil {
		return Account{}, err
	}
	if err := w.Set(state.BankNumbers.Store(), state.BankNumbers.Key(state.Uint64Key(n)), a[:]); err != nil {
		return Account{}, err
	}
	return Account{Number: n}, nil
}

// The names of the totals.
const (
	totalNumbers = "numbers"
	totalGenesis = "genesis"
	totalMinted  = "minted"
	totalBurned  = "burned"
	totalLiquid  = "liquid"
	totalEscrow  = "escrow"
	totalStaked  = "staked"
	totalPools   = "pools"
	totalLocked  = "locked" // deposits of standing offers
	totalKept    = "kept"   // escrow and deposits of storage
)

func total(name string) state.Counter { return state.NewCounter(state.BankTotals, name) }

// move takes the amount out of one total and adds it to another. A total that
// would fall below zero means that the state is broken: ErrInvariant.
func move(w state.Writer, amount mman.Amount, from, to string) error {
	if err := shift(w, from, amount, mman.Amount.Sub); err != nil {
		return err
	}
	return shift(w, to, amount, mman.Amount.Add)
}

func shift(w state.Writer, name string, amount mman.Amount, op func(a, b mman.Amount) (mman.Amount, error)) error {
	n, err := total(name).Get(w)
	if err != nil {
		return err
	}
	after, err := op(mman.Amount(n), amount)
	if err != nil {
		return fmt.Errorf("%w: total %s: %w", mman.ErrInvariant, name, err)
	}
	return total(name).Set(w, uint64(after))
}

// Supply is where all money is. Genesis + minted − burned is the sum of the
// rest.
type Supply struct {
	Genesis mman.Amount `json:"genesis"`
	Minted  mman.Amount `json:"minted"`
	Burned  mman.Amount `json:"burned"`
	Liquid  mman.Amount `json:"liquid"`
	Escrow  mman.Amount `json:"escrow"`
	Staked  mman.Amount `json:"staked"`
	// Pools are fees that wait for the validators and deposits.
	Pools mman.Amount `json:"pools"`
}

// Totals reads the supply.
func Totals(r state.Reader) (Supply, error) {
	var s Supply
	for _, t := range []struct {
		name string
		dst  *mman.Amount
	}{
		{totalGenesis, &s.Genesis},
		{totalMinted, &s.Minted},
		{totalBurned, &s.Burned},
		{totalLiquid, &s.Liquid},
		{totalEscrow, &s.Escrow},
		{totalStaked, &s.Staked},
		{totalPools, &s.Pools},
	} {
		n, err := total(t.name).Get(r)
		if err != nil {
			return Supply{}, err
		}
		*t.dst = mman.Amount(n)
	}
	locked, err := total(totalLocked).Get(r)
	if err != nil {
		return Supply{}, err
	}
	if s.Pools, err = s.Pools.Add(mman.Amount(locked)); err != nil {
		return Supply{}, err
	}
	kept, err := total(totalKept).Get(r)
	if err != nil {
		return Supply{}, err
	}
	s.Escrow, err = s.Escrow.Add(mman.Amount(kept))
	return s, err
}
