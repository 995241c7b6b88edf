package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	mman "github.com/limboid/massive-man"
)

// Stream is one ordered, reliable, encrypted conversation with a peer. One
// goroutine may read while another writes; Close and Reset are safe from
// anywhere and twice. Errors are coded: mman.ErrTimeout, mman.ErrPeerVanished,
// mman.ErrBusy when the peer has too many streams of ours, mman.ErrUnsupported
// when it does not speak the protocol, and a bare io.EOF at the clean end.
type Stream interface {
	io.Reader
	io.Writer
	// CloseWrite ends our side; the peer reads io.EOF after what was written.
	CloseWrite() error
	// Close ends both sides without a promise that what was written arrives.
	Close() error
	// Reset ends both sides at once; the peer sees mman.ErrPeerVanished.
	Reset() error
	// SetReadTimeout lets reads fail with mman.ErrTimeout d from now; 0 means
	// never.
	SetReadTimeout(d time.Duration) error
	// SetWriteTimeout lets writes fail with mman.ErrTimeout d from now; 0
	// means never.
	SetWriteTimeout(d time.Duration) error
	// RemotePeer returns who is at the other end.
	RemotePeer() mman.PeerID
}

type stream struct {
	s      network.Stream
	remote mman.PeerID
	now    func() time.Time
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.s.Read(p)
	return n, s.code("read from", err)
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.s.Write(p)
	return n, s.code("write to", err)
}

func (s *stream) CloseWrite() error { return s.code("close to", s.s.CloseWrite()) }
func (s *stream) Reset() error      { return s.code("reset to", s.s.Reset()) }

// Close has nothing to report: QUIC fails it when the peer has left first, and
// then both sides have ended, which is what was asked for. The reset frees what
// a half-closed stream would hold.
func (s *stream) Close() error {
	if s.s.Close() == nil {
		return nil
	}
	return s.Reset()
}

func (s *stream) SetReadTimeout(d time.Duration) error {
	return s.code("set a timeout to", s.s.SetReadDeadline(s.deadline(d)))
}

func (s *stream) SetWriteTimeout(d time.Duration) error {
	return s.code("set a timeout to", s.s.SetWriteDeadline(s.deadline(d)))
}

func (s *stream) deadline(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return s.now().Add(d)
}

func (s *stream) RemotePeer() mman.PeerID { return s.remote }

// code gives a libp2p error its number. A clean end stays a bare io.EOF,
// because readers compare it with ==.
func (s *stream) code(did string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // only the bare value is the clean end
		return err
	}
	return fmt.Errorf("%w: %s peer %s: %w", classify(err), did, s.remote, err)
}

func classify(err error) *mman.Error {
	var reset *network.StreamError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &reset) && (reset.ErrorCode == network.StreamResourceLimitExceeded || reset.ErrorCode == network.StreamRateLimited),
		errors.Is(err, network.ErrResourceLimitExceeded):
		return mman.ErrBusy
	case errors.Is(err, multistream.ErrNotSupported[protocol.ID]{}):
		return mman.ErrUnsupported
	case errors.Is(err, context.Canceled):
		return mman.ErrCanceled
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return mman.ErrTimeout
	default:
		return mman.ErrPeerVanished
	}
}
