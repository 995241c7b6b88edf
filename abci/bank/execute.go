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
		from, err := spend(ctx, m.From, m.Amount)
		if err != nil {
			return err
		}
		return receive(ctx, from, m.To, m.Amount)
	case tx.MsgMultiSend:
		sum, err := m.Sum()
		if err != nil {
			return err
		}
		from, err := spend(ctx, m.From, sum)
		if err != nil {
			return err
		}
		for i, o := range m.Outputs {
			if err := receive(ctx, from, o.To, o.Amount); err != nil {
				return fmt.Errorf("payment %d: %w", i, err)
			}
		}
		return nil
	default:
		return fmt.Errorf("%w: the bank does not execute %s", mman.ErrUnknownMsg, msg.TypeURL())
	}
}

// spend takes the coins and returns the payer as events name him.
func spend(ctx *block.Context, payer mman.Address, amount mman.Amount) (from string, err error) {
	if err := debit(ctx.State, payer, amount); err != nil {
		return "", err
	}
	from = payer.String()
	ctx.Emit("coin_spent", "spender", from, "amount", block.Coins(amount))
	return from, nil
}

func receive(ctx *block.Context, from string, payee mman.Address, amount mman.Amount) error {
	if payee.IsZero() {
		return fmt.Errorf("%w: nobody has the zero address, the coins would be lost", mman.ErrInvalid)
	}
	if err := credit(ctx.State, payee, amount); err != nil {
		return err
	}
	to, coins := payee.String(), block.Coins(amount)
	ctx.Emit("coin_received", "receiver", to, "amount", coins)
	ctx.Emit("transfer", "recipient", to, "sender", from, "amount", coins)
	return nil
}
