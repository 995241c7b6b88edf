package client

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market/storage"
	"github.com/limboid/massive-man/sdk"
)

// kindStorage is the word for offers of room for replicas, of which the ledger keeps
// records of their own.
const kindStorage = "storage"

// listRooms lists the offers of storage that take replicas: of each tier the cheapest
// first, which is the order in which the ledger gives replicas out.
func (a *app) listRooms(ctx context.Context, provider mman.Address, limit int) error {
	c, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing was written
	answer := struct {
		Storage []storage.Offer `json:"storage"`
	}{[]storage.Offer{}}
	var rows [][]string
	for _, tier := range []storage.Tier{storage.Fast, storage.Slow} {
		list, err := c.Chain().StorageOffers(ctx, tier, limit)
		if err != nil {
			return err
		}
		for _, o := range list {
			if !provider.IsZero() && o.Provider != provider || len(rows) == limit {
				continue
			}
			answer.Storage = append(answer.Storage, o)
			rows = append(rows, []string{
				string(o.Tier), o.Price.String(), o.Retrieve.String(), claimed(o.LatencyMs), console.Clean(o.Region),
				strconv.FormatUint(o.Capacity-min(o.Used, o.Capacity), 10), o.Provider.String(),
			})
		}
	}
	if len(rows) == 0 {
		return a.answer(answer, "Nobody lends room for replicas now.")
	}
	return a.answer(answer, table([]string{"TIER", "MIB AND EPOCH", "MIB FETCHED", "LATENCY", "REGION", "MIB FREE", "PROVIDER"}, rows)...)
}

// claimed is the latency that an offer claims, which may be none.
func claimed(ms uint64) string {
	if ms == 0 {
		return "not said"
	}
	return (time.Duration(ms) * time.Millisecond).String() //nolint:gosec // an hour at most
}

// prompt names the cheapest providers that fit a wish and claim at most so much latency
// as those that may hold its replicas.
func prompt(ctx context.Context, c *sdk.Client, w *sdk.StoreWanted, most time.Duration) error {
	list, err := c.Chain().StorageOffers(ctx, w.Tier, mostListed)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(o storage.Offer) bool {
		return o.LatencyMs == 0 || time.Duration(o.LatencyMs)*time.Millisecond > most || o.Price > w.MaxPrice //nolint:gosec // an hour at most
	})
	if len(list) < w.Replicas {
		return fmt.Errorf("%w: %d of %d replicas find a provider of tier %s that claims a latency of %s or less; see 'mman offer list --kind storage'", mman.ErrCapacity, len(list), w.Replicas, w.Tier, most)
	}
	for _, o := range list[:min(len(list), storage.MaxProviders)] {
		w.Providers = append(w.Providers, o.Provider)
	}
	return nil
}
