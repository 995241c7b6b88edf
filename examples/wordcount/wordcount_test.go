package wordcount_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/examples/wordcount"
)

func TestCount(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"empty":       {"", "lines 0\nwords 0\nbytes 0\n"},
		"case, order": {"b A a\nB c", "lines 1\nwords 5\nbytes 9\ntop 2 a\ntop 2 b\ntop 1 c\n"},
		"apostrophes": {"don't '' 'tis", "lines 0\nwords 2\nbytes 13\ntop 1 'tis\ntop 1 don't\n"},
		"UTF-8":       {"naïve—naïve", "lines 0\nwords 1\nbytes 15\ntop 1 naïve—naïve\n"},
		"long":        {strings.Repeat("x", 100), "lines 0\nwords 1\nbytes 100\ntop 1 " + strings.Repeat("x", 64) + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(c.text), iotest.OneByteReader(strings.NewReader(c.text))} {
				got, err := wordcount.Count(r)
				require.NoError(t, err)
				require.Equal(t, c.want, string(got))
			}
		})
	}
}

func TestCountReportsAFailingReader(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	_, err := wordcount.Count(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
}
