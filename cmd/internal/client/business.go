package client

import (
	"context"
	"fmt"
	"net/http"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
)

// ownRun is a run that goes on at the own node.
type ownRun struct {
	Lease    mman.LeaseID `json:"lease"`
	Run      uint64       `json:"run"`
	Form     string       `json:"form"`
	Consumer mman.Address `json:"consumer"`
	Since    time.Time    `json:"since,omitzero"`
	Paid     mman.Amount  `json:"paid_uman"`
	// LeasePaid is what all receipts of the lease pay that the node holds.
	LeasePaid mman.Amount `json:"lease_paid_uman"`
}

func (n *ownNode) runs(ctx context.Context) ([]ownRun, error) {
	var page struct {
		Items []ownRun `json:"items"`
	}
	err := n.call(ctx, http.MethodGet, "/v1/runs", nil, &page)
	return page.Items, err
}

// business is what the node that runs from this home lends, with the leases of its
// account.
type business struct {
	offers map[mman.CID]bool
	leases []market.Lease
	runs   []ownRun
}

// offerUse is what an offer of the own node does and earns.
type offerUse struct {
	// Leases counts the leases of its resource that are not closed, Paid is what
	// consumers paid on all of them so far, before it is split among their legs: what is
	// settled, and of those under which something runs also what is signed for.
	Leases int         `json:"open_leases"`
	Paid   mman.Amount `json:"paid_uman"`
	// Runs go on now.
	Runs []ownRun `json:"runs,omitempty"`
}

// business asks the own node what it does, nil where none runs that lends.
func (a *app) business(ctx context.Context) *business {
	own, err := a.ownNode()
	if err != nil {
		return nil // most people have none
	}
	lent, err := own.listings(ctx)
	if err != nil || len(lent) == 0 {
		return nil
	}
	c, err := a.reader(ctx)
	if err != nil {
		return nil // which was said before
	}
	defer func() { _ = c.Close() }() // nothing was written
	b := &business{offers: map[mman.CID]bool{}}
	for _, l := range lent {
		b.offers[l.Offer] = !l.Offer.IsZero()
		if b.leases != nil || l.Offer.IsZero() {
			continue
		}
		offer, err := c.Chain().Offer(ctx, c.ChainID(), l.Offer)
		if err != nil {
			continue // it was taken back a moment ago
		}
		if b.leases, err = c.Chain().Leases(ctx, offer.Offer.Provider, mostListed); err != nil {
			return nil
		}
	}
	if b.runs, err = own.runs(ctx); err != nil {
		return nil
	}
	return b
}

// of returns what an offer does and earns, nil for one of somebody else. Leases count
// for the resource: an offer is signed anew when half of its time is over.
func (b *business) of(id mman.CID, o market.Offer) *offerUse {
	if b == nil || !b.offers[id] {
		return nil
	}
	u := &offerUse{}
	for _, l := range b.leases {
		if !lentIn(l, o) {
			continue
		}
		if l.State != market.LeaseClosed {
			u.Leases++
		}
		paid := l.Paid
		for _, r := range b.runs {
			if r.Lease == l.ID {
				u.Runs = append(u.Runs, r)
				paid = max(paid, r.LeasePaid)
			}
		}
		if sum, err := u.Paid.Add(paid); err == nil { // more than there is cannot be paid
			u.Paid = sum
		}
	}
	return u
}

// lentIn reports whether a lease has a leg with the offer's resource of its provider.
func lentIn(l market.Lease, o market.Offer) bool {
	for _, leg := range l.Legs {
		if !leg.Supplied && leg.Provider == o.Provider && leg.Resource == o.Resource {
			return true
		}
	}
	return false
}

// lines say what runs and for whom.
func (u *offerUse) lines(e offerEntry) (out []string) {
	for _, r := range u.Runs {
		out = append(out, fmt.Sprintf("%s runs %s %d of lease %s for %s since %s, paid %s", e.Offer, r.Form, r.Run, r.Lease, r.Consumer, r.Since.UTC().Format(time.RFC3339), r.Paid))
	}
	return out
}
