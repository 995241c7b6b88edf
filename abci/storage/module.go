package storage

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/market/storage"
)

// maxDue bounds how many entries of the queue one block looks at.
const maxDue = 128

// Bank is what storage needs of the bank.
type Bank interface {
	// Keep takes coins of an account for storage; mman.ErrFunds.
	Keep(ctx *block.Context, from mman.Address, amount mman.Amount) error
	// Give returns coins that are kept, or pays with them.
	Give(ctx *block.Context, to mman.Address, amount mman.Amount) error
	// Destroy burns coins that are kept.
	Destroy(ctx *block.Context, amount mman.Amount) error
	// Kept returns all that is kept.
	Kept(r state.Reader) (mman.Amount, error)
}

// Nodes says which account answers for a node.
type Nodes interface {
	// Bound returns the account of a node; ok is false when it has none.
	Bound(r state.Reader, peer mman.PeerID) (account mman.Address, ok bool, err error)
}

// Beacon gives randomness.
type Beacon interface {
	// Ask makes a later block carry a beacon for what this one fixes.
	Ask(ctx *block.Context) error
	// Drawn returns the height and value of the first beacon for what the block of
	// a height fixed; ok is false when there is none yet.
	Drawn(r state.Reader, fixed uint64) (height uint64, value mman.Hash, ok bool, err error)
}

// Module keeps storage leases. All it knows is in state.
type Module struct {
	bank   Bank
	nodes  Nodes
	beacon Beacon
	off    undefended
}

// undefended switches defences off, one by one: tests show with it that each attack
// works without its defence. It is all false.
type undefended struct {
	verify bool // any proof is taken
	window bool // proofs are never too late
	slash  bool // a missed epoch costs nothing
	repair bool // a lost replica stays lost
}

// New returns the module.
func New(bank Bank, nodes Nodes, beacon Beacon) Module {
	return Module{bank: bank, nodes: nodes, beacon: beacon}
}

// Name returns "storage".
func (Module) Name() string { return "storage" }

// Messages returns the type URLs that the module executes.
func (Module) Messages() []string {
	return []string{
		tx.TypeStorageOffer, tx.TypeStore, tx.TypeAcceptStorage, tx.TypeProveStorage, tx.TypePlaceStorage,
		tx.TypeRenewStorage, tx.TypeEndStorage, tx.TypeFundRetrieval, tx.TypeRedeemRetrieval,
	}
}

// InitGenesis has nothing to write.
func (Module) InitGenesis(*block.Context, genesis.Document) error { return nil }

// Rules returns the rules of a chain's parameters.
func Rules(p genesis.Params) storage.Rules {
	return storage.Rules{
		EpochBlocks: p.StorageEpochBlocks, WindowBlocks: p.StorageWindowBlocks, AcceptBlocks: p.StorageAcceptBlocks,
		DepositEpochs: p.StorageDepositEpochs, BurnPPM: p.BurnPPM, MaxEpochs: p.StorageMaxEpochs,
	}
}

// rules are those in force; without a window nothing is ever late.
func (m Module) rules(ctx *block.Context) storage.Rules {
	return Rules(ctx.Params)
}

// Execute runs a message.
func (m Module) Execute(ctx *block.Context, msg tx.Msg) error {
	switch msg := msg.(type) {
	case tx.MsgStorageOffer:
		return m.offer(ctx, msg)
	case tx.MsgStore:
		return m.store(ctx, msg)
	case tx.MsgAcceptStorage:
		return m.accept(ctx, msg)
	case tx.MsgProveStorage:
		return m.prove(ctx, msg)
	case tx.MsgPlaceStorage:
		return m.bring(ctx, msg)
	case tx.MsgRenewStorage:
		return m.renew(ctx, msg)
	case tx.MsgEndStorage:
		return m.shorten(ctx, msg)
	case tx.MsgFundRetrieval:
		return m.fund(ctx, msg)
	case tx.MsgRedeemRetrieval:
		return m.redeem(ctx, msg)
	default:
		return fmt.Errorf("%w: storage does not execute %s", mman.ErrUnknownMsg, msg.TypeURL())
	}
}
