package bank

import (
	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
)

// InitGenesis creates the document's accounts in canonical order. Accounts
// without coins are created too, so that they have a number. The validators'
// stake is money beside the accounts.
func (Module) InitGenesis(ctx *block.Context, doc genesis.Document) error {
	supply, err := doc.Supply()
	if err != nil {
		return err
	}
	liquid, err := doc.Balances()
	if err != nil {
		return err
	}
	for _, a := range doc.Canonical().Accounts {
		if err := credit(ctx.State, a.Address, a.Balance); err != nil {
			return err
		}
	}
	if err := total(totalGenesis).Set(ctx.State, uint64(supply)); err != nil {
		return err
	}
	if err := total(totalStaked).Set(ctx.State, uint64(supply-liquid)); err != nil {
		return err
	}
	return total(totalLiquid).Set(ctx.State, uint64(liquid))
}

// walk calls fn with every account in order of address.
func walk(r state.Reader, fn func(mman.Address, Account) error) error {
	var after []byte
	for {
		rows, err := accounts().Page(r, nil, after, state.MaxPage)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := fn(mman.Address(row.Key), row.Value); err != nil {
				return err
			}
		}
		if len(rows) < state.MaxPage {
			return nil
		}
		after = rows[len(rows)-1].Key
	}
}
