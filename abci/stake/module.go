package stake

import (
	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
)

const (
	// maxDue bounds how many unbondings end in one block. More wait in the
	// queue, where they stay slashable.
	maxDue = 256
	// maxCommissionStep is by how much a commission may rise in an epoch, in
	// millionths: delegators have time to leave.
	maxCommissionStep = 50_000
)

// Bank is what staking needs of the bank.
type Bank interface {
	// Stake moves coins of an account into stake; mman.ErrFunds.
	Stake(ctx *block.Context, from mman.Address, amount mman.Amount) error
	// Unstake moves stake to an account.
	Unstake(ctx *block.Context, to mman.Address, amount mman.Amount) error
	// BurnStake destroys stake.
	BurnStake(ctx *block.Context, amount mman.Amount) error
	// Reward moves fees from the pool to stake.
	Reward(ctx *block.Context, amount mman.Amount) error
	// Fees returns the fees that wait for the validators.
	Fees(r state.Reader) (mman.Amount, error)
	// Staked returns all stake.
	Staked(r state.Reader) (mman.Amount, error)
}

// Module is staking. It holds nothing but its bank: all it knows is in state.
type Module struct{ bank Bank }

// New returns the module that moves money through the bank.
func New(bank Bank) Module { return Module{bank} }

// Name returns "stake".
func (Module) Name() string { return "stake" }

// Messages returns the type URLs that the module executes.
func (Module) Messages() []string {
	return []string{
		tx.TypeDelegate, tx.TypeUndelegate, tx.TypeRedelegate,
		tx.TypeCreateValidator, tx.TypeEditValidator, tx.TypeUnjail,
	}
}
