package market

import (
	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
)

// Bounds of one provider's and of one block's work.
const (
	// maxOffersPerProvider bounds the standing offers of one account.
	maxOffersPerProvider = 1024
	// maxNodesPerAccount bounds the nodes that are bound to one account.
	maxNodesPerAccount = 64
	// suspendAfter is how many leases in a row must not be accepted until an
	// offer is taken out of the book.
	suspendAfter = 3
	// maxGrants bounds the grants on one line.
	maxGrants = 256
	// depositSteps is how many steps of its policy make an offer's deposit one
	// time larger.
	depositSteps = 1000
	// maxDue bounds how many leases close, offers expire and requests expire
	// in one block, each.
	maxDue = 1024
	// maxRFPs bounds how many RFPs are looked at in one block.
	maxRFPs = 64
)

// Bank is what the market needs of the bank.
type Bank interface {
	// Hold moves coins of an account into escrow; mman.ErrFunds.
	Hold(ctx *block.Context, from mman.Address, amount mman.Amount) error
	// Release moves escrow to an account.
	Release(ctx *block.Context, to mman.Address, amount mman.Amount) error
	// Burn destroys escrow.
	Burn(ctx *block.Context, amount mman.Amount) error
	// Lock moves coins of an account into a deposit; mman.ErrFunds.
	Lock(ctx *block.Context, from mman.Address, amount mman.Amount) error
	// Unlock gives a deposit back.
	Unlock(ctx *block.Context, to mman.Address, amount mman.Amount) error
	// Locked returns all deposits.
	Locked(r state.Reader) (mman.Amount, error)
	// Key returns an account's public key, zero when it never signed.
	Key(r state.Reader, a mman.Address) (sig.PublicKey, error)
	// Escrow returns all that is held.
	Escrow(r state.Reader) (mman.Amount, error)
}

// Module is the market. All it knows is in state; beside its bank it holds a
// cache of decoded offers, which DropCaches empties without any other effect.
type Module struct {
	bank   Bank
	offers *offerCache
	off    undefended
}

// undefended switches defences off, one by one: tests show with it that each
// attack works without its defence. It is all false.
type undefended struct {
	window  bool // a lease that its consumer closes is closed at once
	owed    bool // what an accepted lease owes to others is forgotten at its end
	accept  bool // a lease that nobody accepted cannot be canceled
	expiry  bool // nothing ends by itself
	cursor  bool // each attempt looks at the cheapest offers again
	deposit bool // offers lock nothing
}

// New returns the module that pays through the bank.
func New(bank Bank) Module { return Module{bank: bank, offers: &offerCache{}} }

// DropCaches forgets the decoded offers.
func (m Module) DropCaches() { *m.offers = offerCache{} }

// Name returns "market".
func (Module) Name() string { return "market" }

// Messages returns the type URLs that the module executes.
func (Module) Messages() []string {
	return []string{
		tx.TypeBindNode, tx.TypeOffer, tx.TypeWithdrawOffer, tx.TypeRequest,
		tx.TypeCancelRequest, tx.TypeSettle, tx.TypeCloseLease, tx.TypeAcceptLeases, tx.TypeGrant, tx.TypeRevoke,
		tx.TypeOpenRFP, tx.TypeCommitBids, tx.TypePostBid, tx.TypeRevealBid,
	}
}
