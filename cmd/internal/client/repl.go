package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// What a conversation may use unless flags say otherwise.
const (
	replWall  = time.Hour
	replFuel  = 10_000_000_000_000
	replIdle  = 5 * time.Minute
	replIdles = time.Hour // the longest
)

// talk is what the flags of request repl say beside those of all requests.
type talk struct {
	idle  time.Duration
	meter bool
	plain bool
	puts  []string
	gets  []string
	ours  bool // the program is a script of ours, with prompts
}

func (a *app) requestREPL() *cobra.Command {
	std := sdk.DefaultWanted()
	w := work{max: money(std.Cap), limits: std.Limits, wall: replWall}
	w.limits.Fuel = replFuel
	t := talk{idle: replIdle}
	cmd := &cobra.Command{
		Use: "repl ALGORITHM [flags] [-- ARG…]", Short: "Talk to a program while it runs, and pay as it goes",
		Long: `Talk to a program while it runs, and pay as it goes.

ALGORITHM is sh, python, node or js, or any word for which somebody lends a REPL:
an image with the attribute repl=WORD, which runs in a container. Where nobody does,
python and js run as WebAssembly, and so does node as js; --sandbox wasm asks for
that. ALGORITHM and --data may also be as for request run.

On a terminal a program in a container has a terminal of its own, as large as yours:
its line editing, history, colours and Ctrl-C are its own. Everything else has an editor
of lines here: the arrows bring earlier ones back, Ctrl-D ends the input, Ctrl-C drops
the line and what was begun, and twice ends the run. At the start of a line, ~. ends the
session, ~c opens a line for put FILE, get FILE and cost, ~? says what there is.

Away from a terminal standard input is the script, and mman exits with the program's
exit code. With -- -i python and js answer line by line all the same. --put copies files
into /tmp, where python, js and programs in containers begin, before anything is read;
--get copies files from there when it has ended. A file may have 64 MiB.

It is paid a window ahead, 2 % of --max; what was not used comes back at the end.
The program rests while a window is empty, at no cost. When the connection breaks it
is dialled again for a while, and the program goes on where it was; what it says
meanwhile is kept, up to 128 KiB, and then it waits.`,
		Example: `  mman request repl sh
  mman request repl python --put people.csv --get result.json < script.py
  mman request repl calculator.wasm --meter < questions.txt`,
		Args: func(cmd *cobra.Command, args []string) error {
			own := args
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				own, w.args = args[:n], append(w.args, args[n:]...)
			}
			return console.Args(1, 1, "ALGORITHM")(cmd, own)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if t.idle <= 0 || t.idle > replIdles {
				return console.Wrong("--idle %s: use up to %s", t.idle, replIdles)
			}
			if err := t.check(); err != nil {
				return err
			}
			t.plain = t.plain || a.streams.Env("NO_COLOR") != "" || a.streams.Env("TERM") == "dumb"
			return a.repl(cmd.Context(), args[0], w, t)
		},
	}
	w.flags(cmd.Flags())
	f := cmd.Flags()
	f.DurationVar(&t.idle, "idle", t.idle, "how long nothing may be typed and said")
	f.BoolVar(&t.meter, "meter", false, "show what it has cost, at most once a second: in the title of a terminal, otherwise on standard error")
	f.BoolVar(&t.plain, "plain", false, "no colours (default when NO_COLOR is set or TERM is dumb)")
	f.StringArrayVar(&t.puts, "put", nil, "file that the program finds in its folder; repeatable")
	f.StringArrayVar(&t.gets, "get", nil, "file to copy here when the program has ended; repeatable")
	return cmd
}

