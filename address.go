package mman

import (
	"fmt"
)

// Human-readable parts of bech32 addresses.
const (
	AccountHRP   = "man"
	ValidatorHRP = "manvaloper"
)

// AddressSize is the length of an Address in bytes.
const AddressSize = 20

// Address names an account: 20 bytes derived from its public key.
type Address [AddressSize]byte

// String returns the bech32 form, man1….
func (a Address) String() string { return encodeBech32(AccountHRP, a[:]) }

// ValidatorString returns the bech32 form that names a validator's operator,
// manvaloper1….
func (a Address) ValidatorString() string { return encodeBech32(ValidatorHRP, a[:]) }

// IsZero reports whether a is the zero address, which no key has.
func (a Address) IsZero() bool { return a == Address{} }

// MarshalText returns the bech32 form.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the bech32 form.
func (a *Address) UnmarshalText(b []byte) error {
	got, err := ParseAddress(string(b))
	if err != nil {
		return err
	}
	*a = got
	return nil
}

// ParseAddress reads a bech32 account address, man1….
func ParseAddress(s string) (Address, error) { return parseAddress(AccountHRP, s) }

// ParseValidatorAddress reads a bech32 operator address, manvaloper1….
func ParseValidatorAddress(s string) (Address, error) { return parseAddress(ValidatorHRP, s) }

func parseAddress(wantHRP, s string) (Address, error) {
	var a Address
	hrp, data, err := decodeBech32(s)
	switch {
	case err != nil:
		return a, fmt.Errorf("%w: address %.64q: %w", ErrInvalid, s, err)
	case hrp != wantHRP:
		return a, fmt.Errorf("%w: address %.64q: it starts with %q, not with %q", ErrInvalid, s, hrp, wantHRP)
	case len(data) != AddressSize:
		return a, fmt.Errorf("%w: address %.64q: it holds %d bytes, not %d", ErrInvalid, s, len(data), AddressSize)
	}
	copy(a[:], data)
	return a, nil
}
