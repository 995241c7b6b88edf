// Package bank keeps accounts and money: balances, sequences, public keys and
// the totals that add up to the supply.
//
// It knows who has how much, not why: the market asks it, through an interface
// of its own, to hold, release, pay and burn, and staking to stake, unstake,
// reward and burn. The application asks it to check and charge a transaction's
// signer, and where a block's fees go: a part is burned, the rest waits in the
// pool for the validators. It also keeps the base fee. It knows neither offers
// nor validators.
//
// Invariants: genesis + minted − burned = liquid + escrow + staked + pools, and
// the sum of all balances = liquid, at every height. An account exists from its
// first coin on; numbers count from 0 in order of creation and are never used
// again.
package bank
