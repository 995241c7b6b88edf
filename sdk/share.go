package sdk

import (
	"context"
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/sdk/chain"
)

// Share lets one account use an own offer for so many blocks, under a policy that
// stands in the place of the offer's rules. It returns the height at which that
// ends.
func (c *Client) Share(ctx context.Context, offer mman.CID, with mman.Address, p policy.Policy, blocks uint64) (expires uint64, err error) {
	submitter, err := c.Submitter()
	if err != nil {
		return 0, err
	}
	raw, err := chain.EncodePolicy(p)
	if err != nil {
		return 0, err
	}
	st, err := c.chain.Status(ctx)
	if err != nil {
		return 0, err
	}
	expires = st.Height + blocks
	if _, err := submitter.Submit(ctx, tx.MsgGrant{Provider: submitter.Address(), Offer: offer, Grantee: with, Policy: raw, Expires: expires}); err != nil {
		return 0, fmt.Errorf("share offer %s: %w", offer, err)
	}
	return expires, nil
}

// Unshare takes back what Share granted, also from leases that it made.
func (c *Client) Unshare(ctx context.Context, offer mman.CID, with mman.Address) error {
	submitter, err := c.Submitter()
	if err != nil {
		return err
	}
	if _, err := submitter.Submit(ctx, tx.MsgRevoke{Provider: submitter.Address(), Offer: offer, Grantee: with}); err != nil {
		return fmt.Errorf("unshare offer %s: %w", offer, err)
	}
	return nil
}
