package sig

import (
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

	"github.com/limboid/massive-man/internal/beside"
)

// zip215 returns the rules under which every ed25519 signature is checked.
func zip215() *ed25519.Options {
	return &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}
}

// VerifyEd25519 reports whether sig is the ed25519 signature of msg by pub, a
// lease key or a node key, under ZIP-215. It never panics.
func VerifyEd25519(pub [Ed25519Size]byte, msg, sig []byte) bool {
	return len(sig) == SignatureSize && ed25519.VerifyWithOptions(pub[:], msg, sig, zip215())
}

// SignEd25519 returns the ed25519 signature of msg by the key with this seed,
// 64 bytes. It expands the seed each time: who signs often keeps a PrivateKey.
func SignEd25519(seed [SecretSize]byte, msg []byte) []byte {
	return ed25519.Sign(ed25519.NewKeyFromSeed(seed[:]), msg)
}

// BatchVerifier checks many signatures at once: from about four ed25519
// signatures on, it is faster than one by one. Its answers are those of
// PublicKey.Verify; secp256k1 signatures are checked when they are added. It
// keeps no reference to messages. One goroutine at a time may use it.
type BatchVerifier struct {
	batch *ed25519.BatchVerifier
	inEd  []int  // index of each ed25519 entry among all
	valid []bool // answers of the others
}

// NewBatchVerifier returns an empty batch with room for n signatures; it grows
// beyond them.
func NewBatchVerifier(n int) *BatchVerifier {
	return &BatchVerifier{
		// Tables of the public keys' multiples cost more than they save: each key is
		// used once.
		batch: ed25519.NewBatchVerifierWithCapacity(n).ForceNoPublicKeyExpansion(),
		inEd:  make([]int, 0, n),
		valid: make([]bool, 0, n),
	}
}

// Len returns how many signatures were added.
func (v *BatchVerifier) Len() int { return len(v.valid) }

// Add appends a signature to the batch.
func (v *BatchVerifier) Add(pub PublicKey, msg, sig []byte) {
	if pub.Type() != Ed25519 {
		v.valid = append(v.valid, pub.Verify(msg, sig))
		return
	}
	v.AddEd25519([Ed25519Size]byte(pub.key[:Ed25519Size]), msg, sig)
}

// AddEd25519 appends a signature of a lease key or node key to the batch.
func (v *BatchVerifier) AddEd25519(pub [Ed25519Size]byte, msg, sig []byte) {
	if len(sig) == SignatureSize { // others stay false, and do not spoil the batch
		v.inEd = append(v.inEd, len(v.valid))
		v.batch.AddWithOptions(pub[:], msg, sig, zip215())
	}
	v.valid = append(v.valid, false)
}

// Verify reports whether all signatures are valid, and which, in the order in
// which they were added. An empty batch is valid. The answer does not depend on
// the randomness that the batch equation takes, but with probability 2⁻¹²⁸.
// The caller owns the slice.
func (v *BatchVerifier) Verify() (bool, []bool) {
	out := make([]bool, len(v.valid))
	copy(out, v.valid)
	if len(v.inEd) > 0 {
		_, each := v.batch.Verify(nil)
		for i, at := range v.inEd {
			out[at] = each[i]
		}
	}
	for _, ok := range out {
		if !ok {
			return false, out
		}
	}
	return true, out
}

// VerifyBeside fills a batch of n signatures and verifies it on another processor, or
// in the call of the function that it returns when none was free. That one answers
// which are valid, in the order in which fill added them; it is to be called once, and
// the caller owns the slice. After a panic of fill or of the batch none counts as
// valid, so that who verifies those one by one meets it again.
func VerifyBeside(n int, fill func(*BatchVerifier)) (wait func() []bool) {
	return beside.Start(func() (valid []bool) {
		valid = make([]bool, n)
		defer func() { _ = recover() }() // told above
		batch := NewBatchVerifier(n)
		fill(batch)
		_, answers := batch.Verify()
		copy(valid, answers)
		return valid
	})
}
