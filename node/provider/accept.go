package provider

import (
	"context"
	"fmt"
	"log/slog"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
)

// acceptEvery is how many blocks pass between two looks for leases to accept.
const acceptEvery = 4

// accept tells the chain that this node serves leases for which nothing was
// settled yet; a lease that is settled soon needs no such transaction.
func (p *Provider) accept(ctx context.Context, height uint64) error {
	if height < p.acceptAt {
		return nil
	}
	p.acceptAt = height + acceptEvery
	waiting, err := p.ledger.Waiting(p.submitter.Address())
	if err != nil {
		return err
	}
	for len(waiting) > 0 {
		n := min(len(waiting), tx.MaxAccepts)
		if _, err := p.submitter.Submit(ctx, tx.MsgAcceptLeases{Provider: p.submitter.Address(), Leases: waiting[:n]}); err != nil {
			return fmt.Errorf("accept %d leases: %w", n, err)
		}
		p.log.LogAttrs(ctx, slog.LevelDebug, "leases accepted", slog.Int("leases", n))
		waiting = waiting[n:]
	}
	return nil
}

// accepted returns the height at which a lease of this node was accepted on the
// ledger, and accepts it when it was not: from then on the prices per lease of its
// other legs are owed, and before that their holders hand out nothing.
func (p *Provider) accepted(ctx context.Context, id mman.LeaseID) (uint64, error) {
	for range 2 {
		lease, err := p.ledger.Lease(id)
		if err != nil || lease.Accepted > 0 {
			return lease.Accepted, err
		}
		if _, err := p.submitter.Submit(ctx, tx.MsgAcceptLeases{Provider: p.submitter.Address(), Leases: []mman.LeaseID{id}}); err != nil {
			return 0, fmt.Errorf("accept lease %s: %w", id, err)
		}
	}
	return 0, fmt.Errorf("lease %s: %w: the ledger does not let this node accept it", id, mman.ErrLeaseState)
}
