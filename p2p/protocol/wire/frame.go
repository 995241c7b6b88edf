package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
)

// Kind tells the frames of one protocol apart.
type Kind byte

// KindError is the kind of an error frame in every protocol. Protocols number
// their own kinds from 1.
const KindError Kind = 0

// MaxFrame is the largest frame that any protocol may allow, in bytes of kind
// and body: 4 MiB.
const MaxFrame = 4 << 20

// growth is how much of a frame is allocated before its first byte arrived.
const growth = 64 << 10

// Frame is one message as it came.
type Frame struct {
	Kind Kind
	// Body shares no memory with the reader; the receiver owns it.
	Body []byte
}

// Decode reads the body of f as the one DAG-CBOR encoding of a T. What does
// not decode is mman.ErrProtocol.
func Decode[T any](f Frame) (T, error) {
	v, err := dagcbor.Unmarshal[T](f.Body, MaxFrame)
	if err != nil {
		return v, fmt.Errorf("%w: frame of kind %d: %w", mman.ErrProtocol, f.Kind, err)
	}
	return v, nil
}

// ReadFrame reads one frame of at most limit bytes. It returns a bare io.EOF
// only when r ends before the frame begins; a frame that is cut off is
// mman.ErrPeerVanished, one that is too long mman.ErrTooLarge, one whose length
// is zero or not in its shortest form mman.ErrProtocol.
func ReadFrame(r *bufio.Reader, limit int) (Frame, error) { return readFrame(r, limit, growth) }

// readFrame allocates first bytes of a body at once.
func readFrame(r *bufio.Reader, limit, first int) (Frame, error) {
	n, err := readLength(r)
	if err != nil {
		return Frame{}, err
	}
	if n == 0 {
		return Frame{}, fmt.Errorf("%w: empty frame", mman.ErrProtocol)
	}
	if n > uint64(max(limit, 0)) {
		return Frame{}, fmt.Errorf("%w: frame of %d bytes where at most %d are allowed", mman.ErrTooLarge, n, limit)
	}
	kind, err := r.ReadByte()
	if err != nil {
		return Frame{}, cutOff(err)
	}
	body, err := readBody(r, int(n)-1, first) //nolint:gosec // n is at most limit, an int
	if err != nil {
		return Frame{}, err
	}
	return Frame{Kind(kind), body}, nil
}

func readLength(r *bufio.Reader) (uint64, error) {
	var n uint64
	for i := range 4 { // 28 bits: more than MaxFrame needs
		b, err := r.ReadByte()
		if err != nil {
			if i == 0 {
				return 0, err
			}
			return 0, cutOff(err)
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 {
				return 0, fmt.Errorf("%w: frame length is not in its shortest form", mman.ErrProtocol)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: frame length of more than 4 bytes", mman.ErrTooLarge)
}

// readBody allocates in doubling steps as the bytes arrive: a peer that only
// announces a large frame costs us little.
func readBody(r io.Reader, n, first int) ([]byte, error) {
	body := make([]byte, min(n, max(first, growth)))
	for have := 0; ; {
		m, err := io.ReadFull(r, body[have:])
		have += m
		if err != nil {
			return nil, cutOff(err)
		}
		if have == n {
			return body, nil
		}
		bigger := make([]byte, min(n, 4*have))
		copy(bigger, body)
		body = bigger
	}
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: frame cut off: %w", mman.ErrPeerVanished, io.ErrUnexpectedEOF)
	}
	return err
}

// appendHead appends the length and the kind of a frame with a body of n
// bytes.
func appendHead(b []byte, kind Kind, n int) []byte {
	b = binary.AppendUvarint(b, uint64(n)+1) //nolint:gosec // a length is not negative
	return append(b, byte(kind))
}

// maxFailureText bounds the sentence of an error frame, in bytes.
const maxFailureText = 512

// failure is the body of an error frame.
type failure struct {
	Code  uint32 `cbor:"code"`
	Retry uint8  `cbor:"retry"`
	Text  string `cbor:"text"`
}

func failureOf(err error) failure {
	text := err.Error()
	if len(text) > maxFailureText {
		text = text[:maxFailureText]
	}
	return failure{uint32(mman.CodeOf(err)), uint8(mman.RetryOf(err)), validText(text)}
}

// validText drops what is not UTF-8, a rune that the bound cut in two
// included, because a text that is not UTF-8 does not decode.
func validText(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if r != '\uFFFD' {
			out = append(out, r)
		}
	}
	return string(out)
}

func (f failure) err() error {
	if f.Code == 0 || f.Retry > uint8(mman.RetryElsewhere) || len(f.Text) > maxFailureText {
		return fmt.Errorf("%w: error frame with code %d, retry %d and %d bytes of text", mman.ErrProtocol, f.Code, f.Retry, len(f.Text))
	}
	return mman.RemoteError(mman.Code(f.Code), mman.Retry(f.Retry), f.Text)
}
