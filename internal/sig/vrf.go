package sig

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/ecvrf"

	mman "github.com/limboid/massive-man"
)

// Sizes of verifiable random functions in bytes.
const (
	// VRFProofSize is the length of a proof.
	VRFProofSize = ecvrf.ProofSize
	// VRFOutputSize is the length of the randomness that a proof carries.
	VRFOutputSize = ecvrf.OutputSize
)

// VRFKey is the secret of a verifiable random function, suite
// ECVRF-EDWARDS25519-SHA512-ELL2: for each input it has one output, which
// nobody knows without it and everybody can check. The zero value is no key. It
// never prints its secret.
type VRFKey struct {
	open func() ed25519.PrivateKey // as in PrivateKey
}

// DeriveVRF returns the key of the randomness that the holder of an ed25519 key
// makes: its seed is SHA-256 of "mman/vrf/1", a zero byte and the key's seed. So
// one secret is kept, and neither key says anything of the other. A key of
// another type is ErrInvalid.
func DeriveVRF(key PrivateKey) (VRFKey, error) {
	if key.IsZero() || key.Type() != Ed25519 {
		return VRFKey{}, fmt.Errorf("%w: randomness is made with a key that an ed25519 key gives", mman.ErrInvalid)
	}
	h := sha256.New()
	h.Write([]byte("mman/vrf/1\x00"))
	secret := key.open().bytes
	h.Write(secret[:])
	expanded := ed25519.NewKeyFromSeed(h.Sum(nil))
	return VRFKey{func() ed25519.PrivateKey { return expanded }}, nil
}

// IsZero reports whether k is no key.
func (k VRFKey) IsZero() bool { return k.open == nil }

// Public returns the public half.
func (k VRFKey) Public() (pub [Ed25519Size]byte) {
	copy(pub[:], k.open()[SecretSize:])
	return pub
}

// Prove returns the proof of VRFProofSize bytes for the input. The same input
// gives the same proof.
func (k VRFKey) Prove(input []byte) []byte { return ecvrf.Prove(k.open(), input) }

// Format never writes the secret, whatever the verb.
func (k VRFKey) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, redacted) // fmt ignores a failed write, too
}

// LogValue never returns the secret.
func (k VRFKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// VerifyVRF reports whether the proof is that of the key for the input, and
// returns its randomness. It never panics.
func VerifyVRF(pub [Ed25519Size]byte, input, proof []byte) (output [VRFOutputSize]byte, ok bool) {
	ok, out := ecvrf.Verify(pub[:], proof, input)
	if ok {
		copy(output[:], out)
	}
	return output, ok
}

// ValidVRFKey reports whether proofs by the key can verify: it is the canonical
// form of a point that is not of small order.
func ValidVRFKey(pub [Ed25519Size]byte) bool {
	var y curve.CompressedEdwardsY
	var p curve.EdwardsPoint
	if _, err := y.SetBytes(pub[:]); err != nil || !y.IsCanonicalVartime() {
		return false
	}
	_, err := p.SetCompressedY(&y)
	return err == nil && !p.IsSmallOrder()
}
