package dagcbor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Major types of RFC 8949.
const (
	majorUint = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

const (
	tagLink     = 42
	simpleFalse = 20
	simpleTrue  = 21
)

// checkForm reports how b is not one value in canonical form. It looks at bytes
// alone, so it holds for every Go type, also for one that could carry more than
// objects of ours may: floats, null, keys that are no text.
func checkForm(b []byte) error {
	rest, err := skipValue(b, 0)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes follow the value", len(rest))
	}
	return nil
}

// skipValue checks the first value of b, which is inside depth arrays, maps and
// links, and returns what follows it.
func skipValue(b []byte, depth int) ([]byte, error) {
	major, n, rest, err := readHead(b)
	if err != nil {
		return nil, err
	}
	if depth == MaxDepth && (major == majorArray || major == majorMap || major == majorTag) {
		return nil, fmt.Errorf("nested deeper than %d levels", MaxDepth)
	}
	switch major {
	case majorUint, majorNegative:
		return rest, nil
	case majorBytes, majorText:
		_, rest, err = readString(major, n, rest)
		return rest, err
	case majorArray:
		return skipArray(n, rest, depth)
	case majorMap:
		return skipMap(n, rest, depth)
	case majorTag:
		if n != tagLink || len(rest) == 0 || rest[0]>>5 != majorBytes {
			return nil, fmt.Errorf("tag %d: only a link, tag %d on bytes, is allowed", n, tagLink)
		}
		return skipValue(rest, depth+1)
	default: // majorSimple: three bits have no other value
		if n != simpleFalse && n != simpleTrue || b[0]&31 != byte(n&31) {
			return nil, errors.New("null, undefined, floats and other simple values are not allowed")
		}
		return rest, nil
	}
}

// readHead reads a major type and its argument in the shortest form. The
// argument of a float is 0.
func readHead(b []byte) (major byte, n uint64, rest []byte, err error) {
	if len(b) == 0 {
		return 0, 0, nil, errors.New("it ends too early")
	}
	major, info, rest := b[0]>>5, b[0]&31, b[1:]
	if info < 24 {
		return major, uint64(info), rest, nil
	}
	if info > 27 {
		return 0, 0, nil, errors.New("indefinite lengths and reserved heads are not allowed")
	}
	if major == majorSimple {
		return major, 0, rest, nil
	}
	size := 1 << (info - 24)
	if len(rest) < size {
		return 0, 0, nil, errors.New("it ends too early")
	}
	var wide [8]byte
	copy(wide[8-size:], rest)
	n = binary.BigEndian.Uint64(wide[:])
	if size == 1 && n < 24 || size > 1 && n>>(4*size) == 0 {
		return 0, 0, nil, fmt.Errorf("%d is not written in its shortest form", n)
	}
	return major, n, rest[size:], nil
}

func readString(major byte, n uint64, b []byte) (s, rest []byte, err error) {
	if n > uint64(len(b)) {
		return nil, nil, errors.New("it ends too early")
	}
	s, rest = b[:n], b[n:]
	if major == majorText && !utf8.Valid(s) {
		return nil, nil, errors.New("text is not valid UTF-8")
	}
	return s, rest, nil
}

func skipArray(n uint64, b []byte, depth int) (rest []byte, err error) {
	if n > maxItems {
		return nil, fmt.Errorf("an array of %d elements where at most %d are allowed", n, maxItems)
	}
	for range n {
		if b, err = skipValue(b, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func skipMap(n uint64, b []byte, depth int) ([]byte, error) {
	if n > maxItems {
		return nil, fmt.Errorf("a map of %d keys where at most %d are allowed", n, maxItems)
	}
	var last []byte
	for i := range n {
		major, size, rest, err := readHead(b)
		if err != nil {
			return nil, err
		}
		if major != majorText {
			return nil, errors.New("a key is not text")
		}
		key, rest, err := readString(major, size, rest)
		if err != nil {
			return nil, err
		}
		if i > 0 && (len(key) < len(last) || len(key) == len(last) && bytes.Compare(key, last) <= 0) {
			return nil, fmt.Errorf("key %.40q after key %.40q: keys must be sorted, shorter first, and differ", key, last)
		}
		last = key
		if b, err = skipValue(rest, depth+1); err != nil {
			return nil, fmt.Errorf("%.40q: %w", key, err)
		}
	}
	return b, nil
}

// AppendUint appends the encoding of a number, for records that write themselves
// because they are written often. What they write must be what Marshal gives.
func AppendUint(b []byte, n uint64) []byte {
	switch {
	case n < 24: //nolint:mnd // in the head itself
		return append(b, byte(n))
	case n <= math.MaxUint8:
		return append(b, 24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 26), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, 27), n)
	}
}

// ReadUint reads the number that b begins with, for records that AppendUint helped
// to write; ok is false when there is none in its shortest form.
func ReadUint(b []byte) (n uint64, rest []byte, ok bool) {
	major, n, rest, err := readHead(b)
	return n, rest, err == nil && major == majorUint
}
