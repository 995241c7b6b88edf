// Package sig holds account and session keys: ed25519 and secp256k1, their
// addresses, and the one ed25519 verifier of the whole program.
//
// Every ed25519 signature, whether of a transaction, an Offer, a handshake, a
// Statement or a Receipt, alone or in a batch, is checked under the rules of
// ZIP-215: the cofactored equation, with non-canonical point encodings
// accepted. So two nodes can never disagree about a signature, and a batch
// never disagrees with its members. secp256k1 signatures are the 64 bytes r‖s
// over SHA-256 of the message with s in the lower half of the group's order,
// as Cosmos wallets make them.
//
// A VRFKey makes randomness that nobody else knows and everybody can check, for
// the chain's beacon.
//
// It does not store keys (sdk/keyring does), and it does not separate domains:
// callers sign an mman.SignDigest or a transaction's sign bytes.
//
// Invariants: a PublicKey is a comparable value with one binary, one text and
// one DAG-CBOR form; a PrivateKey never prints its secret; verification never
// panics, whatever the bytes. All functions may be called concurrently, a
// BatchVerifier by one goroutine at a time.
package sig
