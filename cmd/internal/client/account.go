package client

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/sdk/chain"
)

func (a *app) account() *cobra.Command {
	return &cobra.Command{
		Use: "account [ADDR]", Short: "Show an account's balance",
		Example: "  mman account\n  mman account man1…\n  mman account --from me -o json",
		Args:    console.Args(0, 1, "ADDR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			address, err := a.whose(args)
			if err != nil {
				return err
			}
			return a.showAccount(cmd.Context(), address)
		},
	}
}

// whose returns the account that the argument names, else the own one.
func (a *app) whose(args []string) (mman.Address, error) {
	if len(args) > 0 {
		return a.party(args[0])
	}
	ring, err := a.keyring(false)
	if err != nil {
		return mman.Address{}, err
	}
	info, err := a.own(ring)
	return info.Address, err
}

func (a *app) showAccount(ctx context.Context, address mman.Address) error {
	c, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing was written
	account, err := c.Chain().Account(ctx, address)
	if chain.Gone(err) {
		return fmt.Errorf("%w: account %s has never received anything on chain %s; send it something first", mman.ErrNotFound, address, c.ChainID())
	}
	if err != nil {
		return err
	}
	return a.answer(account, facts("account", address.String(), "balance", account.Balance.String(), "transactions", strconv.FormatUint(account.Sequence, 10), "chain", c.ChainID())...)
}
