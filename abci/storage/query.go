package storage

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/market/storage"
)

// Nouns returns the first path elements that the module answers.
func (Module) Nouns() []string {
	return []string{"storage-offers", "storage-leases", "storage-replicas", "storage-challenge", "retrievals"}
}

// ReplicaAnswer is a replica that a provider has or is to get.
type ReplicaAnswer struct {
	Lease   mman.LeaseID    `json:"lease"`
	Number  uint8           `json:"number"`
	Bytes   uint64          `json:"bytes"`
	Replica storage.Replica `json:"replica"`
}

// Query answers storage-offers, by price with ?tier=; storage-leases/ID,
// storage-leases, ?account= and ?content=; storage-replicas?provider=;
// storage-challenge; and retrievals, ?consumer=. Lists take limit and after.
func (Module) Query(q block.Query) (any, error) {
	switch {
	case len(q.Path) == 2 && q.Path[0] == "storage-leases":
		return oneLease(q)
	case len(q.Path) != 1:
		return nil, fmt.Errorf("%w: use /mman/storage-leases/ID, or /mman/%s and arguments", mman.ErrInvalid, q.Path[0])
	}
	switch q.Path[0] {
	case "storage-offers":
		return listOffers(q)
	case "storage-leases":
		return listLeases(q)
	case "storage-replicas":
		return listReplicas(q)
	case "storage-challenge":
		return challenge(q)
	default: // the last of Nouns
		return listRetrievals(q)
	}
}

func oneLease(q block.Query) (any, error) {
	if err := q.Allow(); err != nil {
		return nil, err
	}
	var id mman.LeaseID
	if err := id.UnmarshalText([]byte(q.Path[1])); err != nil {
		return nil, err
	}
	l, ok, err := LookupLease(q.State, id)
	if err == nil && !ok {
		err = block.NotFound("storage lease", q.Path[1])
	}
	return l, err
}

func challenge(q block.Query) (any, error) {
	if err := q.Allow(); err != nil {
		return nil, err
	}
	d, ok, err := LookupDrawn(q.State)
	if err == nil && !ok {
		err = block.NotFound("storage challenge at height", number(q.Height))
	}
	return d, err
}

// list answers one page of what keys lead to.
func list[T any](q block.Query, prefix []byte, keys block.Pager, take func(key []byte) (T, bool, error)) (any, error) {
	return block.List(q, prefix, keys, func(key []byte) (T, error) {
		item, ok, err := take(key)
		if err == nil && !ok {
			err = fmt.Errorf("%w: storage index %x leads to nothing", mman.ErrCorrupt, key)
		}
		return item, err
	})
}

func listOffers(q block.Query) (any, error) {
	if err := q.Allow("tier", "limit", "after"); err != nil {
		return nil, err
	}
	tier, ok := q.Args["tier"]
	if !ok {
		return list(q, nil, block.TableKeys(q, offers(), nil), func(key []byte) (storage.Offer, bool, error) { return offers().Get(q.State, key) })
	}
	if !storage.Tier(tier).Valid() {
		return nil, fmt.Errorf("%w: tier %.16q: use fast or slow", mman.ErrInvalid, tier)
	}
	prefix := tierKey(storage.Tier(tier))
	return list(q, prefix, block.IndexKeys(q, byPrice(), prefix), func(key []byte) (storage.Offer, bool, error) {
		return LookupOffer(q.State, mman.Address(key[len(key)-mman.AddressSize:]), storage.Tier(tier))
	})
}

func listLeases(q block.Query) (any, error) {
	if err := q.Allow("account", "content", "limit", "after"); err != nil {
		return nil, err
	}
	last := func(key []byte) (storage.Lease, bool, error) {
		return LookupLease(q.State, mman.LeaseID(key[len(key)-mman.IDSize:]))
	}
	account, byA := q.Args["account"]
	content, byC := q.Args["content"]
	switch {
	case byA && byC:
		return nil, fmt.Errorf("%w: storage-leases: name an account or a content, not both", mman.ErrInvalid)
	case byA:
		a, err := mman.ParseAddress(account)
		if err != nil {
			return nil, err
		}
		return list(q, a[:], block.IndexKeys(q, byAccount(), a[:]), last)
	case byC:
		c, err := mman.ParseCID(content)
		if err != nil {
			return nil, err
		}
		return list(q, c.Bytes(), block.IndexKeys(q, byContent(), c.Bytes()), last)
	default:
		return list(q, nil, block.TableKeys(q, leases(), nil), last)
	}
}

func listReplicas(q block.Query) (any, error) {
	if err := q.Allow("provider", "limit", "after"); err != nil {
		return nil, err
	}
	var prefix []byte
	if s, ok := q.Args["provider"]; ok {
		a, err := mman.ParseAddress(s)
		if err != nil {
			return nil, err
		}
		prefix = a[:]
	}
	return list(q, prefix, block.IndexKeys(q, byProvider(), prefix), func(key []byte) (ReplicaAnswer, bool, error) {
		n := key[len(key)-1]
		id := mman.LeaseID(key[len(key)-1-mman.IDSize : len(key)-1])
		l, ok, err := LookupLease(q.State, id)
		if err != nil || !ok || int(n) >= len(l.Replicas) {
			return ReplicaAnswer{}, false, err
		}
		return ReplicaAnswer{id, n, l.Bytes, l.Replicas[n]}, true, nil
	})
}

func listRetrievals(q block.Query) (any, error) {
	if err := q.Allow("consumer", "limit", "after"); err != nil {
		return nil, err
	}
	var prefix []byte
	if s, ok := q.Args["consumer"]; ok {
		a, err := mman.ParseAddress(s)
		if err != nil {
			return nil, err
		}
		prefix = a[:]
	}
	return list(q, prefix, block.TableKeys(q, retrievals(), prefix), func(key []byte) (Retrieval, bool, error) { return retrievals().Get(q.State, key) })
}
