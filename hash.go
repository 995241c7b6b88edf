package mman

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
)

// Hash is a SHA-256 or SHA-512/256 digest.
type Hash [32]byte

// Sum256 returns the SHA-256 digest of the concatenated parts.
func Sum256(parts ...[]byte) Hash {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return Hash(h.Sum(nil))
}

// Summer computes the SHA-256 digest of what is written to it. It is for one
// goroutine.
type Summer struct{ h hash.Hash }

// NewSum256 returns an empty Summer.
func NewSum256() Summer { return Summer{sha256.New()} }

// Write adds p; it never fails.
func (s Summer) Write(p []byte) (int, error) { return s.h.Write(p) }

// Hash returns the digest of what was written so far.
func (s Summer) Hash() Hash { return Hash(s.h.Sum(nil)) }

// String returns 64 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether every byte of h is zero.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText returns 64 lower-case hex digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hex digits.
func (h *Hash) UnmarshalText(b []byte) error { return decodeHex("hash", h[:], b) }

// SignContext separates the domains of signatures, so that a signature made
// for one purpose can never serve another.
type SignContext string

// The purposes for which a key other than a transaction's signs.
const (
	SignOffer     SignContext = "mman/offer/1"     // account key: an Offer
	SignBind      SignContext = "mman/bind/1"      // node key: its binding to an account
	SignHandshake SignContext = "mman/handshake/1" // lease key: opening a session
	SignAccept    SignContext = "mman/accept/1"    // node key: accepting a session
	SignStatement SignContext = "mman/statement/1" // node key: a Statement
	SignReceipt   SignContext = "mman/receipt/1"   // lease key: a Receipt
	SignBlocks    SignContext = "mman/blocks/1"    // node or lease key: asking for private blocks
	SignDecisions SignContext = "mman/decisions/1" // node or lease key: asking for a log of decisions
	SignValidator SignContext = "mman/validator/1" // consensus key: its operator
	SignBid       SignContext = "mman/bid/1"       // account key: the commitment to a Bid
	SignBidAck    SignContext = "mman/bidack/1"    // lease key: a commitment that came in time
	SignStorage   SignContext = "mman/storage/1"   // node or lease key: bringing or fetching a replica
	SignRetrieval SignContext = "mman/retrieval/1" // a key that a consumer named: what a provider may take
	SealBid       SignContext = "mman/sealed/1"    // no key: the digest that hides a Bid
)

// SignDigest returns SHA-512/256(context ‖ 0 ‖ chain id ‖ 0 ‖ payload), the
// bytes that are signed.
func SignDigest(context SignContext, chainID string, payload []byte) Hash {
	h := sha512.New512_256()
	h.Write([]byte(context))
	h.Write([]byte{0})
	h.Write([]byte(chainID))
	h.Write([]byte{0})
	h.Write(payload)
	return Hash(h.Sum(nil))
}

func decodeHex(what string, dst, src []byte) error {
	if len(src) != 2*len(dst) {
		return fmt.Errorf("%w: %s %.80q: %d hex digits are needed", ErrInvalid, what, src, 2*len(dst))
	}
	if _, err := hex.Decode(dst, src); err != nil {
		return fmt.Errorf("%w: %s %.80q: %w", ErrInvalid, what, src, err)
	}
	return nil
}
