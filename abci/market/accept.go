package market

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
)

// acceptLeases notes that the provider serves the leases. Those that are not
// open any more, or not its own, are skipped, so that one does not hold up the
// others.
func acceptLeases(ctx *block.Context, msg tx.MsgAcceptLeases) error {
	for _, id := range msg.Leases {
		l, ok, err := LookupLease(ctx.State, id)
		if err != nil {
			return err
		}
		switch {
		case !ok:
			skip(ctx, id, mman.ErrNotFound)
		case l.Compute().Provider != msg.Provider:
			skip(ctx, id, fmt.Errorf("%w: its compute is of %s", mman.ErrDenied, l.Compute().Provider))
		case l.State != market.LeaseOpen:
			skip(ctx, id, fmt.Errorf("%w: it is %s", mman.ErrLeaseState, l.State))
		case l.Accepted == 0:
			if err := accept(ctx, l); err != nil {
				return err
			}
		}
	}
	return nil
}

func accept(ctx *block.Context, l market.Lease) error {
	l.Accepted = ctx.Height
	ctx.Emit("mman.accept", "lease", l.ID.String())
	if err := leases().Set(ctx.State, l.ID[:], l); err != nil {
		return err
	}
	if err := hasten(ctx, l, mman.Address{}); err != nil {
		return err
	}
	return missed(ctx, l, func(uint64) uint64 { return 0 })
}

// missed changes the count of leases in a row that the line of the compute leg
// did not accept.
func missed(ctx *block.Context, l market.Lease, change func(uint64) uint64) error {
	key := LegLine(l.Compute())
	n, ok, err := lines().Get(ctx.State, key)
	if err != nil || !ok {
		return err
	}
	n.Missed = change(n.Missed)
	return setLine(ctx.State, key, n)
}

// cancelLease ends a lease whose provider let the time to accept pass: the
// consumer has its money back at once, and an offer that does so again and again
// goes out of the book.
func (m Module) cancelLease(ctx *block.Context, id mman.LeaseID) error {
	l, ok, err := LookupLease(ctx.State, id)
	due := l.Opened + ctx.Params.AcceptBlocks
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: lease %s", mman.ErrNotFound, id)
	case l.State != market.LeaseOpen:
		return fmt.Errorf("lease %s: %w: it is %s", id, mman.ErrLeaseState, l.State)
	case l.Accepted > 0 || l.Paid > 0:
		return fmt.Errorf("lease %s: %w: its provider serves it, close it instead", id, mman.ErrLeaseState)
	case ctx.Height < due || m.off.accept:
		return fmt.Errorf("lease %s: %w: its provider has until height %d to accept, this is %d", id, mman.ErrLeaseState, due, ctx.Height)
	}
	return m.abandon(ctx, l)
}

// abandon ends a lease that its provider does not serve, and counts that.
func (m Module) abandon(ctx *block.Context, l market.Lease) error {
	ctx.Emit("mman.cancel", "request", l.Request.String(), "lease", l.ID.String(), "refund_uman", digits(l.Escrow()))
	if l.State != market.LeaseClosed {
		if err := m.end(ctx, l); err != nil {
			return err
		}
	}
	if err := missed(ctx, l, func(n uint64) uint64 { return n + 1 }); err != nil {
		return err
	}
	line, ok, err := lines().Get(ctx.State, LegLine(l.Compute()))
	if err != nil || !ok || line.Missed < suspendAfter || line.Offer.IsZero() {
		return err
	}
	ctx.Emit("mman.suspend", "offer", line.Offer.String(), "provider", l.Compute().Provider.String())
	return m.removeOffer(ctx, line.Offer)
}
