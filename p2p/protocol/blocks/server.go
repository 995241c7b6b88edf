package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	// Still, if set, is asked before each block that follows the root whether it may
	// leave yet, by one goroutine at a time. A block that it refuses looks like one that
	// is not there. It must be cheap; public content has none.
	Still func() error
	// Over, if set, is told when the stream has ended how many bytes of blocks were
	// sent on it.
	Over func(sent uint64)
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
	// MaxAnswers is how many streams a holder answers at a time; more are
	// mman.ErrBusy. Each holds one block in memory, and a few of them the next one.
	// Default 256, at least 1.
	MaxAnswers int
	// PeerAnswers is how many of them one peer may have. Default 8, at least 1.
	PeerAnswers int
	// Turns is how many blocks a holder reads from its disk at a time; peers
	// take turns. Default 4, at least 1.
	Turns int
	// Window is how many bytes an asker has on their way from one source.
	// Default 8 MiB, 1 MiB to 64 MiB.
	Window int
	// Patience is how long an asker waits for sources that vanished, after
	// some blocks came, and for those that are busy. Without progress for so
	// long a fetch fails. Default 1 min; 0 does not wait.
	Patience time.Duration
	// After is the clock behind Patience and behind the end of a turn; time.After
	// in a program. Without one nothing is waited for, and a turn lasts until
	// its block is sent.
	After func(time.Duration) <-chan time.Time
	// Now is the clock behind the rate that progress has; time.Now in a
	// program. Without one there is no rate.
	Now func() time.Time
	// Liars, if set, remembers who sent a false block, and who is not asked
	// again therefore.
	Liars *Liars
	// Logger takes the log. Default: discard.
	Logger *slog.Logger
}

// Default returns the settings of a node; the clocks are left to the caller.
func Default() Config {
	return Config{
		FrameTimeout: 30 * time.Second, MaxAnswers: 256, PeerAnswers: 8, Turns: 4, Window: 8 << 20,
		Patience: time.Minute, Logger: slog.New(slog.DiscardHandler),
	}
}

// Validate reports the first setting out of its range, as mman.ErrInvalid.
func (c Config) Validate() error {
	switch {
	case c.FrameTimeout <= 0 || c.MaxAnswers < 1 || c.PeerAnswers < 1 || c.Turns < 1:
		return fmt.Errorf("%w: blocks: timeout %s must be positive, answers %d, %d for a peer, and turns %d at least 1", mman.ErrInvalid, c.FrameTimeout, c.MaxAnswers, c.PeerAnswers, c.Turns)
	case c.Window < 1<<20 || c.Window > 64<<20:
		return fmt.Errorf("%w: blocks: a window of %d bytes is not within 1 and 64 MiB", mman.ErrInvalid, c.Window)
	case c.Patience < 0:
		return fmt.Errorf("%w: blocks: patience %s must not be negative", mman.ErrInvalid, c.Patience)
	}
	return nil
}

type server struct {
	host  *p2p.Host
	auth  Authorizer
	cfg   Config
	turns *turns

	places *wire.Places
	// spare has a place for each block that is read ahead and not sent yet.
	spare chan struct{}
}

// aheadTurns is how many blocks are read ahead for each turn at most, so that streams
// whose askers stop to read hold little memory.
const aheadTurns = 4

// Serve answers requests on host until ctx ends.
func Serve(ctx context.Context, host *p2p.Host, auth Authorizer, cfg Config) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	s := &server{host: host, auth: auth, cfg: cfg, turns: newTurns(cfg.Turns), places: wire.NewPlaces(cfg.MaxAnswers, cfg.PeerAnswers), spare: make(chan struct{}, aheadTurns*cfg.Turns)}
	host.Handle(ctx, Protocol, s.handle)
	return nil
}

func (s *server) handle(ctx context.Context, stream p2p.Stream) {
	conn := wire.New(stream, wire.Config{MaxRead: maxRequest, IdleTimeout: s.cfg.FrameTimeout, FrameTimeout: s.cfg.FrameTimeout})
	if err := s.answer(ctx, conn); err != nil {
		s.cfg.Logger.DebugContext(ctx, "blocks request not answered", slog.String("peer", stream.RemotePeer().String()), slog.Any("error", err))
	}
}

