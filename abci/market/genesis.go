package market

import (
	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/rfp"
)

// InitGenesis has nothing to write: a market starts empty.
func (Module) InitGenesis(*block.Context, genesis.Document) error { return nil }

// walkEscrow calls fn for every queued request, every bond of a bid that is not
// decided and every lease that is not closed.
func walkEscrow(r state.Reader, fn func(account mman.Address, held mman.Amount) error) error {
	err := requests().Each(r, nil, func(_ []byte, record RequestRecord) error {
		if record.State != match.Queued {
			return nil
		}
		req, err := market.DecodeRequest(record.Bytes)
		if err != nil {
			return err
		}
		return fn(req.Consumer, req.Cap)
	})
	if err != nil {
		return err
	}
	if err := rfps().Each(r, nil, func(_ []byte, one rfp.RFP) error { return one.Held(fn) }); err != nil {
		return err
	}
	return leases().Each(r, nil, func(_ []byte, l market.Lease) error {
		if l.State == market.LeaseClosed {
			return nil
		}
		return fn(l.Consumer, l.Escrow())
	})
}
