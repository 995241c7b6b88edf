package provider

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/decision"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/resources"
)

// laneRecord is what is on disk of a lane. It is written before what it says
// leaves the node.
type laneRecord struct {
	// Issued is the number of the latest Statement, Open those of this session
	// that no receipt covers yet, the oldest first.
	Issued uint64   `cbor:"issued"`
	Open   []stated `cbor:"open"`
	// Receipt is the highest one received, for the usage Receipted.
	Receipt   *market.Signed  `cbor:"receipt,omitempty"`
	Seq       uint64          `cbor:"seq"`
	Paid      mman.Amount     `cbor:"paid"` // what the receipt pays
	Returned  mman.Amount     `cbor:"returned,omitzero"`
	Receipted resources.Usage `cbor:"receipted"`
	// Settled is the amount whose settlement is in a block.
	Settled mman.Amount `cbor:"settled"`
	// Run is the number of the latest run that has a result.
	Run uint64 `cbor:"run"`
	// Used is what all its runs used, paid or not; policies ask for it.
	Used resources.Usage `cbor:"used,omitzero"`
	// Forgiven counts the results whose consumer vanished before it signed.
	Forgiven uint64 `cbor:"forgiven"`
	// Log is the edge of the log of what policies decided on the lane.
	Log decision.Log `cbor:"log,omitzero"`
}

// stated is a Statement that may still get its receipt.
type stated struct {
	Seq   uint64          `cbor:"seq"`
	ID    mman.CID        `cbor:"id"`
	Usage resources.Usage `cbor:"usage"`
	Gross mman.Amount     `cbor:"gross"`
	Final bool            `cbor:"final"` // it names a result
}

const (
	// laneRecordMax bounds an encoded lane record.
	laneRecordMax = 16 << 10
	// maxOpen is how many statements of progress wait for receipts; a payer that
	// answers none of them gets no more before the result.
	maxOpen = 8
	// maxForgiven is how many results of one lease may stay unpaid because its
	// consumer vanished.
	maxForgiven = 8
)

// unpaid reports whether a result has no receipt.
func (r laneRecord) unpaid() bool { return len(r.Open) > 0 && r.Open[len(r.Open)-1].Final }

// owed is what the lane has cost as far as it was stated.
func (r laneRecord) owed() mman.Amount {
	if len(r.Open) == 0 {
		return r.Paid
	}
	return max(r.Paid, r.Open[len(r.Open)-1].Gross)
}

// ledgerBook holds the accounts of all lanes of this node's leases. Locks are
// taken in the order account, book.
type ledgerBook struct {
	kv  *store.KV
	off *undefended

	mu     sync.Mutex
	leases map[mman.LeaseID]*account
}

// account is one lease as this node has it. Its lock is held for bookkeeping
// only, never while something runs or is sent.
type account struct {
	mu    sync.Mutex
	id    mman.LeaseID
	lanes map[uint64]*lane // those that were used
	// stored is what the lease's runs brought and made, noted what is on disk of
	// that, ahead of it.
	stored, noted uint64
	// bits is what its guarded runs told, as it is on disk; held what those that go on
	// may tell beside.
	bits, held uint64
	gone       bool // forgotten: whoever still holds it is too late
}

// lane is a place for one session of a lease.
type lane struct {
	laneRecord

	taken    bool
	ahead    bool        // a run that is paid ahead is under way
	known    bool        // there is a record on disk
	decided  [][]byte    // entries of the log that come with the next record
	reserved mman.Amount // the most that the run under way can bring the lane to
}

func newBook(kv *store.KV) (*ledgerBook, error) {
	b := &ledgerBook{kv: kv, off: new(undefended), leases: make(map[mman.LeaseID]*account)}
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
		b.account(mman.LeaseID(key[1:])).lanes[uint64(key[len(key)-1])] = &lane{laneRecord: r, known: true}
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	return b, errors.Join(
		b.readCounts(prefixStored, func(a *account, n uint64) { a.stored, a.noted = n, n }),
		b.readCounts(prefixTold, func(a *account, n uint64) { a.bits = n }),
	)
}

// readCounts reads a number of each lease.
func (b *ledgerBook) readCounts(prefix byte, set func(a *account, n uint64)) error {
	it, err := b.kv.Iterate([]byte{prefix}, []byte{prefix + 1}, false)
	if err != nil {
		return err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		key, value := it.Key(), it.Value()
		if len(key) != 1+mman.IDSize || len(value) != 8 {
			return fmt.Errorf("%w: count under key %x", mman.ErrCorrupt, key)
		}
		set(b.account(mman.LeaseID(key[1:])), binary.BigEndian.Uint64(value))
	}
	return it.Err()
}

// storeStep is how far ahead what a lease stored is noted: one write for many
// runs, at the cost of as much that is counted and not there after a restart.
const storeStep = 64 << 20

