// Package light is a proxy for those who trust no node: it believes one block,
// follows the signatures of the validators from there with CometBFT's light client,
// and answers CometBFT's RPC on loopback with what it has checked.
//
// /store/<store>/key is answered with an ICS-23 proof that was verified against a
// header. /mman/<noun>… and what wallets ask are evaluated here, by the ledger's own
// code over a state of which every value that is read comes with its proof. Lists
// cannot be proved, because the tree holds hashes of keys: they are refused, or
// passed on and marked when the caller of New wants that. Headers, blocks, commits,
// validators and parameters are compared with verified headers, a transaction with
// its block and its result with the next header. What a node says of itself or of
// its mempool, subscriptions and whether a search found everything cannot be checked
// and is passed on.
//
// The command mman-node light runs it. It keeps nothing on disk and holds no key.
//
// Invariant: an answer that could be proved and was not is an error, never an answer;
// a node's word that something is not there is believed only with a proof.
package light
