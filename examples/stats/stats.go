package stats

import (
	"errors"
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf8"
)

const (
	maxGroups   = 64 // of a column that is chosen by default
	maxAnyGroup = 10_000
)

// Summarize returns the summary of a CSV table as one line of JSON.
func Summarize(csv []byte, o Options) ([]byte, error) {
	t, err := parseCSV(string(csv))
	if err != nil {
		return nil, err
	}
	columns := numericColumns(t)
	group, err := groupColumn(t, columns, o.GroupBy)
	if err != nil {
		return nil, err
	}
	if o.Column != "" {
		at := slices.IndexFunc(columns, func(c column) bool { return c.name == o.Column })
		if at < 0 {
			return nil, errors.New("there is no numeric column " + strconv.Quote(o.Column))
		}
		columns = columns[at : at+1]
	}
	groups := map[string]*aggregate{}
	random := splitmix64(o.Seed)
	for i := range t.rows {
		if o.Sample {
			i = int(random.below(uint64(len(t.rows)))) //nolint:gosec // below an int
		}
		name := "all"
		if group >= 0 {
			name = t.rows[i][group]
		}
		g := groups[name]
		if g == nil {
			if len(groups) == maxAnyGroup {
				return nil, errors.New("more than " + strconv.Itoa(maxAnyGroup) + " groups; choose another column with --group")
			}
			g = &aggregate{columns: make([]moments, len(columns))}
			groups[name] = g
		}
		g.rows++
		for c := range columns {
			if columns[c].valid[i] {
				g.columns[c].add(columns[c].values[i])
			}
		}
	}
	by := ""
	if group >= 0 {
		by = t.header[group]
	}
	return encode(len(t.rows), by, o, columns, groups), nil
}

// column is a numeric column: a value for each row where there is one.
type column struct {
	name   string
	index  int
	values []int64
	valid  []bool
}

// numericColumns returns the columns that hold numbers and nothing else, and at
// least one.
func numericColumns(t table) []column {
	var columns []column
	for index, name := range t.header {
		c := column{name: name, index: index, values: make([]int64, len(t.rows)), valid: make([]bool, len(t.rows))}
		numeric, some := true, false
		for i, row := range t.rows {
			if missing(row[index]) {
				continue
			}
			v, ok := parseNumber(row[index])
			if !ok {
				numeric = false
				break
			}
			c.values[i], c.valid[i], some = v, true, true
		}
		if numeric && some {
			columns = append(columns, c)
		}
	}
	return columns
}

// groupColumn returns the index of the column to group by, −1 for none.
func groupColumn(t table, numeric []column, name string) (int, error) {
	if name != "" {
		if at := slices.Index(t.header, name); at >= 0 {
			return at, nil
		}
		return 0, errors.New("there is no column " + strconv.Quote(name) + " to group by")
	}
	for index := range t.header {
		if slices.ContainsFunc(numeric, func(c column) bool { return c.index == index }) {
			continue
		}
		distinct := map[string]bool{}
		for _, row := range t.rows {
			if distinct[row[index]] = true; len(distinct) > maxGroups {
				break
			}
		}
		if len(distinct) <= maxGroups {
			return index, nil
		}
	}
	return -1, nil
}

type aggregate struct {
	rows    uint64
	columns []moments
}

// moments of a column. The sums of positive and of negative values are kept
// apart, in 128 bits.
type moments struct {
	count              uint64
	positive, negative [2]uint64 // high, low
	low, high          int64
}

func (m *moments) add(v int64) {
	if m.count == 0 {
		m.low, m.high = v, v
	}
	m.low, m.high = min(m.low, v), max(m.high, v)
	m.count++
	sum, magnitude := &m.positive, uint64(v) //nolint:gosec // in two's complement
	if v < 0 {
		sum, magnitude = &m.negative, -magnitude
	}
	var carry uint64
	sum[1], carry = bits.Add64(sum[1], magnitude, 0)
	sum[0] += carry
}

// mean returns the mean, rounded half away from zero.
func (m *moments) mean() int64 {
	a, b, sign := m.positive, m.negative, int64(1)
	if a[0] < b[0] || a[0] == b[0] && a[1] < b[1] {
		a, b, sign = b, a, -1
	}
	low, borrow := bits.Sub64(a[1], b[1], 0)
	high, _ := bits.Sub64(a[0], b[0], borrow)
	low, carry := bits.Add64(low, m.count/2, 0)
	// Each value is below 2⁶³, so that the high half is below the count.
	quotient, _ := bits.Div64(high+carry, low, m.count)
	return sign * int64(quotient) //nolint:gosec // no larger than the largest value
}

func encode(rows int, by string, o Options, columns []column, groups map[string]*aggregate) []byte {
	names := make([]string, 0, len(groups))
	for name := range groups {
		names = append(names, name)
	}
	slices.Sort(names)
	b := append([]byte(nil), `{"rows":`...)
	b = strconv.AppendInt(b, int64(rows), 10)
	if o.Sample {
		b = append(b, `,"seed":`...)
		b = strconv.AppendUint(b, o.Seed, 10)
	}
	b = appendString(append(b, `,"group_by":`...), by)
	b = append(b, `,"groups":[`...)
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendGroup(b, name, columns, groups[name])
	}
	return append(b, "]}\n"...)
}

func appendGroup(b []byte, name string, columns []column, g *aggregate) []byte {
	b = appendString(append(b, `{"name":`...), name)
	b = append(b, `,"rows":`...)
	b = strconv.AppendUint(b, g.rows, 10)
	b = append(b, `,"columns":[`...)
	for c := range columns {
		m := &g.columns[c]
		if c > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"name":`...), columns[c].name)
		b = append(b, `,"count":`...)
		b = strconv.AppendUint(b, m.count, 10)
		if m.count > 0 {
			b = append(b, `,"mean":`+formatNumber(m.mean())+`,"min":`+formatNumber(m.low)+`,"max":`+formatNumber(m.high)...)
		}
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

// appendString writes a JSON string.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s { // what is not UTF-8 becomes U+FFFD
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// splitmix64 is the generator of that name (Steele, Lea, Flood 2014).
type splitmix64 uint64

func (s *splitmix64) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number below n, as the high half of a product: its bias, n/2⁶⁴,
// is nothing to a sample.
func (s *splitmix64) below(n uint64) uint64 {
	high, _ := bits.Mul64(s.next(), n)
	return high
}
