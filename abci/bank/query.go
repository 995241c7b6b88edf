package bank

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
)

// Nouns returns the first path elements that the module answers.
func (Module) Nouns() []string { return []string{"account", "supply"} }

// AccountAnswer is the answer to /mman/account/ADDR.
type AccountAnswer struct {
	Address mman.Address `json:"address"`
	Account
}

// Unknown is the error for an account that does not exist, with the words by
// which wallets know that case.
func Unknown(a mman.Address) error {
	return fmt.Errorf("%w: rpc error: code = NotFound desc = account %s has never received coins", mman.ErrNotFound, a)
}

// Query answers account/ADDR and supply. An unknown account is
// ErrNotFound.
func (Module) Query(q block.Query) (any, error) {
	if err := q.Allow(); err != nil {
		return nil, err
	}
	switch {
	case q.Path[0] == "supply" && len(q.Path) == 1:
		return Totals(q.State)
	case q.Path[0] == "account" && len(q.Path) == 2:
		address, err := mman.ParseAddress(q.Path[1])
		if err != nil {
			return nil, err
		}
		account, ok, err := Lookup(q.State, address)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, Unknown(address)
		}
		return AccountAnswer{address, account}, nil
	default:
		return nil, fmt.Errorf("%w: use /mman/account/ADDRESS or /mman/supply", mman.ErrInvalid)
	}
}
