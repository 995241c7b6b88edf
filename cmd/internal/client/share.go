package client

import (
	"fmt"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market/policy"
)

// shareBlocks is how long a share lasts unless --blocks says otherwise: about a
// month of blocks of a second.
const shareBlocks = 2_592_000

// shareAnswer is a share as it was made or taken back.
type shareAnswer struct {
	Offer   mman.CID     `json:"offer"`
	With    mman.Address `json:"with"`
	Expires uint64       `json:"expires,omitempty"`
}

func (a *app) share() *cobra.Command {
	with, file, blocks := "", "", uint64(shareBlocks)
	cmd := &cobra.Command{
		Use: "share OFFER --with ADDR", Short: "Share an own offer with one account",
		Long: `Share an own offer with one account, under a policy of its own.

The policy in --policy stands in the place of the offer's rules for this account;
without one it is allowed. The offer's limits, its algorithms and its obligations
stay. The share lasts --blocks and stays when the offer is renewed; 'mman unshare'
takes it back, also from leases that it made.`,
		Example: "  mman share baf… --with man1…\n  mman share baf… --with friend --policy policy.yaml --blocks 86400",
		Args:    console.Args(1, 1, "OFFER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, grantee, err := a.shared(args[0], with)
			if err != nil {
				return err
			}
			p := policy.Policy{Default: policy.Allow}
			if file != "" {
				if p, _, err = loadPolicy(file); err != nil {
					return err
				}
			}
			if blocks == 0 {
				return console.Wrong("--blocks 0 is no time: use for example 86400")
			}
			c, err := a.signer(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // the result is in already
			expires, err := c.Share(cmd.Context(), id, grantee, p, blocks)
			if err != nil {
				return err
			}
			return a.answer(shareAnswer{id, grantee, expires}, fmt.Sprintf("offer %s is shared with %s until height %d", id, grantee, expires))
		},
	}
	cmd.Flags().StringVar(&with, "with", "", "the account, or the name of an own key")
	cmd.Flags().StringVar(&file, "policy", "", "file with the policy for this account (default: allow)")
	cmd.Flags().Uint64Var(&blocks, "blocks", blocks, "how many blocks the share lasts")
	return cmd
}

func (a *app) unshare() *cobra.Command {
	with := ""
	cmd := &cobra.Command{
		Use: "unshare OFFER --with ADDR", Short: "Take a share back",
		Example: "  mman unshare baf… --with man1…",
		Args:    console.Args(1, 1, "OFFER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, grantee, err := a.shared(args[0], with)
			if err != nil {
				return err
			}
			c, err := a.signer(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // the result is in already
			if err := c.Unshare(cmd.Context(), id, grantee); err != nil {
				return err
			}
			return a.answer(shareAnswer{Offer: id, With: grantee}, fmt.Sprintf("offer %s is not shared with %s any more", id, grantee))
		},
	}
	cmd.Flags().StringVar(&with, "with", "", "the account, or the name of an own key")
	return cmd
}

// shared reads what a share is of and with whom.
func (a *app) shared(offer, with string) (mman.CID, mman.Address, error) {
	id, err := parseCID(offer)
	if err != nil {
		return id, mman.Address{}, err
	}
	if with == "" {
		return id, mman.Address{}, console.Wrong("with whom? name an account with --with")
	}
	grantee, err := a.party(with)
	return id, grantee, err
}
