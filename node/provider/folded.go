package provider

import (
	"cmp"
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/node/store"
)

// Folded is what became of entries of the owner's log that made room for newer ones.
// Those of one lease, resource, algorithm, form and decision are one entry, the first of
// them, with this beside it. It is never dropped: a consumer that comes often enough
// pushes its first access out of the list, and not out of the log. There are as many as
// there were leases, each of which was paid for on the ledger.
type Folded struct {
	// Count is how many accesses they were, the first included; Open is how many of
	// them had not ended, and were cut off with the node or still go on.
	Count uint64 `cbor:"count"          json:"count"`
	Open  uint64 `cbor:"open,omitempty" json:"open,omitempty"`
	// Time and Height, Lane and Run are the last one's.
	Time   int64  `cbor:"time"   json:"time"`
	Height uint64 `cbor:"height" json:"height"`
	Lane   uint64 `cbor:"lane"   json:"lane"`
	Run    uint64 `cbor:"run"    json:"run"`
	// BytesIn, BytesOut, Fuel and Bits are the sums of all of them.
	BytesIn  uint64 `cbor:"bytes_in"       json:"bytes_in"`
	BytesOut uint64 `cbor:"bytes_out"      json:"bytes_out"`
	Fuel     uint64 `cbor:"fuel,omitempty" json:"fuel,omitempty"`
	Bits     uint64 `cbor:"bits,omitempty" json:"bits,omitempty"`
	// First is the number that the first one had in the log.
	First uint64 `cbor:"first" json:"-"`
}

// foldKey names the entry that an access is folded into.
func foldKey(a Access) []byte {
	kind := append([]byte(a.Decision), 0)
	kind = append(append(kind, a.Form...), 0)
	kind = append(append(kind, a.Resource.Bytes()...), a.Algorithm.Bytes()...)
	sum := mman.Sum256(kind)
	return append(foldPrefix(a.Lease), sum[:]...)
}

func foldPrefix(lease mman.LeaseID) []byte { return append([]byte{prefixFolded}, lease[:]...) }

// readAccess returns the entry under a key, nil when there is none.
func readAccess(kv *store.KV, key []byte) (*Access, error) {
	b, ok, err := kv.Get(key)
	if err != nil || !ok {
		return nil, err
	}
	a, err := dagcbor.Unmarshal[Access](b, accessMax)
	if err != nil {
		return nil, fmt.Errorf("%w: access under key %x: %w", mman.ErrCorrupt, key, err)
	}
	return &a, nil
}

// fold takes entry n, the oldest, out of the list. l.mu is held.
func (l *accesses) fold(batch *store.Batch, key []byte, n uint64) error {
	a, err := readAccess(l.kv, key)
	if err != nil || a == nil {
		return err
	}
	into, err := readAccess(l.kv, foldKey(*a))
	if err != nil {
		return err
	}
	if into == nil || into.Folded == nil {
		first := *a
		first.Folded = &Folded{First: n}
		into = &first
	}
	f := into.Folded
	f.Count++
	f.Time, f.Height, f.Lane, f.Run = a.Time, a.Height, a.Lane, a.Run
	f.add(Access{}, *a)
	if !a.Over {
		f.Open++
	}
	if err := setAccess(batch, foldKey(*a), *into); err != nil {
		return err
	}
	return batch.Delete(key)
}

// add counts what an access has come to since before.
func (f *Folded) add(before, now Access) {
	f.BytesIn += now.BytesIn - before.BytesIn
	f.BytesOut += now.BytesOut - before.BytesOut
	f.Fuel += now.Fuel - before.Fuel
	f.Bits += now.Bits - before.Bits
}

// changeFolded tells how an access ended that had been folded before. l.mu is held.
func (l *accesses) changeFolded(batch *store.Batch, before, now Access, n uint64) error {
	into, err := readAccess(l.kv, foldKey(now))
	if err != nil || into == nil || into.Folded == nil {
		return err
	}
	f := into.Folded
	f.add(before, now)
	if now.Over && !before.Over && f.Open > 0 {
		f.Open--
	}
	if f.First == n {
		first := now
		first.Folded = f
		into = &first
	}
	return setAccess(batch, foldKey(now), *into)
}

// folded lists the entries that were folded, those with the newest accesses first.
func (p *Provider) folded(f AccessFilter) ([]Access, error) {
	from, to := []byte{prefixFolded}, []byte{prefixFolded + 1}
	if f.Lease != (mman.LeaseID{}) {
		from = foldPrefix(f.Lease)
		to = append(slices.Clone(from), slices.Repeat([]byte{0xff}, len(mman.Hash{})+1)...) // above each hash
	}
	it, err := p.records.Iterate(from, to, false)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out []Access
	for ; it.Valid(); it.Next() {
		a, err := dagcbor.Unmarshal[Access](it.Value(), accessMax)
		if err != nil {
			return nil, fmt.Errorf("%w: access under key %x: %w", mman.ErrCorrupt, it.Key(), err)
		}
		if !f.takes(a) {
			continue
		}
		if out = append(out, a); len(out) >= 2*f.Limit {
			out = newest(out, f.Limit)
		}
	}
	return newest(out, f.Limit), it.Err()
}

// newest sorts entries, the newest first, and keeps so many.
func newest(all []Access, most int) []Access {
	slices.SortStableFunc(all, func(a, b Access) int {
		aHeight, aTime := a.last()
		bHeight, bTime := b.last()
		return cmp.Or(cmp.Compare(bHeight, aHeight), cmp.Compare(bTime, aTime))
	})
	return all[:min(len(all), most)]
}

// last is when the entry's last access began.
func (a Access) last() (height uint64, time int64) {
	if a.Folded != nil {
		return a.Folded.Height, a.Folded.Time
	}
	return a.Height, a.Time
}
