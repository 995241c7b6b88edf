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
	m, ok := msg.(tx.MsgSend)
	if !ok {
		return fmt.Errorf("%w: the bank does not execute %s", mman.ErrUnknownMsg, msg.TypeURL())
	}
	if m.To.IsZero() {
		return fmt.Errorf("%w: nobody has the zero address, the coins would be lost", mman.ErrInvalid)
	}
	if err := debit(ctx.State, m.From, m.Amount); err != nil {
		return err
	}
	if err := credit(ctx.State, m.To, m.Amount); err != nil {
		return err
	}
	from, to, coins := m.From.String(), m.To.String(), block.Coins(m.Amount)
	ctx.Emit("coin_spent", "spender", from, "amount", coins)
	ctx.Emit("coin_received", "receiver", to, "amount", coins)
	ctx.Emit("transfer", "recipient", to, "sender", from, "amount", coins)
	return nil
}
