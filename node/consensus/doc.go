// Package consensus is the only home of CometBFT's node: it builds one from a
// Config, an ABCI application and the node's data database, runs it, serves
// its RPC and stops it cleanly.
//
// It knows no transaction and no module of the ledger. The node's wiring calls
// it: Init when a home is made, New and Run for each start, the database
// adapter (DBProvider, NewDB) is also used by light clients and state sync.
//
// There is no configuration file: everything that CometBFT reads comes from
// code. Below <home>/consensus stand the validator's key and the record of what
// it signed last, the key of the peer, the address book and the write-ahead log;
// all else is in namespaces of the data database.
//
// Invariants: a home serves one genesis for ever; a validator's key without its
// record is refused, because it could sign twice; consensus has stopped before
// Run returns and nothing of CometBFT touches the application or the database
// afterwards (gate); a chain that halts ends Run with the reason.
package consensus
