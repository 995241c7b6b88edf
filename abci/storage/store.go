package storage

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/market/storage"
)

// Retrieval is money that a consumer set aside for what it fetches from a provider.
type Retrieval struct {
	Consumer mman.Address `cbor:"consumer" json:"consumer"`
	Provider mman.Address `cbor:"provider" json:"provider"`
	// Key signs how much of it the provider may take.
	Key []byte `cbor:"key" json:"key"`
	// Held is what is left, Redeemed what was taken.
	Held     mman.Amount `cbor:"held"     json:"held_uman"`
	Redeemed mman.Amount `cbor:"redeemed" json:"redeemed_uman"`
	// Expires is the height at which the rest goes back.
	Expires uint64 `cbor:"expires" json:"expires"`
}

// Bounds of the records in bytes.
const (
	offerMaxBytes     = 512
	leaseMaxBytes     = 8 << 10
	drawnMaxBytes     = 128
	retrievalMaxBytes = 256
)

func offers() state.Table[storage.Offer] {
	return state.NewTable[storage.Offer](state.StorageOffers, offerMaxBytes)
}

func leases() state.Table[storage.Lease] {
	return state.NewTable[storage.Lease](state.StorageLeases, leaseMaxBytes)
}

func drawn() state.Table[storage.Drawn] {
	return state.NewTable[storage.Drawn](state.StorageDrawn, drawnMaxBytes)
}

func retrievals() state.Table[Retrieval] {
	return state.NewTable[Retrieval](state.StorageRetrievals, retrievalMaxBytes)
}

func byPrice() state.Index    { return state.NewIndex(state.StorageOffersByPrice) }
func byAccount() state.Index  { return state.NewIndex(state.StorageLeasesByAccount) }
func byProvider() state.Index { return state.NewIndex(state.StorageReplicasByProvider) }
func byContent() state.Index  { return state.NewIndex(state.StorageLeasesByContent) }
func queue() state.Index      { return state.NewIndex(state.StorageDue) }

// held counts the replicas that are held.
func held() state.Counter { return state.NewCounter(state.StorageTotals, "held") }

const drawnKey = "drawn"

func offerKey(provider mman.Address, tier storage.Tier) []byte {
	return append(provider[:len(provider):len(provider)], tier...)
}

// priceKey orders offers of a tier by price.
func priceKey(o storage.Offer) []byte {
	key := append(tierKey(o.Tier), state.Uint64Key(uint64(o.Price))...)
	return append(key, o.Provider[:]...)
}

func tierKey(t storage.Tier) []byte { return append([]byte(t), 0) }

// step and retrievalStep stand in a queue's key in the place of a replica's number.
const (
	step          = 0xff
	retrievalStep = 0xfe
)

func dueKey(height uint64, lease mman.LeaseID, what byte) []byte {
	return append(append(state.Uint64Key(height), lease[:]...), what)
}

func retrievalDueKey(r Retrieval) []byte {
	return append(append(append(state.Uint64Key(r.Expires), r.Consumer[:]...), retrievalStep), r.Provider[:]...)
}

func replicaKey(provider mman.Address, lease mman.LeaseID, replica int) []byte {
	return append(append(provider[:len(provider):len(provider)], lease[:]...), byte(replica)) //nolint:gosec // at most MaxReplicas
}

func pairKey(a, b mman.Address) []byte { return append(a[:len(a):len(a)], b[:]...) }

// LookupOffer returns what a provider lends of a tier.
func LookupOffer(r state.Reader, provider mman.Address, tier storage.Tier) (storage.Offer, bool, error) {
	return offers().Get(r, offerKey(provider, tier))
}

// LookupLease returns a storage lease that has not ended.
func LookupLease(r state.Reader, id mman.LeaseID) (storage.Lease, bool, error) {
	return leases().Get(r, id[:])
}

// LookupDrawn returns the latest challenge; ok is false before the first.
func LookupDrawn(r state.Reader) (storage.Drawn, bool, error) {
	return drawn().Get(r, []byte(drawnKey))
}

// LookupHeld returns how many replicas are held, of all leases.
func LookupHeld(r state.Reader) (uint64, error) { return held().Get(r) }

