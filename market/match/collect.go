package match

import (
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
)

// collection gathers the candidates of one attempt.
type collection struct {
	request  market.Request
	book     Book
	progress Progress

	inputs  Inputs
	entries []Entry // of the looks, zero where one is gone
	steps   uint64  // what the policies of the entries cost at most
	fresh   bool    // there is something that no attempt has seen
}

// collect looks for candidates of every leg, from where the last attempt
// stopped.
func collect(r market.Request, book Book, p Progress) (*collection, error) {
	c := &collection{request: r, book: book, progress: p.clone()}
	for i, leg := range r.Legs {
		if leg.Supplied {
			continue
		}
		take := c.scanned
		if len(leg.Offers) > 0 {
			take = c.named
		}
		if err := take(uint64(i), leg); err != nil {
			return nil, err
		}
	}
	c.progress.Woken = false
	return c, nil
}

// named takes the offers that the request names. They are worth another look
// when one of them arrived since the last.
func (c *collection) named(i uint64, leg market.LegRequest) error {
	place := &c.progress.Legs[i]
	fresh := !place.Done || c.progress.Woken && place.Later > 0
	for _, id := range leg.Offers {
		e, ok, err := c.book.Offer(id)
		if err != nil {
			return err
		}
		fresh = fresh || ok && e.Arrival > place.Seen
		if err := c.add(Look{Leg: i, Offer: id, Gone: !ok}, e); err != nil {
			return err
		}
	}
	if fresh {
		c.pay(place, len(leg.Offers))
	}
	place.Done, place.Seen = true, c.book.Arrived()
	return nil
}

// scanned takes what was kept, then the next offers in the order of prices, and
// when those are at an end what arrived meanwhile.
func (c *collection) scanned(i uint64, leg market.LegRequest) error {
	place := &c.progress.Legs[i]
	for _, id := range place.Kept {
		e, ok, err := c.book.Offer(id)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := c.add(Look{Leg: i, Offer: id}, e); err != nil {
			return err
		}
	}
	if c.progress.Woken && place.Later > 0 {
		c.pay(place, int(place.Later)) //nolint:gosec // at most MaxKept
	}
	class := Class{leg.Role.Kind(), leg.Facet, leg.Resource}
	if err := c.scan(i, place, class); err != nil {
		return err
	}
	if place.Done {
		if err := c.arrivals(i, place, class); err != nil {
			return err
		}
	}
	if place.Looked == 0 && place.Done {
		c.inputs.Empty = append(c.inputs.Empty, i)
		c.fresh = c.fresh || c.progress.Scanned == 0
	}
	return nil
}

// room is how many offers may be looked at for a leg.
func (c *collection) room() int {
	return int(min(c.progress.Left, MaxScan))
}

func (c *collection) scan(i uint64, place *Place, class Class) error {
	room := c.room()
	if place.Done || room == 0 {
		return nil
	}
	spots, err := c.book.Scan(class, place.After, room)
	if err != nil {
		return err
	}
	before := len(c.inputs.Looks) // a page names no offer twice
	for _, s := range spots {
		if c.steps > MaxSteps/2 {
			return nil // the next attempt goes on here
		}
		place.After = s.Key
		if err := c.standing(i, place, s.ID, before); err != nil {
			return err
		}
	}
	if place.Done = len(spots) < room; place.Done {
		place.After = nil
	}
	return nil
}

func (c *collection) arrivals(i uint64, place *Place, class Class) error {
	room := c.room()
	if room == 0 {
		return nil
	}
	list, upTo, err := c.book.Arrivals(class, place.Seen, room)
	if err != nil {
		return err
	}
	before := len(c.inputs.Looks)
	for _, a := range list {
		if c.steps > MaxSteps/2 {
			return nil
		}
		place.Seen = a.Number
		if err := c.standing(i, place, a.ID, before); err != nil {
			return err
		}
	}
	place.Seen = upTo
	return nil
}

// standing adds an offer unless it is among the first looks already.
func (c *collection) standing(i uint64, place *Place, id mman.CID, first int) error {
	if slices.ContainsFunc(c.inputs.Looks[:first], func(l Look) bool { return l.Leg == i && l.Offer == id }) {
		return nil
	}
	e, ok, err := c.book.Offer(id)
	if err != nil || !ok {
		return err
	}
	c.pay(place, 1)
	return c.add(Look{Leg: i, Offer: id}, e)
}

func (c *collection) add(l Look, e Entry) (err error) {
	if e.Program == nil && !l.Gone {
		if e.Program, err = e.Offer.Policy.Compile(); err != nil {
			return fmt.Errorf("offer %s: %w", l.Offer, err)
		}
	}
	if !l.Gone {
		c.steps += e.Program.Cost() + 1
	}
	c.inputs.Looks = append(c.inputs.Looks, l)
	c.entries = append(c.entries, e)
	return nil
}

// pay counts offers that are newly looked at.
func (c *collection) pay(place *Place, n int) {
	looks := uint64(n) //nolint:gosec // a length
	place.Looked += looks
	c.progress.Scanned += looks
	c.progress.Left -= min(c.progress.Left, looks)
	c.fresh = true
}

// keep leaves the best candidates to the next attempt.
func (c *collection) keep(f *filling) {
	each := MaxKept / max(1, len(c.request.Legs))
	for i, leg := range c.request.Legs {
		place := &c.progress.Legs[i]
		place.Kept, place.Later = nil, 0
		if leg.Supplied {
			continue
		}
		later := f.later[i]
		if len(leg.Offers) > 0 {
			place.Later = uint64(len(later))
			continue
		}
		for _, e := range f.candidates[i][:min(each, len(f.candidates[i]))] {
			place.Kept = append(place.Kept, e.ID)
		}
		later = later[:min(each-len(place.Kept), len(later))]
		place.Kept = append(place.Kept, later...)
		place.Later = uint64(len(later))
	}
}
