package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// editor is a terminal with an editor of lines, for a program that has no terminal of
// its own. The line that the program has begun is the editor's prompt.
type editor struct {
	*clerk

	screen *term.Terminal
	keys   *keys
	out    *oneByOne

	mu   sync.Mutex
	tame io.Writer    // before said
	said bytes.Buffer // what may be shown of what the program says
	tail []byte       // the line that it has begun
}

// promptMost bounds what is taken for a prompt.
const promptMost = 1 << 10

// editLines talks to a program over lines that are edited here.
func (a *app) editLines(ctx context.Context, t talk, in *os.File, interrupt context.CancelCauseFunc) (*desk, error) {
	e := &editor{
		clerk: &clerk{app: a, talk: t, console: sdk.NewConsole(nil), fd: int(in.Fd()), interrupt: interrupt},
		out:   &oneByOne{w: a.newDeskStreams().out},
	}
	e.answer = e.say
	e.tame = console.TameTerminal(&e.said, !t.plain)
	e.keys = newKeys(in, e.dropped, func() { interrupt(context.Canceled) })
	e.screen = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{e.keys, e.out}, "")
	size := firstSize(e.fd)
	_ = e.resized(size) // always nil
	return e.open(ctx, size, e.listen, e.resized, e, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		end := ""
		if len(e.tail) > 0 {
			end = "\r\n" // behind a prompt
		}
		if !t.plain {
			end = "\x1b[0m" + end
		}
		_, _ = io.WriteString(e.out, end) // only a courtesy
		if t.meter {
			hideCost(e.out)
		}
	})
}

// resized fits the editor to the terminal.
func (e *editor) resized(size resources.Terminal) error {
	_ = e.screen.SetSize(int(size.Columns), int(size.Rows)) //nolint:gosec // at most 4096; lines wrap elsewhere if it fails
	return nil
}

// Write shows what the program says, above the line that is typed.
func (e *editor) Write(p []byte) (int, error) {
	e.alive()
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.tame.Write(p); err != nil {
		return 0, err
	}
	e.tail = append(e.tail, e.said.Bytes()...)
	e.said.Reset()
	whole, rest := e.tail, []byte(nil)
	if i := bytes.LastIndexByte(e.tail, '\n'); len(e.tail)-i-1 <= promptMost {
		whole, rest = e.tail[:i+1], append(rest, e.tail[i+1:]...)
	}
	e.tail = rest
	e.screen.SetPrompt(string(rest))
	if _, err := e.screen.Write(whole); err != nil {
		return 0, err
	}
	e.keys.promptAgain()
	return len(p), nil
}

// say tells the person something that is not the program's.
func (e *editor) say(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, _ = fmt.Fprintf(e.screen, "mman: %s\n", console.Clean(text)) // only a courtesy
	e.keys.promptAgain()
}

// title shows the cost.
func (e *editor) title(paid mman.Amount) {
	e.paid.Store(uint64(paid))
	if e.talk.meter {
		showCost(e.out, paid)
	}
}

// dropped gives up what was begun in earlier lines.
func (e *editor) dropped() {
	if e.talk.ours {
		_, _ = io.WriteString(e.console, dropLine) // the run may be over
	}
}

// listen passes on the lines that are typed, but for those that are for us.
func (e *editor) listen() {
	for {
		line, err := e.screen.ReadLine()
		switch {
		case errors.Is(err, errPrompt):
			continue
		case e.keys.gone:
			e.interrupt(fmt.Errorf("%w: the terminal is gone", mman.ErrCanceled))
			return
		case errors.Is(err, io.EOF):
			if e.console.TypedAll() != nil {
				return
			}
			e.afterwards()
			return
		}
		e.alive()
		if e.pass(line) != nil {
			return // the run is over
		}
	}
}

// afterwards hears nothing but Ctrl-C: the input has ended, and the program may go on.
func (e *editor) afterwards() {
	for !e.keys.gone {
		_, _ = e.screen.ReadLine() // nobody hears it
	}
}

// pass gives a line to the program, or does what it asks of us.
func (e *editor) pass(line string) error {
	rest, ours := strings.CutPrefix(line, string(keyEscape))
	switch {
	case ours && rest == ".":
		e.interrupt(context.Canceled)
		return nil
	case ours && rest == "?":
		e.say(help)
		return nil
	case ours && strings.HasPrefix(rest, "c"):
		e.do(strings.Fields(rest[1:]))
		return nil
	case ours && strings.HasPrefix(rest, string(keyEscape)):
		line = rest
	}
	e.mu.Lock()
	e.tail = nil // what the program says next begins below the line
	e.screen.SetPrompt("")
	e.mu.Unlock()
	_, err := io.WriteString(e.console, line+"\n")
	return err
}

// Keys that mean something to the editor.
const (
	keyCtrlC = 0x03
	keyCtrlE = 0x05
	keyTab   = '\t'
	keyCtrlU = 0x15
)

// errPrompt ends the reading of a line that must be shown with another prompt.
var errPrompt = errors.New("the prompt is another one")

// keys are what a person presses, as the editor of lines takes them. Read is for one
// goroutine.
type keys struct {
	pressed   <-chan []byte // closed when the terminal is gone
	again     chan struct{}
	dropped   func() // at Ctrl-C
	interrupt func() // at the second one

	left  []byte
	armed bool
	gone  bool
}

func newKeys(in io.Reader, dropped, interrupt func()) *keys {
	pressed := make(chan []byte)
	go func() {
		defer close(pressed)
		for {
			b := make([]byte, 1<<10)
			n, err := in.Read(b)
			if n > 0 {
				pressed <- b[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	return &keys{pressed: pressed, again: make(chan struct{}, 1), dropped: dropped, interrupt: interrupt}
}

// promptAgain has the reading of a line begin anew, if one goes on: what was typed stays.
func (k *keys) promptAgain() {
	select {
	case k.again <- struct{}{}:
	default: // it will
	}
}

// Read reads keys. Ctrl-C drops the line, a tab indents it.
func (k *keys) Read(p []byte) (int, error) {
	for len(k.left) == 0 {
		select {
		case b, ok := <-k.pressed:
			if !ok {
				k.gone = true
				return 0, io.EOF
			}
			k.left = k.means(b)
		case <-k.again:
			return 0, errPrompt
		}
	}
	n := copy(p, k.left)
	k.left = k.left[n:]
	return n, nil
}

func (k *keys) means(typed []byte) (out []byte) {
	for _, b := range typed {
		again := k.armed
		k.armed = b == keyCtrlC
		switch {
		case b == keyCtrlC && again:
			k.interrupt()
		case b == keyCtrlC:
			k.dropped()
			out = append(out, keyCtrlE, keyCtrlU)
		case b == keyTab:
			out = append(out, "    "...)
		default:
			out = append(out, b)
		}
	}
	return out
}

// oneByOne lets several goroutines write, one at a time.
type oneByOne struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes p.
func (o *oneByOne) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}
