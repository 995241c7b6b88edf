package bank

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/tx"
)

// Execute runs a message of the bank. ErrFunds when the payer has too few
// coins.
func (Module) Execute(ctx *block.Context, msg tx.Msg) error {
	switch m := msg.(type) {
	case tx.MsgSend:
		if err := spend(ctx, m.From, m.Amount); err != nil {
			return err
		}
		return receive(ctx, m.From, m.To, m.Amount)
	case tx.MsgMultiSend:
		sum, err := m.Sum()
		if err != nil {
			return err
		}
		if err := spend(ctx, m.From, sum); err != nil {
			return err
		}
		for i, o := range m.Outputs {
			if err := receive(ctx, m.From, o.To, o.Amount); err != nil {
				return fmt.Errorf("payment %d: %w", i, err)
			}
		}
		return nil
	default:
		return fmt.Errorf("%w: the bank does not execute %s", mman.ErrUnknownMsg, msg.TypeURL())
	}
}

func spend(ctx *block.Context, from mman.Address, amount mman.Amount) error {
	if err := debit(ctx.State, from, amount); err != nil {
		return err
	}
	ctx.Emit("coin_spent", "spender", from.String(), "amount", block.Coins(amount))
	return nil
}

func receive(ctx *block.Context, payer, payee mman.Address, amount mman.Amount) error {
	if payee.IsZero() {
		return fmt.Errorf("%w: nobody has the zero address, the coins would be lost", mman.ErrInvalid)
	}
	if err := credit(ctx.State, payee, amount); err != nil {
		return err
	}
	from, to, coins := payer.String(), payee.String(), block.Coins(amount)
	ctx.Emit("coin_received", "receiver", to, "amount", coins)
	ctx.Emit("transfer", "recipient", to, "sender", from, "amount", coins)
	return nil
}
