package hosting_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/container/hosting"
)

// TestEvents: each event is a line that can be read back, however long its reason.
func TestEvents(t *testing.T) {
	t.Parallel()
	var lines bytes.Buffer
	sent := []hosting.Event{
		{State: hosting.Running},
		{State: hosting.Exited, ExitCode: 137, Restarts: 3},
		{State: hosting.Notified, Reason: "the provider's node goes out of service", InMs: 60_000},
		{State: hosting.Published, Addr: "192.0.2.1:8080"},
		{State: hosting.Stopped, Reason: strings.Repeat("long ", 1000)},
		{State: hosting.Unhealthy, Reason: strings.Repeat("\x01", 5000)},
		{State: hosting.Unhealthy, Reason: strings.Repeat("\xff\n", 5000)},
	}
	for _, e := range sent {
		line := e.Line()
		require.Equal(t, 1, bytes.Count(line, []byte("\n")))
		lines.Write(line)
	}
	var got []hosting.Event
	require.NoError(t, hosting.ReadEvents(&lines, func(e hosting.Event) { got = append(got, e) }))
	require.Len(t, got, len(sent))
	for i, e := range got {
		require.Equal(t, sent[i].State, e.State)
		require.NotEqual(t, sent[i].Reason == "", e.Reason != "", "%q", e.Reason)
	}
	require.Equal(t, sent[:4], got[:4])
}

// hostile are what a provider may say in the place of events.
func hostile() []string {
	return []string{
		"", "\n", "{", "{}\n{\n", `{"state":"running"}`, `{"state":7}` + "\n", `{"restarts":-1}` + "\n", `{"exit_code":99999999999}` + "\n",
		`["running"]` + "\n", strings.Repeat("x", 1<<20), strings.Repeat(`{"state":"healthy"}`+"\n", 1000), `{"reason":"\u001b[2J"}` + "\n",
		strings.Repeat("[", 10_000), "\x00\xff\n",
	}
}

func read(t *testing.T, said string) (n int) {
	t.Helper()
	err := hosting.ReadEvents(strings.NewReader(said), func(hosting.Event) { n++ })
	if err != nil {
		require.ErrorIs(t, err, mman.ErrProtocol)
	}
	require.LessOrEqual(t, n, 1+strings.Count(said, "\n"))
	return n
}

func TestHostileEvents(t *testing.T) {
	t.Parallel()
	for _, said := range hostile() {
		read(t, said)
	}
	require.Equal(t, 1000, read(t, strings.Repeat(`{"state":"healthy"}`+"\n", 1000)))
}

func FuzzReadEvents(f *testing.F) {
	for _, said := range hostile() {
		f.Add(said)
	}
	f.Fuzz(func(t *testing.T, said string) { read(t, said) })
}
