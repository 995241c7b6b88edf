package discovery

import (
	"context"

	ds "github.com/ipfs/go-datastore"

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

// NewRecordStore opens the store behind the records of others to tests.
func NewRecordStore(limit int) ds.Batching { return newRecordStore(limit) }
