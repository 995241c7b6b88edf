package dataset

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// separator finds what stands between the values of a line: the one of comma, tab
// and semicolon that is there most often.
func separator(line string) (rune, bool) {
	best, count := ',', 0
	for _, r := range ",\t;" {
		if n := strings.Count(line, string(r)); n > count {
			best, count = r, n
		}
	}
	return best, count > 0
}

// rowLimit is a reader that allows so many bytes between two rows.
type rowLimit struct {
	io.Reader

	left int
}

// ahead is what a buffered reader may read before a row is asked for.
const ahead = 128 << 10

func (l *rowLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("%w: a row of more than %d bytes", mman.ErrTooLarge, maxRow)
	}
	n, err := l.Reader.Read(p)
	l.left -= n
	return n, err //nolint:wrapcheck // a reader's error stays as it is
}

func (l *rowLimit) next() { l.left = maxRow + ahead }

// rows reads CSV.
type rows struct {
	limit *rowLimit
	csv   *csv.Reader
	names []string
}

func openCSV(r io.Reader) (*rows, error) {
	buf := bufio.NewReaderSize(r, sniffed)
	head, err := buf.Peek(sniffed)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read a dataset: %w", err)
	}
	if bytes.HasPrefix(head, []byte("\ufeff")) {
		if _, err := buf.Discard(len("\ufeff")); err != nil {
			return nil, fmt.Errorf("read a dataset: %w", err)
		}
	}
	line, _, _ := strings.Cut(string(head), "\n")
	out := &rows{limit: &rowLimit{Reader: buf}}
	out.csv = csv.NewReader(out.limit)
	out.csv.Comma, _ = separator(line)
	out.csv.ReuseRecord = true
	first, err := out.next()
	if errors.Is(err, io.EOF) {
		return nil, errUnknown()
	}
	if err != nil {
		return nil, err
	}
	if len(first) > maxColumns {
		return nil, fmt.Errorf("%w: %d columns, at most %d are read", mman.ErrTooLarge, len(first), maxColumns)
	}
	out.names = slices.Clone(first)
	return out, nil
}

// next returns a row, which the one after it overwrites; io.EOF is the end.
func (r *rows) next() ([]string, error) {
	r.limit.next()
	row, err := r.csv.Read()
	var coded *mman.Error
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.As(err, &coded):
		return row, err //nolint:wrapcheck // coded below, or the end
	default:
		return nil, fmt.Errorf("%w: CSV: %w", mman.ErrContent, err)
	}
}

func describeCSV(r io.Reader, sample int) (resources.Table, error) {
	in, err := openCSV(r)
	if err != nil {
		return resources.Table{}, err
	}
	types := make([]string, len(in.names))
	var lines []string
	count := uint64(0)
	for {
		row, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return resources.Table{}, err
		}
		count++
		if len(lines) < sample {
			lines = append(lines, clean(strings.Join(row, string(in.csv.Comma)), resources.TableMaxLine))
		}
		for i, cell := range row {
			types[i] = widen(types[i], cell)
		}
	}
	for i := range types {
		if types[i] == "" {
			types[i] = resources.ColumnText
		}
	}
	t := table(resources.FormatCSV, in.names, types)
	t.Rows, t.Sample = count, lines
	return t, nil
}

// widen returns the narrowest type that holds a cell and what was before it; an
// empty cell says nothing.
func widen(before, cell string) string {
	switch now := cellType(cell); {
	case cell == "" || cell == "NA" || now == before:
		return before
	case before == "":
		return now
	case before == resources.ColumnInt && now == resources.ColumnFloat, before == resources.ColumnFloat && now == resources.ColumnInt:
		return resources.ColumnFloat
	default:
		return resources.ColumnText
	}
}

func cellType(cell string) string {
	if _, err := strconv.ParseInt(cell, 10, 64); err == nil {
		return resources.ColumnInt
	}
	if _, err := strconv.ParseFloat(cell, 64); err == nil {
		return resources.ColumnFloat
	}
	switch strings.ToLower(cell) {
	case "true", "false":
		return resources.ColumnBool
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly, time.DateTime} {
		if _, err := time.Parse(layout, cell); err == nil {
			return resources.ColumnTime
		}
	}
	return resources.ColumnText
}

func readCSV(r io.Reader, q Query, w io.Writer) (Answer, error) {
	in, err := openCSV(r)
	if err != nil {
		return Answer{}, err
	}
	at, err := pick(in.names, q.Columns)
	if err != nil {
		return Answer{}, err
	}
	out := csv.NewWriter(w)
	out.Comma = in.csv.Comma
	some := make([]string, len(at))
	write := func(row []string) error {
		for i, from := range at {
			some[i] = row[from]
		}
		return out.Write(some) //nolint:wrapcheck // the writer's error stays as it is
	}
	if err := write(in.names); err != nil {
		return Answer{}, err
	}
	a := Answer{Columns: len(at), From: q.From, To: q.From}
	for i := uint64(0); q.To == 0 || i < q.To; i++ {
		row, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && i >= q.From {
			a.To = i + 1
			err = write(row)
		}
		if err != nil {
			return a, err
		}
	}
	out.Flush()
	return a, out.Error() //nolint:wrapcheck // the writer's error stays as it is
}

