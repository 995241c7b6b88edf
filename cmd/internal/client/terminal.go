package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// lookPeriod is how often the size of the terminal is looked at, and whether a
// person still types.
const lookPeriod = 200 * time.Millisecond

// check looks at the files of --put and --get before anything is paid.
func (t *talk) check() error {
	for _, file := range t.puts {
		info, err := os.Stat(file)
		switch {
		case err != nil:
			return fmt.Errorf("--put: %w: %w", mman.ErrNotFound, err)
		case !info.Mode().IsRegular():
			return console.Wrong("--put %s: it is no file", file)
		case info.Size() > resources.FileMaxBytes:
			return fmt.Errorf("--put %s: %w: %d bytes, a file may have %d", file, mman.ErrTooLarge, info.Size(), resources.FileMaxBytes)
		}
	}
	seen := map[string]bool{}
	for _, name := range t.gets {
		if err := resources.ValidFilePath(name); err != nil {
			return console.Wrong("--get: %w", err)
		}
		if here := path.Base(name); seen[here] || here == "/" || here == "." || here == ".." {
			return console.Wrong("--get %.200s: it gives no new name for a file here", name)
		}
		seen[path.Base(name)] = true
	}
	return nil
}

// newConsole talks to a program by a script: what is on standard input, and files.
func (a *app) newConsole(t talk, interrupt context.CancelCauseFunc) *desk {
	d := a.newDeskStreams()
	d.out, d.err = console.Tame(d.out), console.Tame(d.err)
	d.console = sdk.NewConsole(nil)
	s := &script{app: a, talk: t, console: d.console}
	d.finish = s.finish
	go s.run(interrupt)
	return d
}

// keyboard is the terminal of this program's input and output, if both are one.
func (a *app) keyboard() (*os.File, bool) {
	in, ok := a.streams.In.(*os.File)
	return in, ok && console.Terminal(in) && console.Terminal(a.newDeskStreams().out)
}

// newDeskStreams are this program's streams. With -o json the answers go to standard
// error: standard output is for facts.
func (a *app) newDeskStreams() *desk {
	d := &desk{out: a.streams.Out, err: a.streams.Err, restore: func() {}, finish: func() error { return nil }}
	if a.output == formatJSON {
		d.out = a.streams.Err
	}
	return d
}

// script types what is on standard input, after the files of --put and before those
// of --get.
type script struct {
	app     *app
	talk    talk
	console *sdk.Console

	mu   sync.Mutex
	gets []*fetched
}

func (s *script) run(interrupt context.CancelCauseFunc) {
	err := s.begin()
	if err == nil {
		_, err = io.Copy(s.console, s.app.streams.In)
		if err == nil {
			err = s.console.TypedAll()
		}
		if errors.Is(err, mman.ErrCanceled) {
			return // the program has ended, and needs no more
		}
	}
	if err != nil {
		interrupt(err)
	}
}

func (s *script) begin() error {
	for _, file := range s.talk.puts {
		if err := putFile(s.console, file, filepath.Base(file)); err != nil {
			return err
		}
	}
	for _, name := range s.talk.gets {
		f, err := fetch(path.Base(name), func(to io.Writer) (<-chan error, error) { return s.console.GetAtEnd(name, to) })
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.gets = append(s.gets, f)
		s.mu.Unlock()
	}
	return nil
}

// finish keeps the files that came.
func (s *script) finish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.gets {
		errs = append(errs, f.finish())
	}
	return errors.Join(errs...)
}

