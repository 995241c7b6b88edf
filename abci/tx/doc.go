// Package tx is the envelope of transactions and the messages inside: strict
// decoding, the one encoding, sign bytes and signatures.
//
// The envelope is a subset of cosmos.tx.v1beta1 with the same field numbers,
// SIGN_MODE_DIRECT and exactly one signer, so that wallets of that ecosystem
// work unmodified; the files under proto/ write it down. Messages are
// those of the ecosystem for payments and staking (MsgSend, MsgMultiSend,
// MsgDelegate, MsgUndelegate, MsgBeginRedelegate) and our own under
// /mman.market.v1 and /mman.stake.v1; market
// objects travel in them as opaque DAG-CBOR bytes, which this package does not
// open.
//
// It is pure: no state, no clock, no I/O. It does not know balances, sequences
// or what a message does; the application and its modules do. The application,
// the modules and every client call it.
//
// Invariants: what decodes has exactly one encoding, so encoding it again gives
// the input, byte for byte, and a transaction has one hash. The reader takes
// fields in ascending order only, minimal varints only, no explicit default
// value, no unknown field, nothing behind the last field. Everything is bounded
// before memory is spent, and nothing panics on foreign bytes. Decoded values
// share memory with the input: nobody may change either afterwards. All
// functions may be called concurrently.
package tx