func scan(r io.Reader) *bufio.Scanner {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, sniffed), maxRow)
	return lines
}

// object reads the members of one line; nil for a blank one.
func object(line []byte) (map[string]json.RawMessage, error) {
	line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte("\ufeff")))
	if len(line) == 0 {
		return nil, nil //nolint:nilnil // a blank line is no row
	}
	var row map[string]json.RawMessage
	if err := json.Unmarshal(line, &row); err != nil || row == nil {
		return nil, fmt.Errorf("%w: JSON lines: not an object: %.80q", mman.ErrContent, line)
	}
	if len(row) > maxColumns {
		return nil, fmt.Errorf("%w: %d members, at most %d are read", mman.ErrTooLarge, len(row), maxColumns)
	}
	return row, nil
}

func ended(lines *bufio.Scanner) error {
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("%w: a row of more than %d bytes", mman.ErrTooLarge, maxRow)
	case err != nil:
		return fmt.Errorf("read a dataset: %w", err)
	default:
		return nil
	}
}

func describeLines(r io.Reader, sample int) (resources.Table, error) {
	types := map[string]string{}
	var names, samples []string
	count := uint64(0)
	lines := scan(r)
	for lines.Scan() {
		row, err := object(lines.Bytes())
		if err != nil {
			return resources.Table{}, err
		}
		if row == nil {
			continue
		}
		count++
		if len(samples) < sample {
			samples = append(samples, clean(lines.Text(), resources.TableMaxLine))
		}
		for name, value := range row {
			before, ok := types[name]
			if !ok && len(names) == maxColumns {
				return resources.Table{}, fmt.Errorf("%w: more than %d columns", mman.ErrTooLarge, maxColumns)
			}
			if !ok {
				names = append(names, name)
			}
			types[name] = widenJSON(before, value)
		}
	}
	if err := ended(lines); err != nil {
		return resources.Table{}, err
	}
	slices.Sort(names) // the members of an object have no order
	kinds := make([]string, len(names))
	for i, name := range names {
		if kinds[i] = types[name]; kinds[i] == "" {
			kinds[i] = resources.ColumnText
		}
	}
	t := table(resources.FormatJSONL, names, kinds)
	t.Rows, t.Sample = count, samples
	return t, nil
}

func widenJSON(before string, value json.RawMessage) string {
	now := resources.ColumnFloat
	switch value[0] {
	case 'n':
		return before
	case 't', 'f':
		now = resources.ColumnBool
	case '{', '[':
		now = resources.ColumnNested
	case '"':
		now = resources.ColumnText
	default:
		if _, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			now = resources.ColumnInt
		}
	}
	switch {
	case before == "" || before == now:
		return now
	case (before == resources.ColumnInt || before == resources.ColumnFloat) && (now == resources.ColumnInt || now == resources.ColumnFloat):
		return resources.ColumnFloat
	default:
		return resources.ColumnNested
	}
}

// project returns a line with the wanted members only, and notes which are there.
func project(line []byte, row map[string]json.RawMessage, columns []string, seen map[string]bool) ([]byte, error) {
	if len(columns) == 0 {
		return slices.Clone(bytes.TrimSpace(line)), nil
	}
	some := make(map[string]json.RawMessage, len(columns))
	for _, name := range columns {
		if value, ok := row[name]; ok {
			some[name], seen[name] = value, true
		}
	}
	out, err := json.Marshal(some)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrContent, err)
	}
	return out, nil
}

func readLines(r io.Reader, q Query, w io.Writer) (Answer, error) {
	a := Answer{From: q.From, To: q.From, Columns: len(q.Columns)}
	seen := map[string]bool{}
	lines := scan(r)
	for i := uint64(0); (q.To == 0 || i < q.To) && lines.Scan(); {
		row, err := object(lines.Bytes())
		if err != nil {
			return a, err
		}
		if row == nil {
			continue
		}
		if i++; i <= q.From {
			continue
		}
		a.To = i
		line, err := project(lines.Bytes(), row, q.Columns, seen)
		if err != nil {
			return a, err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return a, err //nolint:wrapcheck // the writer's error stays as it is
		}
	}
	for _, name := range q.Columns {
		if !seen[name] && a.To > a.From {
			return a, fmt.Errorf("%w: no row has %.80q", mman.ErrNotFound, name)
		}
	}
	return a, ended(lines)
}
