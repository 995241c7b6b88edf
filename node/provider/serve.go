package provider

import (
	"context"
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/p2p/protocol/offers"
)

// Offers answers a peer that asks for this node's offers; see offers.Source.
func (p *Provider) Offers(_ context.Context, q offers.Query) ([]offers.Signed, error) {
	var out []offers.Signed
	for _, h := range p.holdings.all() {
		switch {
		case h.Withdrawn || h.Signed == nil:
		case !q.Resource.IsZero() && h.Resource != q.Resource:
		case q.Kind != "" && (string(h.Kind) != q.Kind || (q.Facet != "" && string(h.Facet) != q.Facet)):
		default:
			out = append(out, offers.Signed{Offer: h.Signed.Bytes, Signature: h.Signed.Signature, Key: []byte(h.Signed.Key.String())})
		}
	}
	return out, nil
}

// Authorize decides who may have blocks; see blocks.Authorizer. Everybody may have
// public content. Within
// an open lease the compute leg's node may fetch what this node lends to the
// lease, and the consumer what this node keeps for it.
func (p *Provider) Authorize(ctx context.Context, r blocks.Request, remote mman.PeerID) (blocks.Grant, error) {
	if r.IsPublic() {
		return blocks.Grant{Store: p.public.Public(), Root: r.Root}, nil
	}
	height := p.ledger.Height() // before the lease is read: what is decided is at least as new
	lease, err := p.ledger.Lease(r.Lease)
	if err != nil {
		return blocks.Grant{}, err
	}
	payload, err := r.Payload()
	if err != nil {
		return blocks.Grant{}, err
	}
	digest := mman.SignDigest(mman.SignBlocks, p.cfg.ChainID, payload)
	switch {
	case sig.VerifyEd25519(lease.LeaseKey, digest[:], r.Signature):
		return p.kept(ctx, lease, r)
	case remote == lease.Compute().Peer && sig.VerifyEd25519(remote, digest[:], r.Signature):
		g, err := p.lent(ctx, lease, r, remote, height)
		if err != nil {
			p.refused(ctx, AccessTransfer, lease, remote, err)
		}
		return g, err
	default:
		return blocks.Grant{}, fmt.Errorf("lease %s: %w: neither its consumer nor its compute provider asks", r.Lease, mman.ErrNotYourLease)
	}
}

// kept grants the consumer what its runs left here.
func (p *Provider) kept(ctx context.Context, lease market.Lease, r blocks.Request) (blocks.Grant, error) {
	own := p.stores.Lease(lease.ID)
	nothing := fmt.Errorf("lease %s: %w: %s is no result of it", r.Lease, mman.ErrNotFound, r.Root)
	if lease.Compute().Peer != p.peer || r.Root.IsZero() {
		return blocks.Grant{}, nothing
	}
	// The lease's store also holds what other providers lent to the lease: that
	// is not the consumer's.
	produced, err := p.records.Has(outputKey(lease.ID, r.Root))
	if err == nil && produced {
		produced, err = own.Has(ctx, r.Root)
	}
	if err != nil {
		return blocks.Grant{}, err
	}
	if !produced {
		return blocks.Grant{}, nothing
	}
	return blocks.Grant{Store: own, Root: r.Root}, nil
}

// lent grants the compute provider the private content of this node's own
// unsealed legs. What has a price per lease is lent once the lease was accepted on
// the ledger: then that price is owed, whatever receipts say. What is decided here at a
// height is decided again at each later one while the transfer goes on.
func (p *Provider) lent(ctx context.Context, lease market.Lease, r blocks.Request, remote mman.PeerID, height uint64) (blocks.Grant, error) {
	if err := p.standing(lease); err != nil {
		return blocks.Grant{}, err
	}
	for _, leg := range lease.Legs {
		if leg.Supplied || leg.Sealed || leg.Peer != p.peer {
			continue
		}
		h, ok := p.holdings.get(leg.Resource)
		if ok && h.Private && (r.Root == h.Content || r.Name == blocks.Name(h.Salt, h.Content)) {
			if leg.Price.PerLease > 0 && lease.Accepted == 0 && !p.off.accepted {
				return blocks.Grant{}, fmt.Errorf("lease %s: %w: it was not accepted, and its %s costs %s a lease: accept it on the ledger first", r.Lease, mman.ErrLeaseState, leg.Role, leg.Price.PerLease)
			}
			g := blocks.Grant{Store: p.stores.Private(), Root: h.Content, Salt: h.Salt[:], Still: p.still(lease.ID, height)}
			return p.watchedGrant(ctx, lease, h, remote, g)
		}
	}
	return blocks.Grant{}, fmt.Errorf("lease %s: %w: this node lends it no such content", r.Lease, mman.ErrNotFound)
}

// standing reports as an error that a lease is over, or that one of this node's policies
// denies it now.
func (p *Provider) standing(lease market.Lease) error {
	if err := p.usable(lease); err != nil {
		return err
	}
	return p.decide(lease)
}

// still returns what tells before each block whether a lease that stood at a height
// stands yet. The ledger says nothing new before its next block, so the lease is read and
// decided once for each of these, however many blocks of content leave meanwhile. Once
// it is over, it stays so. See blocks.Grant.
func (p *Provider) still(id mman.LeaseID, height uint64) func() error {
	var ended error
	return func() error {
		now := p.ledger.Height()
		if ended != nil || now == height {
			return ended
		}
		lease, err := p.ledger.Lease(id)
		if err == nil {
			err = p.standing(lease)
		}
		height, ended = now, err
		return ended
	}
}
