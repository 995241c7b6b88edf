package mux

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-yamux/v5"
)

// What a stream is for, its first byte.
const (
	// KindConn is a connection to the port of the container. The ferry says the byte
	// again when the port has taken it.
	KindConn   byte = 'c'
	KindLog    byte = 'l' // what the program prints, from what is kept of it on
	KindEvents byte = 'e' // lines that say how the container is
	KindSignal byte = 's' // to the ferry alone: a second byte is the signal for all processes
)

const (
	// MaxStreams is how many streams may be open at a time, windowBytes how much
	// each may have on its way.
	MaxStreams  = 128
	windowBytes = 256 << 10
	// patience is how long a write may take: a container that is not paid for rests,
	// and a connection that broke is dialled again.
	patience = time.Hour
	// aliveEvery is how often each side says that it is there.
	aliveEvery = 30 * time.Second
)

// Session is many streams over one. Its methods are safe for concurrent use.
type Session struct{ s *yamux.Session }

// Stream is one of them.
type Stream struct{ *yamux.Stream }

// Half is a connection whose sides end one by one.
type Half interface {
	io.ReadWriteCloser
	CloseWrite() error
}

func config() *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog, c.MaxIncomingStreams = MaxStreams, MaxStreams
	c.InitialStreamWindowSize, c.MaxStreamWindowSize = windowBytes, windowBytes
	// What measures the way also keeps a run from being idle; what takes a silence for
	// the end would end one that rests.
	c.ConnectionWriteTimeout, c.EnableKeepAlive, c.MeasureRTTInterval = patience, false, aliveEvery
	c.LogOutput = io.Discard
	return c
}

// Client returns the side that opens streams.
func Client(conn io.ReadWriteCloser) (*Session, error) {
	s, err := yamux.Client(wrapped{conn}, config(), nil)
	if err != nil {
		return nil, fmt.Errorf("streams: %w", err)
	}
	return &Session{s}, nil
}

// Server returns the side that accepts streams.
func Server(conn io.ReadWriteCloser) (*Session, error) {
	s, err := yamux.Server(wrapped{conn}, config(), nil)
	if err != nil {
		return nil, fmt.Errorf("streams: %w", err)
	}
	return &Session{s}, nil
}

// Open opens a stream; head is its first bytes, which say what it is for.
func (s *Session) Open(ctx context.Context, head ...byte) (Stream, error) {
	one, err := s.s.OpenStream(ctx)
	if err != nil {
		return Stream{}, fmt.Errorf("open a stream: %w", err)
	}
	if _, err := one.Write(head); err != nil {
		_ = one.Reset() // it is broken
		return Stream{}, fmt.Errorf("open a stream: %w", err)
	}
	return Stream{one}, nil
}

// Accept waits for a stream of the other side. Its first byte is still to be read.
func (s *Session) Accept() (Stream, error) {
	one, err := s.s.AcceptStream()
	if err != nil {
		return Stream{}, fmt.Errorf("accept a stream: %w", err)
	}
	return Stream{one}, nil
}

// Head reads the first byte of a stream.
func (s Stream) Head() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(s, b[:])
	return b[0], err
}

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.s.CloseChan() }

// Heard returns what is closed when the other side has answered, which it does after
// what was sent before; or when the session is over.
func (s *Session) Heard() <-chan struct{} {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		_, _ = s.s.Ping() // an error is the session's end
	}()
	return heard
}

// Close ends the session and all streams. Safe twice.
func (s *Session) Close() error { return s.s.Close() }

// Join passes bytes both ways until both sides have ended or one has failed, and
// closes both. A stream that failed is reset, so that it never looks whole.
func Join(a, b Half) {
	var both sync.WaitGroup
	pass := func(to, from Half) {
		if _, err := io.Copy(to, from); err != nil || to.CloseWrite() != nil {
			cut(a)
			cut(b)
		}
	}
	both.Go(func() { pass(a, b) })
	pass(b, a)
	both.Wait()
	_ = a.Close() // both have ended
	_ = b.Close()
}

// cut ends a side without an orderly end.
func cut(h Half) {
	switch h := h.(type) {
	case Stream:
		_ = h.Reset() // it is over either way
	case *net.TCPConn:
		_ = h.SetLinger(0)
		_ = h.Close()
	default:
		_ = h.Close()
	}
}

// wrapped gives a pair of byte streams the methods of a connection that yamux asks
// for and that have no meaning here.
type wrapped struct{ io.ReadWriteCloser }

func (wrapped) LocalAddr() net.Addr              { return nil }
func (wrapped) RemoteAddr() net.Addr             { return nil }
func (wrapped) SetDeadline(time.Time) error      { return nil }
func (wrapped) SetReadDeadline(time.Time) error  { return nil }
func (wrapped) SetWriteDeadline(time.Time) error { return nil }
