package environment

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	mman "github.com/limboid/massive-man"
)

// DType names the type of a number, as NumPy does.
type DType string

// The types of numbers. All are little-endian.
const (
	Float32 DType = "float32"
	Float64 DType = "float64"
	Int8    DType = "int8"
	UInt8   DType = "uint8"
	Int16   DType = "int16"
	Int32   DType = "int32"
	Int64   DType = "int64"
)

// Size returns the bytes of one number, 0 for a type that there is not.
func (d DType) Size() int {
	switch d {
	case Int8, UInt8:
		return 1
	case Int16:
		return 2
	case Float32, Int32:
		return 4
	case Float64, Int64:
		return 8
	default:
		return 0
	}
}

// value reads the number at the beginning of b.
func (d DType) value(b []byte) float64 {
	le := binary.LittleEndian
	switch d {
	case Float32:
		return float64(math.Float32frombits(le.Uint32(b)))
	case Float64:
		return math.Float64frombits(le.Uint64(b))
	case Int8:
		return float64(int8(b[0])) //nolint:gosec // the bits of a signed number
	case UInt8:
		return float64(b[0])
	case Int16:
		return float64(int16(le.Uint16(b))) //nolint:gosec // as above
	case Int32:
		return float64(int32(le.Uint32(b))) //nolint:gosec // as above
	case Int64:
		return float64(int64(le.Uint64(b))) //nolint:gosec // as above
	default:
		return math.NaN()
	}
}

// put appends a number, which Space.Valid has accepted.
func (d DType) put(b []byte, v float64) []byte {
	le := binary.LittleEndian
	switch d {
	case Float32:
		return le.AppendUint32(b, math.Float32bits(float32(v)))
	case Float64:
		return le.AppendUint64(b, math.Float64bits(v))
	case Int8, UInt8:
		return append(b, byte(int64(v))) //nolint:gosec // the bits of a signed number
	case Int16:
		return le.AppendUint16(b, uint16(int64(v))) //nolint:gosec // the bits of a signed number
	case Int32:
		return le.AppendUint32(b, uint32(int64(v))) //nolint:gosec // as above
	case Int64:
		fallthrough
	default:
		return le.AppendUint64(b, uint64(int64(v))) //nolint:gosec // as above
	}
}

// whole reports whether the type holds whole numbers only.
func (d DType) whole() bool { return d != Float32 && d != Float64 }

// Kind names a Gymnasium space.
type Kind string

// The spaces.
const (
	// Box is an array of numbers, each within its own bounds.
	Box Kind = "Box"
	// Discrete is one whole number, Start to Start+N-1.
	Discrete Kind = "Discrete"
	// MultiDiscrete is an array of whole numbers, the i-th 0 to NVec[i]-1.
	MultiDiscrete Kind = "MultiDiscrete"
	// MultiBinary is an array of 0 and 1.
	MultiBinary Kind = "MultiBinary"
)

const (
	// maxElements bounds one observation or action: 2²⁰ numbers.
	maxElements = 1 << 20
	// maxRank bounds the length of a shape.
	maxRank = 8
	// maxWhole is the largest whole number that every reader of JSON keeps.
	maxWhole = 1<<53 - 1
)

// Space says what an observation or an action looks like, in Gymnasium's words.
type Space struct {
	Kind  Kind     `json:"type"`
	DType DType    `json:"dtype"`
	Shape []uint64 `json:"shape"`
	// Low and High bound the numbers of a Box: one for all, or one for each in row
	// order. A null bounds nothing, and so does an empty list.
	Low  []Bound `json:"low,omitempty"`
	High []Bound `json:"high,omitempty"`
	// N is of Discrete and MultiBinary, Start of Discrete.
	N     uint64 `json:"n,omitempty"`
	Start int64  `json:"start,omitempty"`
	// NVec is of MultiDiscrete, in row order.
	NVec []uint64 `json:"nvec,omitempty"`
}

// Bound is one bound of a Box; infinite ones are null in JSON.
type Bound float64

// MarshalJSON writes a number, or null.
func (b Bound) MarshalJSON() ([]byte, error) {
	if v := float64(b); !math.IsInf(v, 0) && !math.IsNaN(v) {
		return strconv.AppendFloat(nil, v, 'g', -1, 64), nil
	}
	return []byte("null"), nil
}

// UnmarshalJSON reads a number; null is read as NaN, which bounds nothing.
func (b *Bound) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*b = Bound(math.NaN())
		return nil
	}
	var v float64
	if err := json.Unmarshal(text, &v); err != nil {
		return fmt.Errorf("%w: a bound %.40q: a number or null", mman.ErrInvalid, text)
	}
	*b = Bound(v)
	return nil
}

// Elements returns how many numbers an element of the space has. The space must be
// valid.
func (s Space) Elements() int {
	n := 1
	for _, d := range s.Shape {
		n *= int(d) //nolint:gosec // Validate bounds the product
	}
	return n
}

// Bytes returns the size of an element of the space, which must be valid.
func (s Space) Bytes() int { return s.Elements() * s.DType.Size() }

