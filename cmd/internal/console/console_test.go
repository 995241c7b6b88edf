package console_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
)

func TestExit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, console.Done},
		{errors.New("x"), console.Failed},
		{mman.ErrInvalid, console.Failed},
		{console.Wrong("bad %w", mman.ErrNotFound), console.Usage},
		{fmt.Errorf("a: %w", console.Wrong("b")), console.Usage},
		{fmt.Errorf("a: %w", mman.ErrPolicy), console.Refused},
		{mman.RemoteError(mman.ErrFunds.Code, mman.RetryNever, "too poor"), console.Refused},
		{mman.ErrPrice, console.Refused},
		{mman.ErrCapExceeded, console.Refused},
		{mman.ErrFeeTooLow, console.Refused},
		{mman.ErrNotFound, console.Missing},
		{mman.ErrUnreachable, console.Missing},
		{fmt.Errorf("%w: %w", mman.ErrResourceGone, mman.ErrPolicy), console.Missing},
		{fmt.Errorf("%w: %w", mman.ErrCanceled, mman.ErrUnreachable), console.Failed},
		{mman.ErrGuestExit, console.Failed},
	} {
		require.Equal(t, tc.want, console.Exit(tc.err), "%v", tc.err)
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":              "plain",
		"two\nlines\there":   "two lines here",
		"\x1b[31mred\x1b[0m": "[31mred [0m",
		"\x07bell\u009b2J":   "bell 2J",
		"right\u202eleft":    "right left",
		"bad\xff\xfe":        "bad??",
		"ä 漢 …":              "ä 漢 …",
	} {
		require.Equal(t, want, console.Clean(in))
	}
	require.Less(t, len(console.Clean(strings.Repeat("long ", 1000))), 2100)
}

func TestTame(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	require.Same(t, &b, console.Tame(&b), "a pipe gets every byte")
	w := console.TameAlways(&b)
	for _, part := range []string{"a\x1b[2Jb\r\n\tc\x7f", "\xc2", "\x9b1m ä 漢\x00"} {
		n, err := w.Write([]byte(part))
		require.NoError(t, err)
		require.Equal(t, len(part), n)
	}
	require.Equal(t, "a?[2Jb?\n\tc?\xc2?1m ä 漢?", b.String())
}

func TestHome(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HOME": "/home/me"}
	s := console.Streams{Env: func(name string) string { return env[name] }}
	got, err := console.Home("", s)
	require.NoError(t, err)
	require.Equal(t, "/home/me/.mman", got)
	env["MMAN_HOME"] = "/srv/mman"
	got, err = console.Home("", s)
	require.NoError(t, err)
	require.Equal(t, "/srv/mman", got)
	got, err = console.Home("/flag", s)
	require.NoError(t, err)
	require.Equal(t, "/flag", got)
}

func TestAsk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := map[string]string{}
	a := console.Asker{Streams: console.Streams{In: strings.NewReader("typed\n"), Err: new(bytes.Buffer), Env: func(name string) string { return env[name] }}}
	_, err := a.Ask(t.Context(), "me")
	require.ErrorContains(t, err, "nobody to ask")
	env[console.PassphraseVariable] = "from env"
	got, err := a.Ask(t.Context(), "me")
	require.NoError(t, err)
	require.Equal(t, "from env", string(got))
	a.File = filepath.Join(dir, "file")
	for text, want := range map[string]string{"one\ntwo": "one", "one\r\n": "one", " spaced ": " spaced ", "": "", "\nlater": "", strings.Repeat("x", 5000): ""} {
		require.NoError(t, os.WriteFile(a.File, []byte(text), 0o600))
		got, err := a.Ask(t.Context(), "me")
		if want == "" {
			require.ErrorContains(t, err, "first line")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

// TestUnwritten: a full disk is not our fault, and says so.
func TestUnwritten(t *testing.T) {
	t.Parallel()
	err := console.Unwritten(&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC})
	require.ErrorIs(t, err, mman.ErrDiskFull)
	require.Equal(t, "the answer could not be written: write /dev/stdout: no space left on device", err.Error())
	require.Equal(t, console.Failed, console.Exit(err))
	require.ErrorIs(t, console.Unwritten(os.ErrClosed), mman.ErrHome)
}

// TestRun: how a verb's end is said.
func TestRun(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	late := func(cmd *cobra.Command, _ []string) error {
		ctx, stop := context.WithTimeoutCause(cmd.Context(), time.Nanosecond, fmt.Errorf("%w after 1ns", mman.ErrTimeout))
		defer stop()
		cmd.SetContext(ctx)
		<-ctx.Done()
		return fmt.Errorf("%w: waiting", mman.ErrCanceled)
	}
	for _, tc := range []struct {
		name string
		over bool
		run  func(*cobra.Command, []string) error
		json bool
		code int
		out  string
		errs string
	}{
		{"done", false, func(*cobra.Command, []string) error { return nil }, true, 0, "", ""},
		{"failed", false, func(*cobra.Command, []string) error { return mman.ErrFunds }, false, 3, "", "prog: not enough funds\n"},
		{
			"failed for a script", false, func(*cobra.Command, []string) error { return mman.ErrFunds }, true,
			3, "{\n  \"error\": {\n    \"code\": 105,\n    \"text\": \"not enough funds\"\n  }\n}\n", "prog: not enough funds\n",
		},
		{"said already", false, func(*cobra.Command, []string) error { return console.Said(mman.ErrGuestExit) }, true, 1, "", "prog: algorithm ended with an error\n"},
		{"canceled", true, func(cmd *cobra.Command, _ []string) error { return cmd.Context().Err() }, false, 1, "", "prog: canceled\n"},
		{"canceled, and something is left", true, func(*cobra.Command, []string) error {
			return fmt.Errorf("request 7: %w: it stays queued", mman.ErrCanceled)
		}, false, 1, "", "prog: request 7: canceled: it stays queued\n"},
		{"canceled, said by another", true, func(*cobra.Command, []string) error { return fmt.Errorf("%w: the node", mman.ErrUnreachable) }, false, 1, "", "prog: canceled: not reachable: the node\n"},
		{"out of time", false, late, false, 4, "", "prog: timed out after 1ns: canceled: waiting\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			root := console.Group(&cobra.Command{Use: "prog"}, &cobra.Command{Use: "verb", RunE: tc.run})
			ctx := t.Context()
			if tc.over {
				ctx = over
			}
			code := console.Run(ctx, root, console.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, []string{"verb"}, func() bool { return tc.json })
			require.Equal(t, tc.code, code)
			require.Equal(t, tc.out, out.String())
			require.Equal(t, tc.errs, errs.String())
		})
	}
}
