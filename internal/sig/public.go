package sig

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/ripemd160" //nolint:gosec,staticcheck // Cosmos addresses of secp256k1 keys are defined with it

	mman "github.com/limboid/massive-man"
)

// KeyType says to which signature scheme a key belongs.
type KeyType uint8

// The two schemes. The numbers are part of the binary form of a PublicKey.
const (
	Ed25519   KeyType = 1 // the default
	Secp256k1 KeyType = 2 // for wallets
)

// Sizes in bytes.
const (
	// Ed25519Size is the length of an ed25519 public key.
	Ed25519Size = 32
	// Secp256k1Size is the length of a compressed secp256k1 public key.
	Secp256k1Size = 33
	// SecretSize is the length of a private key's secret: an ed25519 seed or
	// a secp256k1 scalar.
	SecretSize = 32
	// SignatureSize is the length of a signature of either scheme.
	SignatureSize = 64
)

// The names of the schemes in text.
const (
	ed25519Name   = "ed25519"
	secp256k1Name = "secp256k1"
)

// String returns "ed25519" or "secp256k1".
func (t KeyType) String() string {
	switch t {
	case Ed25519:
		return ed25519Name
	case Secp256k1:
		return secp256k1Name
	default:
		return fmt.Sprintf("unknown key type %d", uint8(t))
	}
}

// MarshalText returns "ed25519" or "secp256k1"; ErrInvalid for anything else.
func (t KeyType) MarshalText() ([]byte, error) {
	if t.publicSize() == 0 {
		return nil, badKeyType(t)
	}
	return []byte(t.String()), nil
}

// UnmarshalText reads "ed25519" or "secp256k1".
func (t *KeyType) UnmarshalText(b []byte) error {
	got, err := ParseKeyType(string(b))
	if err != nil {
		return err
	}
	*t = got
	return nil
}

// publicSize returns the length of a public key in bytes, 0 for no scheme.
func (t KeyType) publicSize() int {
	switch t {
	case Ed25519:
		return Ed25519Size
	case Secp256k1:
		return Secp256k1Size
	default:
		return 0
	}
}

func badKeyType(t KeyType) error {
	return fmt.Errorf("%w: key type %d: only %d (%s) and %d (%s) exist",
		mman.ErrInvalid, uint8(t), uint8(Ed25519), ed25519Name, uint8(Secp256k1), secp256k1Name)
}

// ParseKeyType reads "ed25519" or "secp256k1"; ErrInvalid for anything else.
func ParseKeyType(s string) (KeyType, error) {
	switch s {
	case ed25519Name:
		return Ed25519, nil
	case secp256k1Name:
		return Secp256k1, nil
	default:
		return 0, fmt.Errorf("%w: key type %.32q: use %q or %q", mman.ErrInvalid, s, ed25519Name, secp256k1Name)
	}
}

// PublicKey is the public half of an account or session key. It is a
// comparable value; the zero value is no key, verifies nothing, and cannot be
// encoded.
type PublicKey struct {
	typ KeyType
	key [Secp256k1Size]byte // an ed25519 key leaves the last byte 0
}

// NewPublicKey reads a public key: 32 bytes for ed25519, 33 compressed bytes of
// a point on the curve for secp256k1; ErrInvalid for anything else. An ed25519
// key that is no point is accepted and verifies nothing. The slice is copied.
func NewPublicKey(t KeyType, key []byte) (PublicKey, error) {
	size := t.publicSize()
	if size == 0 {
		return PublicKey{}, badKeyType(t)
	}
	if len(key) != size {
		return PublicKey{}, fmt.Errorf("%w: %s public key %.40x of %d bytes: it has %d", mman.ErrInvalid, t, key, len(key), size)
	}
	if t == Secp256k1 {
		if _, err := secp256k1.ParsePubKey(key); err != nil {
			return PublicKey{}, fmt.Errorf("%w: %s public key %x: %w", mman.ErrInvalid, t, key, err)
		}
	}
	p := PublicKey{typ: t}
	copy(p.key[:], key)
	return p, nil
}

// Ed25519Key returns the PublicKey of a raw ed25519 key, for example an
// mman.PeerID.
func Ed25519Key(key [Ed25519Size]byte) PublicKey {
	p := PublicKey{typ: Ed25519}
	copy(p.key[:], key[:])
	return p
}

