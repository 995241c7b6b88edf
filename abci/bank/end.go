package bank

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
)

// EndBlock has nothing due.
func (Module) EndBlock(*block.Context) error { return nil }

// Invariants checks the supply identity and that balances add up to the liquid
// total; mman.ErrInvariant. It reads every account.
func (Module) Invariants(r state.Reader) error {
	s, err := Totals(r)
	if err != nil {
		return err
	}
	made, err := s.Genesis.Add(s.Minted)
	if err != nil {
		return err
	}
	var held mman.Amount
	for _, part := range []mman.Amount{s.Burned, s.Liquid, s.Escrow, s.Staked, s.Pools} {
		if held, err = held.Add(part); err != nil {
			return err
		}
	}
	if made != held {
		return fmt.Errorf("%w: supply: %d uman were made, %d are burned or held", mman.ErrInvariant, uint64(made), uint64(held))
	}
	var sum mman.Amount
	if err := walk(r, func(_ mman.Address, account Account) error {
		sum, err = sum.Add(account.Balance)
		return err
	}); err != nil {
		return err
	}
	if sum != s.Liquid {
		return fmt.Errorf("%w: balances add up to %d uman, the liquid total is %d", mman.ErrInvariant, uint64(sum), uint64(s.Liquid))
	}
	return nil
}
