package client_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
)

// dialogue types a line when the one before is answered.
type dialogue struct {
	lines   []string
	answers []string
	out     bytes.Buffer
}

// Read gives the next line; what was printed until then answers the one before.
func (d *dialogue) Read(_ context.Context, p []byte) (int, error) {
	d.answers = append(d.answers, d.out.String())
	d.out.Reset()
	if len(d.lines) == 0 {
		return 0, io.EOF
	}
	n := copy(p, d.lines[0]+"\n")
	d.lines = d.lines[1:]
	return n, nil
}

// Ready says that somebody types.
func (d *dialogue) Ready() bool { return true }

func TestConversationInJavaScript(t *testing.T) {
	t.Parallel()
	executor, err := wasm.New(wasm.Config{Clock: time.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, executor.Close()) })
	module, err := interpreter.QuickJS()
	require.NoError(t, err)
	script, err := os.ReadFile("conversation/repl.js")
	require.NoError(t, err)
	content := &resourcestest.Content{}
	content.Add(module)

	asked := [][2]string{
		{"1 + 2", "3\n"},
		{"let list = [1, 'x', -0, 5n, null, undefined]", ""},
		{"list", `[1, "x", -0, 5n, null, undefined]` + "\n"},
		{"function next(n) {", ""},
		{"  return n + 1;", ""},
		{"}", ""},
		{"next(41)", "42\n"},
		{"_ + 1", "43\n"},
		{"null.x", "TypeError: cannot read property 'x' of null\n    at <eval> (<evalScript>:1:1)\n"},
		{"let y = ;", "SyntaxError: unexpected token in expression: ';'\n    at <evalScript>:1:1\n"},
		{"`two", ""},
		{"lines`", `"two\nlines"` + "\n"},
		{"await Promise.resolve({a: new Map([[1, new Set('z')]]), 'b c': Math.max})", `{a: Map {1 => Set {"z"}}, "b c": [function max]}` + "\n"},
		{"Promise.resolve(5).then((v) => console.log('then', v)), 0", "then 5\n0\n"},
		{"list.push(list), list[6] === list", "true\n"},
		{"list", `[1, "x", -0, 5n, null, undefined, [itself]]` + "\n"},
		{"new Uint8Array(200).fill(7)", ""},
		{"(1,", ""},
		{"", "SyntaxError"}, // an empty line gives up
		{"std.loadFile('/script/main.js').length > 100", "true\n"},
		{"std.exit(5)", ""},
	}
	d := &dialogue{}
	for _, a := range asked {
		d.lines = append(d.lines, a[0])
	}
	task := resources.Task{Algorithm: content.Add(script), Facet: resources.FacetJS, Limits: resources.DefaultLimits(), Content: content}
	prepared, err := executor.Prepare(t.Context(), task)
	require.NoError(t, err)
	result, err := executor.Run(t.Context(), prepared, resources.IO{Stdin: d, Stdout: &d.out, Stderr: &d.out})
	require.NoError(t, err)
	require.NoError(t, prepared.Close())
	require.EqualValues(t, 5, result.ExitCode)
	require.Empty(t, d.answers[0], "no prompts unless they are asked for")
	for i, a := range asked[:len(asked)-1] {
		switch got := d.answers[i+1]; a[0] {
		case "":
			require.Contains(t, got, a[1], "line %d", i)
		case "new Uint8Array(200).fill(7)":
			require.Contains(t, got, "7, … 100 more]")
		default:
			require.Equal(t, a[1], got, "line %d, %s", i, a[0])
		}
	}
}
