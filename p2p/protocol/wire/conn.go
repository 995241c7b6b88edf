package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/p2p"
)

// Config bounds one conversation.
type Config struct {
	// MaxRead is the largest frame to accept, in bytes of kind and body.
	// Range 1 to MaxFrame.
	MaxRead int
	// IdleTimeout bounds the wait for the first byte of a frame; 0 means no
	// bound.
	IdleTimeout time.Duration
	// FrameTimeout bounds the time from the first byte of a frame to its last,
	// and the writing of one frame. Must be positive.
	FrameTimeout time.Duration
}

// Validate reports the first setting out of its range, as mman.ErrInvalid.
func (c Config) Validate() error {
	switch {
	case c.MaxRead < 1 || c.MaxRead > MaxFrame:
		return fmt.Errorf("%w: wire frame limit %d: 1 to %d", mman.ErrInvalid, c.MaxRead, MaxFrame)
	case c.IdleTimeout < 0:
		return fmt.Errorf("%w: wire idle timeout %s: it must not be negative", mman.ErrInvalid, c.IdleTimeout)
	case c.FrameTimeout <= 0:
		return fmt.Errorf("%w: wire frame timeout %s: it must be positive", mman.ErrInvalid, c.FrameTimeout)
	}
	return nil
}

// Conn speaks frames over a stream. One goroutine may read at a time; any
// number may write, each frame goes out whole. It owns the stream.
type Conn struct {
	s   p2p.Stream
	cfg Config
	r   *bufio.Reader

	mu sync.Mutex // guards writes
	w  []byte
}

// New returns a Conn over s. cfg must be valid.
func New(s p2p.Stream, cfg Config) *Conn {
	return &Conn{s: s, cfg: cfg, r: bufio.NewReaderSize(s, 4096)}
}

// RemotePeer returns who is at the other end.
func (c *Conn) RemotePeer() mman.PeerID { return c.s.RemotePeer() }

// Read returns the next frame. The clean end is a bare io.EOF. An error frame
// comes back as the error that the peer meant (see mman.RemoteError). Any other
// error has reset the stream: mman.ErrTimeout, mman.ErrTooLarge,
// mman.ErrProtocol, mman.ErrPeerVanished, mman.ErrBusy.
func (c *Conn) Read() (Frame, error) { return c.ReadExpected(0) }

// ReadExpected is Read for who knows how long the body of the next frame is: so
// many bytes are allocated at once, where Read takes more only as they arrive.
func (c *Conn) ReadExpected(n int) (Frame, error) {
	f, err := c.read(n)
	if err == io.EOF { //nolint:errorlint // only the bare value is the clean end
		return Frame{}, err
	}
	if err != nil {
		return Frame{}, c.abort(err)
	}
	if f.Kind != KindError {
		return f, nil
	}
	failed, err := Decode[failure](f)
	if err != nil {
		return Frame{}, c.abort(err)
	}
	return Frame{}, failed.err()
}

func (c *Conn) read(expected int) (Frame, error) {
	if c.r.Buffered() == 0 {
		if err := c.s.SetReadTimeout(c.cfg.IdleTimeout); err != nil {
			return Frame{}, err
		}
		if _, err := c.r.Peek(1); err != nil {
			return Frame{}, err
		}
	}
	if err := c.s.SetReadTimeout(c.cfg.FrameTimeout); err != nil {
		return Frame{}, err
	}
	return readFrame(c.r, c.cfg.MaxRead, min(expected, c.cfg.MaxRead))
}

// Write sends one frame whose body is the concatenation of parts. A frame
// above MaxFrame is mman.ErrTooLarge and is not sent; any other error has reset
// the stream.
func (c *Conn) Write(kind Kind, parts ...[]byte) error {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n >= MaxFrame {
		return fmt.Errorf("%w: frame with a body of %d bytes where less than %d are allowed", mman.ErrTooLarge, n, MaxFrame)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.s.SetWriteTimeout(c.cfg.FrameTimeout); err != nil {
		return c.abort(err)
	}
	// Small frames leave in one write, and a large body is not copied.
	c.w = appendHead(c.w[:0], kind, n)
	for _, p := range parts {
		if len(c.w)+len(p) <= growth {
			c.w = append(c.w, p...)
			continue
		}
		if err := c.flush(); err != nil {
			return err
		}
		if _, err := c.s.Write(p); err != nil {
			return c.abort(err)
		}
	}
	return c.flush()
}

func (c *Conn) flush() error {
	if len(c.w) == 0 {
		return nil
	}
	_, err := c.s.Write(c.w)
	c.w = c.w[:0]
	if err != nil {
		return c.abort(err)
	}
	return nil
}

// Send writes v as DAG-CBOR in one frame.
func (c *Conn) Send(kind Kind, v any) error {
	b, err := dagcbor.Marshal(v)
	if err != nil {
		return err
	}
	return c.Write(kind, b)
}

// Receive reads the next frame, which must be of the given kind, as a T.
// Another kind, or the end, is mman.ErrProtocol and resets the stream.
func Receive[T any](c *Conn, kind Kind) (T, error) {
	var zero T
	f, err := c.Read()
	switch {
	case err == io.EOF: //nolint:errorlint // only the bare value is the clean end
		return zero, c.abort(fmt.Errorf("%w: the peer ended where a frame of kind %d must follow", mman.ErrProtocol, kind))
	case err != nil:
		return zero, err
	case f.Kind != kind:
		return zero, c.abort(fmt.Errorf("%w: frame of kind %d where kind %d must follow", mman.ErrProtocol, f.Kind, kind))
	}
	v, err := Decode[T](f)
	if err != nil {
		return zero, c.abort(err)
	}
	return v, nil
}

// Fail tells the peer why the conversation ends, with err's code, retry
// meaning and at most 512 bytes of its text, and closes the stream. The text
// goes to a stranger: err must not hold secrets.
func (c *Conn) Fail(err error) error {
	return errors.Join(c.Send(KindError, failureOf(err)), c.Close())
}

// CloseWrite ends our side; the peer reads io.EOF after the last frame.
func (c *Conn) CloseWrite() error { return c.s.CloseWrite() }

// Close ends the conversation after what was written.
func (c *Conn) Close() error { return c.s.Close() }

// Reset ends the conversation at once; the peer sees mman.ErrPeerVanished.
func (c *Conn) Reset() error { return c.s.Reset() }

// abort resets the stream and gives err a code if it has none.
func (c *Conn) abort(err error) error {
	var coded *mman.Error
	switch {
	case errors.As(err, &coded):
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("%w: %w", mman.ErrTimeout, err)
	default:
		err = fmt.Errorf("%w: %w", mman.ErrPeerVanished, err)
	}
	if rerr := c.s.Reset(); rerr != nil {
		return errors.Join(err, rerr)
	}
	return err
}
