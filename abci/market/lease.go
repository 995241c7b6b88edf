package market

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/settle"
)

func digits(a mman.Amount) string { return strconv.FormatUint(uint64(a), 10) }

// settle turns receipts into transfers and closes what its provider agrees to
// close. Bytes that are no receipt and signatures that do not verify fail the
// message before anything moves. A receipt that cannot be paid any more, because
// its lease was closed meanwhile or its escrow is used up, is skipped with an
// event, so that one lease cannot hold up the others of a batch.
func (m Module) settle(ctx *block.Context, msg tx.MsgSettle) error {
	receipts, known, err := openReceipts(ctx, msg.Items)
	if err != nil {
		return err
	}
	for i, r := range receipts {
		if !known[i] {
			skip(ctx, r.Lease, mman.ErrNotFound)
			continue
		}
		if err := m.pay(ctx, r); err != nil {
			return fmt.Errorf("items[%d]: %w", i, err)
		}
	}
	for i, id := range msg.Close {
		if err := m.closeNow(ctx, id, msg.Sender); err != nil {
			return fmt.Errorf("close[%d]: %w", i, err)
		}
	}
	return nil
}

// openReceipts reads the receipts and verifies, as one batch, the signatures of
// those whose lease is known.
func openReceipts(ctx *block.Context, items []tx.SettleItem) (receipts []market.Receipt, known []bool, err error) {
	receipts, known = make([]market.Receipt, len(items)), make([]bool, len(items))
	batch := sig.NewBatchVerifier(len(items))
	var at []int // of the batch's entries
	for i, item := range items {
		r, err := market.DecodeReceipt(item.Receipt)
		if err != nil {
			return nil, nil, fmt.Errorf("items[%d]: %w", i, err)
		}
		l, ok, err := LookupLease(ctx.State, r.Lease)
		if err != nil {
			return nil, nil, err
		}
		if receipts[i], known[i] = r, ok; ok {
			digest := mman.SignDigest(mman.SignReceipt, ctx.ChainID, item.Receipt)
			batch.AddEd25519(l.LeaseKey, digest[:], item.Signature)
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return receipts, known, nil
	}
	_, valid := batch.Verify()
	if j := slices.Index(valid, false); j >= 0 {
		r := receipts[at[j]]
		return nil, nil, fmt.Errorf("items[%d]: receipt %d of lease %s: %w: it is not signed by the lease key", at[j], r.Seq, r.Lease, mman.ErrBadSignature)
	}
	return receipts, known, nil
}

func skip(ctx *block.Context, id mman.LeaseID, reason error) {
	ctx.Emit("mman.settle_skipped", "lease", id.String(), "code", strconv.FormatUint(uint64(mman.CodeOf(reason)), 10), "reason", reason.Error())
}

// pay applies one verified receipt.
func (m Module) pay(ctx *block.Context, r market.Receipt) error {
	l, _, err := LookupLease(ctx.State, r.Lease)
	if err != nil {
		return err
	}
	after, delta, err := l.Settle(r)
	if errors.Is(err, mman.ErrLeaseState) || errors.Is(err, mman.ErrCapExceeded) {
		skip(ctx, r.Lease, err)
		return nil
	}
	if err != nil {
		return err
	}
	if delta > 0 {
		if after, err = m.transfer(ctx, after, delta); err != nil {
			return err
		}
	}
	return leases().Set(ctx.State, r.Lease[:], after)
}

// transfer pays what a receipt added; the first one also accepts the lease.
func (m Module) transfer(ctx *block.Context, l market.Lease, delta mman.Amount) (market.Lease, error) {
	payments, burned, err := settle.Split(l, l.Paid, delta, ctx.Params.BurnPPM)
	if err != nil {
		return l, err
	}
	if err := m.disburse(ctx, l, payments, burned); err != nil {
		return l, err
	}
	l.Burned += burned // at most Paid
	ctx.Emit("mman.settle", "lease", l.ID.String(), "paid_uman", digits(delta), "burned_uman", digits(burned))
	if l.Accepted > 0 {
		return l, nil
	}
	l.Accepted = ctx.Height
	if err := hasten(ctx, l, mman.Address{}); err != nil {
		return l, err
	}
	return l, missed(ctx, l, func(uint64) uint64 { return 0 })
}

// disburse pays what a settlement gives to whom.
func (m Module) disburse(ctx *block.Context, l market.Lease, payments []settle.Payment, burned mman.Amount) error {
	for _, p := range payments {
		if err := m.bank.Release(ctx, p.To, p.Amount); err != nil {
			return err
		}
		if !p.Royalty.IsZero() {
			ctx.Emit("mman.royalty", "lease", l.ID.String(), "resource", p.Royalty.String(), "to", p.To.String(), "amount_uman", digits(p.Amount))
		}
	}
	return m.bank.Burn(ctx, burned)
}

// payOthers pays what an accepted lease still owes, at its end, to those who do
// not see its sessions: their prices per lease.
func (m Module) payOthers(ctx *block.Context, l market.Lease) (market.Lease, error) {
	gross, payments, burned, err := settle.Owed(l, ctx.Params.BurnPPM)
	if err != nil || gross == 0 || m.off.owed {
		return l, err
	}
	if err := m.disburse(ctx, l, payments, burned); err != nil {
		return l, err
	}
	l.Paid, l.Burned = l.Paid+gross, l.Burned+burned // at most Cap
	ctx.Emit("mman.settle", "lease", l.ID.String(), "paid_uman", digits(gross), "burned_uman", digits(burned))
	return l, nil
}

// closeNow closes a lease with the consent of its compute leg's provider. One that
// was never accepted, and whose other legs have a price per lease, only comes into
// the dispute window, in which whoever has a receipt can submit it.
func (m Module) closeNow(ctx *block.Context, id mman.LeaseID, sender mman.Address) error {
	l, ok, err := LookupLease(ctx.State, id)
	switch {
	case err != nil:
		return err
	case !ok:
		skip(ctx, id, mman.ErrNotFound)
		return nil
	case l.Compute().Provider != sender:
		return fmt.Errorf("lease %s: %w: only the provider of its compute leg, %s, may close it at once", id, mman.ErrDenied, l.Compute().Provider)
	case l.State == market.LeaseClosed:
		skip(ctx, id, fmt.Errorf("%w: it is closed", mman.ErrLeaseState))
		return nil
	}
	if err := hasten(ctx, l, sender); err != nil {
		return err
	}
	owes, err := l.OwesOthers()
	if err != nil {
		return err
	}
	if !owes || l.Accepted > 0 { // what is owed is paid at the end
		return m.end(ctx, l)
	}
	if l.State == market.LeaseOpen {
		return beginClose(ctx, l)
	}
	skip(ctx, id, fmt.Errorf("%w: its dispute window is open", mman.ErrLeaseState))
	return nil
}

// closeLease opens the dispute window: until it ends, later receipts count.
func (m Module) closeLease(ctx *block.Context, msg tx.MsgCloseLease) error {
	l, ok, err := LookupLease(ctx.State, msg.Lease)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: lease %s", mman.ErrNotFound, msg.Lease)
	case !l.Involves(msg.Account):
		return fmt.Errorf("lease %s: %w: %s is neither its consumer nor a provider of it", msg.Lease, mman.ErrDenied, msg.Account)
	case m.off.window:
		return m.end(ctx, l)
	}
	if err := hasten(ctx, l, msg.Account); err != nil {
		return err
	}
	return beginClose(ctx, l)
}

