package mman

import (
	"fmt"
	"math/big"
	"strings"
)

// PeerID names a node on the peer-to-peer network by its ed25519 public key.
// Its text form is libp2p's, 12D3Koo…, so the two can be used alike.
type PeerID [32]byte

const base58Alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// peerPrefix is an identity multihash of 36 bytes over libp2p's protobuf form
// of an ed25519 key (libp2p peer-ids specification).
func peerPrefix() [6]byte { return [6]byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20} }

// Bytes returns the binary form of the libp2p peer id, 38 bytes.
func (p PeerID) Bytes() []byte {
	prefix := peerPrefix()
	return append(prefix[:], p[:]...)
}

// PeerIDFromBytes reads the binary form of a libp2p peer id. Only ed25519 keys
// are used here.
func PeerIDFromBytes(b []byte) (PeerID, error) {
	if len(b) != 38 || [6]byte(b[:6]) != peerPrefix() {
		return PeerID{}, fmt.Errorf("%w: peer id %.40x: only ed25519 node keys are used here", ErrInvalid, b)
	}
	return PeerID(b[6:]), nil
}

// IsZero reports whether p names nobody.
func (p PeerID) IsZero() bool { return p == PeerID{} }

// String returns the base58 form, 12D3Koo….
func (p PeerID) String() string {
	n, mod, base := new(big.Int).SetBytes(p.Bytes()), new(big.Int), big.NewInt(58)
	var rev []byte
	for n.Sign() > 0 {
		n.DivMod(n, base, mod)
		rev = append(rev, base58Alphabet[mod.Int64()])
	}
	rev = append(rev, base58Alphabet[0]) // the one leading zero byte
	out := make([]byte, len(rev))
	for i, c := range rev {
		out[len(rev)-1-i] = c
	}
	return string(out)
}

// ParsePeerID reads the base58 form, 12D3Koo….
func ParsePeerID(s string) (PeerID, error) {
	if len(s) != 52 || s[0] != base58Alphabet[0] {
		return PeerID{}, fmt.Errorf("%w: peer id %.64q: it must look like 12D3Koo… (52 characters)", ErrInvalid, s)
	}
	n, base := new(big.Int), big.NewInt(58)
	for i := range len(s) {
		d := strings.IndexByte(base58Alphabet, s[i])
		if d < 0 {
			return PeerID{}, fmt.Errorf("%w: peer id %.64q: %q is not a base58 character", ErrInvalid, s, s[i])
		}
		n.Mul(n, base).Add(n, big.NewInt(int64(d)))
	}
	if n.BitLen() > 37*8 {
		return PeerID{}, fmt.Errorf("%w: peer id %.64q: too large", ErrInvalid, s)
	}
	return PeerIDFromBytes(n.FillBytes(make([]byte, 38)))
}

// MarshalText returns the base58 form.
func (p PeerID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the base58 form.
func (p *PeerID) UnmarshalText(b []byte) error {
	got, err := ParsePeerID(string(b))
	if err != nil {
		return err
	}
	*p = got
	return nil
}

// LeaseKey is the ed25519 public key that signs handshakes and receipts of one
// lease for its consumer.
type LeaseKey [32]byte

// String returns 64 lower-case hex digits.
func (k LeaseKey) String() string { return Hash(k).String() }

// MarshalText returns 64 lower-case hex digits.
func (k LeaseKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads 64 hex digits.
func (k *LeaseKey) UnmarshalText(b []byte) error { return decodeHex("lease key", k[:], b) }
