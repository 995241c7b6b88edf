package tx

import (
	"bytes"
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

// beaconHead begins the system transaction of the beacon. Its first byte is no
// tag that a TxRaw has, so no decoder takes one for the other.
const beaconHead = "mman/beacon-tx/1\x00"

// BeaconSize is the length of the system transaction of the beacon.
const BeaconSize = len(beaconHead) + sig.VRFProofSize

// EncodeBeacon returns the system transaction that carries a proof of
// sig.VRFProofSize bytes. It has no signer and no fee; the proposer of a block
// puts it first.
func EncodeBeacon(proof []byte) []byte { return append([]byte(beaconHead), proof...) }

// IsBeacon reports whether the bytes claim to be the system transaction of the
// beacon.
func IsBeacon(raw []byte) bool { return bytes.HasPrefix(raw, []byte(beaconHead)) }

// DecodeBeacon returns the proof within a system transaction; ErrTxDecode. The
// result shares memory with raw.
func DecodeBeacon(raw []byte) (proof []byte, err error) {
	if !IsBeacon(raw) || len(raw) != BeaconSize {
		return nil, fmt.Errorf("%w: a beacon of %d bytes: it has %d and begins with %q", mman.ErrTxDecode, len(raw), BeaconSize, beaconHead)
	}
	return raw[len(beaconHead):], nil
}
