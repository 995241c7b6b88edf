// Package stake keeps validators, who backs them with how much, and who of them
// signs blocks.
//
// Each validator has two pools of tokens, of which delegators hold shares:
// active stake, which votes and earns, and debonding stake, which is on its way
// out and can still be slashed. Rewards are added to the active pool, so they
// compound by themselves and nothing is recorded for each delegator. Stake that
// leaves moves from the active to the debonding pool at once and to its owner
// after the unbonding time, which is longer than evidence counts; a
// redelegation is the same with another validator at its end, so that no stake
// escapes what its validator did.
//
// Time goes in epochs of a fixed number of blocks. At the end of each one the
// fees of the epoch are shared out to those who signed by power and blocks,
// those who missed too many blocks of the last epochs are slashed and jailed,
// and the validators with the most active stake are elected. Evidence of double
// signing slashes at once, and its validator never comes back.
//
// The module does not know why the bank's pool holds fees, nor CometBFT: the
// application hands it votes and evidence, and its updates on. What validators
// signed within an epoch is kept beside the tree (block.Consensus.Aside), so
// that a quiet block changes no root.
//
// Invariants: the tokens of all pools are the bank's staked total; the shares
// of a pool are those of its delegations or unbondings; a pool without shares
// has no tokens; a consensus key belongs to one validator and is never slashed
// twice for double signing; the set of validators is never empty; rounding
// favours the pool.
package stake
