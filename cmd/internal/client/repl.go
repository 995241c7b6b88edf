package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/sdk"
)

// What a conversation may use unless flags say otherwise.
const (
	replWall  = time.Hour
	replFuel  = 10_000_000_000_000
	replIdle  = 5 * time.Minute
	replIdles = time.Hour // the longest
)

func (a *app) requestREPL() *cobra.Command {
	std := sdk.DefaultWanted()
	w := work{max: money(std.Cap), limits: std.Limits, wall: replWall}
	w.limits.Fuel = replFuel
	idle, meter := replIdle, false
	cmd := &cobra.Command{
		Use: "repl ALGORITHM [flags] [-- ARG…]", Short: "Talk to an algorithm while it runs, and pay as it goes",
		Long: `Talk to an algorithm while it runs, and pay as it goes.

What is typed goes to the algorithm at once, and its answers come back. ALGORITHM
and --data are as for request run, or ALGORITHM is js or python: then every line
is run by that interpreter. On a terminal lines can be edited, and the
arrows bring earlier ones back; Ctrl-D ends the input, Ctrl-C drops the line, and
twice ends the run. Away from a terminal standard input is passed on as it is.

It is paid a window ahead, 2 % of --max; what was not used comes back at the end.
The algorithm rests while a window is empty, at no cost. When the connection
breaks it is dialled again for a while, and the run goes on where it was.`,
		Example: `  mman request repl js
  mman request repl calculator.wasm
  mman request repl baf… --meter < questions.txt`,
		Args: func(cmd *cobra.Command, args []string) error {
			own := args
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				own, w.args = args[:n], append(w.args, args[n:]...)
			}
			return console.Args(1, 1, "ALGORITHM")(cmd, own)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if idle <= 0 || idle > replIdles {
				return console.Wrong("--idle %s: use up to %s", idle, replIdles)
			}
			return a.repl(cmd.Context(), args[0], w, idle, meter)
		},
	}
	w.flags(cmd.Flags())
	cmd.Flags().DurationVar(&idle, "idle", idle, "how long the algorithm may wait for input")
	cmd.Flags().BoolVar(&meter, "meter", false, "show on standard error what it has cost, at most once a second")
	return cmd
}

// repl does the whole of request repl.
func (a *app) repl(ctx context.Context, algorithm string, w work, idle time.Duration, meter bool) (err error) {
	begun := a.now()
	algorithm, isLanguage, err := a.conversation(algorithm)
	if err != nil {
		return err
	}
	if isLanguage && console.Terminal(a.streams.In) && console.Terminal(a.streams.Out) {
		w.args = append([]string{withPrompts}, w.args...)
	}
	wanted, err := w.wanted(algorithm)
	if err != nil {
		return err
	}
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	params, lease, err := a.engage(ctx, c, wanted)
	if err != nil {
		return err
	}
	ctx, interrupt := context.WithCancel(ctx)
	defer interrupt()
	desk, err := a.newDesk(interrupt)
	if err != nil {
		return err
	}
	defer desk.restore()
	outcome, settled, err := a.session(ctx, c, lease, w, sdk.Work{
		Args: w.args, Input: desk.in, Idle: idle, Seed: w.seed.hash, Limits: w.limits,
		Stdout: desk.out, Stderr: desk.err,
		Paid: a.taximeter(desk, meter),
		Lost: func(err error) {
			if err == nil {
				desk.say("the connection is back")
				return
			}
			desk.say("the connection broke, trying again: " + err.Error())
		},
		Held: func(err error) { desk.say("not paid for the moment: " + err.Error()) },
	})
	desk.restore()
	if err != nil {
		return err
	}
	answer, err := newAnswer(lease, outcome, settled, params)
	if err != nil {
		return err
	}
	answer.MS.Total = a.now().Sub(begun).Milliseconds()
	failed := failure(outcome, w.limits)
	if meter {
		_, _ = fmt.Fprintf(a.streams.Err, "mman: paid %s\n", answer.Paid) // only a courtesy
	} else {
		a.note("paid %s", answer.Paid)
	}
	if a.output == formatJSON {
		if failed != nil {
			answer.Error = console.NewProblem(failed)
		}
		if err := console.JSON(a.streams.Out, answer); err != nil {
			return err
		}
		if failed != nil {
			return console.Said(failed)
		}
	}
	return failed
}

// taximeter says now and then what the run has cost.
func (a *app) taximeter(d *desk, on bool) func(mman.Amount) {
	if !on {
		return nil
	}
	var said time.Time
	var last mman.Amount
	return func(paid mman.Amount) {
		if now := a.now(); paid != last && now.Sub(said) >= time.Second {
			said, last = now, paid
			d.say(fmt.Sprintf("%s so far", paid))
		}
	}
}

// desk is where a conversation takes place: this program's streams, or a terminal
// with an editor of lines.
type desk struct {
	in       io.Reader
	out, err io.Writer
	restore  func() // the terminal; safe twice
}

// say tells the person something that is not the algorithm's.
func (d *desk) say(text string) {
	_, _ = fmt.Fprintf(d.err, "mman: %s\n", console.Clean(text)) // only a courtesy
}

// newDesk sits down at the terminal, if there is one. With -o json the answers go
// to standard error: standard output is for facts.
func (a *app) newDesk(interrupt func()) (*desk, error) {
	out := a.streams.Out
	if a.output == formatJSON {
		out = a.streams.Err
	}
	plain := &desk{in: a.streams.In, out: console.Tame(out), err: console.Tame(a.streams.Err), restore: func() {}}
	in, ok := a.streams.In.(*os.File)
	if !ok || !console.Terminal(in) || !console.Terminal(out) {
		return plain, nil
	}
	fd := int(in.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("%w: the terminal: %w", mman.ErrInternal, err)
	}
	screen := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{&keys{r: in, interrupt: interrupt}, out}, "")
	if width, height, err := term.GetSize(fd); err == nil && width > 0 && height > 0 {
		_ = screen.SetSize(width, height) // lines wrap elsewhere then
	}
	tame := console.TameTerminal(screen)
	return &desk{in: &lines{next: screen.ReadLine}, out: tame, err: tame, restore: func() {
		_ = term.Restore(fd, before) // nothing can be done
	}}, nil
}

// lines reads what a person typed, a line at a time.
type lines struct {
	next func() (string, error)
	left []byte
}

// Read returns the rest of a line, or waits for the next.
func (l *lines) Read(p []byte) (int, error) {
	if len(l.left) == 0 {
		line, err := l.next()
		if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
			return 0, err
		}
		l.left = append([]byte(line), '\n')
	}
	n := copy(p, l.left)
	l.left = l.left[n:]
	return n, nil
}

// Keys that mean something to the terminal's editor.
const (
	keyCtrlC = 0x03
	keyCtrlU = 0x15
)

// keys are what a person presses. Ctrl-C drops the line, which the editor calls
// Ctrl-U; a second one at once ends the run.
type keys struct {
	r         io.Reader
	interrupt func()
	armed     bool
}

// Read reads keys.
func (k *keys) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	for i, b := range p[:n] {
		if b != keyCtrlC {
			k.armed = false
			continue
		}
		if k.armed {
			k.interrupt()
		}
		k.armed = true
		p[i] = keyCtrlU
	}
	return n, err
}
