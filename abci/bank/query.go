package bank

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
)

// Nouns returns the first path elements that the module answers.
func (Module) Nouns() []string { return []string{"account", "accounts", "supply"} }

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

// Query answers account/ADDR, supply, and accounts in the order of their
// addresses, which takes limit and after. An unknown account is ErrNotFound.
func (Module) Query(q block.Query) (any, error) {
	if q.Path[0] == "accounts" && len(q.Path) == 1 {
		return listAccounts(q)
	}
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
		return nil, fmt.Errorf("%w: use /mman/account/ADDRESS, /mman/accounts or /mman/supply", mman.ErrInvalid)
	}
}

func listAccounts(q block.Query) (any, error) {
	if err := q.Allow("limit", "after"); err != nil {
		return nil, err
	}
	limit, err := q.Limit()
	if err != nil {
		return nil, err
	}
	var after []byte
	if s := q.Args["after"]; s != "" {
		a, err := mman.ParseAddress(s)
		if err != nil {
			return nil, fmt.Errorf("after: use the next of an earlier page: %w", err)
		}
		after = a[:]
	}
	rows, err := accounts().Page(q.State, nil, after, limit+1)
	if err != nil {
		return nil, err
	}
	page := block.Page[AccountAnswer]{Items: []AccountAnswer{}}
	for i, r := range rows {
		if i == limit {
			page.Next = page.Items[limit-1].Address.String()
			break
		}
		page.Items = append(page.Items, AccountAnswer{mman.Address(r.Key), r.Value})
	}
	return page, nil
}
