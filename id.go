package mman

import (
	"encoding/binary"
	"encoding/hex"
)

// IDSize is the length of an id in bytes.
const IDSize = 20

// The ids that the chain gives: the first 20 bytes of
// SHA-256(kind ‖ 0 ‖ chain id ‖ 0 ‖ transaction hash ‖ u32be message index),
// 40 hex digits in text.
type (
	// RequestID names a Request on one chain.
	RequestID [IDSize]byte
	// LeaseID names a Lease on one chain.
	LeaseID [IDSize]byte
)

// NewRequestID returns the id of the request that message index of the
// transaction makes.
func NewRequestID(chainID string, txHash Hash, index uint32) RequestID {
	return RequestID(newID("request", chainID, txHash, index))
}

// Lease returns the id of the lease that fills the request. A request is
// filled at most once, so the id is known before the match; see Takeover for the
// exception.
func (id RequestID) Lease() LeaseID {
	sum := Sum256([]byte("lease"), []byte{0}, id[:])
	return LeaseID(sum[:IDSize])
}

// Takeover returns the id of the n-th lease of a request that was put out to
// bids: the first is Lease, each later one takes over from a bidder who did not
// serve.
func (id RequestID) Takeover(n uint64) LeaseID {
	if n == 0 {
		return id.Lease()
	}
	sum := Sum256([]byte("takeover"), []byte{0}, id[:], binary.BigEndian.AppendUint64(nil, n))
	return LeaseID(sum[:IDSize])
}

// NewStorageID returns the id of the storage lease that message index of the
// transaction makes.
func NewStorageID(chainID string, txHash Hash, index uint32) LeaseID {
	return LeaseID(newID("storage", chainID, txHash, index))
}

func newID(kind, chainID string, txHash Hash, index uint32) [IDSize]byte {
	sum := Sum256([]byte(kind), []byte{0}, []byte(chainID), []byte{0}, txHash[:], binary.BigEndian.AppendUint32(nil, index))
	return [IDSize]byte(sum[:IDSize])
}

// String returns 40 hex digits.
func (id RequestID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns 40 hex digits.
func (id RequestID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads 40 hex digits.
func (id *RequestID) UnmarshalText(b []byte) error { return decodeHex("request id", id[:], b) }

// String returns 40 hex digits.
func (id LeaseID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns 40 hex digits.
func (id LeaseID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads 40 hex digits.
func (id *LeaseID) UnmarshalText(b []byte) error { return decodeHex("lease id", id[:], b) }
