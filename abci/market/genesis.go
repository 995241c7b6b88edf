package market

import (
	"fmt"

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

// ExportGenesis gives the consumers back what their requests and leases hold, and
// the providers the deposits of their offers: they do not live on in another chain. The bank exports before it.
func (Module) ExportGenesis(r state.Reader, doc *genesis.Document) error {
	index := make(map[mman.Address]int, len(doc.Accounts))
	for i, a := range doc.Accounts {
		index[a.Address] = i
	}
	back := func(to mman.Address, held mman.Amount) error {
		i, ok := index[to]
		if !ok {
			return fmt.Errorf("%w: %s holds escrow or a deposit without an account", mman.ErrInvariant, to)
		}
		sum, err := doc.Accounts[i].Balance.Add(held)
		doc.Accounts[i].Balance = sum
		return err
	}
	if err := walkEscrow(r, back); err != nil {
		return err
	}
	return offers().Each(r, nil, func(_ []byte, record OfferRecord) error {
		return back(record.Key.Address(), record.Deposit)
	})
}

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
