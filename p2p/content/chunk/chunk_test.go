package chunk_test

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/p2p/content/chunk"
)

func random(n int, seed byte) []byte {
	out := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(out) // it never fails
	return out
}

func cuts(c *chunk.Cutter, data []byte) []int {
	var out []int
	for len(data) > 0 {
		n := c.Cut(data)
		out = append(out, n)
		data = data[n:]
	}
	return out
}

// The cuts are part of CIDs: these never change.
func TestCutVectors(t *testing.T) {
	t.Parallel()
	require.Equal(t, []int{81849, 70157, 67431, 37790, 65711, 76848, 66384, 51450, 6668}, cuts(chunk.New(), random(512<<10, 1)))
}

func TestCutSizes(t *testing.T) {
	t.Parallel()
	c := chunk.New()
	for _, tc := range []struct {
		name string
		data []byte
		want []int
	}{
		{"nothing", nil, nil},
		{"one byte", make([]byte, 1), []int{1}},
		{"the smallest", random(chunk.Min, 2), []int{chunk.Min}},
		{"equal bytes", make([]byte, 2*chunk.Max+5), []int{chunk.Max, chunk.Max, 5}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, cuts(c, tc.data))
		})
	}
	all := cuts(c, random(32<<20, 3))
	for _, n := range all[:len(all)-1] {
		require.GreaterOrEqual(t, n, chunk.Min)
		require.LessOrEqual(t, n, chunk.Max)
	}
	average := 32 << 20 / len(all)
	require.InDelta(t, chunk.Average, average, chunk.Average/8)
}

// What is given beyond Max bytes changes nothing, so that a reader may hold any
// amount ahead.
func TestCutAhead(t *testing.T) {
	t.Parallel()
	c, data := chunk.New(), random(1<<20, 4)
	require.Equal(t, c.Cut(data), c.Cut(data[:chunk.Max]))
}

// After a change the cuts meet again, at once or within a few chunks.
func TestCutMeetsAgain(t *testing.T) {
	t.Parallel()
	c, data := chunk.New(), random(16<<20, 5)
	known := make(map[[32]byte]struct{})
	for at, rest := 0, data; len(rest) > 0; rest = data[at:] {
		n := c.Cut(rest)
		known[sha256.Sum256(rest[:n])] = struct{}{}
		at += n
	}
	moved := append(random(1<<10, 6), data...)
	fresh := 0
	for rest := moved; len(rest) > 0; {
		n := c.Cut(rest)
		if _, ok := known[sha256.Sum256(rest[:n])]; !ok {
			fresh += n
		}
		rest = rest[n:]
	}
	require.Less(t, fresh, 8*chunk.Max)
}

func BenchmarkCut(b *testing.B) {
	c, data := chunk.New(), random(64<<20, 7)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		cuts(c, data)
	}
}
