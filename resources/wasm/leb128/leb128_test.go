package leb128_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/wasm/leb128"
)

func TestAppendSigned(t *testing.T) {
	t.Parallel()
	for v, want := range map[int64][]byte{
		0: {0}, 1: {1}, -1: {0x7f}, 63: {0x3f}, 64: {0xc0, 0}, -64: {0x40}, -65: {0xbf, 0x7f},
		// The example of the format's specification.
		-123456:       {0xc0, 0xbb, 0x78},
		math.MaxInt64: {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0},
		math.MinInt64: {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f},
	} {
		require.Equal(t, append([]byte{9}, want...), leb128.AppendSigned([]byte{9}, v), "%d", v)
	}
}
