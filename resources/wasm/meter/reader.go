package meter

import (
	"errors"
	"fmt"
	"unicode/utf8"

	mman "github.com/limboid/massive-man"
)

var (
	errShort  = errors.New("it is cut short, or counts more than it holds")
	errNumber = errors.New("a number is longer than its type")
	errName   = errors.New("a name is not UTF-8 or longer than 100,000 bytes")
)

// reader reads a part of a module. Its first error sticks, with the place of it,
// and from then on there is nothing left to read. Positions are those of the
// whole module.
type reader struct {
	b        []byte
	pos, end int
	err      error
	errPos   int
	// lax does not refuse shared memories and relaxed vectors for what they are.
	lax bool
}

// fail ends the reading with an error about the byte at a position.
func (r *reader) fail(pos int, err error) {
	if r.err == nil {
		r.err, r.errPos = err, pos
	}
	r.pos = r.end
}

func (r *reader) failf(pos int, format string, args ...any) {
	r.fail(pos, fmt.Errorf(format, args...))
}

// more tells whether something is left.
func (r *reader) more() bool { return r.pos < r.end }

// sub returns a reader of the next n bytes and moves behind them.
func (r *reader) sub(n uint32) reader {
	start := r.pos
	if uint64(n) > uint64(r.end-r.pos) { //nolint:gosec // never negative
		r.fail(start, errShort)
		return reader{b: r.b, pos: r.end, end: r.end, err: r.err, errPos: r.errPos}
	}
	r.pos += int(n)
	return reader{b: r.b, pos: start, end: r.pos, lax: r.lax}
}

// take returns the next n bytes.
func (r *reader) take(n uint32) []byte {
	s := r.sub(n)
	return s.b[s.pos:s.end]
}

// adopt takes over the error of a reader of a part.
func (r *reader) adopt(part *reader) {
	if part.err != nil {
		r.fail(part.errPos, part.err)
	}
}

func (r *reader) u8() byte {
	if r.pos >= r.end {
		r.fail(r.pos, errShort)
		return 0
	}
	b := r.b[r.pos]
	r.pos++
	return b
}

func (r *reader) u32() uint32 {
	if r.pos < r.end && r.b[r.pos] < 0x80 { // nearly always
		r.pos++
		return uint32(r.b[r.pos-1])
	}
	start, v := r.pos, uint64(0)
	for i := range 5 {
		b := r.u8()
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	r.fail(start, errNumber)
	return 0
}

// signed reads a signed number of at most the given number of bits.
func (r *reader) signed(bits int) int64 {
	start, v := r.pos, int64(0)
	for shift := 0; shift < bits; shift += 7 {
		b := r.u8()
		v |= int64(b&0x7f) << shift
		if b >= 0x80 {
			continue
		}
		used := bits - shift // bits of this byte that count
		if used < 7 {
			// The others must repeat the sign.
			rest := int8(b<<1) >> used //nolint:gosec // the sign is wanted
			if rest != 0 && rest != -1 {
				break
			}
		}
		if shift+7 < 64 && b&0x40 != 0 {
			v |= -1 << (shift + 7)
		}
		return v
	}
	r.fail(start, errNumber)
	return 0
}

// count reads the number of items that follow, each of which takes a byte at
// least.
func (r *reader) count() int {
	start, n := r.pos, r.u32()
	if uint64(n) > uint64(r.end-r.pos) { //nolint:gosec // never negative
		r.fail(start, errShort)
		return 0
	}
	return int(n)
}

func (r *reader) name() string {
	start := r.pos
	b := r.take(r.u32())
	if len(b) > maxNameBytes || !utf8.Valid(b) {
		r.fail(start, errName)
		return ""
	}
	return string(b)
}

// finish returns the reader's error, or one about bytes that are left, as an
// error of the module in the part that what names.
func (r *reader) finish(what string) error {
	if r.err == nil && r.more() {
		r.fail(r.pos, errors.New("there are bytes behind its end"))
	}
	if r.err == nil {
		return nil
	}
	if errors.Is(r.err, mman.ErrImport) || errors.Is(r.err, mman.ErrModule) {
		return fmt.Errorf("%s, byte %d: %w", what, r.errPos, r.err)
	}
	return fmt.Errorf("%w: %s, byte %d: %w", mman.ErrModule, what, r.errPos, r.err)
}