// repl does the whole of request repl.
func (a *app) repl(ctx context.Context, algorithm string, w work, t talk) (err error) {
	begun := a.now()
	c, lease, params, err := a.partner(ctx, algorithm, &w, &t)
	if c != nil {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	if err != nil {
		return err
	}
	ctx, interrupt := context.WithCancelCause(ctx)
	defer interrupt(nil)
	inside := lease.Lease.Algorithm().Facet == resources.FacetContainer
	var desk *desk
	switch in, ok := a.keyboard(); {
	case ok && inside:
		desk, err = a.sitDown(ctx, t, in, interrupt)
	case ok:
		desk, err = a.editLines(ctx, t, in, interrupt)
	case inside || len(t.puts)+len(t.gets) > 0:
		desk = a.newConsole(t, interrupt)
	default:
		desk = a.newDeskStreams()
		desk.in, desk.out, desk.err = a.streams.In, console.Tame(desk.out), console.Tame(desk.err)
	}
	if err != nil {
		return err
	}
	defer desk.restore()
	outcome, settled, err := a.session(ctx, c, lease, w, sdk.Work{
		Args: w.args, Input: desk.in, Console: desk.console, Idle: t.idle, Seed: w.seed.hash, Limits: w.limits,
		Stdout: desk.out, Stderr: desk.err,
		Paid: a.taximeter(desk, t.meter),
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
	if err = errors.Join(desk.finish(), err); err != nil {
		return err
	}
	if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
		return fmt.Errorf("%w; what it used, %s, is paid", why, outcome.Paid)
	}
	return a.paidFor(lease, outcome, settled, params, w, t, a.now().Sub(begun))
}

// partner leases what talks: what a word stands for, or what is named.
func (a *app) partner(ctx context.Context, algorithm string, w *work, t *talk) (*sdk.Client, *sdk.Lease, genesis.Params, error) {
	var params genesis.Params
	word := isWord(algorithm)
	if !word { // what was typed is checked before a key is asked for
		if _, err := w.wanted(algorithm); err != nil {
			return nil, nil, params, err
		}
	}
	c, err := a.signer(ctx)
	if err != nil {
		return nil, nil, params, err
	}
	choices := []choice{{algorithm: algorithm, where: w.where}}
	if word {
		if choices, err = a.choices(ctx, c, algorithm, w); err != nil {
			return c, nil, params, err
		}
	}
	for i, one := range choices {
		if _, ok := a.keyboard(); ok && one.prompts {
			t.ours = true
			w.args = append(prompting(t.plain), w.args...)
		}
		w.where, w.sandbox = one.where, one.sandbox
		wanted, err := w.wanted(one.algorithm)
		if err != nil {
			return c, nil, params, err
		}
		params, lease, err := a.engage(ctx, c, wanted)
		var refused *sdk.NotServedError
		if err == nil || i == len(choices)-1 || !errors.As(err, &refused) {
			return c, lease, params, err
		}
	}
	return c, nil, params, mman.ErrInternal // there is always a choice
}

// paidFor says what a conversation came to.
func (a *app) paidFor(lease *sdk.Lease, outcome sdk.Outcome, settled mman.Hash, params genesis.Params, w work, t talk, took time.Duration) error {
	answer, err := newAnswer(lease, outcome, settled, params)
	if err != nil {
		return err
	}
	answer.MS.Total = took.Milliseconds()
	failed := failure(outcome, w.limits)
	if failed != nil && outcome.Result.Code == 0 {
		failed = console.Ended(outcome.Result.ExitCode, failed)
	}
	if t.meter {
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
			d.cost(paid)
		}
	}
}

// desk is where a conversation takes place: this program's streams, or a terminal.
type desk struct {
	in       io.Reader
	console  *sdk.Console // instead of in, for a container
	out, err io.Writer
	restore  func()       // the terminal; safe twice
	finish   func() error // after the run
	screen   stage        // of a terminal, nil away from one
}

// say tells the person something that is not the program's.
func (d *desk) say(text string) {
	if d.screen != nil {
		d.screen.say(text)
		return
	}
	_, _ = fmt.Fprintf(d.err, "mman: %s\n", console.Clean(text)) // only a courtesy
}

// cost tells what the run has cost so far.
func (d *desk) cost(paid mman.Amount) {
	if d.screen != nil {
		d.screen.title(paid)
		return
	}
	d.say(fmt.Sprintf("%s so far", paid))
}
