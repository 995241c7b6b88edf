package provider

import (
	"context"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/rfp"
)

// Ledger is the provider's view of the chain: its own node's committed state.
// Methods are safe for concurrent use; a record that does not exist is
// mman.ErrNotFound.
type Ledger interface {
	Height() uint64
	Lease(id mman.LeaseID) (market.Lease, error)
	Offer(id mman.CID) (market.Offer, error)
	// Grant returns what the holder of a leg granted an account; one that was
	// revoked or expired is not found.
	Grant(leg market.Leg, grantee mman.Address) (policy.Policy, error)
	// Waiting lists leases whose compute is the account's and which it must
	// accept soon.
	Waiting(provider mman.Address) ([]mman.LeaseID, error)
	// RFP returns a request that was put out to bids.
	RFP(id mman.RequestID) (rfp.RFP, market.Request, error)
	// Bound reports the account and addresses that a peer is bound to.
	Bound(peer mman.PeerID) (mman.Address, []string, error)
}

// Submitter signs messages with the provider's account and brings them to the
// chain.
type Submitter interface {
	Address() mman.Address
	SignOffer(o market.Offer) (market.SignedOffer, mman.CID, error)
	SignCommitment(c market.Commitment) (market.SignedCommitment, error)
	// Submit returns once the transaction is in a block and succeeded.
	Submit(ctx context.Context, msgs ...tx.Msg) (mman.Hash, error)
}
