package provider

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/decision"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/p2p/protocol/decisions"
)

const (
	// decidedTogether is how many entries wait for the lane's next record, which
	// brings them to disk; more are written without it.
	decidedTogether = 64
	// decidedRoom is how many entries a lane's log must still have room for when a
	// run begins, so that a run can be stated that did begin.
	decidedRoom = 1024
)

// log adds decisions to the lane's log.
func (v *visit) log(entries []decision.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	var size uint64
	encoded := make([][]byte, len(entries))
	for i, e := range entries {
		var err error
		if encoded[i], err = e.Encode(); err != nil {
			return err
		}
		size += uint64(len(encoded[i]))
	}
	if err := v.p.book.store(v.account, size, v.p.leaseBytes()); err != nil {
		return err
	}
	v.account.mu.Lock()
	l := v.account.lane(v.lane)
	l.decided = append(l.decided, encoded...)
	full := len(l.decided) >= decidedTogether
	v.account.mu.Unlock()
	if full {
		return v.flush()
	}
	return nil
}

// flush brings the log to disk.
func (v *visit) flush() error {
	v.account.mu.Lock()
	waiting := len(v.account.lane(v.lane).decided)
	v.account.mu.Unlock()
	if waiting == 0 {
		return nil
	}
	return v.p.book.update(v.account, v.lane, func(*laneRecord, *store.Batch) (bool, error) { return true, nil })
}

// room refuses a run whose decisions may not fit.
func (a *account) room(n uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lane(n)
	if used := l.Log.Size + uint64(len(l.decided)); used+decidedRoom > decision.MaxEntries {
		return fmt.Errorf("lease %s: %w: its log of decisions on lane %d has %d entries, %d are allowed in all; ask for a new lease", a.id, mman.ErrTooLarge, n, used, decision.MaxEntries)
	}
	return nil
}

// logged returns the log with the entries, which go into the batch with their
// blocks.
func logged(log decision.Log, id mman.LeaseID, lane uint64, entries [][]byte, batch *store.Batch) (decision.Log, error) {
	for _, e := range entries {
		index := log.Size
		next, block, err := log.Append(decision.Leaf(e))
		if err != nil {
			return log, fmt.Errorf("lease %s lane %d: %w", id, lane, err)
		}
		log = next
		if err := batch.Set(decisionKey(prefixDecision, id, lane, index), e); err != nil {
			return log, err
		}
		if block == nil {
			continue
		}
		if err := batch.Set(decisionKey(prefixBlock, id, lane, index/decision.BlockEntries), block[:]); err != nil {
			return log, err
		}
	}
	return log, nil
}

// decisionKey names an entry of a log, or one of its blocks.
func decisionKey(prefix byte, id mman.LeaseID, lane, index uint64) []byte {
	return binary.BigEndian.AppendUint64(append(append([]byte{prefix}, id[:]...), byte(lane)), index) //nolint:gosec // lanes are below MaxLanes
}

// kept is a lane's log on disk; see decision.Leaves.
type kept struct {
	kv   *store.KV
	id   mman.LeaseID
	lane uint64
}

// Leaf returns the hash of an entry.
func (k kept) Leaf(i uint64) (mman.Hash, error) {
	e, err := k.entry(i)
	return decision.Leaf(e), err
}

// Block returns the hash of a whole block.
func (k kept) Block(i uint64) (mman.Hash, error) {
	b, ok, err := k.kv.Get(decisionKey(prefixBlock, k.id, k.lane, i))
	if err == nil && (!ok || len(b) != len(mman.Hash{})) {
		err = fmt.Errorf("lease %s lane %d: %w: block %d of its log of decisions", k.id, k.lane, mman.ErrNotFound, i)
	}
	if err != nil {
		return mman.Hash{}, err
	}
	return mman.Hash(b), nil
}

func (k kept) entry(i uint64) ([]byte, error) {
	b, ok, err := k.kv.Get(decisionKey(prefixDecision, k.id, k.lane, i))
	if err == nil && !ok {
		err = fmt.Errorf("lease %s lane %d: %w: entry %d of its log of decisions", k.id, k.lane, mman.ErrNotFound, i)
	}
	return b, err
}

// size counts the entries on disk.
func (k kept) size() (uint64, error) {
	from := decisionKey(prefixDecision, k.id, k.lane, 0)
	it, err := k.kv.Iterate(from, decisionKey(prefixDecision, k.id, k.lane, decision.MaxEntries), true)
	if err != nil {
		return 0, err
	}
	defer it.Close()
	if !it.Valid() {
		return 0, it.Err()
	}
	key := it.Key()
	return binary.BigEndian.Uint64(key[len(key)-8:]) + 1, nil
}

// Decisions answers a party of a lease that asks for a lane's log; see
// decisions.Source.
func (p *Provider) Decisions(_ context.Context, q decisions.Query, remote mman.PeerID) (decisions.Answer, error) {
	lease, err := p.ledger.Lease(q.Lease)
	if err != nil {
		return decisions.Answer{}, err
	}
	payload, err := q.Payload()
	if err != nil {
		return decisions.Answer{}, err
	}
	digest := mman.SignDigest(mman.SignDecisions, p.cfg.ChainID, payload)
	party := slices.ContainsFunc(lease.Legs, func(leg market.Leg) bool { return !leg.Supplied && leg.Peer == remote })
	if !sig.VerifyEd25519(lease.LeaseKey, digest[:], q.Signature) && (!party || !sig.VerifyEd25519(remote, digest[:], q.Signature)) {
		return decisions.Answer{}, fmt.Errorf("lease %s: %w: neither its consumer nor one of its providers asks", q.Lease, mman.ErrNotYourLease)
	}
	log := kept{p.records, q.Lease, q.Lane}
	var a decisions.Answer
	if a.Size, err = log.size(); err != nil {
		return a, err
	}
	size := q.Size
	if size == 0 {
		size = a.Size
	}
	if size > a.Size {
		return a, fmt.Errorf("lease %s lane %d: %w: %d decisions, this node has %d", q.Lease, q.Lane, mman.ErrNotFound, size, a.Size)
	}
	for i := q.From; i < min(size, q.From+q.Count); i++ {
		e, err := log.entry(i)
		if err != nil {
			return a, err
		}
		a.Entries = append(a.Entries, e)
	}
	if q.Prove && len(a.Entries) > 0 {
		a.Path, err = decision.Prove(log, q.From, size)
	}
	return a, err
}
