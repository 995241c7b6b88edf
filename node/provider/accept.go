package provider

import (
	"context"
	"fmt"
	"log/slog"

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
