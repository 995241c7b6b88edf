// Package beacon keeps the chain's randomness.
//
// Most blocks have none. A block that has work to draw for carries, as its first
// transaction, a proof by its proposer: of a verifiable random function
// (ECVRF-EDWARDS25519-SHA512-ELL2) over the chain's id, the height and the
// beacon before it, with the key that the validator registered for nothing else.
// Its output is the only one that this proposer can prove, so it has no choice
// but to show it or to lose its turn, and the beacon of that height is
// H(beacon before it ‖ output). Beacons of quiet heights do not exist, so a quiet
// block changes no root.
//
// Who needs randomness for what a block fixes asks for it with Ask, and gets it
// with After: a beacon at least two heights later. Whoever could still change
// the inputs knew neither it nor, two blocks later, who proposes it. What is left
// is this: a proposer who does not like an output may keep its block to itself.
// It loses the block's fees and its turn and gets, once, the output of the next
// proposer instead, and f proposers of one mind in a row get f+1 outputs to
// choose from. So a draw is not to be worth more than that to a validator, and
// what pays on one draw alone is not to depend on this package.
//
// The order of requests that are matched in their own block is the exception: it
// uses the beacon of that block, which its proposer knows before it chooses the
// block's transactions. It decides between requests of one block that want the
// same capacity, and no money.
//
// The package verifies no proof and knows no validator: the application does.
// Invariants: the latest beacon is the newest of the kept ones; kept are those of
// the last Kept heights.
package beacon
