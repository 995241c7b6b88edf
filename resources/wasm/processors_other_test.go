//go:build !linux

package wasm_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// onProcessors starts a process; how many processors it uses is for GOMAXPROCS to say.
func onProcessors(tb testing.TB, _ int, start func() error) {
	tb.Helper()
	require.NoError(tb, start())
}
