package mux_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/container/mux"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// pair is both sides of a session.
func pair(t *testing.T) (client, server *mux.Session) {
	t.Helper()
	a, b := net.Pipe()
	client, err := mux.Client(a)
	require.NoError(t, err)
	server, err = mux.Server(b)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = client.Close() // it may be closed
		_ = server.Close()
	})
	return client, server
}

// over waits until a session is.
func over(t *testing.T, s *mux.Session) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(patience):
		require.Fail(t, "the session goes on")
	}
}

// TestStreams carries more than a window over several streams at once.
func TestStreams(t *testing.T) {
	t.Parallel()
	client, server := pair(t)
	var work sync.WaitGroup
	work.Go(func() {
		mux.Admit(&work, mux.MaxStreams, server.Accept, func(s mux.Stream) {
			if kind, err := s.Head(); err != nil || kind != mux.KindConn {
				_ = s.Reset() // the other side fails
				return
			}
			_, _ = io.Copy(s, s) // as above
			_ = s.CloseWrite()
		})
	})
	text := make([]byte, 1<<20)
	_, err := rand.Read(text)
	require.NoError(t, err)
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			s, err := client.Open(t.Context(), mux.KindConn)
			if err != nil {
				errs <- err
				return
			}
			go func() {
				_, _ = s.Write(text) // what is missing is noticed below
				_ = s.CloseWrite()
			}()
			got, err := io.ReadAll(s)
			if err == nil && !bytes.Equal(got, text) {
				err = errors.New("other bytes came back")
			}
			errs <- errors.Join(err, s.Close())
		}()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.NoError(t, client.Close())
	over(t, server)
	work.Wait()
}

// TestAdmit: what comes while as many are served as may is closed.
func TestAdmit(t *testing.T) {
	t.Parallel()
	client, server := pair(t)
	var work sync.WaitGroup
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	work.Go(func() {
		mux.Admit(&work, 1, server.Accept, func(s mux.Stream) {
			entered <- struct{}{}
			<-leave
			_ = s.Close()
		})
	})
	_, err := client.Open(t.Context(), mux.KindConn)
	require.NoError(t, err)
	<-entered
	second, err := client.Open(t.Context(), mux.KindConn)
	require.NoError(t, err)
	_, err = io.ReadAll(second) // ends though nobody reads or closes here
	require.NoError(t, err)
	close(leave)
	require.NoError(t, client.Close())
	work.Wait()
	require.Empty(t, entered, "the second was not served")
}

// TestJoin passes both ways, and a side that failed makes no whole end.
func TestJoin(t *testing.T) {
	t.Parallel()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	conns := make(chan *net.TCPConn, 1)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if tcp, ok := conn.(*net.TCPConn); ok {
				conns <- tcp
			}
		}
	}()
	for _, broken := range []bool{false, true} {
		client, server := pair(t)
		var dialer net.Dialer
		here, err := dialer.DialContext(t.Context(), "tcp", ln.Addr().String())
		require.NoError(t, err)
		there := <-conns
		var joined sync.WaitGroup
		joined.Go(func() {
			s, err := server.Accept()
			if err != nil {
				_ = there.Close() // the other side fails
				return
			}
			_, _ = s.Head() // as above
			mux.Join(there, s)
		})
		s, err := client.Open(t.Context(), mux.KindConn)
		require.NoError(t, err)
		_, err = s.Write([]byte("in"))
		require.NoError(t, err)
		got := make([]byte, 2)
		_, err = io.ReadFull(here, got)
		require.NoError(t, err)
		require.Equal(t, "in", string(got))
		_, err = here.Write([]byte("out"))
		require.NoError(t, err)
		if broken {
			_, err = io.ReadFull(s, make([]byte, 3))
			require.NoError(t, err)
			require.NoError(t, s.Reset())
			_, err = io.ReadAll(here)
			require.Error(t, err, "a stream that was reset never looks whole")
		} else {
			require.NoError(t, s.CloseWrite())
			rest, err := io.ReadAll(here)
			require.NoError(t, err)
			require.Empty(t, rest)
			require.NoError(t, here.Close())
			rest, err = io.ReadAll(s)
			require.NoError(t, err)
			require.Equal(t, "out", string(rest))
		}
		joined.Wait()
		_ = here.Close() // it may be closed
	}
}

// wire is a connection of which the other side is a list of bytes.
type wire struct {
	io.Reader
	io.Writer
}

// Close ends nothing.
func (wire) Close() error { return nil }

// answered gives a session's side what another side may say, and requires that it comes
// to an end.
func answered(t *testing.T, said []byte, begin func(io.ReadWriteCloser) (*mux.Session, error)) {
	t.Helper()
	s, err := begin(wire{bytes.NewReader(said), io.Discard})
	require.NoError(t, err)
	streams := 0
	for {
		one, err := s.Accept()
		if err != nil {
			break
		}
		streams++
		_, _ = one.Head() // there may be none
	}
	require.LessOrEqual(t, streams, len(said)/12, "a stream takes a frame")
	over(t, s)
	require.NoError(t, s.Close())
}

// header is a frame's of yamux: version 0, type, flags, stream, length.
func header(kind byte, flags uint16, stream, length uint32) []byte {
	return []byte{
		0, kind, byte(flags >> 8), byte(flags),
		byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream),
		byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length),
	}
}

// hostile are what a peer, or the program beside the ferry, may send.
func hostile() map[string][]byte {
	const data, window, ping, away = 0, 1, 2, 3
	const syn, ack, fin, rst = 1, 2, 4, 8
	flood := []byte{}
	for i := range uint32(2 * mux.MaxStreams) {
		flood = append(flood, header(window, syn, 2*i+1, 0)...)
	}
	pings := bytes.Repeat(header(ping, syn, 0, 7), 1000)
	return map[string][]byte{
		"nothing":                   {},
		"no frames":                 []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		"another version":           {9, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0},
		"cut in a head":             header(data, syn, 1, 5)[:7],
		"cut in a body":             append(header(data, syn, 1, 5), 'c'),
		"a conn":                    append(header(data, syn, 1, 1), 'c'),
		"a body beyond the window":  append(header(data, syn, 1, 1<<30), make([]byte, 1<<16)...),
		"bytes for no stream":       append(header(data, 0, 5, 3), "abc"...),
		"a stream twice":            append(header(window, syn, 1, 0), header(window, syn, 1, 0)...),
		"a window without end":      append(header(window, syn, 1, 1<<32-1), header(window, 0, 1, 1<<32-1)...),
		"ends twice":                append(append(header(window, syn, 1, 0), header(data, fin, 1, 0)...), header(data, fin, 1, 0)...),
		"reset and on":              append(append(header(window, syn, 1, 0), header(window, rst, 1, 0)...), header(data, 0, 1, 0)...),
		"an answer to nothing":      header(ping, ack, 0, 1),
		"goes away":                 header(away, 0, 0, 2),
		"streams of the other side": append(header(window, syn, 2, 0), header(window, syn, 0, 0)...),
		"a flood of streams":        flood,
		"a flood of pings":          pings,
	}
}

func TestHostileBytes(t *testing.T) {
	t.Parallel()
	for name, said := range hostile() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answered(t, said, mux.Server)
			answered(t, said, mux.Client)
		})
	}
}

func FuzzHostileBytes(f *testing.F) {
	for _, said := range hostile() {
		f.Add(said)
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		answered(t, said, mux.Server)
		answered(t, said, mux.Client)
	})
}
