package mman

import (
	"errors"
	"strings"
)

// Bech32 as in BIP-173, the checksum constant 1, at most 90 characters.

const (
	bech32Charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	bech32Max     = 90
	bech32Sum     = 6
)

func bech32Polymod(values []byte) uint32 {
	generator := [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3}
	chk := uint32(1)
	for _, v := range values {
		top := chk >> 25
		chk = (chk&0x1ffffff)<<5 ^ uint32(v)
		for i, g := range generator {
			if top>>i&1 == 1 {
				chk ^= g
			}
		}
	}
	return chk
}

func bech32Expand(hrp string) []byte {
	out := make([]byte, 0, 2*len(hrp)+1)
	for i := range len(hrp) {
		out = append(out, hrp[i]>>5)
	}
	out = append(out, 0)
	for i := range len(hrp) {
		out = append(out, hrp[i]&31)
	}
	return out
}

// regroup turns groups of from bits into groups of to bits; pad fills the last
// group, otherwise left-over bits must be zero and fewer than from.
func regroup(data []byte, from, to uint, pad bool) ([]byte, error) {
	var acc uint32
	var n uint
	out := make([]byte, 0, len(data)*int(from)/int(to)+1)
	for _, v := range data {
		acc = acc<<from | uint32(v)
		n += from
		for n >= to {
			n -= to
			out = append(out, byte(acc>>n&0xff)&(1<<to-1))
		}
	}
	if pad {
		if n > 0 {
			out = append(out, byte(acc<<(to-n)&0xff)&(1<<to-1))
		}
		return out, nil
	}
	if n >= from || acc&(1<<n-1) != 0 {
		return nil, errors.New("its padding is not zero")
	}
	return out, nil
}

func encodeBech32(hrp string, data []byte) string {
	groups, err := regroup(data, 8, 5, true)
	if err != nil {
		return "" // cannot happen: padding never fails
	}
	values := append(bech32Expand(hrp), groups...)
	mod := bech32Polymod(append(values, make([]byte, bech32Sum)...)) ^ 1
	var b strings.Builder
	b.WriteString(hrp)
	b.WriteByte('1')
	for _, g := range groups {
		b.WriteByte(bech32Charset[g])
	}
	for i := range bech32Sum {
		b.WriteByte(bech32Charset[mod>>(5*(bech32Sum-1-i))&31])
	}
	return b.String()
}

func decodeBech32(s string) (hrp string, data []byte, err error) {
	if len(s) > bech32Max {
		return "", nil, errors.New("it is longer than 90 characters")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' }) {
		return "", nil, errors.New("it has a character that bech32 does not use")
	}
	if s != strings.ToLower(s) {
		if s != strings.ToUpper(s) {
			return "", nil, errors.New("it mixes upper and lower case")
		}
		s = strings.ToLower(s)
	}
	sep := strings.LastIndexByte(s, '1')
	if sep < 1 || len(s)-sep-1 < bech32Sum {
		return "", nil, errors.New("it is not a bech32 string")
	}
	hrp = s[:sep]
	groups := make([]byte, 0, len(s)-sep-1)
	for i := sep + 1; i < len(s); i++ {
		g := strings.IndexByte(bech32Charset, s[i])
		if g < 0 {
			return "", nil, errors.New("it has a character that bech32 does not use")
		}
		groups = append(groups, byte(g&31))
	}
	if bech32Polymod(append(bech32Expand(hrp), groups...)) != 1 {
		return "", nil, errors.New("its checksum is wrong, look for a typing error")
	}
	data, err = regroup(groups[:len(groups)-bech32Sum], 5, 8, false)
	return hrp, data, err
}
