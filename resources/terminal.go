package resources

import (
	"encoding/binary"
	"fmt"

	mman "github.com/limboid/massive-man"
)

// Terminal is the screen of a person that talks to a program.
type Terminal struct {
	// Columns and Rows are its size in characters, 1 to 4096.
	Columns uint64 `cbor:"columns" json:"columns"`
	Rows    uint64 `cbor:"rows"    json:"rows"`
	// Plain wants no colours and no moving cursor.
	Plain bool `cbor:"plain,omitempty" json:"plain,omitempty"`
}

const terminalMost = 4096

// Validate refuses a screen that is none, wrapping mman.ErrInvalid.
func (t Terminal) Validate() error {
	if t.Columns == 0 || t.Rows == 0 || t.Columns > terminalMost || t.Rows > terminalMost {
		return fmt.Errorf("%w: a terminal of %d columns and %d rows: 1 to %d", mman.ErrInvalid, t.Columns, t.Rows, terminalMost)
	}
	return nil
}

// RecordKind says what a record is.
type RecordKind byte

// The kinds of records. Those above RecordGetAtEnd are a program's side's answers,
// one to each RecordPutEnd, RecordGet and RecordGetAtEnd; the first two are answered
// in their order, the last, in theirs, when the program has ended.
const (
	RecordTyped    RecordKind = 1 // bytes for the program
	RecordTypedEnd RecordKind = 2 // nothing more is typed
	RecordSize     RecordKind = 3 // the terminal's new size: Resize
	RecordPut      RecordKind = 4 // a file begins: its path
	RecordPutData  RecordKind = 5 // bytes of it
	RecordPutEnd   RecordKind = 6 // that was all of it
	RecordGet      RecordKind = 7 // a file is asked for: its path
	RecordGetAtEnd RecordKind = 8 // the same, when the program has ended
	RecordFile     RecordKind = 9 // bytes of a file that was asked for
	RecordDone     RecordKind = 10
)

const (
	// RecordMaxBytes bounds the body of a record.
	RecordMaxBytes = 16 << 10
	// FilePathMaxBytes bounds the path of a file that is put or asked for.
	FilePathMaxBytes = 1024
	// FileMaxBytes bounds such a file.
	FileMaxBytes = 64 << 20
	// FilesAtEnd bounds the files that are asked for at the end.
	FilesAtEnd = 64

	recordHead = 3
)

// AppendRecord appends a record to b. Its body has at most RecordMaxBytes.
func AppendRecord(b []byte, kind RecordKind, body []byte) []byte {
	b = append(b, byte(kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(body))) //nolint:gosec // at most RecordMaxBytes
	return append(b, body...)
}

// AppendSize appends a record of a terminal's new size, which must be valid.
func AppendSize(b []byte, t Terminal) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(t.Columns))                           //nolint:gosec // it is valid
	return AppendRecord(b, RecordSize, binary.BigEndian.AppendUint16(body, uint16(t.Rows))) //nolint:gosec // it is valid
}

// ParseSize reads the body of RecordSize.
func ParseSize(body []byte) (t Terminal, err error) {
	if len(body) != 4 {
		return t, fmt.Errorf("%w: a terminal's size of %d bytes", mman.ErrProtocol, len(body))
	}
	t.Columns, t.Rows = uint64(binary.BigEndian.Uint16(body)), uint64(binary.BigEndian.Uint16(body[2:]))
	return t, t.Validate()
}

// AppendDone appends the answer to a file that was put or asked for: 0, or the
// number of the error as Linux numbers them.
func AppendDone(b []byte, errno byte) []byte { return AppendRecord(b, RecordDone, []byte{errno}) }

// ParseDone reads the body of RecordDone.
func ParseDone(body []byte) (errno byte, err error) {
	if len(body) != 1 {
		return 0, fmt.Errorf("%w: the end of a file of %d bytes", mman.ErrProtocol, len(body))
	}
	return body[0], nil
}

// ValidFilePath checks the path of a file that is put or asked for.
func ValidFilePath(path string) error {
	if path == "" || len(path) > FilePathMaxBytes {
		return fmt.Errorf("%w: the path of a file has %d bytes, 1 to %d are allowed", mman.ErrInvalid, len(path), FilePathMaxBytes)
	}
	return validText("the path of a file", path, FilePathMaxBytes)
}

// Records cuts a stream into records. The zero value is at its beginning.
type Records struct{ rest []byte }

// Push takes the next bytes of the stream and calls each for every record that is
// whole, until that fails. A body is valid only during the call.
func (r *Records) Push(p []byte, each func(kind RecordKind, body []byte) error) error {
	if len(r.rest) > 0 {
		p = append(r.rest, p...)
	}
	for len(p) >= recordHead {
		n := int(binary.BigEndian.Uint16(p[1:]))
		if n > RecordMaxBytes {
			return fmt.Errorf("%w: a record of %d bytes, at most %d are allowed", mman.ErrProtocol, n, RecordMaxBytes)
		}
		if len(p) < recordHead+n {
			break
		}
		if err := each(RecordKind(p[0]), p[recordHead:recordHead+n]); err != nil {
			return err
		}
		p = p[recordHead+n:]
	}
	r.rest = append([]byte(nil), p...)
	return nil
}

// RecordOrder checks that what a consumer sends in records is what may come then. The
// zero value is at the beginning of a run without a terminal. For one goroutine.
type RecordOrder struct {
	// Terminal says that the run has a terminal.
	Terminal bool

	ended, putting bool
	late           int
}

// Next refuses a record that may not come now, wrapping mman.ErrProtocol, mman.ErrInvalid
// or mman.ErrTooLarge.
func (o *RecordOrder) Next(kind RecordKind, body []byte) error {
	switch kind {
	case RecordTyped:
		if o.ended {
			return fmt.Errorf("%w: something is typed after the end", mman.ErrProtocol)
		}
		return nil
	case RecordTypedEnd:
		o.ended = true
		return nil
	case RecordSize:
		if !o.Terminal {
			return fmt.Errorf("%w: the size of a terminal of a run without any", mman.ErrProtocol)
		}
		_, err := ParseSize(body)
		return err
	case RecordPut:
		if o.putting {
			return fmt.Errorf("%w: a file begins within another", mman.ErrProtocol)
		}
		o.putting = true
		return ValidFilePath(string(body))
	case RecordPutData, RecordPutEnd:
		if !o.putting {
			return fmt.Errorf("%w: bytes or the end of no file", mman.ErrProtocol)
		}
		o.putting = kind == RecordPutData
		return nil
	case RecordGetAtEnd:
		if o.late++; o.late > FilesAtEnd {
			return fmt.Errorf("%w: more than %d files are asked for at the end", mman.ErrTooLarge, FilesAtEnd)
		}
		return ValidFilePath(string(body))
	case RecordGet:
		return ValidFilePath(string(body))
	case RecordFile, RecordDone: // only the program's side says that
	}
	return fmt.Errorf("%w: a record of kind %d", mman.ErrProtocol, kind)
}
