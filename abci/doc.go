// Package abci is the chain's application and the only door to CometBFT's ABCI:
// it decodes transactions, checks and charges their signers, routes messages to
// the modules, keeps blocks that were executed but not decided, and commits.
//
// What messages mean is in the modules beside it (bank, market), which do not
// know it, CometBFT or one another; modules.go is the one place that lists and
// wires them. The node embeds an Application and hands it to CometBFT; abcitest
// drives one without consensus.
//
// Query answers /mman/<noun>… in JSON, /store/<store>/key with a proof, and in
// protobuf what the wallets of the ecosystem ask: Account, Balance, AllBalances
// and Simulate, under the paths that package tx names.
//
// Invariants: FinalizeBlock persists nothing, Commit everything at once and without a
// sync of its own, so the application may be behind CometBFT's block store and never
// ahead. Every rule of ProcessProposal that protects the state also stands in
// FinalizeBlock. Queries read committed snapshots and wait for nobody. Caches are pure
// functions of committed bytes: dropping one changes no result. What is executed or
// hashed ahead of consensus ends before the next call of consensus begins, and counts
// only for the very same block. An error of the store on a decided block is returned,
// which halts the node.
package abci
