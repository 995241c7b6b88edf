package sdk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"syscall"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Console is where a person, or a script, talks to a program in a container: what
// is typed, the size of a terminal, and files. It is the Work.Console of one run.
// Its methods are safe for concurrent use.
type Console struct {
	terminal *resources.Terminal

	writing sync.Mutex // records follow each other whole
	r       *io.PipeReader
	w       *io.PipeWriter

	mu      sync.Mutex
	records resources.Records
	now     []*transfer // in the order in which they are answered
	atEnd   []*transfer
	over    error
}

// transfer is a file that is put or asked for.
type transfer struct {
	name string
	to   io.Writer // of one that is asked for, nil for one that is put
	err  error     // of to
	size int
	done chan error
}

// NewConsole returns a console with a terminal of that size, or with none, where
// standard error is apart.
func NewConsole(terminal *resources.Terminal) *Console {
	c := &Console{terminal: terminal}
	c.r, c.w = io.Pipe()
	return c
}

// Read gives what goes to the provider.
func (c *Console) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *Console) say(kind resources.RecordKind, body []byte) error {
	_, err := c.w.Write(resources.AppendRecord(nil, kind, body))
	return err
}

// Write types p.
func (c *Console) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for n := 0; n < len(p); {
		piece := p[n:min(len(p), n+resources.RecordMaxBytes)]
		if err := c.say(resources.RecordTyped, piece); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return len(p), nil
}

// TypedAll says that nothing more is typed: the program's standard input ends.
// Files may follow.
func (c *Console) TypedAll() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.say(resources.RecordTypedEnd, nil)
}

// Resize tells the program the new size of its terminal.
func (c *Console) Resize(t resources.Terminal) error {
	if err := t.Validate(); err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.w.Write(resources.AppendSize(nil, t))
	return err
}

// Put writes a file below the program's folder for files, or at an absolute path,
// and waits until it is there. What is typed meanwhile comes after it.
func (c *Console) Put(name string, from io.Reader) error {
	if err := resources.ValidFilePath(name); err != nil {
		return err
	}
	t := &transfer{name: name, done: make(chan error, 1)}
	if err := c.put(t, from); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return <-t.done
}

func (c *Console) put(t *transfer, from io.Reader) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.say(resources.RecordPut, []byte(t.name)); err != nil {
		return err
	}
	b := make([]byte, resources.RecordMaxBytes)
	var failed error
	for failed == nil {
		n, err := from.Read(b)
		if n > 0 {
			if err := c.say(resources.RecordPutData, b[:n]); err != nil {
				return err
			}
		}
		failed = err
	}
	if errors.Is(failed, io.EOF) {
		failed = nil
	}
	if err := c.expect(&c.now, t); err != nil {
		return err
	}
	return errors.Join(c.say(resources.RecordPutEnd, nil), failed)
}

// Get reads a file of the program's and waits until it is here, whole or not.
func (c *Console) Get(name string, to io.Writer) error {
	t, err := c.ask(&c.now, resources.RecordGet, name, to)
	if err != nil {
		return err
	}
	return <-t.done
}

// GetAtEnd asks for a file as it is when the program has ended. The channel tells
// when it is here.
func (c *Console) GetAtEnd(name string, to io.Writer) (<-chan error, error) {
	t, err := c.ask(&c.atEnd, resources.RecordGetAtEnd, name, to)
	if err != nil {
		return nil, err
	}
	return t.done, nil
}

func (c *Console) ask(list *[]*transfer, kind resources.RecordKind, name string, to io.Writer) (*transfer, error) {
	if err := resources.ValidFilePath(name); err != nil {
		return nil, err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	t := &transfer{name: name, to: to, done: make(chan error, 1)}
	if err := c.expect(list, t); err != nil {
		return nil, err
	}
	return t, c.say(kind, []byte(name))
}

func (c *Console) expect(list *[]*transfer, t *transfer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		return c.over
	}
	*list = append(*list, t)
	return nil
}

// aside takes what the provider answers.
type aside struct{ c *Console }

// Write takes answers.
func (a aside) Write(p []byte) (int, error) {
	if err := a.c.records.Push(p, a.c.answer); err != nil {
		return 0, err
	}
	return len(p), nil
}

// answer takes one answer. Those of files at the end come when all others came.
func (c *Console) answer(kind resources.RecordKind, body []byte) error {
	c.mu.Lock()
	list := &c.now
	if len(c.now) == 0 {
		list = &c.atEnd
	}
	if len(*list) == 0 {
		c.mu.Unlock()
		return fmt.Errorf("%w: an answer that nobody asked for", mman.ErrProtocol)
	}
	t := (*list)[0]
	if kind == resources.RecordDone {
		*list = (*list)[1:]
	}
	c.mu.Unlock()
	switch {
	case kind == resources.RecordFile && t.to != nil:
		if t.size += len(body); t.size > resources.FileMaxBytes {
			return fmt.Errorf("%w: a file of more than %d bytes", mman.ErrProtocol, resources.FileMaxBytes)
		}
		if t.err == nil {
			_, t.err = t.to.Write(body)
		}
		return nil
	case kind == resources.RecordDone:
		errno, err := resources.ParseDone(body)
		if err != nil {
			return err
		}
		t.done <- errors.Join(t.err, t.reason(errno))
		return nil
	default:
		return fmt.Errorf("%w: a record of kind %d", mman.ErrProtocol, kind)
	}
}

// reason says why a file could not be copied.
func (t *transfer) reason(errno byte) error {
	switch n := syscall.Errno(errno); n { //nolint:exhaustive // the default names the others
	case 0:
		return nil
	case syscall.ENOENT:
		return fmt.Errorf("%w: %s is not there", mman.ErrNotFound, t.name)
	case syscall.EFBIG:
		return fmt.Errorf("%w: %s: a file may have %d MiB", mman.ErrTooLarge, t.name, resources.FileMaxBytes>>20)
	case syscall.ENOSPC:
		return fmt.Errorf("%w: %s: there is no room left", mman.ErrTooLarge, t.name)
	case syscall.EACCES, syscall.EROFS, syscall.EPERM:
		return fmt.Errorf("%w: %s: the program may not; a folder that it may write to is /tmp", mman.ErrDenied, t.name)
	default:
		return fmt.Errorf("%w: %w", mman.ErrInvalid, &fs.PathError{Op: "copy", Path: t.name, Err: n})
	}
}

// end tells those that still wait that the run is over.
func (c *Console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = fmt.Errorf("%w: the program has ended", mman.ErrCanceled)
	for _, t := range append(c.now, c.atEnd...) {
		t.done <- fmt.Errorf("%s: %w", t.name, c.over)
	}
	c.now, c.atEnd = nil, nil
	_ = c.r.CloseWithError(c.over) // always nil
}
