package provider

import (
	"fmt"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/resources"
)

// laneRecord is what is on disk of a lane. It is written before what it says
// leaves the node.
type laneRecord struct {
	// Issued is the number of the latest Statement, Usage and Gross are its
	// own; Statement are its signed bytes.
	Issued    uint64          `cbor:"issued"`
	Usage     resources.Usage `cbor:"usage"`
	Gross     mman.Amount     `cbor:"gross"`
	Statement market.Signed   `cbor:"statement"`
	Ended     bool            `cbor:"ended"` // the statement names a result
	// Receipt is the highest one received, for the usage Receipted.
	Receipt   *market.Signed  `cbor:"receipt,omitempty"`
	Seq       uint64          `cbor:"seq"`
	Paid      mman.Amount     `cbor:"paid"`
	Receipted resources.Usage `cbor:"receipted"`
	// Settled is the amount whose settlement is in a block.
	Settled mman.Amount `cbor:"settled"`
	// Run is the number of the latest run.
	Run uint64 `cbor:"run"`
}

// laneRecordMax bounds an encoded lane record.
const laneRecordMax = 8 << 10

// ledgerBook holds the accounts of all lanes of this node's leases.
type ledgerBook struct {
	kv *store.KV

	mu     sync.Mutex
	leases map[mman.LeaseID]*account
}

// account is one lease as this node has it. Its lock is held for bookkeeping
// only, never while something runs or is sent.
type account struct {
	mu    sync.Mutex
	id    mman.LeaseID
	lanes [market.MaxLanes]lane
}

// lane is a place for one session of a lease.
type lane struct {
	laneRecord

	taken bool
	known bool // there is a record on disk
}

func newBook(kv *store.KV) (*ledgerBook, error) {
	b := &ledgerBook{kv: kv, leases: make(map[mman.LeaseID]*account)}
	it, err := kv.Iterate([]byte{prefixLane}, []byte{prefixLane + 1}, false)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		key := it.Key()
		if len(key) != 1+mman.IDSize+1 || key[len(key)-1] >= market.MaxLanes {
			return nil, fmt.Errorf("%w: lane record under key %x", mman.ErrCorrupt, key)
		}
		r, err := dagcbor.Unmarshal[laneRecord](it.Value(), laneRecordMax)
		if err != nil {
			return nil, fmt.Errorf("%w: lane record under key %x: %w", mman.ErrCorrupt, key, err)
		}
		b.account(mman.LeaseID(key[1:])).lanes[key[len(key)-1]] = lane{laneRecord: r, known: true}
	}
	return b, it.Err()
}

// Prefixes of the provider's namespace.
const (
	prefixLane     byte = 0x01 // lease ‖ lane → laneRecord
	prefixResource byte = 0x02 // manifest CID → holding
	prefixRetire   byte = 0x03 // u64be height ‖ lease → nothing: when its blocks go
)

func (b *ledgerBook) account(id mman.LeaseID) *account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, ok := b.leases[id]
	if !ok {
		a = &account{id: id}
		b.leases[id] = a
	}
	return a
}

// all returns the accounts at this moment, in no order.
func (b *ledgerBook) all() []*account {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*account, 0, len(b.leases))
	for _, a := range b.leases {
		out = append(out, a)
	}
	return out
}

// forget drops the account of a closed lease.
func (b *ledgerBook) forget(a *account) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.lanes {
		if a.lanes[i].taken {
			return nil // its session ends first
		}
	}
	for i := range a.lanes {
		if !a.lanes[i].known {
			continue
		}
		if err := b.kv.Delete(laneKey(a.id, uint64(i))); err != nil {
			return err
		}
	}
	b.mu.Lock()
	delete(b.leases, a.id)
	b.mu.Unlock()
	return nil
}

func laneKey(id mman.LeaseID, n uint64) []byte {
	return append(append([]byte{prefixLane}, id[:]...), byte(n)) //nolint:gosec // lanes are below MaxLanes
}

// take reserves a lane for a session.
func (a *account) take(n uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n >= market.MaxLanes {
		return fmt.Errorf("lease %s: %w: lane %d, there are 0 to %d", a.id, mman.ErrInvalid, n, market.MaxLanes-1)
	}
	if a.lanes[n].taken {
		return fmt.Errorf("lease %s: %w: lane %d has a session, take another or wait until it ends", a.id, mman.ErrRunConflict, n)
	}
	a.lanes[n].taken = true
	return nil
}

func (a *account) release(n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lanes[n].taken = false
}

// snapshot returns the record of a lane.
func (a *account) snapshot(n uint64) laneRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lanes[n].laneRecord
}

// others returns what the lease's other lanes have stated in all.
func (a *account) others(n uint64) (mman.Amount, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var sum mman.Amount
	for i := range a.lanes {
		if uint64(i) == n { //nolint:gosec // an index
			continue
		}
		var err error
		if sum, err = sum.Add(a.lanes[i].Gross); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// update changes a lane's record, on disk first.
func (b *ledgerBook) update(a *account, n uint64, change func(*laneRecord) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.lanes[n].laneRecord
	if err := change(&next); err != nil {
		return err
	}
	enc, err := dagcbor.Marshal(next)
	if err != nil {
		return err
	}
	if err := b.kv.Set(laneKey(a.id, n), enc); err != nil {
		return fmt.Errorf("lease %s lane %d: %w", a.id, n, err)
	}
	a.lanes[n].laneRecord, a.lanes[n].known = next, true
	return nil
}

// receive takes a receipt that the lease key signed. One that the lane already
// has is no error.
func (b *ledgerBook) receive(chainID string, lease market.Lease, a *account, n uint64, signed market.Signed) error {
	r, err := market.OpenReceipt(chainID, signed, lease.LeaseKey)
	if err != nil {
		return err
	}
	return b.update(a, n, func(rec *laneRecord) error {
		switch {
		case r.Lease != lease.ID || r.Lane != n:
			return fmt.Errorf("lease %s lane %d: %w: the receipt is for lease %s lane %d", lease.ID, n, mman.ErrReceipt, r.Lease, r.Lane)
		case r.Seq <= rec.Seq:
			return nil
		case r.Seq != rec.Issued || r.Statement != mman.SumCID(mman.CodecDagCBOR, rec.Statement.Bytes):
			return fmt.Errorf("lease %s lane %d: %w: it names statement %d, the latest is %d", lease.ID, n, mman.ErrReceipt, r.Seq, rec.Issued)
		case r.Paid < rec.Gross:
			return fmt.Errorf("lease %s lane %d: %w: it pays %s, statement %d asks for %s", lease.ID, n, mman.ErrReceipt, r.Paid, r.Seq, rec.Gross)
		}
		rec.Receipt, rec.Seq, rec.Paid, rec.Receipted = &signed, r.Seq, r.Paid, rec.Usage
		return nil
	})
}
