package node

import (
	"context"
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	vault "github.com/limboid/massive-man/abci/storage"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/market/storage"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/sdk/submit"
)

// ledger shows a provider this node's own committed state; see provider.Ledger.
type ledger struct{ app *abci.Application }

func (l ledger) Height() uint64 { return l.app.View().Height() }

func (l ledger) Lease(id mman.LeaseID) (market.Lease, error) {
	lease, ok, err := l.app.View().Lease(id)
	if err == nil && !ok {
		err = fmt.Errorf("lease %s: %w", id, mman.ErrNotFound)
	}
	return lease, err
}

func (l ledger) Offer(id mman.CID) (market.Offer, error) {
	offer, _, ok, err := l.app.View().Offer(id)
	if err == nil && !ok {
		err = fmt.Errorf("offer %s: %w", id, mman.ErrNotFound)
	}
	return offer, err
}

func (l ledger) Grant(leg market.Leg, grantee mman.Address) (policy.Policy, error) {
	p, ok, err := l.app.View().Grant(leg, grantee)
	if err == nil && !ok {
		err = fmt.Errorf("grant to %s: %w", grantee, mman.ErrNotFound)
	}
	return p, err
}

func (l ledger) RFP(id mman.RequestID) (rfp.RFP, market.Request, error) {
	view := l.app.View()
	one, ok, err := view.RFP(id)
	if err == nil && !ok {
		err = fmt.Errorf("request %s put out to bids: %w", id, mman.ErrNotFound)
	}
	if err != nil {
		return one, market.Request{}, err
	}
	req, _, _, err := view.Request(id)
	return one, req, err
}

// waitingPage is how many leases are looked at for those that wait to be
// accepted.
const waitingPage = 1024

func (l ledger) Waiting(provider mman.Address) ([]mman.LeaseID, error) {
	view := l.app.View()
	params, err := view.Params()
	if err != nil {
		return nil, err
	}
	var out []mman.LeaseID
	var after *mman.LeaseID
	for {
		page, err := view.ActiveLeases(provider, after, waitingPage)
		if err != nil {
			return nil, err
		}
		for i := range page {
			one := page[i]
			after = &one.ID
			if one.State == market.LeaseOpen && one.Accepted == 0 && one.Compute().Provider == provider && one.Opened+params.AcceptBlocks/2 <= view.Height() {
				out = append(out, one.ID)
			}
		}
		if len(page) < waitingPage {
			return out, nil
		}
	}
}

func (l ledger) StorageRules() (storage.Rules, error) {
	params, err := l.app.View().Params()
	return vault.Rules(params), err
}

// replicasPage is how many replicas of a provider are read at a time.
const replicasPage = 1024

func (l ledger) StorageReplicas(provider mman.Address) ([]vault.Name, error) {
	view := l.app.View()
	var all []vault.Name
	for {
		var after *vault.Name
		if len(all) > 0 {
			after = &all[len(all)-1]
		}
		page, err := view.StorageReplicas(provider, after, replicasPage)
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); len(page) < replicasPage {
			return all, nil
		}
	}
}

func (l ledger) StorageLease(id mman.LeaseID) (storage.Lease, error) {
	lease, ok, err := l.app.View().StorageLease(id)
	if err == nil && !ok {
		err = fmt.Errorf("storage lease %s: %w", id, mman.ErrNotFound)
	}
	return lease, err
}

func (l ledger) StorageDrawn() (storage.Drawn, error) {
	drawn, ok, err := l.app.View().StorageDrawn()
	if err == nil && !ok {
		err = fmt.Errorf("storage challenge: %w", mman.ErrNotFound)
	}
	return drawn, err
}

func (l ledger) StorageHeld() (uint64, error) { return l.app.View().StorageHeld() }

func (l ledger) StorageRetrieval(consumer, provider mman.Address) (vault.Retrieval, error) {
	r, ok, err := l.app.View().StorageRetrieval(consumer, provider)
	if err == nil && !ok {
		err = fmt.Errorf("money of %s for retrievals: %w", consumer, mman.ErrNotFound)
	}
	return r, err
}

func (l ledger) Bound(peer mman.PeerID) (mman.Address, []string, error) {
	b, ok, err := l.app.View().Binding(peer)
	if err == nil && !ok {
		err = fmt.Errorf("node %s: %w", peer, mman.ErrNotFound)
	}
	return b.Account, b.Addrs, err
}

// submitter acts for this node's account; see provider.Submitter.
type submitter struct {
	chainID string
	key     sig.PrivateKey
	submit  *submit.Submitter
}

func (s submitter) Address() mman.Address { return s.submit.Address() }

func (s submitter) SignOffer(o market.Offer) (market.SignedOffer, mman.CID, error) {
	return market.SignOffer(s.chainID, o, s.key)
}

func (s submitter) SignCommitment(c market.Commitment) (market.SignedCommitment, error) {
	return market.SignCommitment(s.chainID, c, s.key)
}

func (s submitter) Submit(ctx context.Context, msgs ...tx.Msg) (mman.Hash, error) {
	r, err := s.submit.Submit(ctx, msgs...)
	return r.Hash, err
}

// stores hands out the places of private content; see provider.Stores.
type stores struct {
	data    *store.Data
	private *content.PrivateStore
}

func (s stores) Private() *content.PrivateStore { return s.private }

func (s stores) Lease(id mman.LeaseID) *content.PrivateStore {
	return content.NewPrivateStore(s.data.LeaseBlocks(id))
}

func (s stores) DropLease(ctx context.Context, id mman.LeaseID) error {
	return s.data.DropLease(ctx, id)
}
