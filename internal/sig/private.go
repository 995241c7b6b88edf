package sig

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

	mman "github.com/limboid/massive-man"
)

// redacted stands for every secret in text.
const redacted = "[private key]"

// PrivateKey signs for an account or a session. The zero value is no key: it
// must not sign. It never prints its secret.
type PrivateKey struct {
	// A function, because fmt follows unexported fields, and for some verbs
	// pointers, without asking Format; of a function it prints the address.
	open func() *secret
}

type secret struct {
	pub   PublicKey
	bytes [SecretSize]byte
	ed    ed25519.PrivateKey    // for ed25519: expanded once
	secp  *secp256k1.PrivateKey // for secp256k1
}

// Generate makes a key from the randomness of r, which is crypto/rand's Reader
// outside tests. It fails when r does.
func Generate(t KeyType, r io.Reader) (PrivateKey, error) {
	if t.publicSize() == 0 {
		return PrivateKey{}, badKeyType(t)
	}
	var seed [SecretSize]byte
	for {
		if _, err := io.ReadFull(r, seed[:]); err != nil {
			return PrivateKey{}, fmt.Errorf("%w: make a %s key: read randomness: %w", mman.ErrInternal, t, err)
		}
		// All 32-byte strings but one in 2¹²⁸ are scalars of secp256k1.
		if t == Ed25519 || validScalar(seed) {
			return FromSeed(t, seed[:])
		}
	}
}

func validScalar(b [SecretSize]byte) bool {
	var k secp256k1.ModNScalar
	return k.SetBytes(&b) == 0 && !k.IsZero()
}

// FromSeed returns the key with a secret of 32 bytes: any bytes for ed25519
// (RFC 8032's seed), a big-endian number from 1 to the group's order − 1 for
// secp256k1; ErrInvalid for anything else. The slice is copied.
func FromSeed(t KeyType, seed []byte) (PrivateKey, error) {
	if t.publicSize() == 0 {
		return PrivateKey{}, badKeyType(t)
	}
	if len(seed) != SecretSize {
		return PrivateKey{}, fmt.Errorf("%w: %s secret of %d bytes: it has %d", mman.ErrInvalid, t, len(seed), SecretSize)
	}
	s := &secret{bytes: [SecretSize]byte(seed)}
	if t == Ed25519 {
		s.ed = ed25519.NewKeyFromSeed(seed)
		s.pub = Ed25519Key([Ed25519Size]byte(s.ed[SecretSize:]))
		return PrivateKey{func() *secret { return s }}, nil
	}
	if !validScalar(s.bytes) {
		return PrivateKey{}, fmt.Errorf("%w: %s secret: it is not between 1 and the group's order", mman.ErrInvalid, t)
	}
	s.secp = secp256k1.PrivKeyFromBytes(seed)
	s.pub.typ = Secp256k1
	copy(s.pub.key[:], s.secp.PubKey().SerializeCompressed())
	return PrivateKey{func() *secret { return s }}, nil
}

// IsZero reports whether k is no key.
func (k PrivateKey) IsZero() bool { return k.open == nil }

// Type returns the scheme, 0 for the zero key.
func (k PrivateKey) Type() KeyType { return k.Public().typ }

// Public returns the public half, the zero PublicKey for the zero key.
func (k PrivateKey) Public() PublicKey {
	if k.open == nil {
		return PublicKey{}
	}
	return k.open().pub
}

// Bytes returns the secret of 32 bytes, from which FromSeed makes the key
// again, or nil for the zero key. The caller owns the slice and keeps it
// secret.
func (k PrivateKey) Bytes() []byte {
	if k.open == nil {
		return nil
	}
	b := k.open().bytes
	return b[:]
}

// Sign returns the signature of msg, 64 bytes. It is deterministic. Calling it
// on the zero key is a programming error and panics.
func (k PrivateKey) Sign(msg []byte) []byte {
	if k.open == nil {
		panic("sig: sign with no key")
	}
	key := k.open()
	if key.ed != nil {
		return ed25519.Sign(key.ed, msg)
	}
	digest := sha256.Sum256(msg)
	signature := ecdsa.Sign(key.secp, digest[:]) // RFC 6979, low s
	r, s := signature.R(), signature.S()
	out := make([]byte, SignatureSize)
	r.PutBytesUnchecked(out[:32])
	s.PutBytesUnchecked(out[32:])
	return out
}

// String never returns the secret.
func (k PrivateKey) String() string { return redacted }

// Format never writes the secret, whatever the verb.
func (k PrivateKey) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, redacted) // fmt ignores a failed write, too
}

// LogValue never returns the secret.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText refuses: a secret leaves only through Bytes.
func (k PrivateKey) MarshalText() ([]byte, error) {
	return nil, fmt.Errorf("%w: a private key has no text form", mman.ErrDenied)
}