// store counts n bytes that are about to be stored for a lease, which may have
// most in all.
func (b *ledgerBook) store(a *account, n, most uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if left := most - min(most, a.stored); n > left {
		return fmt.Errorf("lease %s: %w: %d bytes more than the %d that it has stored here, %d are allowed in all; ask for a new lease", a.id, mman.ErrTooLarge, n, a.stored, most)
	}
	a.stored += n
	if a.stored <= a.noted {
		return nil
	}
	noted := a.stored + storeStep
	if err := b.kv.Set(storedKey(a.id), binary.BigEndian.AppendUint64(nil, noted)); err != nil {
		return err
	}
	a.noted = noted
	return nil
}

// roomFor returns how much a lease may still store.
func (a *account) roomFor(most uint64) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return most - min(most, a.stored)
}

func storedKey(id mman.LeaseID) []byte { return append([]byte{prefixStored}, id[:]...) }

// Prefixes of the provider's namespace.
const (
	prefixLane     byte = 0x01 // lease ‖ lane → laneRecord
	prefixResource byte = 0x02 // manifest CID → holding
	prefixRetire   byte = 0x03 // u64be height ‖ lease → nothing: when its blocks go
	prefixOutput   byte = 0x04 // lease ‖ content CID → nothing: a result of the lease
	prefixOffer    byte = 0x05 // offer CID → u64be height at which it expires ‖ its bytes
	prefixStored   byte = 0x06 // lease → u64be bytes that it may have stored here
	prefixDecision byte = 0x07 // lease ‖ lane ‖ u64be index → decision.Entry
	prefixBlock    byte = 0x08 // lease ‖ lane ‖ u64be number → hash of a block of the log
	prefixTold     byte = 0x09 // lease → u64be bits that its guarded runs told
	prefixBid      byte = 0x0a // request → ownBid
	prefixRun      byte = 0x0b // lease ‖ lane → LostRun: what goes on; with u64be run: what a crash ended
	prefixAccess   byte = 0x0c // u64be number → Access
	prefixRefusal  byte = 0x0d // u64be number → Access that was denied
	prefixLent     byte = 0x0e // lease ‖ content CID → nothing: what another provider lent to the lease
	prefixFolded   byte = 0x0f // lease ‖ hash of what was accessed how → Access with Folded
)

func (b *ledgerBook) account(id mman.LeaseID) *account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, ok := b.leases[id]
	if !ok {
		a = &account{id: id, lanes: make(map[uint64]*lane)}
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

// forget drops the account of a closed lease, and writes the batch with it; not
// while a session is open, which ends first.
func (b *ledgerBook) forget(a *account, batch *store.Batch) (done bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n, l := range a.lanes {
		if l.taken {
			return false, nil
		}
		if !l.known {
			continue
		}
		if err := batch.Delete(laneKey(a.id, n)); err != nil {
			return false, err
		}
	}
	for _, key := range [][]byte{storedKey(a.id), toldKey(a.id)} {
		if err := batch.Delete(key); err != nil {
			return false, err
		}
	}
	if err := batch.Write(); err != nil {
		return false, err
	}
	a.gone = true
	b.mu.Lock()
	delete(b.leases, a.id)
	b.mu.Unlock()
	return true, nil
}

func laneKey(id mman.LeaseID, n uint64) []byte {
	return append(append([]byte{prefixLane}, id[:]...), byte(n)) //nolint:gosec // lanes are below MaxLanes
}

// lane returns the lane's place; the account is locked.
func (a *account) lane(n uint64) *lane {
	l, ok := a.lanes[n]
	if !ok {
		l = &lane{}
		a.lanes[n] = l
	}
	return l
}

// take reserves a lane for a session.
func (a *account) take(n uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case n >= market.MaxLanes:
		return fmt.Errorf("lease %s: %w: lane %d, there are 0 to %d", a.id, mman.ErrInvalid, n, market.MaxLanes-1)
	case a.gone:
		return fmt.Errorf("lease %s: %w: it was closed just now", a.id, mman.ErrLeaseState)
	case a.lane(n).taken:
		return fmt.Errorf("lease %s: %w: lane %d has a session, take another or wait until it ends", a.id, mman.ErrRunConflict, n)
	}
	a.lane(n).taken = true
	return nil
}

func (a *account) release(n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lane(n).taken = false
}

// snapshot returns the record of a lane.
func (a *account) snapshot(n uint64) laneRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lane(n).laneRecord
}

// reserve sets aside what a run on the lane can cost. decide gets what the
// other lanes cost or may come to cost.
func (a *account) reserve(n uint64, decide func(others mman.Amount) (mman.Amount, error)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var others mman.Amount
	for i, l := range a.lanes {
		if i == n {
			continue
		}
		var err error
		if others, err = others.Add(max(l.owed(), l.reserved)); err != nil {
			return err
		}
	}
	most, err := decide(others)
	a.lane(n).reserved = most
	return err
}

// settleUp ends the reservation of a run that is over.
func (a *account) settleUp(n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lane(n).reserved = 0
}

