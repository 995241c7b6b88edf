package minimum

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
)

const (
	// DefaultMinimum is the smallest group that is shown unless another is said.
	DefaultMinimum = 10
	// maxDepth bounds how deep JSON may nest.
	maxDepth = 16
)

// Options choose what is let through. Minimum is at least 1.
type Options struct {
	// Minimum is the smallest group that is shown.
	Minimum uint64
	// Count names the field or column that says how large a group is; "" means the
	// first there is of count, rows and n.
	Count string
	// Drop names fields and columns that are left out: the smallest and the largest
	// value of a group are those of single members.
	Drop []string
}

// Usage says how the command is called.
const Usage = "usage: minimum [--minimum N] [--count NAME] [--drop NAME,…]"

// ParseArgs reads the command's arguments, without the program's name.
func ParseArgs(args []string) (Options, error) {
	o := Options{Minimum: DefaultMinimum}
	for ; len(args) > 0; args = args[2:] {
		if len(args) < 2 {
			return Options{}, errors.New("a value is missing after " + args[0] + "; " + Usage)
		}
		switch value := args[1]; args[0] {
		case "--minimum":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil || n == 0 {
				return Options{}, errors.New("--minimum " + value + " is not a whole number from 1 on")
			}
			o.Minimum = n
		case "--count":
			o.Count = value
		case "--drop":
			o.Drop = strings.Split(value, ",")
		default:
			return Options{}, errors.New("unknown option " + args[0] + "; " + Usage)
		}
	}
	return o, nil
}

// Filter returns the table, CSV with a line of names or JSON, with the groups that
// are large enough. It does not say how many are left out, and drops what speaks of
// all groups together, from which one that is missing could be computed.
func Filter(table []byte, o Options) ([]byte, error) {
	trimmed := bytes.TrimSpace(table)
	if len(trimmed) == 0 {
		return nil, nil
	}
	if trimmed[0] == '{' || trimmed[0] == '[' {
		return filterJSON(trimmed, o)
	}
	return filterCSV(table, o)
}

func (o Options) names() []string {
	if o.Count != "" {
		return []string{o.Count}
	}
	return []string{"count", "rows", "n"}
}

func filterCSV(table []byte, o Options) ([]byte, error) {
	rows, err := csv.NewReader(bytes.NewReader(table)).ReadAll()
	if err != nil {
		return nil, err
	}
	at := -1
	for _, name := range o.names() {
		if at < 0 {
			at = slices.Index(rows[0], name)
		}
	}
	if at < 0 {
		return nil, errors.New("there is no column that counts; name it with --count")
	}
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	for i, row := range rows {
		if n, err := strconv.ParseUint(row[at], 10, 64); i > 0 && (err != nil || n < o.Minimum) {
			continue
		}
		var kept []string
		for c, value := range row {
			if !slices.Contains(o.Drop, rows[0][c]) {
				kept = append(kept, value)
			}
		}
		if err := w.Write(kept); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return out.Bytes(), w.Error()
}

// filterJSON takes groups as the objects of arrays: the document is one array, or an
// object of which the arrays are kept.
func filterJSON(doc []byte, o Options) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("there is more than one JSON document")
	}
	top, isObject := v.(map[string]any)
	if !isObject {
		top = map[string]any{"": v}
	}
	kept := map[string]any{}
	for name, value := range top {
		list, ok := value.([]any)
		if !ok || slices.Contains(o.Drop, name) {
			continue
		}
		groups, err := o.groups(list, maxDepth)
		if err != nil {
			return nil, err
		}
		kept[name] = groups
	}
	v = kept
	if !isObject {
		v = kept[""]
	}
	out, err := json.Marshal(v)
	return append(out, '\n'), err
}

// groups keeps the objects that are large enough, and within them the objects of
// arrays that are.
func (o Options) groups(list []any, depth int) ([]any, error) {
	if depth == 0 {
		return nil, errors.New("the JSON nests deeper than " + strconv.Itoa(maxDepth))
	}
	kept := []any{}
	for _, one := range list {
		group, ok := one.(map[string]any)
		if !ok || !o.enough(group) {
			continue
		}
		for name, value := range group {
			inner, isList := value.([]any)
			_, isObject := value.(map[string]any)
			switch {
			case isObject || slices.Contains(o.Drop, name): // an object in an object counts nothing
				delete(group, name)
			case isList:
				var err error
				if group[name], err = o.groups(inner, depth-1); err != nil {
					return nil, err
				}
			}
		}
		kept = append(kept, group)
	}
	return kept, nil
}

// enough reports whether the group says that it is large enough.
func (o Options) enough(group map[string]any) bool {
	for _, name := range o.names() {
		if value, ok := group[name]; ok {
			number, _ := value.(json.Number)
			n, err := strconv.ParseUint(number.String(), 10, 64)
			return err == nil && n >= o.Minimum
		}
	}
	return false
}
