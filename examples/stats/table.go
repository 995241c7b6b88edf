package stats

import (
	"errors"
	"strconv"
	"strings"
)

// table is a CSV file in memory.
type table struct {
	header []string
	rows   [][]string
}

// parseCSV reads comma-separated values with a header: fields may be quoted, with
// quotes doubled inside; lines end with LF or CRLF; empty lines are skipped. Every
// row must have as many fields as the header.
func parseCSV(text string) (table, error) {
	t := table{}
	text = strings.TrimPrefix(text, "\ufeff")
	for line := 1; text != ""; {
		fields, rest, lines, err := parseRow(text)
		if err != nil {
			return table{}, errors.New("line " + strconv.Itoa(line) + ": " + err.Error())
		}
		switch {
		case len(fields) == 1 && fields[0] == "":
		case t.header == nil:
			t.header = fields
		case len(fields) != len(t.header):
			return table{}, errors.New("line " + strconv.Itoa(line) + ": " + strconv.Itoa(len(fields)) +
				" fields, the header has " + strconv.Itoa(len(t.header)))
		default:
			t.rows = append(t.rows, fields)
		}
		text = rest
		line += lines
	}
	if t.header == nil {
		return table{}, errors.New("the table is empty; its first line must name the columns")
	}
	return t, nil
}

func parseRow(text string) (fields []string, rest string, lines int, err error) {
	for {
		var field string
		if strings.HasPrefix(text, `"`) {
			var n int
			field, text, n, err = parseQuoted(text[1:])
			if err != nil {
				return nil, "", 0, err
			}
			lines += n
		} else {
			end := strings.IndexAny(text, ",\n")
			if end < 0 {
				end = len(text)
			}
			field, text = text[:end], text[end:]
			if text == "" || text[0] == '\n' {
				field = strings.TrimSuffix(field, "\r")
			}
		}
		fields = append(fields, field)
		switch {
		case strings.HasPrefix(text, ","):
			text = text[1:]
		case strings.HasPrefix(text, "\r\n"):
			return fields, text[2:], lines + 1, nil
		case text == "", text[0] == '\n':
			return fields, strings.TrimPrefix(text, "\n"), lines + 1, nil
		default:
			return nil, "", 0, errors.New("a quoted field is followed by " + strconv.Quote(text[:1]))
		}
	}
}

// parseQuoted reads on behind an opening quote.
func parseQuoted(text string) (field, rest string, lines int, err error) {
	var b strings.Builder
	for {
		end := strings.IndexByte(text, '"')
		if end < 0 {
			return "", "", 0, errors.New("a quote is not closed")
		}
		b.WriteString(text[:end])
		text = text[end+1:]
		if !strings.HasPrefix(text, `"`) {
			field = b.String()
			return field, text, strings.Count(field, "\n"), nil
		}
		b.WriteByte('"')
		text = text[1:]
	}
}

// missing reports whether a field holds no value.
func missing(field string) bool {
	switch field {
	case "", "NA", "N/A", "NaN", "nan", "null", "NULL":
		return true
	default:
		return false
	}
}

const (
	// decimals is how many digits behind the point count.
	decimals = 6
	scale    = 1_000_000
)

// parseNumber reads a decimal number as a multiple of 10⁻⁶. A number with more
// digits than that, or an exponent, is not one here.
func parseNumber(s string) (int64, bool) {
	s = strings.TrimSpace(s)
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	whole, fraction, _ := strings.Cut(s, ".")
	if whole == "" && fraction == "" || len(whole) > 12 || len(fraction) > decimals {
		return 0, false
	}
	v := int64(0)
	for _, c := range []byte(whole + fraction) {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	for range decimals - len(fraction) {
		v *= 10
	}
	if negative {
		v = -v
	}
	return v, true
}

// formatNumber writes a multiple of 10⁻⁶ without needless zeros.
func formatNumber(v int64) string {
	sign := ""
	magnitude := uint64(v) //nolint:gosec // in two's complement
	if v < 0 {
		sign, magnitude = "-", -magnitude
	}
	s := sign + strconv.FormatUint(magnitude/scale, 10)
	if rest := magnitude % scale; rest > 0 {
		digits := strconv.FormatUint(scale+rest, 10)[1:]
		s += "." + strings.TrimRight(digits, "0")
	}
	return s
}