// payAhead notes whether a run that is paid ahead is under way.
func (a *account) payAhead(n uint64, ahead bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lane(n).ahead = ahead
}

// update changes a lane's record, on disk first, with whatever else change puts
// into the batch. Nothing is written when change returns false.
func (b *ledgerBook) update(a *account, n uint64, change func(*laneRecord, *store.Batch) (bool, error)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return b.updateLocked(a, n, change)
}

func (b *ledgerBook) updateLocked(a *account, n uint64, change func(*laneRecord, *store.Batch) (bool, error)) error {
	if a.gone {
		return fmt.Errorf("lease %s: %w: it was closed just now", a.id, mman.ErrLeaseState)
	}
	next, batch := a.lane(n).laneRecord, b.kv.NewBatch()
	var err error
	if next.Log, err = logged(next.Log, a.id, n, a.lane(n).decided, batch); err != nil {
		return err
	}
	if changed, err := change(&next, batch); !changed || err != nil {
		return err
	}
	enc, err := dagcbor.Marshal(next)
	if err != nil {
		return err
	}
	if err := batch.Set(laneKey(a.id, n), enc); err != nil {
		return err
	}
	if err := batch.Write(); err != nil {
		return fmt.Errorf("lease %s lane %d: %w", a.id, n, err)
	}
	l := a.lane(n)
	l.laneRecord, l.known, l.decided = next, true, nil
	return nil
}

// note makes sure that there is a record of the lane on disk.
func (b *ledgerBook) note(a *account, n uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.lane(n).known
	return b.updateLocked(a, n, func(*laneRecord, *store.Batch) (bool, error) { return !known, nil })
}

// receive takes a receipt that the lease key signed for a statement of this
// lane. One that the lane already has is no error.
func (b *ledgerBook) receive(chainID string, lease market.Lease, a *account, n uint64, signed market.Signed) error {
	r, err := market.OpenReceipt(chainID, signed, lease.LeaseKey)
	if err != nil {
		return err
	}
	refuse := func(format string, args ...any) (bool, error) {
		return false, fmt.Errorf("lease %s lane %d: %w: %s", lease.ID, n, mman.ErrReceipt, fmt.Sprintf(format, args...))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return b.updateLocked(a, n, func(rec *laneRecord, _ *store.Batch) (bool, error) {
		if r.Lease != lease.ID || r.Lane != n {
			return refuse("the receipt is for lease %s lane %d", r.Lease, r.Lane)
		}
		if r.Seq <= rec.Seq {
			return false, nil
		}
		i := slices.IndexFunc(rec.Open, func(s stated) bool { return s.Seq == r.Seq && s.ID == r.Statement })
		if i < 0 {
			return refuse("it names statement %d, which waits for none; the latest is %d", r.Seq, rec.Issued)
		}
		st := rec.Open[i]
		// The chain pays nothing for a receipt above the escrow, so an amount
		// that is too high is as bad as one that is too low.
		if net := r.Net(); (net < st.Gross && !b.off.floor) || net > lease.Cap-min(lease.Cap, a.paidOthers(n)) || r.Final != st.Final {
			return refuse("it pays %s (final %t), statement %d asks for %s (final %t) under a cap of %s", net, r.Final, r.Seq, st.Gross, st.Final, lease.Cap)
		}
		if r.Paid < rec.Paid+rec.Returned || r.Returned < rec.Returned || (r.Returned > rec.Returned && !r.Final) {
			return refuse("it pays %s and returns %s after %s and %s: both only grow, and what was paid ahead is returned with a result", r.Paid, r.Returned, rec.Paid+rec.Returned, rec.Returned)
		}
		rec.Receipt, rec.Seq, rec.Paid, rec.Returned, rec.Receipted = &signed, r.Seq, r.Net(), r.Returned, st.Usage
		rec.Open = rec.Open[i+1:]
		return true, nil
	})
}

// paidOthers adds up the receipts of the other lanes, each of which was held to
// the cap when it came; the account is locked.
func (a *account) paidOthers(n uint64) mman.Amount {
	var sum mman.Amount
	for i, l := range a.lanes {
		if i != n {
			sum += l.Paid
		}
	}
	return sum
}

// forgive gives up the statements of a session that ended before their
// receipts came, so that the lane can be used again. A consumer that lets too
// many results go unpaid needs a new lease.
func (b *ledgerBook) forgive(a *account, n uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return b.updateLocked(a, n, func(rec *laneRecord, _ *store.Batch) (bool, error) {
		if rec.unpaid() {
			rec.Forgiven++
		}
		forgiven := rec.Forgiven
		for i, l := range a.lanes {
			if i != n {
				forgiven += l.Forgiven
			}
		}
		if forgiven > maxForgiven && !b.off.forgive {
			return false, fmt.Errorf("lease %s: %w: %d results were taken without a receipt; ask for a new lease", a.id, mman.ErrUnpaid, forgiven)
		}
		changed := len(rec.Open) > 0
		rec.Open = nil
		return changed, nil
	})
}
