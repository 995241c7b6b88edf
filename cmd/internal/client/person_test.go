package client_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/cmd/internal/client"
	"github.com/limboid/massive-man/cmd/internal/console"
)

// person is somebody who types commands in a home, away from any terminal.
type person struct {
	home  string
	node  string
	stdin string
	env   map[string]string
}

// types runs the program once.
func (p person) types(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = client.Main(t.Context(), args, console.Streams{
		In: strings.NewReader(p.stdin), Out: &out, Err: &errs,
		Env: func(name string) string {
			switch {
			case p.env[name] != "":
				return p.env[name]
			case name == "MMAN_HOME":
				return p.home
			case name == "MMAN_NODE":
				return p.node
			}
			return ""
		},
	})
	return code, out.String(), errs.String()
}

// says returns what a verb that succeeds prints.
func (p person) says(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := p.types(t, args...)
	require.Zero(t, code, "mman %v: %s", args, errs)
	return out
}

// json returns the one object that a verb prints with -o json.
func (p person) json(t *testing.T, want int, args ...string) map[string]any {
	t.Helper()
	code, out, errs := p.types(t, append([]string{"-o", "json"}, args...)...)
	require.Equal(t, want, code, "mman %v: %s", args, errs)
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &v), "mman %v: %s", args, out)
	return v
}

// fails returns the one sentence that a verb fails with.
func (p person) fails(t *testing.T, want int, args ...string) string {
	t.Helper()
	code, out, errs := p.types(t, args...)
	require.Equal(t, want, code, "mman %v: %s%s", args, out, errs)
	require.True(t, strings.HasPrefix(errs, "mman: "), errs)
	require.Equal(t, 1, strings.Count(errs, "\n"), errs)
	require.NotContains(t, errs, "goroutine")
	require.NotContains(t, errs, "Usage:")
	require.NotContains(t, errs, "%!")
	require.Less(t, len(errs), 3000)
	return errs
}

// word returns a text in an answer, part an object in it.
func word(t *testing.T, answer map[string]any, key string) string {
	t.Helper()
	s, ok := answer[key].(string)
	require.True(t, ok, "%s is no text in %v", key, answer)
	return s
}

func part(t *testing.T, answer map[string]any, key string) map[string]any {
	t.Helper()
	m, ok := answer[key].(map[string]any)
	require.True(t, ok, "%s is no object in %v", key, answer)
	return m
}
