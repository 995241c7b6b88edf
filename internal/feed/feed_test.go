package feed_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/internal/feed"
)

var errReader = errors.New("the reader gave up")

// TestEveryByte: the reader gets what was written, however it was cut.
func TestEveryByte(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{
		"nothing": 0, "a byte": 1, "all that is held": feed.Held, "one more": feed.Held + 1, "much": 20 * feed.Held,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(7, uint64(size)))
			want := make([]byte, size)
			for i := range want {
				want[i] = byte(random.Uint32())
			}
			var got []byte
			f := feed.New(func(r io.Reader) (err error) {
				got, err = io.ReadAll(r)
				return err
			})
			for left := want; len(left) > 0; {
				n := min(len(left), 1+random.IntN(3*feed.Held/2))
				m, err := f.Write(left[:n])
				require.NoError(t, err)
				require.Equal(t, n, m)
				left = left[n:]
			}
			require.NoError(t, f.End())
			require.True(t, bytes.Equal(want, got))
		})
	}
}

// TestReaderFails: a reader's error comes at the end, and before it to a writer that
// goes on.
func TestReaderFails(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"held": 3, "beside the writer": 4 * feed.Held} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := feed.New(func(io.Reader) error { return errReader })
			_, err := f.Write(make([]byte, size))
			if size > feed.Held {
				require.ErrorIs(t, err, errReader)
			} else {
				require.NoError(t, err)
			}
			require.ErrorIs(t, f.End(), errReader)
		})
	}
}

// TestReaderStops: a reader that stops early without an error breaks the writes.
func TestReaderStops(t *testing.T) {
	t.Parallel()
	f := feed.New(func(io.Reader) error { return nil })
	_, err := f.Write(make([]byte, 4*feed.Held))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.NoError(t, f.End())
}
