package abcitest

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// Setting reads a number above 0 from the environment, with which the long form of a
// test is run; short is that of every other run.
func Setting(tb testing.TB, name string, short int) int {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	require.NoError(tb, err, name)
	require.Positive(tb, n, name)
	return n
}
