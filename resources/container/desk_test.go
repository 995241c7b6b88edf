package container_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container"
	"github.com/limboid/massive-man/resources/container/image"
	"github.com/limboid/massive-man/resources/resourcestest"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// person talks to a program in a container.
type person struct {
	mu      sync.Mutex
	typed   []byte
	closed  bool
	more    chan struct{}
	said    bytes.Buffer
	errs    bytes.Buffer
	records resources.Records
	file    bytes.Buffer
	done    chan byte
}

func newPerson() *person { return &person{more: make(chan struct{}), done: make(chan byte, 64)} }

func (p *person) changed() {
	close(p.more)
	p.more = make(chan struct{})
}

// Read gives what was typed; see resources.Input.
func (p *person) Read(ctx context.Context, b []byte) (int, error) {
	for {
		p.mu.Lock()
		n, more, closed := copy(b, p.typed), p.more, p.closed
		p.typed = p.typed[n:]
		p.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if closed {
			return 0, io.EOF
		}
		select {
		case <-more:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Ready says that somebody types.
func (*person) Ready() bool { return true }

func (p *person) record(kind resources.RecordKind, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.typed = resources.AppendRecord(p.typed, kind, []byte(body))
	p.changed()
}

func (p *person) types(text string) { p.record(resources.RecordTyped, text) }

func (p *person) hangsUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.changed()
}

type sink struct {
	p  *person
	to *bytes.Buffer
}

// Write hears what the program says.
func (s sink) Write(b []byte) (int, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	defer s.p.changed()
	return s.to.Write(b)
}

type answers struct{ p *person }

// Write takes the answers to records.
func (a answers) Write(b []byte) (int, error) {
	return len(b), a.p.records.Push(b, func(kind resources.RecordKind, body []byte) error {
		if kind == resources.RecordFile {
			_, err := a.p.file.Write(body)
			return err
		}
		errno, err := resources.ParseDone(body)
		a.p.done <- errno
		return err
	})
}

// hears waits until the program has said something, and forgets all up to it.
func (p *person) hears(t *testing.T, text string) {
	t.Helper()
	late := time.After(patience)
	for {
		p.mu.Lock()
		said := p.said.String()
		i := strings.Index(said, text)
		if i >= 0 {
			p.said.Next(i + len(text))
		}
		more := p.more
		p.mu.Unlock()
		if i >= 0 {
			return
		}
		select {
		case <-more:
		case <-late:
			require.Fail(t, "not said", "%q in %q", text, said)
		}
	}
}

// copied waits for the end of a file.
func (p *person) copied(t *testing.T) byte {
	t.Helper()
	select {
	case errno := <-p.done:
		return errno
	case <-time.After(patience):
		require.Fail(t, "no answer")
		return 0
	}
}

type ended struct {
	result resources.Result
	err    error
}

// talks begins a conversation.
func (p *person) talks(t *testing.T, e *container.Executor, task resources.Task, screen *resources.Terminal) <-chan ended {
	t.Helper()
	end := make(chan ended, 1)
	prepared, err := e.Prepare(t.Context(), task)
	require.NoError(t, err)
	go func() {
		result, err := e.Run(t.Context(), prepared, resources.IO{
			Stdin: p, Stdout: sink{p, &p.said}, Stderr: sink{p, &p.errs}, Framed: true, Terminal: screen, Aside: answers{p},
		})
		end <- ended{result, errors.Join(err, prepared.Close())}
	}()
	return end
}

func shellImage(t *testing.T) []byte {
	t.Helper()
	return archive(t, image.Options{Entrypoint: []string{"/bin/sh"}})
}

// TestTerminal is a person at a shell with a terminal.
func TestTerminal(t *testing.T) {
	t.Parallel()
	e := open(t, config(t), container.Undefended{})
	content := &resourcestest.Content{}
	p := newPerson()
	end := p.talks(t, e, task(content, shellImage(t)), &resources.Terminal{Columns: 91, Rows: 31})
	p.types("echo $((6*7)) $TERM; pwd\r")
	p.hears(t, "42 xterm-256color\r\n/tmp\r\n")
	p.types("stty size\r")
	p.hears(t, "\n31 91\r\n")
	p.record(resources.RecordSize, string(resources.AppendSize(nil, resources.Terminal{Columns: 120, Rows: 50})[3:]))
	p.types("stty size\r")
	p.hears(t, "\n50 120\r\n")
	p.types("sh -c 'echo on the way; exec sleep 1000'\r") // said when the terminal is its own
	p.hears(t, "\non the way\r\n")
	p.types("\x03") // Ctrl-C
	p.types("echo interrupted $?\r")
	p.hears(t, "\ninterrupted 130\r\n")

	text := strings.Repeat("what is put there\n", 10_000)
	p.record(resources.RecordPut, "put.txt")
	for b := []byte(text); len(b) > 0; {
		n := min(len(b), resources.RecordMaxBytes)
		p.record(resources.RecordPutData, string(b[:n]))
		b = b[n:]
	}
	p.record(resources.RecordPutEnd, "")
	require.Zero(t, p.copied(t))
	p.types("wc -l < put.txt; id -u\r")
	p.hears(t, "\n10000\r\n65534\r\n")
	p.record(resources.RecordGet, "/tmp/put.txt")
	require.Zero(t, p.copied(t))
	require.Equal(t, text, p.file.String())

	for name, errno := range map[string]byte{"/lost": 2, "/tmp": 21} {
		p.record(resources.RecordGet, name)
		require.Equal(t, errno, p.copied(t), name)
	}
	p.record(resources.RecordPut, "/bin/sh")
	p.record(resources.RecordPutEnd, "")
	require.EqualValues(t, 30, p.copied(t), "the image cannot be written")
	p.file.Reset()
	p.record(resources.RecordGet, "/dev/zero")
	require.EqualValues(t, 27, p.copied(t), "a file without an end")

	p.record(resources.RecordGetAtEnd, "last")
	p.types("echo the last word > last; exit 5\r")
	got := <-end
	require.NoError(t, got.err)
	require.EqualValues(t, 5, got.result.ExitCode)
	require.Zero(t, p.copied(t))
	require.True(t, strings.HasSuffix(p.file.String(), "the last word\n"))
	require.Positive(t, got.result.Usage.CPUMs)
}

// TestScript is a script for a shell without a terminal.
func TestScript(t *testing.T) {
	t.Parallel()
	e := open(t, config(t), container.Undefended{})
	content := &resourcestest.Content{}
	p := newPerson()
	end := p.talks(t, e, task(content, shellImage(t)), nil)
	p.types("echo out; echo err >&2\n")
	p.types("exit 3")
	p.record(resources.RecordTypedEnd, "")
	got := <-end
	require.NoError(t, got.err)
	require.EqualValues(t, 3, got.result.ExitCode)
	require.Equal(t, "out\n", p.said.String())
	require.Equal(t, "err\n", p.errs.String())
}

// TestRecordsThatBreakTheOrder end the run.
func TestRecordsThatBreakTheOrder(t *testing.T) {
	t.Parallel()
	e := open(t, config(t), container.Undefended{})
	content := &resourcestest.Content{}
	whole := func(kinds ...resources.RecordKind) func(*person) {
		return func(p *person) {
			for _, k := range kinds {
				p.record(k, "name")
			}
		}
	}
	for name, act := range map[string]func(*person){
		"unknown":                  whole(99),
		"an answer":                whole(resources.RecordDone),
		"bytes of no file":         whole(resources.RecordPutData),
		"the end of no file":       whole(resources.RecordPutEnd),
		"a file within a file":     whole(resources.RecordPut, resources.RecordPut),
		"typed after the end":      whole(resources.RecordTypedEnd, resources.RecordTyped),
		"the size of no terminal":  func(p *person) { p.record(resources.RecordSize, "\x00\x10\x00\x10") },
		"a size of nothing":        func(p *person) { p.record(resources.RecordSize, "\x00\x00\x00\x10") },
		"a size of three bytes":    func(p *person) { p.record(resources.RecordSize, "\x00\x10\x00") },
		"a path of nothing":        func(p *person) { p.record(resources.RecordGet, "") },
		"a path that is too long":  func(p *person) { p.record(resources.RecordGet, strings.Repeat("x", 2000)) },
		"a path with a zero":       func(p *person) { p.record(resources.RecordPut, "a\x00b") },
		"a record that is too big": func(p *person) { p.record(resources.RecordTyped, strings.Repeat("x", 65000)) },
		"too many at the end": func(p *person) {
			for range resources.FilesAtEnd + 1 {
				p.record(resources.RecordGetAtEnd, "x")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPerson()
			end := p.talks(t, e, task(content, shellImage(t)), nil)
			act(p)
			select {
			case got := <-end:
				require.Error(t, got.err)
				require.Contains(t, []mman.Code{mman.ErrProtocol.Code, mman.ErrInvalid.Code, mman.ErrTooLarge.Code}, mman.CodeOf(got.err), "%v", got.err)
			case <-time.After(patience):
				require.Fail(t, "it goes on")
			}
		})
	}
}

// TestStanding has containers stand ready: conversations take them, others are made
// in their place, and none is left at the end.
func TestStanding(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.Warm, c.WarmMost = 2, 3
	e := open(t, c, container.Undefended{})
	content := &resourcestest.Content{}
	work := task(content, shellImage(t))
	other := task(content, archive(t, image.Options{Entrypoint: []string{"/bin/cat"}}))
	stand := func(tasks ...resources.Task) int {
		var all []container.Standing
		for _, task := range tasks {
			all = append(all, container.Standing{
				Image: task.Algorithm, MemoryBytes: task.Limits.MemoryBytes,
				Open: func(ctx context.Context) (resources.Blob, error) { return content.Open(ctx, task.Algorithm) },
			})
		}
		e.Stand(all)
		ctx, stop := context.WithTimeout(t.Context(), patience)
		defer stop()
		n, err := e.Ready(ctx)
		require.NoError(t, err)
		return n
	}
	list := func() []string {
		got, err := container.Containers(t.Context(), c.Host, c.Owner)
		require.NoError(t, err)
		return got
	}
	require.Equal(t, 2, stand(work))
	before := list()
	require.Len(t, before, 2)
	p := newPerson()
	end := p.talks(t, e, work, nil)
	p.types("echo here\n")
	p.hears(t, "here\n")
	require.Subset(t, list(), before, "the conversation is in one of them")
	p.hangsUp()
	got := <-end
	require.NoError(t, got.err)
	require.Equal(t, 2, stand(work), "another one came in its place")

	// Other limits need a container of their own.
	large := work
	large.Limits.MemoryBytes *= 2
	p = newPerson()
	end = p.talks(t, e, large, nil)
	p.hangsUp()
	require.NoError(t, (<-end).err)

	require.Equal(t, 3, stand(work, other), "there is a bound for all")
	require.Zero(t, stand())
	require.Empty(t, list())
	require.Equal(t, 2, stand(work))
	lost := fmt.Errorf("%w: the image", mman.ErrNotFound)
	e.Stand([]container.Standing{{Image: other.Algorithm, MemoryBytes: 64 << 20, Open: func(context.Context) (resources.Blob, error) { return nil, lost }}})
	n, err := e.Ready(t.Context())
	require.ErrorIs(t, err, mman.ErrNotFound)
	require.Zero(t, n)
	require.Equal(t, 2, stand(work))
	require.NoError(t, e.Close())
	require.Empty(t, list(), "Close leaves none")
}
