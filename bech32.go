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

// bech32Values is the value of each ASCII character, 0xff for one that bech32 does
// not use. It is the inverse of bech32Charset.
const bech32Values = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\x0f\xff\x0a\x11\x15\x14\x1a\x1e\x07\x05\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\x1d\xff\x18\x0d\x19\x09\x08\x17\xff\x12\x16\x1f\x1b\x13\xff" +
	"\x01\x00\x03\x10\x0b\x1c\x0c\x0e\x06\x04\x02\xff\xff\xff\xff\xff"

// bech32Step takes one more value into the checksum, without a branch: every
// transaction's addresses go through it.
func bech32Step(chk uint32, v byte) uint32 {
	top := chk >> 25
	chk = (chk&0x1ffffff)<<5 ^ uint32(v)
	chk ^= 0x3b6a57b2 & -(top & 1)
	chk ^= 0x26508e6d & -(top >> 1 & 1)
	chk ^= 0x1ea119fa & -(top >> 2 & 1)
	chk ^= 0x3d4233dd & -(top >> 3 & 1)
	return chk ^ 0x2a1462b3&-(top>>4&1)
}

// bech32Start is the checksum of what stands before the separator.
func bech32Start(hrp string) uint32 {
	chk := uint32(1)
	for i := range len(hrp) {
		chk = bech32Step(chk, hrp[i]>>5)
	}
	chk = bech32Step(chk, 0)
	for i := range len(hrp) {
		chk = bech32Step(chk, hrp[i]&31)
	}
	return chk
}

// regroup appends groups of from bits to out as groups of to bits; pad fills the last
// group, otherwise left-over bits must be zero and fewer than from.
func regroup(out, data []byte, from, to uint, pad bool) ([]byte, error) {
	var acc uint32
	var n uint
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
	var fives, room [bech32Max]byte
	groups, err := regroup(fives[:0], data, 8, 5, true)
	if err != nil {
		return "" // cannot happen: padding never fails
	}
	out := append(append(room[:0], hrp...), '1')
	chk := bech32Start(hrp)
	for _, g := range groups {
		chk = bech32Step(chk, g)
		out = append(out, bech32Charset[g&31])
	}
	for range bech32Sum {
		chk = bech32Step(chk, 0)
	}
	chk ^= 1
	for i := range bech32Sum {
		out = append(out, bech32Charset[chk>>(5*(bech32Sum-1-i))&31])
	}
	return string(out)
}

func decodeBech32(s string) (hrp string, data []byte, err error) {
	if s, err = bech32Lower(s); err != nil {
		return "", nil, err
	}
	sep := strings.LastIndexByte(s, '1')
	if sep < 1 || len(s)-sep-1 < bech32Sum {
		return "", nil, errors.New("it is not a bech32 string")
	}
	hrp = s[:sep]
	var room [bech32Max]byte
	groups, chk := room[:0], bech32Start(hrp)
	for i := sep + 1; i < len(s); i++ {
		g := bech32Values[s[i]&127]
		if g > 31 {
			return "", nil, errors.New("it has a character that bech32 does not use")
		}
		groups, chk = append(groups, g), bech32Step(chk, g)
	}
	if chk != 1 {
		return "", nil, errors.New("its checksum is wrong, look for a typing error")
	}
	groups = groups[:len(groups)-bech32Sum]
	data, err = regroup(make([]byte, 0, len(groups)*5/8), groups, 5, 8, false)
	return hrp, data, err
}

// bech32Lower returns the string in lower case, or why it cannot be bech32.
func bech32Lower(s string) (string, error) {
	if len(s) > bech32Max {
		return "", errors.New("it is longer than 90 characters")
	}
	var upper, lower bool
	for i := range len(s) {
		switch c := s[i]; {
		case c < '!' || c > '~':
			return "", errors.New("it has a character that bech32 does not use")
		case 'A' <= c && c <= 'Z':
			upper = true
		case 'a' <= c && c <= 'z':
			lower = true
		default:
		}
	}
	switch {
	case upper && lower:
		return "", errors.New("it mixes upper and lower case")
	case upper:
		return strings.ToLower(s), nil
	default:
		return s, nil
	}
}