// beginClose opens the dispute window of a lease.
func beginClose(ctx *block.Context, l market.Lease) error {
	closing, err := l.BeginClose(ctx.Height, ctx.Params.DisputeBlocks)
	if err != nil {
		return err
	}
	queue := state.NewIndex(state.MarketLeasesByExpiry)
	if err := queue.Remove(ctx.State, heightKey(l.CloseAt, l.ID[:])); err != nil {
		return err
	}
	if err := queue.Add(ctx.State, heightKey(closing.CloseAt, l.ID[:])); err != nil {
		return err
	}
	ctx.Emit("mman.closing", "lease", l.ID.String(), "close_at", strconv.FormatUint(closing.CloseAt, 10))
	return leases().Set(ctx.State, l.ID[:], closing)
}

// openLease records a new lease and takes the capacity of its offers.
func (m Module) openLease(ctx *block.Context, l market.Lease) error {
	if err := leases().Set(ctx.State, l.ID[:], l); err != nil {
		return err
	}
	for _, a := range parties(l) {
		if err := state.NewIndex(state.MarketLeasesByAccount).Add(ctx.State, accountKey(a, active, l.ID[:])); err != nil {
			return err
		}
	}
	if err := state.NewIndex(state.MarketLeasesByExpiry).Add(ctx.State, heightKey(l.CloseAt, l.ID[:])); err != nil {
		return err
	}
	return m.takeCapacity(ctx.State, l, 1)
}

