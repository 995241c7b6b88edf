package blocks

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

// Grant is what an asker may have.
type Grant struct {
	// Store holds the content.
	Store content.Reader
	// Root is the file.
	Root mman.CID
	// Salt is the one behind Root's public name: SaltSize bytes, or none when
	// it has no such name.
	Salt []byte
}

// Authorizer decides about requests. Node implements it.
type Authorizer interface {
	// Authorize verifies the request's signature and its right under the
	// lease. remote is the connected peer and equals r.Asker. Any error is a
	// refusal; the asker never sees which. It must be safe for concurrent use.
	Authorize(ctx context.Context, r Request, remote mman.PeerID) (Grant, error)
}

// Config bounds one side.
type Config struct {
	// FrameTimeout bounds the wait for one frame, and the writing of one.
	// Default 30 s.
	FrameTimeout time.Duration
	// MaxAnswers is how many files a holder sends at a time; more are
	// mman.ErrBusy. Default 32.
	MaxAnswers int
	// Logger takes the log. Default: discard.
	Logger *slog.Logger
}

// Default returns the settings of a node.
func Default() Config {
	return Config{FrameTimeout: 30 * time.Second, MaxAnswers: 32, Logger: slog.New(slog.DiscardHandler)}
}

// Validate reports the first setting out of its range, as mman.ErrInvalid.
func (c Config) Validate() error {
	if c.FrameTimeout <= 0 || c.MaxAnswers < 1 {
		return fmt.Errorf("%w: blocks: timeout %s must be positive and answers %d at least 1", mman.ErrInvalid, c.FrameTimeout, c.MaxAnswers)
	}
	return nil
}

type server struct {
	auth  Authorizer
	cfg   Config
	slots chan struct{}
}

// Serve answers requests on host until ctx ends.
func Serve(ctx context.Context, host *p2p.Host, auth Authorizer, cfg Config) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	s := &server{auth, cfg, make(chan struct{}, cfg.MaxAnswers)}
	host.Handle(ctx, Protocol, s.handle)
	return nil
}

func (s *server) handle(ctx context.Context, stream p2p.Stream) {
	conn := wire.New(stream, wire.Config{MaxRead: maxRequest, IdleTimeout: s.cfg.FrameTimeout, FrameTimeout: s.cfg.FrameTimeout})
	err := s.answer(ctx, conn)
	if err != nil {
		s.cfg.Logger.DebugContext(ctx, "blocks request not answered", slog.String("peer", stream.RemotePeer().String()), slog.Any("error", err))
	}
}

// errNothing is the one answer to whatever cannot be had.
func errNothing() error { return fmt.Errorf("%w: no such content in this lease", mman.ErrNotFound) }

func (s *server) answer(ctx context.Context, conn *wire.Conn) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return conn.Fail(fmt.Errorf("%w: %d files are being sent", mman.ErrBusy, s.cfg.MaxAnswers))
	}
	req, err := wire.Receive[Request](conn, kindRequest)
	if err != nil {
		return err
	}
	grant, first, err := s.grant(ctx, req, conn.RemotePeer())
	if err != nil {
		s.cfg.Logger.DebugContext(ctx, "blocks request refused", slog.String("peer", conn.RemotePeer().String()), slog.String("lease", req.Lease.String()), slog.Any("error", err))
		return conn.Fail(errNothing())
	}
	node, err := content.ParseNode(first)
	if err != nil {
		return conn.Fail(errNothing())
	}
	if err := conn.Send(kindHeader, header{grant.Root, grant.Salt, node.Size}); err != nil {
		return err
	}
	if err := s.stream(ctx, conn, grant); err != nil {
		return err
	}
	if err := conn.Write(kindEnd); err != nil {
		return err
	}
	return conn.Close()
}

// grant asks the Authorizer and reads the root, so that a refusal and a missing
// root cannot be told apart by the asker.
func (s *server) grant(ctx context.Context, req Request, remote mman.PeerID) (Grant, content.Block, error) {
	if err := req.Validate(); err != nil {
		return Grant{}, content.Block{}, err
	}
	if req.Asker != remote {
		return Grant{}, content.Block{}, fmt.Errorf("%w: peer %s asks in the name of %s", mman.ErrDenied, remote, req.Asker)
	}
	grant, err := s.auth.Authorize(ctx, req, remote)
	if err != nil {
		return Grant{}, content.Block{}, err
	}
	root, err := grant.Store.Get(ctx, grant.Root)
	return grant, root, err
}

func (s *server) stream(ctx context.Context, conn *wire.Conn, grant Grant) error {
	walk := content.NewWalk(grant.Root, math.MaxUint64)
	for next := walk.Take(1); len(next) > 0; next = walk.Take(1) {
		b, err := grant.Store.Get(ctx, next[0])
		if err != nil {
			return conn.Fail(fmt.Errorf("%w: the content is not complete here", mman.ErrNotFound))
		}
		if err := walk.Accept(b, nil); err != nil {
			return conn.Fail(fmt.Errorf("%w: the content is not sound here", mman.ErrContent))
		}
		if err := conn.Write(kindBlock, b.Data()); err != nil {
			return err
		}
	}
	return nil
}
