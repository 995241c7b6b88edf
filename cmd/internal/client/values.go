package client

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	mman "github.com/limboid/massive-man"
)

// money is the value of a flag for an amount.
type money mman.Amount

// String returns the amount as it is typed.
func (m *money) String() string { return mman.Amount(*m).String() }

// Set reads 5MAN, 0.25MAN or 250000uman.
func (m *money) Set(s string) error {
	v, err := mman.ParseAmount(s)
	*m = money(v)
	return err
}

// Type names the value in help.
func (*money) Type() string { return "amount" }

// seed is the value of a flag for a run's randomness.
type seed struct {
	text string
	hash mman.Hash
}

// String returns what was typed.
func (s *seed) String() string { return s.text }

// Set reads 64 hex digits as they are, or a decimal number, which stands for
// the SHA-256 of its digits.
func (s *seed) Set(text string) error {
	var h mman.Hash
	if len(text) == 2*len(h) {
		if err := h.UnmarshalText([]byte(strings.ToLower(text))); err != nil {
			return err
		}
		*s = seed{text, h}
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return errors.New("write a decimal number below 2⁶⁴ or 64 hex digits")
	}
	*s = seed{text, mman.Sum256([]byte(strconv.FormatUint(n, 10)))}
	return nil
}

// Type names the value in help.
func (*seed) Type() string { return "number|hex" }

// size is the value of a flag for a number of bytes.
type size uint64

const binary = 1024

// String returns the size as it is typed.
func (s *size) String() string { return sizeText(uint64(*s)) }

// sizeText writes a size in the largest binary unit that is exact.
func sizeText(n uint64) string {
	units, u := []string{"B", "KiB", "MiB", "GiB"}, 0
	for n > 0 && n%binary == 0 && u < len(units)-1 {
		n, u = n/binary, u+1
	}
	return strconv.FormatUint(n, 10) + units[u]
}

// Set reads a whole number with B, KB, MB, GB, KiB, MiB, GiB, or of bytes.
func (s *size) Set(text string) error {
	digits := strings.TrimRight(text, "BKMGi")
	scale, ok := map[string]uint64{
		"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	}[text[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || !ok {
		return errors.New("write a size as 64MiB, 1GiB or 500KB")
	}
	if n > 1<<62/scale {
		return fmt.Errorf("%s is beyond all bounds", text)
	}
	*s = size(n * scale)
	return nil
}

// Type names the value in help.
func (*size) Type() string { return "size" }
