package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	mman "github.com/limboid/massive-man"
)

// Streams are a program's standard streams and its environment. Standard input
// is read by one goroutine; the writers are used by one at a time.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// Env returns the value of an environment variable, "" when it is not set.
	Env func(name string) string
}

// Terminal reports whether a stream is a terminal.
func Terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Run parses args, runs the verb that they name and returns the exit code. It
// says an error itself. asJSON tells, once flags are read, whether the answer is
// JSON. A canceled ctx ends the verb, with the exit code Failed; a verb that gave
// itself less time says so by the cause of its own context.
func Run(ctx context.Context, root *cobra.Command, s Streams, args []string, asJSON func() bool) int {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Wrong("%w; see %s --help", err, cmd.CommandPath())
	})
	root.SetHelpCommand(help())
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return Done
	}
	err = ended(context.Cause(cmd.Context()), err) //nolint:contextcheck // it descends from ctx
	Say(s, root.Name(), err, (asJSON() || wantsJSON(args)) && !errors.Is(err, errSaid))
	return Exit(err)
}

// ended says first that the time was up or that the user gave up, when that is
// why err came. What was interrupted meanwhile is of no interest to anybody, but
// what it left behind is: an error that is not only the context's own stays.
func ended(cause, err error) error {
	first := error(mman.ErrCanceled)
	switch {
	case cause == nil:
		return err
	case errors.Is(cause, mman.ErrTimeout):
		first = cause
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return first
	}
	if mman.CodeOf(err) == mman.CodeOf(first) {
		return err
	}
	return fmt.Errorf("%w: %w", first, err)
}

// wantsJSON finds -o json where the flags could not be read to their end.
func wantsJSON(args []string) bool {
	for i, a := range args {
		switch a {
		case "--":
			return false
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			return i+1 < len(args) && args[i+1] == "json"
		}
	}
	return false
}

var errSaid = errors.New("")

// Said wraps an error whose JSON form is on standard output already.
func Said(err error) error { return said{err} }

type said struct{ err error }

func (e said) Error() string { return e.err.Error() }

func (e said) Unwrap() []error { return []error{e.err, errSaid} }

// Say writes an error as one sentence to standard error and, when asJSON, as
// {"error": {"code", "text"}} to standard output.
func Say(s Streams, program string, err error, asJSON bool) {
	text := Clean(err.Error())
	if asJSON {
		_ = JSON(s.Out, Failure{NewProblem(err)}) // the sentence below remains
	}
	_, _ = fmt.Fprintf(s.Err, "%s: %s\n", program, text) // nowhere else to say it
}

// Failure is the JSON form of an answer that is only an error.
type Failure struct {
	Error *Problem `json:"error"`
}

// Problem is the JSON form of an error: its number in mman.Code and its
// sentence.
type Problem struct {
	Code mman.Code `json:"code"`
	Text string    `json:"text"`
}

// NewProblem returns the JSON form of an error.
func NewProblem(err error) *Problem { return &Problem{mman.CodeOf(err), Clean(err.Error())} }

// maxSentence bounds an error's sentence, in bytes: strangers write part of it.
const maxSentence = 2000

// Clean makes one line of printable text of what may come from a stranger.
func Clean(text string) string {
	if len(text) > maxSentence {
		text = text[:maxSentence] + "…"
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case r < ' ' || (r >= 0x7f && r < 0xa0) || r == 0x2028 || r == 0x2029 || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069):
			return ' '
		default:
			return r
		}
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

// JSON writes v as one indented object and a newline.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return Unwritten(err)
	}
	return nil
}

// Unwritten returns the error of an answer that could not be written to where
// the user wants it.
func Unwritten(err error) error {
	code := mman.ErrHome
	if errors.Is(err, syscall.ENOSPC) {
		code = mman.ErrDiskFull
	}
	return &unwritten{code, fmt.Errorf("the answer could not be written: %w", err)}
}

// unwritten has a code whose own words would mislead.
type unwritten struct {
	code *mman.Error
	err  error
}

func (e *unwritten) Error() string { return e.err.Error() }

func (e *unwritten) Unwrap() []error { return []error{e.code, e.err} }

// Args returns a check that from least to most arguments are given; most < 0
// is no bound. names says in the error what they are.
func Args(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return Wrong("%s needs %s, got %d arguments; see %s --help", cmd.CommandPath(), names, len(args), cmd.CommandPath())
		case most == 0 && len(args) > 0:
			return Wrong("%s takes no argument, got %.80q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
		case most >= 0 && len(args) > most:
			return Wrong("%s takes only %s, %.80q is one too many; see %s --help", cmd.CommandPath(), names, args[most], cmd.CommandPath())
		}
		return nil
	}
}

// Group makes cmd one that only holds others: named alone it shows its help,
// and an unknown verb below it is refused with what was perhaps meant.
func Group(cmd *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(verbs...)
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && !cmd.HasParent() {
			return cmd.Help()
		}
		if len(args) == 0 {
			var names []string
			for _, c := range cmd.Commands() {
				if c.IsAvailableCommand() {
					names = append(names, c.Name())
				}
			}
			return Wrong("%s needs one of: %s; see %s --help", cmd.CommandPath(), strings.Join(names, ", "), cmd.CommandPath())
		}
		return UnknownVerb(cmd, args[0])
	}
	return cmd
}

// UnknownVerb refuses a word that is no verb of cmd, with what was perhaps meant.
func UnknownVerb(cmd *cobra.Command, word string) error {
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		return Wrong("unknown verb %.40q, perhaps %q is meant; see %s --help", word, near[0], cmd.CommandPath())
	}
	return Wrong("unknown verb %.40q; see %s --help", word, cmd.CommandPath())
}

func help() *cobra.Command {
	return &cobra.Command{
		Use: "help [VERB]", Short: "Show the help of a verb", Hidden: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil }, // help needs no config
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || (len(rest) > 0 && found != nil) {
				return UnknownVerb(cmd.Root(), strings.Join(args, " "))
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}
