package chain

import (
	"context"
	"net/url"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/storage"
)

// Retrieval is money that a consumer set aside for what it fetches from a provider.
type Retrieval struct {
	Consumer mman.Address `json:"consumer"`
	Provider mman.Address `json:"provider"`
	Key      []byte       `json:"key"`
	Held     mman.Amount  `json:"held_uman"`
	Redeemed mman.Amount  `json:"redeemed_uman"`
	Expires  uint64       `json:"expires"`
}

// StorageOffers lists at most limit offers of storage that take replicas, the
// cheapest first.
func (c *Client) StorageOffers(ctx context.Context, tier storage.Tier, limit int) ([]storage.Offer, error) {
	return list[storage.Offer](ctx, c, "/mman/storage-offers", url.Values{"tier": {string(tier)}}, limit)
}

// StorageLease returns a storage lease that has not ended; mman.ErrNotFound.
func (c *Client) StorageLease(ctx context.Context, id mman.LeaseID) (storage.Lease, error) {
	var l storage.Lease
	_, err := c.Query(ctx, "/mman/storage-leases/"+id.String(), &l)
	return l, err
}

// StorageLeases lists at most limit storage leases of an account.
func (c *Client) StorageLeases(ctx context.Context, account mman.Address, limit int) ([]storage.Lease, error) {
	return list[storage.Lease](ctx, c, "/mman/storage-leases", url.Values{"account": {account.String()}}, limit)
}

// StorageOf lists at most limit storage leases of a public content.
func (c *Client) StorageOf(ctx context.Context, content mman.CID, limit int) ([]storage.Lease, error) {
	return list[storage.Lease](ctx, c, "/mman/storage-leases", url.Values{"content": {content.String()}}, limit)
}

// Retrievals lists at most limit sums that a consumer set aside.
func (c *Client) Retrievals(ctx context.Context, consumer mman.Address, limit int) ([]Retrieval, error) {
	return list[Retrieval](ctx, c, "/mman/retrievals", url.Values{"consumer": {consumer.String()}}, limit)
}
