package provider

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/node/store"
)

// settleMargin is the number of blocks before a lease's expiry at which its
// receipts no longer wait for company: little can be added to them, and the
// whole grace after it is left for a settlement that does not succeed at once.
const settleMargin = 10

// pending is a receipt on its way to the chain.
type pending struct {
	account *account
	lane    uint64
	receipt market.Signed
	paid    mman.Amount
}

// due lists what an account has to settle. What was paid ahead for a run that
// is not over may be returned at its end: it is left out unless that is urgent.
func (a *account) due(urgent bool) []pending {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []pending
	for n, l := range a.lanes {
		if l.Receipt != nil && l.Paid > l.Settled && (urgent || !l.ahead) {
			out = append(out, pending{a, n, *l.Receipt, l.Paid})
		}
	}
	slices.SortFunc(out, func(x, y pending) int { return cmp.Compare(x.lane, y.lane) })
	return out
}

// settle brings receipts to the chain, many in one transaction: those of leases
// that end soon at once, all of them every SettleBlocks (a height may be skipped
// while a step before it waits for a block), at the first block after a start,
// or now when the node stops. Accounts of leases that are closed and settled are
// dropped.
func (p *Provider) settle(ctx context.Context, height uint64, now bool) error {
	now = now || height >= p.settleAt
	var batch []pending
	for _, a := range p.book.all() {
		lease, err := p.ledger.Lease(a.id)
		if err != nil {
			if notFound(err) {
				continue // this node's state is behind the lease
			}
			return err
		}
		if lease.State == market.LeaseClosed {
			if err := p.closed(a, height); err != nil {
				return err
			}
			continue
		}
		urgent := lease.State == market.LeaseClosing || height+settleMargin >= lease.Expires
		if now || urgent {
			batch = append(batch, a.due(urgent)...)
		}
	}
	for len(batch) > 0 {
		n := min(len(batch), tx.MaxSettleItems)
		if _, err := p.submitSettle(ctx, batch[:n], nil); err != nil {
			return err
		}
		batch = batch[n:]
	}
	if now {
		p.settleAt = height + p.cfg.SettleBlocks
	}
	return nil
}

func (p *Provider) submitSettle(ctx context.Context, batch []pending, closing []mman.LeaseID) (mman.Hash, error) {
	var msgs []tx.Msg
	for _, id := range closing {
		if m, ok, err := p.stand(id); err != nil {
			return mman.Hash{}, err
		} else if ok {
			msgs = append(msgs, m)
		}
	}
	msg := tx.MsgSettle{Sender: p.submitter.Address(), Close: closing}
	for _, one := range batch {
		msg.Items = append(msg.Items, tx.SettleItem{Receipt: one.receipt.Bytes, Signature: one.receipt.Signature})
	}
	hash, err := p.submitter.Submit(ctx, append(msgs, msg)...)
	if err != nil {
		return mman.Hash{}, fmt.Errorf("settle %d receipts: %w", len(batch), err)
	}
	var errs []error
	for _, one := range batch {
		errs = append(errs, p.book.update(one.account, one.lane, func(rec *laneRecord, _ *store.Batch) (bool, error) {
			rec.Settled = max(rec.Settled, one.paid)
			return true, nil
		}))
	}
	p.log.LogAttrs(ctx, slog.LevelDebug, "receipts settled", slog.Int("receipts", len(batch)), slog.Int("leases_closed", len(closing)), slog.String("tx", hash.String()))
	return hash, errors.Join(errs...)
}

// stand accepts a lease that was won by a bid before it is closed: who ends it
// unaccepted did not stand by its bid.
func (p *Provider) stand(id mman.LeaseID) (tx.Msg, bool, error) {
	lease, err := p.ledger.Lease(id)
	if err != nil || lease.Accepted > 0 {
		return nil, false, err
	}
	_, _, err = p.ledger.RFP(lease.Request)
	if notFound(err) {
		return nil, false, nil
	}
	return tx.MsgAcceptLeases{Provider: p.submitter.Address(), Leases: []mman.LeaseID{id}}, err == nil, err
}

// settleAndClose settles one lease and ends it in the same transaction.
func (p *Provider) settleAndClose(ctx context.Context, lease market.Lease) (mman.Hash, error) {
	return p.submitSettle(ctx, p.book.account(lease.ID).due(true), []mman.LeaseID{lease.ID})
}

// closed forgets a closed lease's account and notes when its contents go.
func (p *Provider) closed(a *account, height uint64) error {
	batch := p.records.NewBatch()
	key := append(binary.BigEndian.AppendUint64([]byte{prefixRetire}, height+p.cfg.RetainBlocks), a.id[:]...)
	if err := batch.Set(key, nil); err != nil {
		return err
	}
	done, err := p.book.forget(a, batch)
	if done {
		p.fetched.drop(a.id)
	}
	return err
}

// retireStep is how many leases are dropped in one block.
const retireStep = 64

// retire drops the contents of leases that closed long enough ago.
func (p *Provider) retire(ctx context.Context, height uint64) error {
	due, err := p.keys([]byte{prefixRetire}, binary.BigEndian.AppendUint64([]byte{prefixRetire}, height+1), retireStep)
	if err != nil {
		return err
	}
	for _, key := range due {
		if len(key) != 1+8+mman.IDSize {
			return fmt.Errorf("%w: retire record under key %x", mman.ErrCorrupt, key)
		}
		if err := p.drop(ctx, key, mman.LeaseID(key[9:])); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a lease's contents and logs, then what says that they are here.
func (p *Provider) drop(ctx context.Context, retire []byte, id mman.LeaseID) error {
	if err := p.stores.DropLease(ctx, id); err != nil {
		return err
	}
	for _, prefix := range []byte{prefixDecision, prefixBlock, prefixLent} {
		if err := p.dropAll(append([]byte{prefix}, id[:]...)); err != nil {
			return err
		}
	}
	from := append([]byte{prefixOutput}, id[:]...)
	outputs, err := p.keys(from, append(slices.Clone(from), 0xff), math.MaxInt)
	if err != nil {
		return err
	}
	batch := p.records.NewBatch()
	for _, key := range append(outputs, retire) {
		if err := batch.Delete(key); err != nil {
			return err
		}
	}
	return batch.Write()
}

// dropStep is how many records are dropped in one write.
const dropStep = 4096

// dropAll removes the records under a prefix.
func (p *Provider) dropAll(prefix []byte) error {
	for {
		keys, err := p.keys(prefix, append(slices.Clone(prefix), 0xff), dropStep)
		if err != nil || len(keys) == 0 {
			return err
		}
		batch := p.records.NewBatch()
		for _, key := range keys {
			if err := batch.Delete(key); err != nil {
				return err
			}
		}
		if err := batch.Write(); err != nil {
			return err
		}
	}
}

// keys lists at most n keys from start to before end.
func (p *Provider) keys(start, end []byte, n int) ([][]byte, error) {
	it, err := p.records.Iterate(start, end, false)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out [][]byte
	for ; it.Valid() && len(out) < n; it.Next() {
		out = append(out, it.Key())
	}
	return out, it.Err()
}

// outputKey marks a content as a result of a lease.
func outputKey(lease mman.LeaseID, id mman.CID) []byte {
	return append(append([]byte{prefixOutput}, lease[:]...), id.Bytes()...)
}
