package tx

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
)

// maxTagBytes is the length of the longest tag.
const maxTagBytes = 5

// reader reads the fields of one protobuf message strictly: the caller asks for
// them in ascending order, and what was not asked for makes end fail. The first
// error sticks; after it every read returns nothing.
type reader struct {
	what string // the message's name, for errors
	rest []byte
	err  error
}

func (r *reader) fail(num protowire.Number, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s, field %d: %s", mman.ErrTxDecode, r.what, num, fmt.Sprintf(format, args...))
	}
}

// has reports whether the next field is num with this wire type. A tag's one
// minimal form is compared, so a longer one is an unknown field.
func (r *reader) has(num protowire.Number, typ protowire.Type) bool {
	var buf [maxTagBytes]byte
	return r.err == nil && bytes.HasPrefix(r.rest, protowire.AppendTag(buf[:0], num, typ))
}

func (r *reader) skipTag(num protowire.Number) { r.rest = r.rest[protowire.SizeTag(num):] }

// varint reads a minimal varint at the start of the rest.
func (r *reader) varint(num protowire.Number) uint64 {
	v, n := protowire.ConsumeVarint(r.rest)
	switch {
	case n < 0:
		r.fail(num, "it breaks off in a number")
		return 0
	case n != protowire.SizeVarint(v):
		r.fail(num, "the number %d is not written in the fewest bytes", v)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// uint64 reads an optional number; absent means 0, and 0 must be absent.
func (r *reader) uint64(num protowire.Number) uint64 {
	if !r.has(num, protowire.VarintType) {
		return 0
	}
	r.skipTag(num)
	v := r.varint(num)
	if v == 0 {
		r.fail(num, "a 0 must be left out")
	}
	return v
}

// element reads a field of bytes that has says is there, at most limit long,
// and possibly empty: a sub-message or an element of a list.
func (r *reader) element(num protowire.Number, limit int) []byte {
	r.skipTag(num)
	size := r.varint(num)
	switch {
	case r.err != nil:
		return nil
	case size > uint64(len(r.rest)):
		r.fail(num, "%d bytes are announced, %d follow", size, len(r.rest))
		return nil
	case size > uint64(limit): //nolint:gosec // limits are positive constants
		r.fail(num, "%d bytes, at most %d are allowed", size, limit)
		return nil
	}
	b := r.rest[:size:size]
	r.rest = r.rest[size:]
	return b
}

// message reads a required sub-message, which may be empty.
func (r *reader) message(num protowire.Number, limit int) []byte {
	if !r.has(num, protowire.BytesType) {
		r.fail(num, "it is missing or not in ascending order")
		return nil
	}
	return r.element(num, limit)
}

// bytes reads optional bytes; absent means empty, and empty must be absent.
func (r *reader) bytes(num protowire.Number, limit int) []byte {
	if !r.has(num, protowire.BytesType) {
		return nil
	}
	b := r.element(num, limit)
	if len(b) == 0 {
		r.fail(num, "an empty value must be left out")
	}
	return b
}

// required reads bytes that may not be empty.
func (r *reader) required(num protowire.Number, limit int) []byte {
	b := r.bytes(num, limit)
	if len(b) == 0 {
		r.fail(num, "it is missing or not in ascending order")
	}
	return b
}

// fixed reads required bytes of one size.
func (r *reader) fixed(num protowire.Number, size int) []byte {
	b := r.required(num, size)
	if len(b) != size {
		r.fail(num, "%d bytes where %d are needed", len(b), size)
		return make([]byte, size) // callers convert it to an array
	}
	return b
}

// fixedElement reads an element of a list whose elements have one size.
func (r *reader) fixedElement(num protowire.Number, size int) []byte {
	b := r.element(num, size)
	if len(b) != size {
		r.fail(num, "an element of %d bytes where %d are needed", len(b), size)
		return make([]byte, size) // callers convert it to an array
	}
	return b
}

// text reads an optional string of at most limit bytes.
func (r *reader) text(num protowire.Number, limit int) string {
	b := r.bytes(num, limit)
	if !utf8.Valid(b) {
		r.fail(num, "it is not UTF-8")
		return ""
	}
	return string(b)
}

// address reads a required bech32 account address in its one form.
func (r *reader) address(num protowire.Number) mman.Address {
	return r.bech32(num, mman.ParseAddress)
}

// operator is address for the operator of a validator, manvaloper1….
func (r *reader) operator(num protowire.Number) mman.Address {
	return r.bech32(num, mman.ParseValidatorAddress)
}

// name reads a validator's name.
func (r *reader) name(num protowire.Number) string {
	b := r.required(num, MaxNameBytes)
	for _, c := range b {
		if c < ' ' || c > '~' {
			r.fail(num, "the name %q is not printable ASCII", b)
			return ""
		}
	}
	return string(b)
}

// commission reads a part in millionths.
func (r *reader) commission(num protowire.Number) uint64 {
	ppm := r.uint64(num)
	if ppm > million {
		r.fail(num, "a commission of %d millionths: at most %d are allowed", ppm, million)
	}
	return ppm
}

func (r *reader) bech32(num protowire.Number, parse func(string) (mman.Address, error)) mman.Address {
	b := r.required(num, maxAddressText)
	if r.err != nil {
		return mman.Address{}
	}
	for _, c := range b {
		if c >= 'A' && c <= 'Z' { // bech32 allows it, but an address has one form
			r.fail(num, "the address %q is not in lower case", b)
			return mman.Address{}
		}
	}
	a, err := parse(string(b))
	if err != nil {
		r.fail(num, "%v", err)
	}
	return a
}

// cid reads a required content id in its text form.
func (r *reader) cid(num protowire.Number) mman.CID {
	b := r.required(num, maxCIDText)
	if r.err != nil {
		return mman.CID{}
	}
	c, err := mman.ParseCID(string(b))
	if err != nil {
		r.fail(num, "%v", err)
	}
	return c
}

// coin reads a required list of exactly one positive coin in uman.
func (r *reader) coin(num protowire.Number) mman.Amount {
	sub := reader{what: r.what + " coin", rest: r.message(num, maxCoinBytes)}
	if r.err != nil {
		return 0
	}
	amount := sub.amount()
	if r.has(num, protowire.BytesType) {
		r.fail(num, "one coin is allowed, for there is only %s", mman.Denom)
	}
	if r.err == nil {
		r.err = sub.err
	}
	return amount
}

// amount reads the fields of a coin, and nothing else.
func (r *reader) amount() mman.Amount {
	if denom := r.required(1, maxCoinBytes); r.err == nil && string(denom) != mman.Denom {
		r.fail(1, "the denomination %q is not known, use %q", denom, mman.Denom)
	}
	digits := r.required(2, maxCoinBytes)
	if r.end() != nil {
		return 0
	}
	n, ok := parseDecimal(digits)
	if !ok {
		r.fail(2, "the amount %q is not a decimal number from 1 to 2⁶⁴−1 without leading zeros", digits)
		return 0
	}
	return mman.Amount(n)
}

// parseDecimal reads the one decimal form of a positive number.
func parseDecimal(digits []byte) (uint64, bool) {
	const maxDigits = 20
	if len(digits) == 0 || len(digits) > maxDigits || digits[0] == '0' {
		return 0, false
	}
	var n uint64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := uint64(c - '0')
		if n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// end reports the first error, or one when something was not read.
func (r *reader) end() error {
	if r.err != nil || len(r.rest) == 0 {
		return r.err
	}
	num, typ, n := protowire.ConsumeTag(r.rest)
	if n < 0 {
		r.err = fmt.Errorf("%w: %s: bytes that are no field: %.8x", mman.ErrTxDecode, r.what, r.rest)
		return r.err
	}
	r.fail(num, "it is unknown here, doubled, not in ascending order, or of the wrong wire type %d", typ)
	return r.err
}

// The writers append a field to b, and leave default values out.

func appendUint64(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return appendElement(b, num, v)
}

func appendText(b []byte, num protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), v)
}

// appendElement appends a sub-message or an element of a list, also when it is
// empty.
func appendElement(b []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

func appendCoin(b []byte, num protowire.Number, amount mman.Amount) []byte {
	if amount == 0 {
		return b
	}
	coin := appendText(nil, 1, mman.Denom)
	coin = appendText(coin, 2, strconv.FormatUint(uint64(amount), 10))
	return appendElement(b, num, coin)
}
