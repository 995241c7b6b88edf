// Package dagcbor is the strict DAG-CBOR codec under every signed or stored
// object: manifests, policies, offers, requests, statements, receipts, session
// frames and chain records.
//
// It accepts exactly one encoding of each value: definite lengths, shortest
// integers, text keys sorted shorter first, no unknown or doubled keys, no null,
// no floats, no tags but the CID link, nothing after the value. Decoding ends
// with an encoding that must equal the input, so two nodes can never read
// different objects behind one CID. Encoding refuses what decoding would.
//
// Types use `cbor:"name"` field tags, integers, strings, bools, byte strings,
// slices and structs; mman.CID is a link.
package dagcbor

import (
	"bytes"
	"fmt"
	"reflect"
	"sync"

	"github.com/fxamacker/cbor/v2"

	mman "github.com/limboid/massive-man"
)

const (
	// MaxDepth bounds the nesting of a value.
	MaxDepth = 16
	// maxItems bounds the elements of one array and the pairs of one map.
	maxItems = 1 << 16
)

type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

//nolint:gochecknoglobals // two immutable modes, built once: building them costs more than a decode
var modes = sync.OnceValue(func() codec {
	enc, err := cbor.EncOptions{
		Sort:          cbor.SortLengthFirst,
		IndefLength:   cbor.IndefLengthForbidden,
		NilContainers: cbor.NilContainerAsEmpty,
		ShortestFloat: cbor.ShortestFloatNone,
	}.EncMode()
	if err != nil {
		panic(fmt.Sprintf("dagcbor: encoder options: %v", err)) // constants: cannot fail
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   MaxDepth,
		MaxArrayElements:  maxItems,
		MaxMapPairs:       maxItems,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic(fmt.Sprintf("dagcbor: decoder options: %v", err)) // constants: cannot fail
	}
	return codec{enc, dec}
})

// Marshal returns the one encoding of v. It fails for what cannot be read back:
// text that is not UTF-8, a nil pointer or a zero CID that is not left out
// (omitempty, omitzero), nesting below MaxDepth, lists of more than 65,536
// elements, and types that objects may not have (floats, keys other than text).
func Marshal(v any) ([]byte, error) {
	b, err := modes().enc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: encode %T: %w", mman.ErrInvalid, v, err)
	}
	if err := checkForm(b); err != nil {
		return nil, fmt.Errorf("%w: encode %T: %w", mman.ErrInvalid, v, err)
	}
	return b, nil
}

// UnmarshalOwn is Unmarshal for bytes that Marshal made: it does not look whether
// they are the one encoding of what they say.
func UnmarshalOwn[T any](b []byte) (v T, err error) {
	if err := modes().dec.Unmarshal(b, &v); err != nil {
		var zero T
		return zero, fmt.Errorf("%w: decode %s: %w", mman.ErrInvalid, reflect.TypeFor[T](), err)
	}
	return v, nil
}

// Unmarshal reads the one encoding of a T of at most limit bytes. The result
// shares no memory with b; it is zero when there is an error.
func Unmarshal[T any](b []byte, limit int) (T, error) {
	var v, zero T
	if len(b) > limit {
		return zero, fmt.Errorf("%w: %d bytes where at most %d are allowed", mman.ErrTooLarge, len(b), limit)
	}
	if err := checkForm(b); err != nil {
		return zero, fmt.Errorf("%w: decode %s: %w", mman.ErrInvalid, reflect.TypeFor[T](), err)
	}
	if err := modes().dec.Unmarshal(b, &v); err != nil {
		return zero, fmt.Errorf("%w: decode %s: %w", mman.ErrInvalid, reflect.TypeFor[T](), err)
	}
	again, err := Marshal(v)
	if err != nil {
		return zero, err
	}
	if !bytes.Equal(again, b) {
		return zero, fmt.Errorf("%w: decode %s: not the canonical encoding", mman.ErrInvalid, reflect.TypeFor[T]())
	}
	return v, nil
}
