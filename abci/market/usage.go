package market

import (
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
)

const (
	secondsPerDay = 24 * 60 * 60
	// usageDays is how many days are counted, today among them.
	usageDays     = 30
	usageMaxBytes = 512
)

// usageRecord counts the leases of one consumer on one line by UTC days. It is
// kept only for offers whose policy reads it, and dropped a month after the last
// lease.
type usageRecord struct {
	// Day of the first count, in days since 1970.
	Day uint64 `cbor:"day"`
	// Counts go back from Day, without zeros at the end.
	Counts []uint64 `cbor:"counts"`
}

func usages() state.Table[usageRecord] {
	return state.NewTable[usageRecord](state.MarketUsageByConsumer, usageMaxBytes)
}

func today(h block.Header) uint64 {
	return uint64(max(0, h.Time)) / secondsPerDay
}

func usageKey(line []byte, consumer mman.Address) []byte {
	return append(slices.Clip(line), consumer[:]...)
}

// on returns the record as it stands on a later day.
func (u usageRecord) on(day uint64) usageRecord {
	if gap := min(day-min(day, u.Day), usageDays); gap > 0 {
		u.Counts = append(make([]uint64, gap, usageDays), u.Counts...)
		u.Day = day
	}
	u.Counts = u.Counts[:min(len(u.Counts), usageDays)]
	for len(u.Counts) > 0 && u.Counts[len(u.Counts)-1] == 0 {
		u.Counts = u.Counts[:len(u.Counts)-1]
	}
	return u
}

func (u usageRecord) within(days int) (sum uint64) {
	for _, n := range u.Counts[:min(len(u.Counts), days)] {
		sum += n
	}
	return sum
}

// usage returns how often the consumer leased on the line.
func usage(r state.Reader, line []byte, consumer mman.Address, day uint64) (policy.Usage, error) {
	record, _, err := usages().Get(r, usageKey(line, consumer))
	if err != nil {
		return policy.Usage{}, err
	}
	record = record.on(day)
	return policy.Usage{Leases1d: record.within(1), Leases7d: record.within(7), Leases30d: record.within(usageDays)}, nil //nolint:mnd // the words' names
}

// countUsage counts a new lease on the lines of the offers whose policies read
// the count.
func (b *book) countUsage(ctx *block.Context, l market.Lease) error {
	queue := state.NewIndex(state.MarketUsageByDay)
	day := today(ctx.Header)
	for _, leg := range l.Legs {
		if leg.Supplied {
			continue
		}
		entry, ok, err := b.offers.get(ctx.State, leg.Offer)
		if err != nil {
			return err
		}
		if !ok || !entry.program.ReadsUsage() {
			continue
		}
		key := usageKey(entry.line, l.Consumer)
		record, known, err := usages().Get(ctx.State, key)
		if err != nil {
			return err
		}
		if known {
			if err := queue.Remove(ctx.State, heightKey(record.Day+usageDays, key)); err != nil {
				return err
			}
		}
		record = record.on(day)
		record.Day = day
		if len(record.Counts) == 0 {
			record.Counts = []uint64{0}
		}
		record.Counts[0]++
		if err := usages().Set(ctx.State, key, record); err != nil {
			return err
		}
		if err := queue.Add(ctx.State, heightKey(day+usageDays, key)); err != nil {
			return err
		}
	}
	return nil
}

// forgetUsage drops counts whose last lease is a month old.
func forgetUsage(ctx *block.Context) error {
	queue := state.NewIndex(state.MarketUsageByDay)
	keys, err := queue.Due(ctx.State, today(ctx.Header), maxDue)
	if err != nil {
		return err
	}
	for _, due := range keys {
		_, key, err := state.ParseUint64Key(due)
		if err != nil {
			return fmt.Errorf("%w: queue of usage: %w", mman.ErrCorrupt, err)
		}
		if err := usages().Delete(ctx.State, key); err != nil {
			return err
		}
		if err := queue.Remove(ctx.State, due); err != nil {
			return err
		}
	}
	return nil
}