// end closes a lease: what it owes is paid, the rest of the escrow goes back, the
// capacity is free.
func (m Module) end(ctx *block.Context, l market.Lease) error {
	l, err := m.payOthers(ctx, l)
	if err != nil {
		return err
	}
	closed, refund, err := l.Close()
	if err != nil {
		return err
	}
	if err := m.bank.Release(ctx, l.Consumer, refund); err != nil {
		return err
	}
	if err := leases().Set(ctx.State, l.ID[:], closed); err != nil {
		return err
	}
	byAccount := state.NewIndex(state.MarketLeasesByAccount)
	for _, a := range parties(l) {
		if err := byAccount.Remove(ctx.State, accountKey(a, active, l.ID[:])); err != nil {
			return err
		}
		if err := byAccount.Add(ctx.State, accountKey(a, settled, l.ID[:])); err != nil {
			return err
		}
	}
	if err := state.NewIndex(state.MarketLeasesByExpiry).Remove(ctx.State, heightKey(l.CloseAt, l.ID[:])); err != nil {
		return err
	}
	ctx.Emit("mman.close", "lease", l.ID.String(), "refund_uman", digits(refund))
	return m.takeCapacity(ctx.State, l, -1)
}

// parties returns the consumer and the providers, each once.
func parties(l market.Lease) []mman.Address {
	out := []mman.Address{l.Consumer}
	for _, leg := range l.Legs {
		if !leg.Supplied && !slices.Contains(out, leg.Provider) {
			out = append(out, leg.Provider)
		}
	}
	return out
}

// leaseLines returns the lines of a lease's offers, each once.
func leaseLines(l market.Lease) [][]byte {
	var out [][]byte
	for _, leg := range l.Legs {
		if leg.Supplied {
			continue
		}
		key := LegLine(leg)
		if !slices.ContainsFunc(out, func(k []byte) bool { return bytes.Equal(k, key) }) {
			out = append(out, key)
		}
	}
	return out
}

// takeCapacity adds 1 or −1 to the open count of each of the lease's lines. A
// place that becomes free on an offer whose answer depends on it is an arrival.
func (m Module) takeCapacity(w state.Writer, l market.Lease, by int) error {
	for _, key := range leaseLines(l) {
		n, _, err := lines().Get(w, key)
		if err != nil {
			return err
		}
		before := n.Open
		switch {
		case by > 0:
			n.Open++
		case n.Open == 0:
			return fmt.Errorf("%w: lease %s closes on a line without open leases", mman.ErrInvariant, l.ID)
		default:
			n.Open--
		}
		if err := setLine(w, key, n); err != nil {
			return err
		}
		if by > 0 || n.Offer.IsZero() {
			continue
		}
		if err := m.free(w, n.Offer, before); err != nil {
			return err
		}
	}
	return nil
}

// free tells the book that one of the offer's leases closed.
func (m Module) free(w state.Writer, id mman.CID, before uint64) error {
	s, ok, err := m.offers.get(w, id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: offer %s is on a line and missing", mman.ErrCorrupt, id)
	}
	if before < s.offer.Capacity && !s.program.ReadsOpen() {
		return nil
	}
	record, _, err := offers().Get(w, id.Bytes())
	if err != nil {
		return err
	}
	return arrive(w, id, s.offer, record)
}