// LookupRetrieval returns what a consumer set aside for a provider.
func LookupRetrieval(r state.Reader, consumer, provider mman.Address) (Retrieval, bool, error) {
	return retrievals().Get(r, pairKey(consumer, provider))
}

// Name names a replica.
type Name struct {
	Lease   mman.LeaseID
	Replica uint8
}

// Replicas returns up to limit (1 to state.MaxPage) replicas that are assigned to or
// held by a provider, those after the given one.
func Replicas(r state.Reader, provider mman.Address, after *Name, limit int) ([]Name, error) {
	var from []byte
	if after != nil {
		from = replicaKey(provider, after.Lease, int(after.Replica))
	}
	keys, err := byProvider().Page(r, provider[:], from, limit)
	if err != nil {
		return nil, err
	}
	out := make([]Name, len(keys))
	for i, key := range keys {
		rest := key[mman.AddressSize:]
		if len(rest) != mman.IDSize+1 {
			return nil, fmt.Errorf("%w: replica of a provider %x", mman.ErrCorrupt, key)
		}
		out[i] = Name{mman.LeaseID(rest[:mman.IDSize]), rest[mman.IDSize]}
	}
	return out, nil
}

// putLease stores the lease in the place of the one before, with its places in the
// queue and in the lists of providers.
func putLease(w state.Writer, before, after storage.Lease) error {
	if before.Step != after.Step {
		if err := move(w, before.Step, after.Step, after.ID, step); err != nil {
			return err
		}
	}
	for i := range after.Replicas {
		now, was := after.Replicas[i], storage.Replica{}
		if i < len(before.Replicas) {
			was = before.Replicas[i]
		}
		if was.Wait != now.Wait {
			if err := move(w, was.Wait, now.Wait, after.ID, byte(i)); err != nil {
				return err
			}
		}
		if was.Provider == now.Provider {
			continue
		}
		if !was.Provider.IsZero() {
			if err := byProvider().Remove(w, replicaKey(was.Provider, after.ID, i)); err != nil {
				return err
			}
		}
		if !now.Provider.IsZero() {
			if err := byProvider().Add(w, replicaKey(now.Provider, after.ID, i)); err != nil {
				return err
			}
		}
	}
	return leases().Set(w, after.ID[:], after)
}

// move changes a place in the queue; 0 is none.
func move(w state.Writer, from, to uint64, lease mman.LeaseID, what byte) error {
	if from > 0 {
		if err := queue().Remove(w, dueKey(from, lease, what)); err != nil {
			return err
		}
	}
	if to > 0 {
		return queue().Add(w, dueKey(to, lease, what))
	}
	return nil
}

// dropLease removes a lease that ended, whose replicas nobody has any more.
func dropLease(w state.Writer, l storage.Lease) error {
	if err := move(w, l.Step, 0, l.ID, step); err != nil {
		return err
	}
	for i, r := range l.Replicas {
		if err := move(w, r.Wait, 0, l.ID, byte(i)); err != nil {
			return err
		}
	}
	if !l.Content.IsZero() {
		if err := byContent().Remove(w, append(l.Content.Bytes(), l.ID[:]...)); err != nil {
			return err
		}
	}
	if err := byAccount().Remove(w, append(l.Consumer[:len(l.Consumer):len(l.Consumer)], l.ID[:]...)); err != nil {
		return err
	}
	return leases().Delete(w, l.ID[:])
}

// putOffer stores an offer, and whether it is among those that take replicas.
func putOffer(w state.Writer, before, after storage.Offer) error {
	if before.Open() && (!after.Open() || before.Price != after.Price) {
		if err := byPrice().Remove(w, priceKey(before)); err != nil {
			return err
		}
	}
	if after.Open() && (!before.Open() || before.Price != after.Price) {
		if err := byPrice().Add(w, priceKey(after)); err != nil {
			return err
		}
	}
	return offers().Set(w, offerKey(after.Provider, after.Tier), after)
}

// count changes the number of held replicas.
func count(w state.Writer, by func(uint64) uint64) error {
	n, err := held().Get(w)
	if err != nil {
		return err
	}
	return held().Set(w, by(n))
}
