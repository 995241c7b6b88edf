package market

import (
	"bytes"
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
)

// standing is an offer, decoded and its policy compiled.
type standing struct {
	offer   market.Offer
	arrival uint64
	program *policy.Program
	line    []byte
	// royalties are the record's.
	royalties []market.Royalty
	raw       []byte // the record
}

// cachedOffers is how many decoded offers each of the cache's two generations
// holds.
const cachedOffers = 4096

// offerCache holds decoded offers by their id, which is the hash of their bytes:
// whatever it forgets is decoded again to the same. It is for one goroutine, the
// one that executes blocks.
type offerCache struct{ young, old map[mman.CID]standing }

// get returns a standing offer. Its record's bytes are read each time, so that
// what was removed or came again is known.
func (c *offerCache) get(r state.Reader, id mman.CID) (standing, bool, error) {
	raw, ok, err := r.Get(state.MarketOffers.Store(), state.MarketOffers.Key(id.Bytes()))
	if err != nil || !ok {
		return standing{}, false, err
	}
	s, ok := c.young[id]
	if ok && bytes.Equal(s.raw, raw) {
		return s, true, nil
	}
	if s, ok = c.old[id]; !ok || !bytes.Equal(s.raw, raw) {
		if s, err = decodeStanding(id, raw); err != nil {
			return standing{}, false, fmt.Errorf("%w: offer %s: %w", mman.ErrCorrupt, id, err)
		}
		s.raw = bytes.Clone(raw)
	}
	if len(c.young) >= cachedOffers {
		c.old, c.young = c.young, nil
	}
	if c.young == nil {
		c.young = make(map[mman.CID]standing)
	}
	c.young[id] = s
	return s, true, nil
}

// decodeStanding decodes a record's bytes. It reads no state, for what is read is
// gas, and gas may not depend on a cache.
func decodeStanding(id mman.CID, raw []byte) (standing, error) {
	record, err := offers().Decode(id.Bytes(), raw)
	if err != nil {
		return standing{}, err
	}
	o, _, err := market.DecodeOffer(record.Bytes)
	if err != nil {
		return standing{}, err
	}
	program, err := o.Policy.Compile()
	return standing{offer: o, arrival: record.Arrival, program: program, line: offerLine(o), royalties: record.Royalties}, err
}

// book is the standing offers as one block's matching sees them.
type book struct {
	state   state.Reader
	height  uint64
	day     uint64
	arrived uint64
	offers  *offerCache
}

func (m Module) book(ctx *block.Context) (*book, error) {
	arrived, err := arrivals().Get(ctx.State)
	return &book{ctx.State, ctx.Height, today(ctx.Header), arrived, m.offers}, err
}

// Offer implements match.Book.
func (b *book) Offer(id mman.CID) (match.Entry, bool, error) {
	s, ok, err := b.offers.get(b.state, id)
	if err != nil || !ok || s.offer.Expires <= b.height {
		return match.Entry{}, false, err
	}
	return match.Entry{ID: id, Offer: s.offer, Program: s.program, Royalties: s.royalties, Arrival: s.arrival}, true, nil
}

// Open implements match.Records.
func (b *book) Open(e match.Entry) (uint64, error) { return OpenLeases(b.state, e.Offer) }

// Usage implements match.Records.
func (b *book) Usage(e match.Entry, consumer mman.Address) (policy.Usage, error) {
	return usage(b.state, offerLine(e.Offer), consumer, b.day)
}

// Arrived implements match.Book.
func (b *book) Arrived() uint64 { return b.arrived }

// Scan implements match.Book.
func (b *book) Scan(class match.Class, after []byte, limit int) ([]match.Spot, error) {
	family, prefix := classKey(class)
	var from []byte
	if after != nil {
		from = slices.Concat(prefix, after)
	}
	keys, err := state.NewIndex(family).Page(b.state, prefix, from, limit)
	if err != nil {
		return nil, err
	}
	out := make([]match.Spot, len(keys))
	for i, key := range keys {
		rest := key[len(prefix):]
		if out[i].ID, err = lastCID(rest); err != nil {
			return nil, err
		}
		out[i].Key = rest
	}
	return out, nil
}

// maxArrivals is how many arrivals of a whole class are passed over for those of
// one resource.
const maxArrivals = 1024

// Arrivals implements match.Book.
func (b *book) Arrivals(class match.Class, after uint64, limit int) (out []match.Arrival, upTo uint64, err error) {
	prefix := facetKey(class.Kind, class.Facet)
	mark := []byte(nil)
	page := limit
	if !class.Resource.IsZero() {
		digest := class.Resource.Digest()
		mark, page = digest[:resourceMark], maxArrivals
	}
	// Nothing sorts between this key and the first of the next number.
	from := append(slices.Concat(prefix, state.Uint64Key(after)), slices.Repeat([]byte{0xff}, resourceMark+mman.CIDSize)...)
	keys, err := state.NewIndex(state.MarketArrivals).Page(b.state, prefix, from, page)
	if err != nil {
		return nil, 0, err
	}
	for _, key := range keys {
		number, rest, err := state.ParseUint64Key(key[len(prefix):])
		if err != nil {
			return nil, 0, err
		}
		upTo = number
		if mark != nil && !slices.Equal(rest[:min(resourceMark, len(rest))], mark) {
			continue
		}
		id, err := lastCID(rest)
		if err != nil {
			return nil, 0, err
		}
		if out = append(out, match.Arrival{Number: number, ID: id}); len(out) == limit {
			return out, upTo, nil
		}
	}
	if len(keys) < page {
		upTo = b.arrived
	}
	return out, upTo, nil
}

func lastCID(key []byte) (mman.CID, error) {
	id, err := mman.CIDFromBytes(key[max(0, len(key)-mman.CIDSize):])
	if err != nil {
		err = fmt.Errorf("%w: index of offers: %w", mman.ErrCorrupt, err)
	}
	return id, err
}
