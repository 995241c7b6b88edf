package wasmtest

import (
	"os/exec"
	"testing"
)

// Node returns the path of Node.js, another engine to compare with, or skips the
// test and says how to get it.
func Node(tb testing.TB) string {
	tb.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		tb.Skip("Node.js 18 or later is needed: on Debian, apt-get install nodejs")
	}
	return path
}
