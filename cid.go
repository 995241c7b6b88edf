package mman

import (
	"encoding/base32"
	"errors"
	"fmt"
)

// Codec says how the bytes behind a CID are to be read.
type Codec byte

// The codecs that the network uses (multicodec table).
const (
	CodecRaw     Codec = 0x55
	CodecDagPB   Codec = 0x70
	CodecDagCBOR Codec = 0x71
)

// CIDSize is the length of a CID's binary form in bytes.
const CIDSize = 36

// CID is a content id: version 1, SHA-256, one of the three codecs above. The
// zero value names nothing. It is a comparable value of fixed size, so that it
// can be a map key and can never smuggle in a foreign or identity hash.
type CID struct {
	codec  Codec
	digest Hash
}

// NewCID returns the CID with the given codec and SHA-256 digest.
func NewCID(codec Codec, digest Hash) CID { return CID{codec, digest} }

// SumCID returns the CID of data under the given codec.
func SumCID(codec Codec, data []byte) CID { return CID{codec, Sum256(data)} }

// Codec returns how the content is encoded.
func (c CID) Codec() Codec { return c.codec }

// Digest returns the SHA-256 digest of the content.
func (c CID) Digest() Hash { return c.digest }

// IsZero reports whether c names nothing.
func (c CID) IsZero() bool { return c == CID{} }

// Bytes returns the 36-byte binary form. The caller owns the slice.
func (c CID) Bytes() []byte {
	return append([]byte{0x01, byte(c.codec), 0x12, 0x20}, c.digest[:]...)
}

var errCIDForm = errors.New("only CIDv1 with SHA-256 and codec raw, dag-pb or dag-cbor is used here")

// CIDFromBytes reads the binary form; nothing may follow it.
func CIDFromBytes(b []byte) (CID, error) {
	if len(b) != CIDSize || b[0] != 0x01 || b[2] != 0x12 || b[3] != 0x20 {
		return CID{}, fmt.Errorf("%w: cid %.40x: %w", ErrInvalid, b, errCIDForm)
	}
	switch codec := Codec(b[1]); codec {
	case CodecRaw, CodecDagPB, CodecDagCBOR:
		return CID{codec, Hash(b[4:])}, nil
	default:
		return CID{}, fmt.Errorf("%w: cid %.40x: %w", ErrInvalid, b, errCIDForm)
	}
}

func cidText() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// String returns the multibase base32 form, baf…, or "" for the zero CID.
func (c CID) String() string {
	if c.IsZero() {
		return ""
	}
	return "b" + cidText().EncodeToString(c.Bytes())
}

// ParseCID reads the multibase base32 form, baf….
func ParseCID(s string) (CID, error) {
	if len(s) != 59 || s[0] != 'b' {
		return CID{}, fmt.Errorf("%w: cid %.64q: %w", ErrInvalid, s, errCIDForm)
	}
	b, err := cidText().DecodeString(s[1:])
	if err != nil {
		return CID{}, fmt.Errorf("%w: cid %.64q: %w", ErrInvalid, s, err)
	}
	c, err := CIDFromBytes(b)
	if err != nil {
		return CID{}, err
	}
	if c.String() != s { // left-over bits of the last character
		return CID{}, fmt.Errorf("%w: cid %.64q: it is not in canonical form", ErrInvalid, s)
	}
	return c, nil
}

// MarshalText returns the multibase base32 form.
func (c CID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the multibase base32 form; "" is the zero CID.
func (c *CID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*c = CID{}
		return nil
	}
	got, err := ParseCID(string(b))
	if err != nil {
		return err
	}
	*c = got
	return nil
}

// cidCBOR is the head of a DAG-CBOR link to a CID of ours: tag 42, a byte
// string of 37 bytes, the identity multibase prefix.
func cidCBOR() [5]byte { return [5]byte{0xd8, 0x2a, 0x58, 0x25, 0x00} }

// MarshalCBOR returns the DAG-CBOR link.
func (c CID) MarshalCBOR() ([]byte, error) {
	if c.IsZero() {
		return nil, fmt.Errorf("%w: a link that names nothing cannot be encoded", ErrInvalid)
	}
	head := cidCBOR()
	return append(head[:], c.Bytes()...), nil
}

// UnmarshalCBOR reads a DAG-CBOR link.
func (c *CID) UnmarshalCBOR(b []byte) error {
	head := cidCBOR()
	if len(b) != len(head)+CIDSize || [5]byte(b[:5]) != head {
		return fmt.Errorf("%w: not a link: %w", ErrInvalid, errCIDForm)
	}
	got, err := CIDFromBytes(b[len(head):])
	if err != nil {
		return err
	}
	*c = got
	return nil
}