// errNothing is the one answer to whatever cannot be had.
func errNothing() error { return fmt.Errorf("%w: no such content in this lease", mman.ErrNotFound) }

func (s *server) answer(ctx context.Context, conn *wire.Conn) error {
	peer := conn.RemotePeer()
	if err := s.places.Enter(peer); err != nil {
		return conn.Fail(err)
	}
	defer s.places.Leave(peer)
	defer s.host.Hold(peer)()
	req, err := wire.Receive[Request](conn, kindRequest)
	if err != nil {
		return err
	}
	grant, root, err := s.grant(ctx, req, peer)
	r := &reader{store: grant.Store, still: grant.Still}
	if grant.Over != nil {
		defer func() { grant.Over(r.sent) }()
	}
	if err != nil {
		s.cfg.Logger.DebugContext(ctx, "blocks request refused", slog.String("peer", peer.String()), slog.String("lease", req.Lease.String()), slog.Any("error", err))
		return conn.Fail(errNothing())
	}
	node, err := content.ParseNode(root)
	if err != nil {
		return conn.Fail(errNothing())
	}
	r.nodes = []content.Node{node}
	if err := conn.Send(kindHeader, header{grant.Root, grant.Salt, node.Size}); err != nil {
		return err
	}
	if err := conn.Write(kindBlock, root.Data()); err != nil {
		return err
	}
	r.sent = uint64(len(root.Data()))
	return s.wants(ctx, conn, r)
}

// wants answers what the asker wants, in its order, until the asker ends.
func (s *server) wants(ctx context.Context, conn *wire.Conn, r *reader) error {
	for {
		frame, err := conn.Read()
		switch {
		case err == io.EOF: //nolint:errorlint // only the bare value is the clean end
			return conn.Close()
		case err != nil:
			return err
		case frame.Kind != kindWant:
			return conn.Fail(fmt.Errorf("%w: frame of kind %d where a want must follow", mman.ErrProtocol, frame.Kind))
		}
		w, err := wire.Decode[want](frame)
		if err == nil {
			err = w.validate()
		}
		if err != nil {
			return conn.Fail(err)
		}
		if err := s.send(ctx, conn, r, w); err != nil {
			return err
		}
	}
}

func (s *server) send(ctx context.Context, conn *wire.Conn, r *reader, w want) error {
	children, err := r.children(ctx, w)
	if err != nil {
		s.cfg.Logger.DebugContext(ctx, "blocks wanted that are not here", slog.Any("error", err))
		return conn.Write(kindMissing)
	}
	var next *ahead
	defer func() { next.drop() }()
	for i, child := range children {
		if err := s.turns.take(ctx, conn.RemotePeer()); err != nil {
			return errors.Join(err, conn.Reset())
		}
		this := next
		next = nil
		if i+1 < len(children) && !r.slow {
			next = s.readAhead(ctx, r.store, children[i+1].CID)
		}
		var sent error
		read := r.lend(ctx, this, child.CID, func(data []byte) error {
			stop := s.hold(r)
			if sent = conn.Write(kindBlock, data); sent == nil {
				r.sent += uint64(len(data))
			}
			stop()
			return sent
		})
		switch {
		case sent != nil:
			return sent
		case read != nil:
			s.turns.leave()
			s.cfg.Logger.DebugContext(ctx, "block wanted that is not here", slog.Any("error", read))
			return conn.Write(kindMissing)
		}
	}
	return nil
}

// lend hands a block to send, if it may leave yet: the one that was read ahead, or one
// that is read now.
func (r *reader) lend(ctx context.Context, read *ahead, c mman.CID, send func(data []byte) error) error {
	if r.still != nil {
		if err := r.still(); err != nil {
			read.drop()
			return err
		}
	}
	if read == nil {
		return lend(ctx, r.store, c, send)
	}
	return read.lend(send)
}

