package mman

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// Amount is a sum of money in uman, the smallest unit: 1 MAN = 10⁶ uman.
// Arithmetic on amounts is checked; genesis keeps every reachable sum at or
// below MaxSupply.
type Amount uint64

// Units of money.
const (
	UMan Amount = 1
	MAN  Amount = 1_000_000

	// MaxSupply is the largest total supply that a genesis may declare,
	// 2⁵³−1 uman, so that every amount is exact in a JSON number.
	MaxSupply Amount = 1<<53 - 1
)

// Denom is the name of the smallest unit, as wallets know it.
const Denom = "uman"

// Add returns a+b, or ErrOverflow.
func (a Amount) Add(b Amount) (Amount, error) {
	sum, carry := bits.Add64(uint64(a), uint64(b), 0)
	if carry != 0 {
		return 0, fmt.Errorf("%w: %d + %d uman", ErrOverflow, uint64(a), uint64(b))
	}
	return Amount(sum), nil
}

// Sub returns a−b, or ErrOverflow when b is larger than a.
func (a Amount) Sub(b Amount) (Amount, error) {
	if b > a {
		return 0, fmt.Errorf("%w: %d - %d uman", ErrOverflow, uint64(a), uint64(b))
	}
	return a - b, nil
}

// Min returns the smaller of a and b.
func (a Amount) Min(b Amount) Amount { return min(a, b) }

// MulDivFloor returns ⌊a·num/den⌋ with a 128-bit product, or ErrOverflow when
// the quotient does not fit or den is 0.
func (a Amount) MulDivFloor(num, den uint64) (Amount, error) {
	q, _, err := mulDiv(uint64(a), num, den)
	return Amount(q), err
}

// MulDivCeil returns ⌈a·num/den⌉ with a 128-bit product, or ErrOverflow when
// the quotient does not fit or den is 0.
func (a Amount) MulDivCeil(num, den uint64) (Amount, error) {
	q, r, err := mulDiv(uint64(a), num, den)
	if err != nil || r == 0 {
		return Amount(q), err
	}
	return Amount(q).Add(1)
}

// MulDivRem returns ⌊a·num/den⌋ and the remainder, with a 128-bit product, or
// ErrOverflow as MulDivFloor does.
func (a Amount) MulDivRem(num, den uint64) (quo Amount, rem uint64, err error) {
	q, r, err := mulDiv(uint64(a), num, den)
	return Amount(q), r, err
}

func mulDiv(a, num, den uint64) (quo, rem uint64, err error) {
	hi, lo := bits.Mul64(a, num)
	if den == 0 || hi >= den {
		return 0, 0, fmt.Errorf("%w: %d * %d / %d", ErrOverflow, a, num, den)
	}
	quo, rem = bits.Div64(hi, lo, den)
	return quo, rem, nil
}

// String writes the amount in MAN when that is exact to the last digit shown,
// for example "5MAN", "0.25MAN"; amounts below 0.000001MAN do not exist.
func (a Amount) String() string {
	whole, frac := uint64(a/MAN), uint64(a%MAN)
	if frac == 0 {
		return fmt.Sprintf("%dMAN", whole)
	}
	return strings.TrimRight(fmt.Sprintf("%d.%06d", whole, frac), "0") + "MAN"
}

// ParseAmount reads "5MAN", "0.25MAN" or "250000uman". A unit is required, so
// that nobody pays a million times what was meant.
func ParseAmount(s string) (Amount, error) {
	switch {
	case strings.HasSuffix(s, "uman"):
		n, err := parseDigits(strings.TrimSuffix(s, "uman"))
		if err != nil {
			return 0, badAmount(s, err)
		}
		return Amount(n), nil
	case strings.HasSuffix(s, "MAN"):
		whole, frac, dot := strings.Cut(strings.TrimSuffix(s, "MAN"), ".")
		if dot && (frac == "" || len(frac) > 6) {
			return 0, badAmount(s, errors.New("one to six digits must follow the point"))
		}
		w, err := parseDigits(whole)
		if err != nil {
			return 0, badAmount(s, err)
		}
		f, err := parseDigits(frac + "000000"[len(frac):])
		if err != nil {
			return 0, badAmount(s, err)
		}
		scaled, err := Amount(w).MulDivFloor(uint64(MAN), 1)
		if err != nil {
			return 0, badAmount(s, err)
		}
		return scaled.Add(Amount(f))
	}
	return 0, badAmount(s, errors.New(`it must end in "MAN" or "uman"`))
}

func parseDigits(s string) (uint64, error) {
	if s == "" || len(s) > 19 {
		return 0, errors.New("1 to 19 digits are needed")
	}
	var n uint64
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%q is not a digit", c)
		}
		n = n*10 + uint64(c-'0')
	}
	return n, nil
}

func badAmount(s string, why error) error {
	return fmt.Errorf("%w: amount %.40q: %w (write 5MAN, 0.25MAN or 250000uman)", ErrInvalid, s, why)
}
