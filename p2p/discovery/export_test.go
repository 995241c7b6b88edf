package discovery

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"slices"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	mman "github.com/limboid/massive-man"
)

// Local returns the provider records of c that d itself keeps.
func (d *Discovery) Local(ctx context.Context, c mman.CID) ([]Provider, error) {
	key, err := toCid(c)
	if err != nil {
		return nil, err
	}
	infos, err := d.dht.ProviderStore().GetProviders(ctx, key.Hash())
	var out []Provider
	for _, info := range infos {
		p, perr := toProvider(info)
		if perr != nil {
			return nil, perr
		}
		out = append(out, p)
	}
	return out, err
}

// Region sweeps through the CIDs of a network in which everybody is known and keep peers
// hold each record. It returns how many searches that takes, and how many of the peers
// that a search for each CID would have found were not told.
func Region(cids []mman.CID, everybody []peer.ID, keep int) (searches, wrong int, err error) {
	var all []item
	for _, c := range cids {
		key, err := toCid(c)
		if err != nil {
			return 0, 0, err
		}
		all = append(all, item{c, key, sha256.Sum256(key.Hash())})
	}
	slices.SortFunc(all, func(a, b item) int { return bytes.Compare(a.spot[:], b.spot[:]) })
	spots := make(map[peer.ID]spot, len(everybody))
	for _, p := range everybody {
		spots[p] = sha256.Sum256([]byte(p))
	}
	closest := func(to spot) []peer.ID {
		list := slices.Clone(everybody)
		slices.SortFunc(list, func(a, b peer.ID) int { return compare(to, spots[a], spots[b]) })
		return list[:min(keep, len(list))]
	}
	for len(all) > 0 {
		peers := closest(all[0].spot)
		n := region(all, peers, keep)
		for _, it := range all[:n] {
			for _, p := range closest(it.spot) {
				if !slices.Contains(peers, p) {
					wrong++
				}
			}
		}
		searches++
		all = all[n:]
	}
	return searches, wrong, nil
}

// compare tells which of two spots is closer to a third.
func compare(to, a, b spot) int {
	for i := range to {
		if c := cmp.Compare(a[i]^to[i], b[i]^to[i]); c != 0 {
			return c
		}
	}
	return 0
}

// NewRecordStore opens the store behind the records of others to tests.
func NewRecordStore(limit int) ds.Batching { return newRecordStore(limit) }
