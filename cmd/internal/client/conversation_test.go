package client_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
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
		{"function never() {", ""},
		{"\x03", "\n(Ctrl-C again or Ctrl-D ends)\n"},
		{"typeof never", `"undefined"` + "\n"},
		{"std.loadFile('/script/main.js').length > 100", "true\n"},
		{"std.exit(5)", ""},
	}
	d := &dialogue{}
	for _, a := range asked {
		d.lines = append(d.lines, a[0])
	}
	task := resources.Task{Algorithm: content.Add(script), Facet: resources.FacetJS, Args: []string{"-i"}, Limits: resources.DefaultLimits(), Content: content}
	prepared, err := executor.Prepare(t.Context(), task)
	require.NoError(t, err)
	result, err := executor.Run(t.Context(), prepared, resources.IO{Stdin: d, Stdout: &d.out, Stderr: &d.out})
	require.NoError(t, err)
	require.NoError(t, prepared.Close())
	require.EqualValues(t, 5, result.ExitCode)
	require.Contains(t, d.answers[0], "QuickJS")
	for i, a := range asked[:len(asked)-1] {
		got, ready := strings.CutSuffix(d.answers[i+1], "> ")
		if !ready {
			got, ready = strings.CutSuffix(d.answers[i+1], "… ")
		}
		require.True(t, ready, "a prompt after line %d: %q", i, d.answers[i+1])
		switch a[0] {
		case "":
			require.Contains(t, got, a[1], "line %d", i)
		case "new Uint8Array(200).fill(7)":
			require.Contains(t, got, "7, … 100 more]")
		default:
			require.Equal(t, a[1], got, "line %d, %s", i, a[0])
		}
	}
}

// TestConversationInPython has the script that is Python's talk with a usual Python: a
// script and its end, and line by line.
func TestConversationInPython(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is missing: on Debian, apt-get install python3")
	}
	for name, c := range map[string]struct {
		args []string
		in   string
		out  string // after the first line with -i
		errs string
		code int
	}{
		"a script": {
			in:  "class A:\n    x = 1\n\n    y = 2\nimport pickle\n1 + 1\nprint(pickle.loads(pickle.dumps(A)).y, __name__)",
			out: "2 __main__\n",
		},
		"its error":     {in: "print(1)\ndef f():\n    return 1 / 0\nf()\nprint(2)", out: "1\n", errs: "File \"<stdin>\", line 4, in <module>", code: 1},
		"its syntax":    {in: "print(1)\n(", errs: "SyntaxError", code: 1},
		"its exit code": {in: "import sys; sys.exit(7)", code: 7},
		"arguments":     {args: []string{"-i", "a", "-c"}, in: "import sys; sys.argv[1:]\n", out: ">>> ['a', '-c']\n>>> \n"},
		"line by line": {
			args: []string{"-i"}, in: "for n in range(2):\n    print(n + 5)\n\n6 * 7\n",
			out: ">>> ... ... 5\n6\n>>> 42\n>>> \n",
		},
		"Ctrl-C": {
			args: []string{"-i"}, in: "def never():\n\x03\n'never' in dir()\n",
			out: ">>> ... \nKeyboardInterrupt\n>>> False\n>>> \n",
		},
		"colours": {args: []string{"-i", "-c"}, in: "null.x\n", out: "\x1b[32m>>> \x1b[0m\x1b[32m>>> \x1b[0m\n", errs: "\x1b[31mTraceback"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), python, append([]string{"-I", "-B", "-X", "utf8", "conversation/repl.py"}, c.args...)...)
			var errs bytes.Buffer
			cmd.Stdin, cmd.Stderr = strings.NewReader(c.in), &errs
			out, _ := cmd.Output() // its code is looked at
			require.Equal(t, c.code, cmd.ProcessState.ExitCode(), "%s", &errs)
			if len(c.args) > 0 {
				_, out, _ = bytes.Cut(out, []byte("\n"))
			}
			require.Equal(t, c.out, string(out))
			require.Contains(t, errs.String(), c.errs)
		})
	}
}
