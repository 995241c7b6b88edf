package stats

import (
	"errors"
	"strconv"
)

// Options choose what is summarised. The zero value summarises every numeric
// column of all rows, grouped by GroupBy's default.
type Options struct {
	// Path of the table, by default /data/0. Summarize does not use it.
	Path string
	// Column restricts the answer to one numeric column.
	Column string
	// GroupBy names the column whose values make the groups. By default it is
	// the first column that is not numeric and has at most 64 values; without
	// one, all rows are one group.
	GroupBy string
	// Sample draws as many rows as there are, with replacement, from Seed.
	Sample bool
	Seed   uint64
}

// Usage says how the command is called.
const Usage = "usage: stats [--column NAME] [--group NAME] [--seed N] [FILE]"

// ParseArgs reads the command's arguments, without the program's name.
func ParseArgs(args []string) (Options, error) {
	o := Options{Path: "/data/0"}
	named := false
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if len(arg) < 2 || arg[:2] != "--" {
			if named {
				return Options{}, errors.New("two files were given; " + Usage)
			}
			o.Path, named = arg, true
			continue
		}
		if len(args) == 0 {
			return Options{}, errors.New("a value is missing after " + arg + "; " + Usage)
		}
		value := args[0]
		args = args[1:]
		switch arg {
		case "--column":
			o.Column = value
		case "--group":
			o.GroupBy = value
		case "--seed":
			seed, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return Options{}, errors.New("--seed " + value + " is not a whole number from 0 to 2^64-1")
			}
			o.Seed, o.Sample = seed, true
		default:
			return Options{}, errors.New("unknown option " + arg + "; " + Usage)
		}
	}
	return o, nil
}