func putFile(c *sdk.Console, file, name string) (err error) {
	f, err := os.Open(file) //nolint:gosec // the user named it
	if err != nil {
		return fmt.Errorf("put: %w: %w", mman.ErrNotFound, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return c.Put(name, io.LimitReader(f, resources.FileMaxBytes+1))
}

// fetched is a file on its way here, under another name until it is whole.
type fetched struct {
	to   string
	part *os.File
	done <-chan error
}

// fetch begins to fetch a file.
func fetch(to string, ask func(io.Writer) (<-chan error, error)) (*fetched, error) {
	part, err := os.CreateTemp(filepath.Dir(to), ".part-*")
	if err != nil {
		return nil, fmt.Errorf("get %s: %w: %w", to, mman.ErrDenied, err)
	}
	f := &fetched{to: to, part: part}
	if f.done, err = ask(part); err != nil {
		return nil, errors.Join(err, part.Close(), os.Remove(part.Name()))
	}
	return f, nil
}

// finish waits for the rest and gives the file its name.
func (f *fetched) finish() error {
	err := errors.Join(<-f.done, f.part.Close())
	if err == nil {
		err = os.Rename(f.part.Name(), f.to)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("get: %w", err), os.Remove(f.part.Name()))
	}
	return nil
}

// clerk does what a person at a terminal wants beside the program.
type clerk struct {
	app       *app
	talk      talk
	console   *sdk.Console
	fd        int
	interrupt context.CancelCauseFunc
	answer    func(string) // says something to the person
	paid      atomic.Uint64
	lively    atomic.Int64 // when something was typed or said last, in ms of Unix time
}

func (c *clerk) alive() { c.lively.Store(c.app.now().UnixMilli()) }

// help is what there is beside the program.
const help = "~. ends the session, ~c opens a line for put FILE [NAME], get NAME [FILE], cost and end, ~~ is a tilde"

// room is where a person and a program with a terminal of its own are together.
type room struct {
	*clerk

	keys io.Reader

	writing sync.Mutex // what the program says, or we
	out     io.Writer
	screen  *console.Screen
}

// Write shows what the program says.
func (r *room) Write(p []byte) (int, error) {
	r.alive()
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.screen.Write(p)
}

// say tells the person something that is not the program's.
func (r *room) say(text string) {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.tell(text)
}

// tell is say by who writes already.
func (r *room) tell(text string) {
	_, _ = fmt.Fprintf(r.out, "\r\nmman: %s\r\n", console.Clean(text)) // only a courtesy
}

// title shows the cost.
func (r *room) title(paid mman.Amount) {
	r.paid.Store(uint64(paid))
	if !r.talk.meter {
		return
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	showCost(r.out, paid)
}

// showCost is the title of a terminal, hideCost an empty one.
func showCost(out io.Writer, paid mman.Amount) {
	_, _ = fmt.Fprintf(out, "\x1b]2;mman: %s so far\a", paid) // only a courtesy
}

func hideCost(out io.Writer) {
	_, _ = io.WriteString(out, "\x1b]2;\a") // only a courtesy
}

// sitDown gives the program a terminal as large as this one.
func (a *app) sitDown(ctx context.Context, t talk, in *os.File, interrupt context.CancelCauseFunc) (*desk, error) {
	out := a.newDeskStreams().out
	fd := int(in.Fd())
	size := firstSize(fd)
	size.Plain = t.plain
	r := &room{clerk: &clerk{app: a, talk: t, console: sdk.NewConsole(&size), fd: fd, interrupt: interrupt}, keys: in, out: out, screen: console.NewScreen(out, t.plain)}
	r.answer = r.say
	return r.open(ctx, size, r.listen, r.console.Resize, r, func() {
		r.writing.Lock()
		defer r.writing.Unlock()
		_ = r.screen.Close() // nothing can be done
		if t.meter {
			hideCost(out)
		}
	})
}

// stage is where a program plays: a terminal.
type stage interface {
	io.Writer

	say(text string)
	title(paid mman.Amount)
}

// open takes the terminal over until the desk's restore is called, which calls leave:
// listen reads what is typed once the files are put, resized is told of another size.
func (c *clerk) open(ctx context.Context, size resources.Terminal, listen func(), resized func(resources.Terminal) error, on stage, leave func()) (*desk, error) {
	c.alive()
	c.app.note("~? at the start of a line tells what there is beside the program")
	before, err := term.MakeRaw(c.fd)
	if err != nil {
		return nil, fmt.Errorf("%w: the terminal: %w", mman.ErrInternal, err)
	}
	s := &script{app: c.app, talk: c.talk, console: c.console}
	go func() {
		if err := s.begin(); err != nil {
			c.interrupt(err)
			return
		}
		listen()
	}()
	over, done := context.WithCancel(ctx)
	go c.look(over, size, resized)
	restore := sync.OnceFunc(func() {
		done()
		leave()
		_ = term.Restore(c.fd, before) // nothing can be done
	})
	return &desk{console: c.console, out: on, err: on, restore: restore, finish: s.finish, screen: on}, nil
}

// firstSize is a terminal's size, or the usual one.
func firstSize(fd int) resources.Terminal {
	if size, ok := sizeOf(fd); ok {
		return size
	}
	return resources.Terminal{Columns: 80, Rows: 24}
}

func sizeOf(fd int) (t resources.Terminal, ok bool) {
	width, height, err := term.GetSize(fd)
	if err != nil || width <= 0 || height <= 0 {
		return t, false
	}
	t = resources.Terminal{Columns: uint64(width), Rows: uint64(height)}
	return t, t.Validate() == nil
}

// look tells when the terminal has another size, and the person when nobody has typed
// for long.
func (c *clerk) look(ctx context.Context, size resources.Terminal, resized func(resources.Terminal) error) {
	warned := int64(0)
	ahead := min(c.talk.idle/5, time.Minute)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.app.after(lookPeriod):
		}
		if now, ok := sizeOf(c.fd); ok && (now.Columns != size.Columns || now.Rows != size.Rows) {
			size = now
			if resized(now) != nil {
				return // the run is over
			}
		}
		last := c.lively.Load()
		if quiet := time.Duration(c.app.now().UnixMilli()-last) * time.Millisecond; quiet >= c.talk.idle-ahead && warned != last {
			warned = last
			c.answer(fmt.Sprintf("nothing was typed or said for %s; the session ends in %s unless something is, or raise --idle", quiet.Truncate(time.Second), ahead))
		}
	}
}