// Validate reports the first field that breaks a rule, wrapping mman.ErrInvalid or
// mman.ErrUnsupported.
func (s Space) Validate() error {
	if s.DType.Size() == 0 {
		return fmt.Errorf("%w: dtype %.20q: use float32, float64, int8, uint8, int16, int32 or int64", mman.ErrUnsupported, s.DType)
	}
	n := uint64(1)
	for _, d := range s.Shape {
		if d == 0 || d > maxElements || n*d > maxElements {
			return fmt.Errorf("%w: shape %v: 1 to %d numbers", mman.ErrInvalid, s.Shape[:min(len(s.Shape), maxRank)], maxElements)
		}
		n *= d
	}
	if len(s.Shape) > maxRank {
		return fmt.Errorf("%w: shape of %d dimensions, at most %d", mman.ErrInvalid, len(s.Shape), maxRank)
	}
	if s.Kind != Box && !s.DType.whole() {
		return fmt.Errorf("%w: %s of %s: its numbers are whole", mman.ErrInvalid, s.Kind, s.DType)
	}
	switch s.Kind {
	case Box:
		return s.validBounds(n)
	case Discrete:
		if len(s.Shape) > 0 || s.N == 0 || s.N > maxWhole || s.Start < -maxWhole || s.Start > maxWhole {
			return fmt.Errorf("%w: Discrete: shape %v, n %d, start %d: one number, n from 1", mman.ErrInvalid, s.Shape, s.N, s.Start)
		}
	case MultiDiscrete:
		if uint64(len(s.NVec)) != n {
			return fmt.Errorf("%w: MultiDiscrete: nvec has %d numbers, the shape %d", mman.ErrInvalid, len(s.NVec), n)
		}
		for _, v := range s.NVec {
			if v == 0 || v > maxWhole {
				return fmt.Errorf("%w: MultiDiscrete: nvec %d: 1 to %d", mman.ErrInvalid, v, uint64(maxWhole))
			}
		}
	case MultiBinary:
		if s.N != n {
			return fmt.Errorf("%w: MultiBinary: n %d, the shape has %d", mman.ErrInvalid, s.N, n)
		}
	default:
		return fmt.Errorf("%w: space %.20q: use Box, Discrete, MultiDiscrete or MultiBinary", mman.ErrUnsupported, s.Kind)
	}
	return nil
}

func (s Space) validBounds(n uint64) error {
	for name, bounds := range map[string][]Bound{"low": s.Low, "high": s.High} {
		if l := uint64(len(bounds)); l > 1 && l != n {
			return fmt.Errorf("%w: Box: %s has %d numbers, the shape %d: give one for all, or one for each", mman.ErrInvalid, name, l, n)
		}
	}
	return nil
}

// at returns the i-th bound, or other where there is none.
func at(bounds []Bound, i int, other float64) float64 {
	if len(bounds) == 0 {
		return other
	}
	if len(bounds) == 1 {
		i = 0
	}
	if v := float64(bounds[i]); !math.IsNaN(v) {
		return v
	}
	return other
}

// bounds returns what the i-th number may be.
func (s Space) bounds(i int) (low, high float64) {
	switch s.Kind {
	case Discrete:
		return float64(s.Start), float64(s.Start) + float64(s.N-1)
	case MultiDiscrete:
		return 0, float64(s.NVec[i] - 1)
	case MultiBinary:
		return 0, 1
	case Box:
		fallthrough
	default:
		return at(s.Low, i, math.Inf(-1)), at(s.High, i, math.Inf(1))
	}
}

// Valid checks that v may stand at the i-th place of an element: it is a number, within
// the bounds, and whole where whole numbers stand. It fails with mman.ErrInvalid.
func (s Space) Valid(i int, v float64) error {
	low, high := s.bounds(i)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return fmt.Errorf("%w: number %d is %g, use %g to %g", mman.ErrInvalid, i, v, low, high)
	case v < low || v > high || s.DType == Float32 && math.IsInf(float64(float32(v)), 0):
		return fmt.Errorf("%w: number %d is %g, use %g to %g", mman.ErrInvalid, i, v, low, high)
	case s.DType.whole() && (v != math.Trunc(v) || math.Abs(v) > maxWhole):
		return fmt.Errorf("%w: number %d is %g, and %s holds whole numbers up to %d", mman.ErrInvalid, i, v, s.DType, uint64(maxWhole))
	}
	if size := s.DType.Size(); s.DType.whole() && size < 8 {
		least, most := -math.Ldexp(1, 8*size-1), math.Ldexp(1, 8*size-1)-1
		if s.DType == UInt8 {
			least, most = 0, math.MaxUint8
		}
		if v < least || v > most {
			return fmt.Errorf("%w: number %d is %g, and %s holds %g to %g", mman.ErrInvalid, i, v, s.DType, least, most)
		}
	}
	return nil
}

// validBytes checks one element as it travels.
func (s Space) validBytes(b []byte) error {
	size := s.DType.Size()
	for i := range s.Elements() {
		if err := s.Valid(i, s.DType.value(b[i*size:])); err != nil {
			return err
		}
	}
	return nil
}

// Encode returns n elements of the space as they travel, from their numbers in row
// order. It fails with mman.ErrInvalid for a number that the space does not have.
func (s Space) Encode(values []float64, n int) ([]byte, error) {
	each := s.Elements()
	if n < 0 || n > MaxBatch || len(values) != n*each {
		return nil, fmt.Errorf("%w: %d numbers for %d of %s%v: %d are needed for each", mman.ErrInvalid, len(values), n, s.Kind, s.Shape, each)
	}
	b := make([]byte, 0, len(values)*s.DType.Size())
	for i, v := range values {
		if err := s.Valid(i%each, v); err != nil {
			return nil, fmt.Errorf("of %d: %w", i/each, err)
		}
		b = s.DType.put(b, v)
	}
	return b, nil
}

// Decode returns the numbers of elements as they travel, in row order.
func (s Space) Decode(b []byte) []float64 {
	size := s.DType.Size()
	out := make([]float64, 0, len(b)/size)
	for ; len(b) >= size; b = b[size:] {
		out = append(out, s.DType.value(b))
	}
	return out
}
