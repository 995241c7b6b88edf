package ranges

import (
	"maps"
	"slices"
	"sort"
	"strings"
)

type book map[string]int

func unsorted(m map[string]int, b book) (out []string, sum int) {
	for k := range m { // want `range over a map in the state machine`
		out = append(out, k)
	}
	for _, v := range b { // want `range over a map in the state machine`
		sum += v
	}
	return out, sum
}

func sortedTooLate(m map[string]int) []string {
	var keys []string
	for k := range m { // want `range over a map in the state machine`
		keys = append(keys, k)
	}
	if len(keys) > 3 {
		keys = keys[:3]
	}
	slices.Sort(keys)
	return keys
}

func sortsAnother(m map[string]int, other []string) []string {
	var keys []string
	for k := range m { // want `range over a map in the state machine`
		keys = append(keys, k)
	}
	slices.Sort(other)
	return keys
}

func collectsValues(m map[string]string) []string {
	var keys []string
	for k, v := range m { // want `range over a map in the state machine`
		keys = append(keys, k+v)
	}
	slices.Sort(keys)
	return keys
}

func generic[M ~map[K]V, K comparable, V any](m M) (out []K) {
	for k := range m { // want `range over a map in the state machine`
		out = append(out, k)
	}
	return out
}

func iterators(m map[string]int) int {
	n := 0
	for range maps.Keys(m) { // want `maps.Keys in the state machine without slices.Sorted`
		n++
	}
	_ = slices.Collect(maps.Values(m)) // want `maps.Values in the state machine without slices.Sorted`
	for k, v := range maps.All(m) {    // want `maps.All in the state machine`
		n += v + len(k)
	}
	maps.DeleteFunc(m, func(string, int) bool { n++; return n > 3 })       // want `maps.DeleteFunc in the state machine`
	_ = slices.SortedFunc(maps.Values(m), func(a, b int) int { return 0 }) // want `maps.Values in the state machine`
	return n
}

func allowed(m map[string]int, b map[[20]byte]int) int {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var again []string
	for k, _ := range m {
		again = append(again, k)
	}
	sort.Strings(again)
	switch {
	case len(keys) > 0:
		var more []string
		for k := range m {
			more = append(more, k)
		}
		slices.SortFunc(more, strings.Compare)
	}
	n := 0
	for range m {
		n++
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		n += m[k]
	}
	for _, k := range slices.SortedFunc(maps.Keys(b), func(x, y [20]byte) int { return slices.Compare(x[:], y[:]) }) {
		n += b[k]
	}
	for _, k := range keys {
		n += len(k)
	}
	for i := range 3 {
		n += i
	}
	clear(m)
	return n
}