// Type returns the scheme, 0 for the zero key.
func (p PublicKey) Type() KeyType { return p.typ }

// Bytes returns the key without its type: 32 or 33 bytes, none for the zero
// key. The caller owns the slice.
func (p PublicKey) Bytes() []byte { return p.key[:p.typ.publicSize()] }

// IsZero reports whether p is no key.
func (p PublicKey) IsZero() bool { return p == PublicKey{} }

// Address returns the account of the key: the first 20 bytes of SHA-256(key)
// for ed25519, RIPEMD-160(SHA-256(key)) for secp256k1, as in Cosmos chains. The
// zero key has the zero address.
func (p PublicKey) Address() mman.Address {
	sum := sha256.Sum256(p.Bytes())
	switch p.typ {
	case Ed25519:
		return mman.Address(sum[:mman.AddressSize])
	case Secp256k1:
		h := ripemd160.New() //nolint:gosec // see the import
		h.Write(sum[:])
		return mman.Address(h.Sum(nil))
	default:
		return mman.Address{}
	}
}

// Verify reports whether sig is p's signature of msg.
func (p PublicKey) Verify(msg, sig []byte) bool {
	switch p.typ {
	case Ed25519:
		return VerifyEd25519([Ed25519Size]byte(p.key[:Ed25519Size]), msg, sig)
	case Secp256k1:
		return verifySecp256k1(p.key, msg, sig)
	default:
		return false
	}
}

func verifySecp256k1(key [Secp256k1Size]byte, msg, sig []byte) bool {
	if len(sig) != SignatureSize {
		return false
	}
	pub, err := secp256k1.ParsePubKey(key[:])
	if err != nil {
		return false
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || s.IsOverHalfOrder() {
		return false
	}
	digest := sha256.Sum256(msg)
	return ecdsa.NewSignature(&r, &s).Verify(digest[:], pub)
}

// String returns the text form, "ed25519:" or "secp256k1:" and lower-case hex
// digits, "" for the zero key.
func (p PublicKey) String() string {
	if p.IsZero() {
		return ""
	}
	return p.typ.String() + ":" + hex.EncodeToString(p.Bytes())
}

// ParsePublicKey reads the text form; it accepts what String writes and nothing
// else, so not the empty string either.
func ParsePublicKey(s string) (PublicKey, error) {
	name, digits, _ := strings.Cut(s, ":")
	t, err := ParseKeyType(name)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key %.80q: %w", s, err)
	}
	if len(digits) != 2*t.publicSize() || strings.ToLower(digits) != digits {
		return PublicKey{}, fmt.Errorf("%w: public key %.80q: %d lower-case hex digits follow the colon", mman.ErrInvalid, s, 2*t.publicSize())
	}
	key, err := hex.DecodeString(digits)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: public key %.80q: %w", mman.ErrInvalid, s, err)
	}
	return NewPublicKey(t, key)
}

// MarshalText returns the text form.
func (p PublicKey) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the text form; "" is the zero key.
func (p *PublicKey) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*p = PublicKey{}
		return nil
	}
	got, err := ParsePublicKey(string(b))
	if err != nil {
		return err
	}
	*p = got
	return nil
}

// cborBytes is the head of a CBOR byte string whose length fits in one byte and
// is above 23.
const cborBytes = 0x58

// MarshalCBOR returns the DAG-CBOR form: a byte string of the type's number
// and the key. The zero key has none: mark an optional field omitzero.
func (p PublicKey) MarshalCBOR() ([]byte, error) {
	size := p.typ.publicSize()
	if size == 0 {
		return nil, fmt.Errorf("%w: a public key that is none cannot be encoded", mman.ErrInvalid)
	}
	return append([]byte{cborBytes, byte(1 + size), byte(p.typ)}, p.key[:size]...), nil //nolint:gosec // at most 34
}

// UnmarshalCBOR reads the DAG-CBOR form.
func (p *PublicKey) UnmarshalCBOR(b []byte) error {
	if len(b) < 3 || b[0] != cborBytes || int(b[1]) != len(b)-2 {
		return fmt.Errorf("%w: public key %.40x: a byte string of type and key is needed", mman.ErrInvalid, b)
	}
	got, err := NewPublicKey(KeyType(b[2]), b[3:])
	if err != nil {
		return err
	}
	*p = got
	return nil
}
