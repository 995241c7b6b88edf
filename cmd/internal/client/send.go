package client

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/cmd/internal/console"
)

// sendAnswer is a transfer that is in a block.
type sendAnswer struct {
	Tx     mman.Hash    `json:"tx"`
	Height uint64       `json:"height"`
	From   mman.Address `json:"from"`
	To     mman.Address `json:"to"`
	Amount mman.Amount  `json:"amount_uman"`
	Fee    mman.Amount  `json:"fee_uman"`
}

func (a *app) send() *cobra.Command {
	return &cobra.Command{
		Use: "send TO AMOUNT", Short: "Pay another account",
		Long:    "Pay another account. TO is an address, or the name of an own key; AMOUNT is\nwritten 5MAN, 0.25MAN or 250000uman. It returns when the transfer is in a block.",
		Example: "  mman send man1… 0.5MAN",
		Args:    console.Args(2, 2, "TO and AMOUNT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			amount, err := mman.ParseAmount(args[1])
			if err == nil && amount == 0 {
				err = fmt.Errorf("amount %s is nothing", args[1])
			}
			if err != nil {
				return console.Wrong("%w", err)
			}
			to, err := a.party(args[0])
			if err != nil {
				return err
			}
			return a.transfer(cmd.Context(), to, amount)
		},
	}
}

func (a *app) transfer(ctx context.Context, to mman.Address, amount mman.Amount) error {
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // the result is in already
	submitter, err := c.Submitter()
	if err != nil {
		return err
	}
	done, err := submitter.Submit(ctx, tx.MsgSend{From: submitter.Address(), To: to, Amount: amount})
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", amount, to, err)
	}
	answer := sendAnswer{Tx: done.Hash, Height: done.Height, From: submitter.Address(), To: to, Amount: amount, Fee: done.Fee}
	return a.answer(answer, fmt.Sprintf("sent %s to %s at height %d, fee %s, transaction %s", amount, to, done.Height, answer.Fee, done.Hash))
}