// ahead is a block that is read while the one before it is sent: a disk answers as
// slowly as a wire takes a block.
type ahead struct {
	send chan func(data []byte) error // nil drops it
	over chan struct{}
	err  error // set before over is closed
}

// readAhead begins to read a block, nil when enough of them are there unsent. Either
// lend or drop must be called.
func (s *server) readAhead(ctx context.Context, from content.Reader, c mman.CID) *ahead {
	select {
	case s.spare <- struct{}{}:
	default:
		return nil
	}
	a := &ahead{send: make(chan func([]byte) error, 1), over: make(chan struct{})}
	go func() {
		defer close(a.over)
		defer func() { <-s.spare }()
		a.err = lend(ctx, from, c, func(data []byte) error {
			if send := <-a.send; send != nil {
				return send(data)
			}
			return nil
		})
	}()
	return a
}

// lend hands the block to send, and returns what send returned or why there is none.
func (a *ahead) lend(send func(data []byte) error) error {
	a.send <- send
	<-a.over
	return a.err
}

// drop ends what was read in vain.
func (a *ahead) drop() {
	if a != nil {
		_ = a.lend(nil) // it was wanted only after another
	}
}

// lend hands a block to send, which has it until it returns. A store that can needs no
// new memory for each block; one that decides about blocks is asked by Unchecked.
func lend(ctx context.Context, from content.Reader, c mman.CID, send func(data []byte) error) error {
	if l, ok := from.(interface {
		Lend(ctx context.Context, c mman.CID, use func(data []byte) error) error
	}); ok {
		return l.Lend(ctx, c, send)
	}
	data, err := from.Unchecked(ctx, c)
	if err != nil {
		return err
	}
	return send(data)
}

// stall is how long a stream may keep its turn while it sends: a peer that takes
// bytes more slowly than a block in that time waits for its own line, not for us,
// and holds up nobody.
const stall = 20 * time.Millisecond

// hold keeps the turn while a block is sent, but not for longer than stall, and
// not at all when the stream's last block took longer. The function that it
// returns ends it.
func (s *server) hold(r *reader) (stop func()) {
	if s.cfg.After == nil {
		return s.turns.leave
	}
	leave := s.turns.leave
	if r.slow {
		leave()
		leave = func() {}
	}
	sent, late := make(chan struct{}), make(chan bool, 1)
	go func() {
		select {
		case <-sent:
			late <- false
		case <-s.cfg.After(stall):
			late <- true
		}
		leave()
	}()
	return func() {
		close(sent)
		r.slow = <-late
	}
}

// reader finds the nodes of one file that wants name. A want can lead to nothing
// but blocks of the file, because it starts at its root.
type reader struct {
	store content.Reader
	still func() error // may blocks leave yet; nil is yes
	slow  bool         // its last block took longer than stall
	sent  uint64       // bytes of blocks
	path  []uint32
	nodes []content.Node // the root, and one for each step of path
}

// children returns what a want names.
func (r *reader) children(ctx context.Context, w want) ([]content.Child, error) {
	same := 0
	for same < len(r.path) && same < len(w.Path) && r.path[same] == w.Path[same] {
		same++
	}
	r.path, r.nodes = r.path[:same], r.nodes[:same+1]
	for _, index := range w.Path[same:] {
		children := r.nodes[len(r.nodes)-1].Children
		if int(index) >= len(children) {
			return nil, fmt.Errorf("%w: child %d of a node with %d", mman.ErrNotFound, index, len(children))
		}
		b, err := r.store.Get(ctx, children[index].CID)
		if err != nil {
			return nil, err
		}
		node, err := content.ParseNode(b)
		if err != nil {
			return nil, err
		}
		r.path, r.nodes = append(r.path, index), append(r.nodes, node)
	}
	children := r.nodes[len(r.nodes)-1].Children
	if int(w.To) > len(children) {
		return nil, fmt.Errorf("%w: children up to %d of a node with %d", mman.ErrNotFound, w.To, len(children))
	}
	return children[w.From:w.To], nil
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
