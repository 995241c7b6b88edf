package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/node"
)

// TestREPLWithoutEngine talks to an interpreter in WebAssembly by the word for one in a
// container, which nobody lends: by a script with its files, and at a terminal, where
// lines are edited, kept and given up, files go to and fro, and the cost is shown.
func TestREPLWithoutEngine(t *testing.T) {
	t.Parallel()
	home := filepath.Join(t.TempDir(), "home")
	lender := serve(t, home, "--engine", "none", "--provide")
	eventually(t, within, "an offer", func(context.Context) (bool, error) {
		return lender.ended() || strings.Contains(lender.out.String(), `"WASM compute"`), nil
	})
	require.False(t, lender.ended(), "%s", &lender.errs)
	running, err := node.ReadRunning(home)
	require.NoError(t, err)
	repl := func(flags ...string) *job {
		return prepare(t, home, append([]string{"client", "--node", running.RPC, "request", "repl", "node"}, flags...)...)
	}

	// A script, to its end or its first error.
	script := repl("--put", write(t, t.TempDir(), "up.txt", []byte("from here")), "--get", "down.txt", "--get", "lost.txt", "--meter")
	script.cmd.Stdin = strings.NewReader(`
const said = std.loadFile("up.txt")
std.writeFile("down.txt", said + " and back")
said.length // shows nothing
console.log(said)
throw new Error("on purpose")
`)
	require.Equal(t, 4, script.start(t).end(t, within), "%s", &script.errs)
	require.Equal(t, "from here\n", script.out.String())
	require.Contains(t, script.errs.String(), "Error: on purpose")
	require.Contains(t, script.errs.String(), "lost.txt is not there")
	down, err := os.ReadFile(filepath.Join(script.cmd.Dir, "down.txt"))
	require.NoError(t, err)
	require.Equal(t, "from here and back", string(down))
	fails := repl()
	fails.cmd.Stdin = strings.NewReader("std.exit(7)")
	require.Equal(t, 7, fails.start(t).end(t, within), "the program's own: %s", &fails.errs)

	// A person, with colours and with a meter.
	const prompt = "\x1b[32m> \x1b[0m"
	person, screen := openTerminal(t, 40, 24)
	at := repl("--meter", "--idle", "10m")
	at.cmd.Stdin, at.cmd.Stdout, at.cmd.Stderr = screen, screen, screen
	at.start(t)
	person.hears(prompt)
	person.types("6*6\x02\x7f+\r") // Ctrl-B and backspace
	person.hears("\r\n12\r\n")     // the line was edited
	person.hears(prompt)
	person.types("\x1b[A + 1\r") // the arrow brings it back
	person.hears("\r\n13\r\n")
	person.hears(prompt)
	long := `"` + strings.Repeat("x", 60) + `".length` // longer than the terminal is wide
	person.types(long + "\x01\x05\x7f\x7f\x7f\x7f\x7f\x7f\x7f.length + 2\r")
	person.hears("\r\n62\r\n")
	person.hears(prompt)
	person.types("function twice(n) {\r")
	person.hears("… ")
	person.types("return 2 * n;\r")
	person.hears("… ")
	person.types("}\r")
	person.hears(prompt)
	person.types("twice(21)\r") // a command of several lines
	person.hears("\r\n42\r\n")
	person.hears(prompt)
	person.types("function never() {\r")
	person.hears("… ")
	person.types("nothing of this\x03") // Ctrl-C drops line and block
	person.hears("(Ctrl-C again or Ctrl-D ends)\r\n")
	person.hears(prompt)
	person.types("typeof never\r")
	person.hears("\r\n\"undefined\"\r\n")
	person.hears(prompt)
	person.types("null.x\r")
	person.hears("\x1b[31mTypeError: ")
	person.hears(prompt)
	person.types("std.out.puts('\\x1b]0;evil\\x07'), 0\r")
	person.hears("\r\n?]0;evil?0\r\n") // what could steer the terminal does not come
	person.hears(prompt)
	person.resize(100, 40)
	person.types("~cput " + write(t, at.cmd.Dir, "typed.txt", []byte("put by hand")) + "\r")
	person.hears("mman: put typed.txt")
	person.types("std.writeFile('again.txt', std.loadFile('typed.txt')), 'copied'\r")
	person.hears("\r\n\"copied\"\r\n")
	person.hears(prompt)
	person.types("~c get again.txt\r")
	person.hears("mman: got again.txt")
	person.types("~ccost\r")
	person.hears("MAN so far")
	person.types("~?\r")
	person.hears("~. ends the session")
	person.types("~~5 + 6\r") // a tilde of JavaScript's
	person.hears("\r\n0\r\n")
	person.types("std.exit(3)\r")
	require.Equal(t, 3, at.end(t, within))
	got, err := os.ReadFile(filepath.Join(at.cmd.Dir, "again.txt"))
	require.NoError(t, err)
	require.Equal(t, "put by hand", string(got))
	person.hears("\x1b]2;mman: 0.") // the meter was in the title

	// Another one, plain: Ctrl-D ends the input, and Ctrl-C twice what goes on.
	for keys, code := range map[string]int{"\x04": 0, "while (true) {}\r\x03\x03": 1, "~.\r": 1} {
		person, screen := openTerminal(t, 80, 24)
		at := repl("--plain")
		at.cmd.Stdin, at.cmd.Stdout, at.cmd.Stderr = screen, screen, screen
		at.start(t)
		require.NotContains(t, person.hears("> "), "\x1b[32m")
		person.types(keys)
		require.Equal(t, code, at.end(t, within), "%q", keys)
	}
	quit(t, lender)
}