// Keys that mean something here.
const (
	keyCtrlD     = 0x04
	keyBackspace = 0x08
	keyDelete    = 0x7f
	keyEscape    = '~'
)

// listen passes on what is typed, but for what is said to us.
func (r *room) listen() {
	b := make([]byte, 1<<10)
	begun, escaped := true, false // at the start of a line, after a tilde there
	for {
		n, err := r.keys.Read(b)
		if n > 0 {
			r.alive()
			var pass []byte
			for i := 0; i < n; i++ { // a command takes what follows it
				key := b[i]
				if reply := cursorReply(b[i:n]); reply > 0 { // the terminal's, which no person types
					pass = append(pass, b[i:i+reply]...)
					i += reply - 1
					continue
				}
				switch {
				case escaped:
					escaped = false
					pass = append(pass, r.command(key, &i, b[:n])...)
					begun = true
					continue
				case begun && key == keyEscape:
					escaped = true
					continue
				default:
					pass = append(pass, key)
				}
				begun = key == '\r' || key == '\n' || key == keyCtrlC || key == keyCtrlD
			}
			if len(pass) > 0 {
				if _, err := r.console.Write(pass); err != nil {
					return
				}
			}
		}
		if err != nil {
			r.interrupt(fmt.Errorf("%w: the terminal is gone", mman.ErrCanceled))
			return
		}
	}
}

// cursorReply returns how long a terminal's answer where its cursor is at the beginning
// of b is, ESC [ row ; column R, or 0.
func cursorReply(b []byte) int {
	rest, ok := bytes.CutPrefix(b, []byte("\x1b["))
	end := bytes.IndexByte(rest, 'R')
	if !ok || end < 0 || len(bytes.Trim(rest[:end], "0123456789;")) > 0 {
		return 0
	}
	return len(b) - len(rest) + end + 1
}

// command does what the key after a tilde asks for, and returns what is typed to the
// program after all.
func (r *room) command(key byte, at *int, typed []byte) []byte {
	switch key {
	case '.':
		r.interrupt(context.Canceled)
	case '?':
		r.say(help)
	case 'c':
		line, rest := r.line(typed[*at+1:])
		*at = len(typed)
		r.do(strings.Fields(line))
		return append([]byte{'\r'}, rest...) // for a prompt
	case keyEscape:
		return []byte{keyEscape}
	default:
		return []byte{keyEscape, key}
	}
	return nil
}

// line reads a line for us; what the program says waits. typed comes first; what was
// typed after the line is returned.
func (r *room) line(typed []byte) (line string, rest []byte) {
	r.writing.Lock()
	defer r.writing.Unlock()
	_, _ = io.WriteString(r.out, "\r\nmman> ") // only a courtesy
	var text []byte
	b := make([]byte, 1<<8)
	for {
		for i, key := range typed {
			switch {
			case key == '\r' || key == '\n':
				_, _ = io.WriteString(r.out, "\r\n")
				return string(text), append([]byte(nil), typed[i+1:]...)
			case key == keyCtrlC || key == keyCtrlU || key == keyCtrlD:
				_, _ = io.WriteString(r.out, "\r\n")
				return "", append([]byte(nil), typed[i+1:]...)
			case key == keyBackspace || key == keyDelete:
				if len(text) > 0 {
					text = text[:len(text)-1]
					_, _ = io.WriteString(r.out, "\b \b")
				}
			case key >= ' ' && len(text) < resources.FilePathMaxBytes:
				text = append(text, key)
				_, _ = r.out.Write([]byte{key})
			}
		}
		n, err := r.keys.Read(b)
		if err != nil {
			return "", nil
		}
		typed = b[:n]
	}
}

// do carries out a line of ours.
func (c *clerk) do(words []string) {
	if len(words) == 0 {
		return
	}
	var err error
	var done string
	switch verb := words[0]; {
	case verb == "put" && (len(words) == 2 || len(words) == 3):
		name := filepath.Base(words[1])
		if len(words) == 3 {
			name = words[2]
		}
		err, done = putFile(c.console, words[1], name), "put "+name
	case verb == "get" && (len(words) == 2 || len(words) == 3):
		to := path.Base(words[1])
		if len(words) == 3 {
			to = words[2]
		}
		err, done = c.get(words[1], to), "got "+to
	case verb == "cost" && len(words) == 1:
		done = fmt.Sprintf("%s so far", mman.Amount(c.paid.Load()))
	case verb == "end" && len(words) == 1:
		c.interrupt(context.Canceled)
		return
	default:
		done = "there are put FILE [NAME], get NAME [FILE], cost and end"
	}
	if err != nil {
		done = err.Error()
	}
	c.answer(done)
}

func (c *clerk) get(name, to string) error {
	f, err := fetch(to, func(w io.Writer) (<-chan error, error) {
		done := make(chan error, 1)
		done <- c.console.Get(name, w)
		return done, nil
	})
	if err != nil {
		return err
	}
	return f.finish()
}
