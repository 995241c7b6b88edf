package provider

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
)

// settleMargin is the number of blocks before a lease closes by itself at which
// its receipts no longer wait for company.
const settleMargin = 10

// pending is a receipt on its way to the chain.
type pending struct {
	account *account
	lane    uint64
	receipt market.Signed
	paid    mman.Amount
}

// due lists what an account has to settle.
func (a *account) due() []pending {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []pending
	for n := range a.lanes {
		if rec := a.lanes[n].laneRecord; rec.Receipt != nil && rec.Paid > rec.Settled {
			out = append(out, pending{a, uint64(n), *rec.Receipt, rec.Paid}) //nolint:gosec // an index
		}
	}
	return out
}

// settle brings receipts to the chain, many in one transaction: those of leases
// that end soon at once, all of them every SettleBlocks, or now when the node
// stops. Accounts of leases that are closed and settled are dropped.
func (p *Provider) settle(ctx context.Context, height uint64, now bool) error {
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
		if now || height%p.cfg.SettleBlocks == 0 || lease.State == market.LeaseClosing || height+settleMargin >= lease.CloseAt {
			batch = append(batch, a.due()...)
		}
	}
	for len(batch) > 0 {
		n := min(len(batch), tx.MaxSettleItems)
		if _, err := p.submitSettle(ctx, batch[:n], nil); err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

func (p *Provider) submitSettle(ctx context.Context, batch []pending, closing []mman.LeaseID) (mman.Hash, error) {
	msg := tx.MsgSettle{Sender: p.submitter.Address(), Close: closing}
	for _, one := range batch {
		msg.Items = append(msg.Items, tx.SettleItem{Receipt: one.receipt.Bytes, Signature: one.receipt.Signature})
	}
	hash, err := p.submitter.Submit(ctx, msg)
	if err != nil {
		return mman.Hash{}, fmt.Errorf("settle %d receipts: %w", len(batch), err)
	}
	var errs []error
	for _, one := range batch {
		errs = append(errs, p.book.update(one.account, one.lane, func(rec *laneRecord) error {
			rec.Settled = max(rec.Settled, one.paid)
			return nil
		}))
	}
	p.log.LogAttrs(ctx, slog.LevelDebug, "receipts settled", slog.Int("receipts", len(batch)), slog.Int("leases_closed", len(closing)), slog.String("tx", hash.String()))
	return hash, errors.Join(errs...)
}

// settleAndClose settles one lease and ends it in the same transaction.
func (p *Provider) settleAndClose(ctx context.Context, lease market.Lease) (mman.Hash, error) {
	return p.submitSettle(ctx, p.book.account(lease.ID).due(), []mman.LeaseID{lease.ID})
}

// closed forgets a closed lease's account and notes when its contents go.
func (p *Provider) closed(a *account, height uint64) error {
	key := append(binary.BigEndian.AppendUint64([]byte{prefixRetire}, height+p.cfg.RetainBlocks), a.id[:]...)
	if err := p.records.Set(key, []byte{1}); err != nil {
		return err
	}
	p.fetched.drop(a.id)
	return p.book.forget(a)
}

// retire drops the contents of leases that closed long enough ago.
func (p *Provider) retire(ctx context.Context, height uint64) error {
	it, err := p.records.Iterate([]byte{prefixRetire}, binary.BigEndian.AppendUint64([]byte{prefixRetire}, height+1), false)
	if err != nil {
		return err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		key := it.Key()
		if len(key) != 1+8+mman.IDSize {
			return fmt.Errorf("%w: retire record under key %x", mman.ErrCorrupt, key)
		}
		if err := p.stores.DropLease(ctx, mman.LeaseID(key[9:])); err != nil {
			return err
		}
		if err := p.records.Delete(key); err != nil {
			return err
		}
	}
	return it.Err()
}
