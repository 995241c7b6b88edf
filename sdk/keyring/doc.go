// Package keyring keeps a client's keys: mnemonics, account keys in a folder of
// key files, and the keys of leases.
//
// One BIP-39 mnemonic gives two accounts for each index i: an ed25519 key by
// SLIP-0010 at m/44'/118'/0'/0'/i' and a secp256k1 key by BIP-32 at
// m/44'/118'/0'/0/i, the path of the ecosystem's wallets. A mnemonic is shown
// or written once and never kept; the key file holds the derived key alone,
// encrypted with XChaCha20-Poly1305 under argon2id. An unencrypted key file is
// written only when the configuration says so, for networks whose money is
// worth nothing.
//
// It is not a wallet: it does not know chains, balances or sequences. The SDK
// and the two programs call it.
//
// Invariants: a folder is 0700 and a file 0600, and what is more open is
// refused with the way out; a file is written whole or not at all, and never
// over another; no secret, passphrase or mnemonic is in an error; whatever is
// read is bounded, the cost of deriving a key from a passphrase included. All
// functions may be called concurrently, by several processes too.
package keyring
