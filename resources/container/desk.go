package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"syscall"

	"github.com/moby/moby/client"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// desk takes what a person sends to a run: bytes for the program, and in a framed
// run the size of the terminal and files.
type desk struct {
	r       *run
	conn    client.HijackedResponse // to the program
	records resources.Records
	order   resources.RecordOrder
	gone    bool // the program does not read
	put     *copying
}

// take passes on the next of what came.
func (d *desk) take(ctx context.Context, b []byte) error {
	if !d.r.streams.Framed {
		_, err := pipe{d.conn.Conn}.Write(b)
		return err
	}
	return d.records.Push(b, func(kind resources.RecordKind, body []byte) error { return d.record(ctx, kind, body) })
}

// end says that nothing more comes.
func (d *desk) end() error {
	if d.put != nil {
		d.put.conn.Close()
	}
	if d.gone {
		return errGone
	}
	return nil
}

func (d *desk) record(ctx context.Context, kind resources.RecordKind, body []byte) error {
	if err := d.order.Next(kind, body); err != nil {
		return err
	}
	switch kind {
	case resources.RecordTyped:
		return d.typed(body)
	case resources.RecordTypedEnd:
		_ = d.conn.CloseWrite() // the program may have ended
	case resources.RecordSize:
		return d.resize(ctx, body)
	case resources.RecordPut:
		return d.putBegins(ctx, body)
	case resources.RecordPutData:
		d.putGoesOn(body)
	case resources.RecordPutEnd:
		return d.putEnds(ctx)
	case resources.RecordGet:
		return d.r.send(ctx, filePath(body))
	case resources.RecordGetAtEnd:
		d.r.sendLate(filePath(body))
	case resources.RecordFile, resources.RecordDone: // the order has none
	}
	return nil
}

// typed passes bytes to the program. When it does not read any more the records go
// on: files may be asked for.
func (d *desk) typed(body []byte) error {
	if d.gone {
		return nil
	}
	_, err := pipe{d.conn.Conn}.Write(body)
	if errors.Is(err, errGone) {
		d.gone = true
		return nil
	}
	return err
}

func (d *desk) resize(ctx context.Context, body []byte) error {
	size, err := resources.ParseSize(body)
	if err != nil {
		return err
	}
	_ = d.r.resize(ctx, size) // the program may have ended
	return nil
}

func (r *run) resize(ctx context.Context, size resources.Terminal) error {
	r.still.Lock()
	defer r.still.Unlock()
	_, err := r.e.engine.ExecResize(ctx, r.exec, client.ExecResizeOptions{Height: uint(size.Rows), Width: uint(size.Columns)})
	return err
}

// firstSize tells the terminal its size once the program has begun, for engines that
// do not take it before.
func (r *run) firstSize(ctx context.Context) {
	if r.streams.Terminal == nil {
		return
	}
	for range sizeTries {
		if r.resize(ctx, *r.streams.Terminal) == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-r.e.config.After(exitLook):
		}
	}
}

// sizeTries is how often it is tried.
const sizeTries = 1000

func consoleSize(t resources.Terminal) client.ConsoleSize {
	return client.ConsoleSize{Height: uint(t.Rows), Width: uint(t.Columns)}
}

// term says to a program what its terminal can do.
func term(t resources.Terminal) []string {
	if t.Plain {
		return []string{"TERM=dumb", "NO_COLOR=1"}
	}
	return []string{"TERM=xterm-256color"}
}

// filePath reads the path of a file; a relative one is below the folder for files.
func filePath(body []byte) string {
	name := string(body)
	if !path.IsAbs(name) {
		name = path.Join(ScratchDir, name)
	}
	return name
}

// copying is a file on its way into the container or out of it: our own program
// copies it, as the run's user.
type copying struct {
	exec  string
	conn  client.HijackedResponse
	bytes int
	errno byte // why it cannot be
}

// Directions of copying.
const (
	copyIn  = "w"
	copyOut = "r"
)

