// Package chain reads and writes the ledger through any node's CometBFT RPC. It
// needs no daemon and no CometBFT code: the RPC is JSON over HTTP.
//
// What an RPC says is hearsay. Offers carry their provider's signature and are
// verified when they are read; sessions believe only keys. Answers are bounded
// in size and time.
package chain
