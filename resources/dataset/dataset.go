package dataset

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

const (
	// maxRow bounds one row of text, in bytes.
	maxRow = 4 << 20
	// maxColumns bounds the columns of a file.
	maxColumns = 16 << 10
	// sniffed is how much of a file is looked at to recognise it.
	sniffed = 64 << 10
	// maxLabel is how much of a column's name is kept, in bytes.
	maxLabel = 64
)

// Query is what is read of a file. The zero Query is everything.
type Query struct {
	// Columns are wanted, by name, in the file's order; none for all.
	Columns []string
	// From is the first row, counted from 0, and To the one after the last; 0 for
	// the end.
	From, To uint64
	// Copy leaves Parquet as it is: the wanted columns of the row groups that hold the
	// wanted rows, not unpacked, under a new footer.
	Copy bool
	// MaxBytes bounds what is written of a Parquet file that is unpacked, of which a
	// small one can hold much. 0 for no bound.
	MaxBytes uint64
}

// Answer is what was read.
type Answer struct {
	Format string `json:"format"`
	// As is the form in which it was written: jsonl for Parquet that is not copied,
	// otherwise Format.
	As string `json:"as"`
	// From and To are the rows that came: of Parquet that is copied, whole row groups.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	// Columns are how many came.
	Columns int `json:"columns"`
}

// Describe says what a file holds, with its first rows as a sample. It reads text to
// its end, and of Parquet the footer and the pages with the sample. What is neither
// CSV, JSON lines nor Parquet is mman.ErrUnsupported; what begins like one of them
// and is damaged mman.ErrContent.
func Describe(r io.ReaderAt, size uint64, sample int) (resources.Table, error) {
	format, err := recognise(r, size)
	if err != nil {
		return resources.Table{}, err
	}
	switch format {
	case resources.FormatParquet:
		return describeParquet(r, size, sample)
	case resources.FormatJSONL:
		return describeLines(section(r, size), sample)
	default:
		return describeCSV(section(r, size), sample)
	}
}

// Read writes the rows and columns of a query to w: Parquet as JSON lines, unless it is
// copied, and text in its own format. A column that is not there is mman.ErrNotFound,
// Parquet that is packed or encoded in a way that is not read mman.ErrUnsupported, more
// than Query.MaxBytes mman.ErrTooLarge; other errors are Describe's.
func Read(r io.ReaderAt, size uint64, q Query, w io.Writer) (Answer, error) {
	if q.To != 0 && q.To <= q.From {
		return Answer{}, fmt.Errorf("%w: rows from %d to %d: the end must be after the beginning", mman.ErrInvalid, q.From, q.To)
	}
	format, err := recognise(r, size)
	if err != nil {
		return Answer{}, err
	}
	if q.Copy && format != resources.FormatParquet {
		return Answer{Format: format}, fmt.Errorf("%w: the file is %s: only Parquet is copied without being read", mman.ErrUnsupported, format)
	}
	var a Answer
	as := format
	switch format {
	case resources.FormatParquet:
		if q.Copy {
			a, err = readParquet(r, size, q, w)
		} else {
			as = resources.FormatJSONL
			a, err = readRows(r, size, q, w)
		}
	case resources.FormatJSONL:
		a, err = readLines(section(r, size), q, w)
	default:
		a, err = readCSV(section(r, size), q, w)
	}
	a.Format, a.As = format, as
	return a, err
}

// section reads a file from its beginning, no more at a time than is soon used.
func section(r io.ReaderAt, size uint64) io.Reader {
	return io.NewSectionReader(r, 0, int64(min(size, 1<<62)))
}

// recognise looks at a file's beginning and end.
func recognise(r io.ReaderAt, size uint64) (string, error) {
	magic := make([]byte, min(size, uint64(len(parquetMagic))))
	if _, err := r.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read a dataset: %w", err)
	}
	if string(magic) == parquetMagic && size >= minParquet {
		return resources.FormatParquet, nil
	}
	head := make([]byte, min(size, sniffed))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read a dataset: %w", err)
	}
	text := strings.TrimPrefix(string(head), "\ufeff")
	switch {
	case strings.ContainsRune(text, 0) || !validHead(text):
		return "", errUnknown()
	case strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{"):
		return resources.FormatJSONL, nil
	}
	line, _, _ := strings.Cut(text, "\n")
	if _, ok := separator(line); !ok {
		return "", errUnknown()
	}
	return resources.FormatCSV, nil
}

// validHead reports whether a text whose end may be cut in a character is UTF-8.
func validHead(text string) bool {
	for range utf8.UTFMax {
		if utf8.ValidString(text) {
			return true
		}
		text = text[:len(text)-1]
	}
	return false
}

func errUnknown() error {
	return fmt.Errorf("%w: the file is neither CSV with a line of names, nor JSON lines, nor Parquet", mman.ErrUnsupported)
}

// clean makes a text fit for a manifest: printable, and no longer than limit bytes.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case unicode.IsPrint(r):
			return r
		default:
			return ' '
		}
	}, s)
	for len(s) > limit {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// table begins a description.
func table(format string, names, types []string) resources.Table {
	t := resources.Table{Format: format, Columns: []resources.Column{}}
	for i, name := range names[:min(len(names), resources.TableMaxColumns)] {
		t.Columns = append(t.Columns, resources.Column{Name: clean(name, maxLabel), Type: types[i]})
	}
	return t
}

// pick returns the places of the wanted columns, in the file's order.
func pick(names, wanted []string) ([]int, error) {
	if len(wanted) == 0 {
		all := make([]int, len(names))
		for i := range all {
			all[i] = i
		}
		return all, nil
	}
	at := make(map[string]bool, len(wanted))
	for _, name := range wanted {
		at[name] = false
	}
	var out []int
	for i, name := range names {
		if _, ok := at[name]; ok {
			at[name] = true
			out = append(out, i)
		}
	}
	for _, name := range wanted {
		if !at[name] {
			return nil, fmt.Errorf("%w: the dataset has no column %.80q", mman.ErrNotFound, name)
		}
	}
	return out, nil
}
