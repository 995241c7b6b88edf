package call

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
)

// Bounds of a head. They hold for both sides.
const (
	// MaxHead bounds an encoded head, in bytes.
	MaxHead = 64 << 10
	// MaxFields bounds the fields of a head.
	MaxFields = 64
	// MaxTarget bounds the path with its query, in bytes.
	MaxTarget = 8 << 10
	maxName   = 128
	maxValue  = 16 << 10
)

// Field is one header field. Its name is in lower case.
type Field struct {
	Name  string `cbor:"n"`
	Value string `cbor:"v"`
}

// Request is the head of a call.
type Request struct {
	Method string `cbor:"method"`
	// Path is absolute, without dot segments, empty segments or encoded slashes, and
	// not encoded; Query is as it came.
	Path   string  `cbor:"path"`
	Query  string  `cbor:"query,omitempty"`
	Header []Field `cbor:"header"`
	// Upgrade asks for a connection that goes on as a websocket.
	Upgrade bool `cbor:"upgrade,omitempty"`
	// Bytes is the size of the body when Sized; without it the body ends with the
	// input.
	Sized bool   `cbor:"sized,omitempty"`
	Bytes uint64 `cbor:"bytes,omitempty"`
}

// Response is the head of an answer.
type Response struct {
	// Status is 200 to 599, or 101 for an upgrade.
	Status uint64  `cbor:"status"`
	Header []Field `cbor:"header"`
}

// Validate reports the first thing in the head that could mean something else to
// somebody behind this one: mman.ErrInvalid or mman.ErrTooLarge.
func (r Request) Validate() error {
	if !token(r.Method) || len(r.Method) > 16 {
		return fmt.Errorf("%w: method %.20q", mman.ErrInvalid, r.Method)
	}
	if err := ValidPath(r.Path); err != nil {
		return err
	}
	if len(r.Path)+len(r.Query) > MaxTarget {
		return fmt.Errorf("%w: a path of %d bytes, at most %d are allowed", mman.ErrTooLarge, len(r.Path)+len(r.Query), MaxTarget)
	}
	for _, c := range []byte(r.Query) {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return fmt.Errorf("%w: the query holds the byte %#x; encode it", mman.ErrInvalid, c)
		}
	}
	return validFields(r.Header)
}

// Validate bounds what a provider may answer.
func (r Response) Validate() error {
	if r.Status != 101 && (r.Status < 200 || r.Status > 599) {
		return fmt.Errorf("%w: an answer with status %d", mman.ErrProtocol, r.Status)
	}
	return validFields(r.Header)
}

// Get returns the value of the first field with the name, in lower case.
func Get(fields []Field, name string) string {
	for _, f := range fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// ValidPath accepts an absolute path that every server reads alike: no empty or dot
// segments, no backslash, semicolon or percent sign, no control characters.
func ValidPath(path string) error {
	refuse := func(why string) error {
		return fmt.Errorf("%w: path %.80q %s", mman.ErrInvalid, path, why)
	}
	if !strings.HasPrefix(path, "/") {
		return refuse("does not begin with a slash")
	}
	for _, c := range path {
		if c < ' ' || c == 0x7f || c == 0xfffd || strings.ContainsRune(`\;%?#`, c) {
			return refuse(fmt.Sprintf("holds %q, which servers read differently", c))
		}
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		if s == "." || s == ".." || (s == "" && i < len(segments)-1) {
			return refuse("has an empty or dot segment")
		}
	}
	return nil
}

// DecodePath returns the path of an encoded one, or why servers would read it
// differently.
func DecodePath(encoded string) (string, error) {
	if strings.ContainsAny(strings.ToLower(encoded), `\;`) {
		return "", fmt.Errorf("%w: path %.80q holds a backslash or a semicolon", mman.ErrInvalid, encoded)
	}
	for _, hidden := range []string{"%2f", "%5c", "%2e", "%00", "%25", "%3b"} {
		if strings.Contains(strings.ToLower(encoded), hidden) {
			return "", fmt.Errorf("%w: path %.80q hides a character as %s", mman.ErrInvalid, encoded, hidden)
		}
	}
	path, err := url.PathUnescape(encoded)
	if err != nil {
		return "", fmt.Errorf("%w: path %.80q: %w", mman.ErrInvalid, encoded, err)
	}
	return path, ValidPath(path)
}

func validFields(fields []Field) error {
	if len(fields) > MaxFields {
		return fmt.Errorf("%w: %d header fields, at most %d are allowed", mman.ErrTooLarge, len(fields), MaxFields)
	}
	for _, f := range fields {
		if !token(f.Name) || f.Name != strings.ToLower(f.Name) || len(f.Name) > maxName {
			return fmt.Errorf("%w: header field %.40q", mman.ErrInvalid, f.Name)
		}
		if len(f.Value) > maxValue {
			return fmt.Errorf("%w: header field %s of %d bytes, at most %d are allowed", mman.ErrTooLarge, f.Name, len(f.Value), maxValue)
		}
		for _, c := range []byte(f.Value) {
			if c < ' ' && c != '\t' || c == 0x7f {
				return fmt.Errorf("%w: header field %s holds the byte %#x", mman.ErrInvalid, f.Name, c)
			}
		}
	}
	return nil
}

// token reports whether s is a token of HTTP (RFC 9110, section 5.6.2).
func token(s string) bool {
	if s == "" {
		return false
	}
	for _, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return true
}

// WriteHead writes a head: four bytes with its length, then DAG-CBOR.
func WriteHead(w io.Writer, head any) error {
	b, err := dagcbor.Marshal(head)
	if err != nil {
		return err
	}
	if len(b) > MaxHead {
		return fmt.Errorf("%w: a head of %d bytes, at most %d are allowed", mman.ErrTooLarge, len(b), MaxHead)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)) //nolint:gosec // bounded above
	return err
}

// ReadRequest reads and validates the head of a call.
func ReadRequest(r io.Reader) (Request, error) {
	head, err := readHead[Request](r)
	if err != nil {
		return head, err
	}
	return head, head.Validate()
}

// ReadResponse reads and validates the head of an answer.
func ReadResponse(r io.Reader) (Response, error) {
	head, err := readHead[Response](r)
	if err != nil {
		return head, err
	}
	return head, head.Validate()
}

func readHead[T any](r io.Reader) (head T, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return head, cut(err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > MaxHead {
		return head, fmt.Errorf("%w: a head of %d bytes, at most %d are allowed", mman.ErrTooLarge, n, MaxHead)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return head, cut(err)
	}
	return dagcbor.Unmarshal[T](b, MaxHead)
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the call ended within its head", mman.ErrProtocol)
	}
	return err
}