func (r *run) copying(ctx context.Context, direction, name string) (*copying, error) {
	r.still.Lock()
	defer r.still.Unlock()
	made, err := r.e.engine.ExecCreate(ctx, r.id, client.ExecCreateOptions{
		Cmd: []string{idlePath, direction, name}, WorkingDir: "/", AttachStdin: direction == copyIn, AttachStdout: true,
	})
	if err != nil {
		return nil, fmt.Errorf("copy a file: %w", err)
	}
	got, err := r.e.engine.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return nil, fmt.Errorf("copy a file: %w", err)
	}
	return &copying{exec: made.ID, conn: got.HijackedResponse}, nil
}

// end waits for the end of a copy and returns the number of its error.
func (r *run) copied(ctx context.Context, c *copying) (byte, error) {
	if c.errno != 0 {
		return c.errno, nil
	}
	for {
		got, err := r.e.engine.ExecInspect(ctx, c.exec, client.ExecInspectOptions{})
		if err != nil {
			return 0, fmt.Errorf("copy a file: %w", err)
		}
		if !got.Running {
			return byte(got.ExitCode & 0xff), nil
		}
		select {
		case <-ctx.Done():
			return 0, canceled(ctx)
		case <-r.e.config.After(exitLook):
		}
	}
}

func (d *desk) putBegins(ctx context.Context, body []byte) (err error) {
	d.put, err = d.r.copying(ctx, copyIn, filePath(body))
	return err
}

func (d *desk) putGoesOn(body []byte) {
	if d.put.bytes += len(body); d.put.bytes > resources.FileMaxBytes {
		d.put.errno = byte(syscall.EFBIG)
		return
	}
	_, _ = d.put.conn.Conn.Write(body) // it says in the end why it does not take more
}

func (d *desk) putEnds(ctx context.Context) error {
	c := d.put
	d.put = nil
	defer c.conn.Close()
	_ = c.conn.CloseWrite() // it may have ended
	// It writes nothing, but ends its stream when it has ended.
	_, _ = io.Copy(io.Discard, io.LimitReader(c.conn.Reader, saidMost)) // its number says how it was
	errno, err := d.r.copied(ctx, c)
	if err != nil {
		return err
	}
	return d.r.out.write(toAside, resources.AppendDone(nil, errno))
}

// send sends a file to who asked for it.
func (r *run) send(ctx context.Context, name string) error {
	c, err := r.copying(ctx, copyOut, name)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	defer context.AfterFunc(ctx, c.conn.Close)()
	to := &sent{r: r, c: c}
	if err := (&output{to: [3]io.Writer{to, io.Discard, io.Discard}, token: make(chan struct{}, 1), left: resources.FileMaxBytes + 1, end: func(err error) { to.err = err }}).follow(c.conn.Reader); err != nil {
		return err
	}
	if to.err != nil && c.errno == 0 {
		return to.err
	}
	c.conn.Close() // it may want to write more
	errno, err := r.copied(ctx, c)
	if err != nil {
		return err
	}
	return r.out.write(toAside, resources.AppendDone(nil, errno))
}

// sent passes a file on in records.
type sent struct {
	r   *run
	c   *copying
	err error
}

// leaveRoom is what a file leaves of the run's output, for the program.
const leaveRoom = 64 << 10

// Write passes p on. A file that is too large is cut, and does not end the run.
func (s *sent) Write(p []byte) (int, error) {
	if s.c.bytes += len(p); s.c.bytes > resources.FileMaxBytes || uint64(len(p)+leaveRoom) > s.r.out.room() {
		s.c.errno = byte(syscall.EFBIG)
		return 0, fmt.Errorf("%w: a file of more than %d bytes", mman.ErrOutput, s.c.bytes)
	}
	for rest := p; len(rest) > 0; {
		n := min(len(rest), resources.RecordMaxBytes)
		if err := s.r.out.write(toAside, resources.AppendRecord(nil, resources.RecordFile, rest[:n])); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// sendLate notes a file that is asked for at the end.
func (r *run) sendLate(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.late = append(r.late, name)
}

// answerLate sends the files that were asked for at the end. The program has ended.
func (r *run) answerLate(ctx context.Context) error {
	r.mu.Lock()
	late := r.late
	r.late = nil
	r.mu.Unlock()
	for _, name := range late {
		if err := r.send(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
