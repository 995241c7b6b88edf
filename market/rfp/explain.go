package rfp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/price"
)

// PriceOf returns the price at which an offer stands in the awards: the one that
// was bid for it, else its own.
func (r RFP) PriceOf(o market.Offer) (price.Price, error) {
	i, ok := r.Find(o.Provider)
	if !ok || len(r.Bids[i].Bid) == 0 || o.Kind != market.RoleCompute.Kind() {
		return o.Price, nil
	}
	b, err := market.DecodeBid(r.Bids[i].Bid)
	if err != nil || b.Peer != o.Peer || b.Resource != o.Resource {
		return o.Price, err
	}
	return b.Price, nil
}

// Explain says in plain sentences how the RFP stands and what became of each bid.
func (r RFP) Explain() []string {
	var out []string
	switch {
	case r.State == Awarded:
		out = append(out, fmt.Sprintf("it was put out to bids and awarded, its provider has until height %d to accept lease %s", r.ServeBy, r.Lease))
	case r.State == Closed && slices.ContainsFunc(r.Bids, func(e Entry) bool { return e.State == Served }):
		out = append(out, fmt.Sprintf("it was put out to bids and awarded, lease %s is served", r.Lease))
	case r.State == Closed && len(r.Bids) == 0:
		out = append(out, "it was put out to bids and nobody bid")
	case r.State == Closed:
		out = append(out, "it was put out to bids and closed without a lease that is served")
	default:
		out = append(out, fmt.Sprintf("it is put out to bids: commitments until height %d, those that were left out until %d, bids are opened until %d", r.CommitBy, r.SealBy, r.RevealBy))
	}
	for _, e := range r.Bids {
		out = append(out, fmt.Sprintf("the bid of %s %s", e.Bidder, r.became(e)))
	}
	return out
}

func (r RFP) became(e Entry) string {
	said := ""
	if b, err := market.DecodeBid(e.Bid); err == nil {
		said = "of " + terms(b.Price) + " "
	}
	switch e.State {
	case Committed:
		return "is sealed"
	case Revealed:
		return said + "was opened and waits for the award"
	case Won:
		return said + "won"
	case Served:
		return said + "won and is served"
	case Lost:
		if said == "" {
			return "came to nothing, its bond went back"
		}
		return said + "lost, its bond went back"
	case Withheld:
		return fmt.Sprintf("was not opened in time, its bond of %s was burned", r.Bond)
	case Unfit:
		return fmt.Sprintf("%scould not be kept: the bidder's offer was gone or its policy denies the request; its bond of %s was burned", said, r.Bond)
	case Absent:
		return fmt.Sprintf("%swon and its provider did not serve, its bond of %s was burned and the next bid took over", said, r.Bond)
	default:
		return "is " + string(e.State)
	}
}

// terms writes a price for people.
func terms(p price.Price) string {
	var parts []string
	if p.PerLease > 0 || len(p.Units) == 0 {
		parts = append(parts, p.PerLease.String()+" a lease")
	}
	for _, u := range p.Units {
		parts = append(parts, fmt.Sprintf("%s for %d %s", u.UMan, u.Per, u.Unit))
	}
	return strings.Join(parts, " and ")
}
