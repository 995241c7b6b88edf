package sdk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/decision"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/p2p/protocol/decisions"
)

// Decided is what a provider's policies decided on one lane of an own lease, held
// against the Statement that this consumer signed for last.
type Decided struct {
	// Head is what the provider signed.
	Head decision.Head
	// First is the place of the first of Entries in the log.
	First   uint64
	Entries []decision.Entry
	// Again is how many of them were decided again here, with the policy of the
	// offer, and came out alike; of the others only what the policy saw is checked:
	// their offer does not stand any more, or a share decided in its place.
	Again int
}

// Decisions asks the compute's provider for what its policies decided on a lane.
// All entries are fetched and hashed to the root that the provider signed; with
// one, only that entry, and the provider must prove that it is in the log. A log
// that is not the signed one, or an entry that does not follow from what it names,
// is mman.ErrContent.
func (c *Client) Decisions(ctx context.Context, id mman.LeaseID, lane uint64, one *uint64) (Decided, error) {
	own, err := c.leases.Get(id)
	if err != nil {
		return Decided{}, err
	}
	if lane >= market.MaxLanes {
		return Decided{}, fmt.Errorf("lease %s: %w: lane %d, there are 0 to %d", id, mman.ErrInvalid, lane, market.MaxLanes-1)
	}
	all, err := own.signed()
	if err != nil {
		return Decided{}, err
	}
	d := Decided{Head: all[lane].Decisions} //nolint:gosec // lane is below MaxLanes
	if d.Head.Size == 0 {
		return d, nil
	}
	q := decisions.Query{Lease: id, Lane: lane, Size: d.Head.Size, Count: decisions.MaxPage}
	if one != nil {
		if *one >= d.Head.Size {
			return d, fmt.Errorf("lease %s: %w: entry %d, the log of lane %d has %d", id, mman.ErrNotFound, *one, lane, d.Head.Size)
		}
		q.From, q.Count, q.Prove = *one, 1, true
	}
	d.First = q.From
	raw, err := c.fetchDecisions(ctx, own, q, d.Head)
	if err != nil {
		return d, fmt.Errorf("decisions on lease %s: %w", id, err)
	}
	return d, c.decideAgain(ctx, own.Lease, &d, raw)
}

// fetchDecisions returns the entries that the query is for, verified against the
// head: by the path of the one, or by hashing all.
func (c *Client) fetchDecisions(ctx context.Context, own *OwnLease, q decisions.Query, head decision.Head) ([][]byte, error) {
	n, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	key, err := c.leases.key(own)
	if err != nil {
		return nil, err
	}
	peer := own.Lease.Compute().Peer
	if err := c.introduce(ctx, peer); err != nil {
		return nil, err
	}
	q.Asker = n.host.ID()
	var raw [][]byte
	var log decision.Log
	for {
		if _, err := io.ReadFull(rand.Reader, q.Nonce[:]); err != nil {
			return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
		}
		signed, err := q.Sign(c.chainID, leaseSigner{key})
		if err != nil {
			return nil, err
		}
		a, err := decisions.Ask(ctx, n.host, peer, signed, decisions.Default())
		if err != nil {
			return nil, err
		}
		if len(a.Entries) == 0 {
			return nil, fmt.Errorf("%w: the provider gives none of the %d entries that it signed for from %d on", mman.ErrContent, head.Size, q.From)
		}
		raw = append(raw, a.Entries...)
		if q.Prove {
			return raw, decision.Verify(head, q.From, decision.Leaf(a.Entries[0]), a.Path)
		}
		for _, e := range a.Entries {
			if log, _, err = log.Append(decision.Leaf(e)); err != nil {
				return nil, err
			}
		}
		if q.From += uint64(len(a.Entries)); q.From >= head.Size {
			break
		}
	}
	if got := log.Head(); got != head {
		return nil, fmt.Errorf("%w: its log has the root %s over %d entries, it signed %s over %d", mman.ErrContent, got.Root, got.Size, head.Root, head.Size)
	}
	return raw, nil
}

// decideAgain reads the entries and decides them again as far as it can.
func (c *Client) decideAgain(ctx context.Context, lease market.Lease, d *Decided, raw [][]byte) error {
	policies := make([]*policy.Policy, len(lease.Legs))
	for i, leg := range lease.Legs {
		if leg.Supplied || leg.Granted {
			continue
		}
		o, err := c.chain.Offer(ctx, c.chainID, leg.Offer)
		if err != nil && !errors.Is(err, mman.ErrNotFound) {
			return err
		}
		if err == nil {
			policies[i] = &o.Offer.Policy
		}
	}
	for _, b := range raw {
		e, err := decision.Decode(b)
		if err != nil {
			return err
		}
		if e.Lease != lease.ID || e.Leg >= uint64(len(lease.Legs)) {
			return fmt.Errorf("%w: an entry for leg %d of lease %s", mman.ErrContent, e.Leg, e.Lease)
		}
		if err := e.Check(match.Facts(lease, lease.Legs[e.Leg]), policies[e.Leg]); err != nil {
			return err
		}
		if policies[e.Leg] != nil {
			d.Again++
		}
		d.Entries = append(d.Entries, e)
	}
	return nil
}
