package replicas

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

// Protocol is the name of the protocol.
const Protocol = "/mman/replicas/1"

const (
	kindAsk    wire.Kind = 1
	kindAnswer wire.Kind = 2
	kindData   wire.Kind = 3
	kindPay    wire.Kind = 4
	kindDone   wire.Kind = 5
)

const (
	// Piece is the number of bytes in a frame of data.
	Piece = 256 << 10
	// Window is how many bytes are sent before they are paid for.
	Window = 4 << 20

	nonceSize = 16
	maxAsk    = 1 << 10
)

// Verb is what an asker wants.
type Verb string

// The verbs.
const (
	// Put brings a replica to its holder.
	Put Verb = "put"
	// Get fetches one.
	Get Verb = "get"
)

// Ask begins a transfer.
type Ask struct {
	Verb    Verb         `cbor:"verb"`
	Lease   mman.LeaseID `cbor:"lease"`
	Replica uint8        `cbor:"replica"`
	// Asker is the peer that asks; it must be the one that is connected.
	Asker mman.PeerID `cbor:"asker"`
	// Offset is where a Get begins.
	Offset uint64 `cbor:"offset"`
	// Payer pays for a Get; zero for whoever need not.
	Payer mman.Address `cbor:"payer,omitzero"`
	// Nonce makes each ask its own. Random.
	Nonce [nonceSize]byte `cbor:"nonce"`
	// Signature is the lease key's or the node key's over Payload, context
	// mman.SignStorage; none when there is a payer.
	Signature []byte `cbor:"signature,omitempty"`
}

// Payload returns the bytes that are signed: the ask without signature.
func (a Ask) Payload() ([]byte, error) {
	a.Signature = nil
	return dagcbor.Marshal(a)
}

// Sign returns the ask with a fresh nonce and the signature of a lease key. A node
// key signs with p2p.Host.Sign over Payload instead.
func (a Ask) Sign(chainID string, key ed25519.PrivateKey) (Ask, error) {
	a, err := a.Fresh()
	if err != nil {
		return a, err
	}
	payload, err := a.Payload()
	if err != nil {
		return a, err
	}
	digest := mman.SignDigest(mman.SignStorage, chainID, payload)
	a.Signature = ed25519.Sign(key, digest[:])
	return a, nil
}

// Fresh returns the ask with a new nonce.
func (a Ask) Fresh() (Ask, error) {
	if _, err := rand.Read(a.Nonce[:]); err != nil {
		return a, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	return a, nil
}

// Verify reports whether the signature is key's.
func (a Ask) Verify(chainID string, key ed25519.PublicKey) bool {
	payload, err := a.Payload()
	if err != nil || len(key) != ed25519.PublicKeySize {
		return false
	}
	digest := mman.SignDigest(mman.SignStorage, chainID, payload)
	return sig.VerifyEd25519([sig.Ed25519Size]byte(key), digest[:], a.Signature)
}

// answer says what follows.
type answer struct {
	// Size is the replica's length, Offset where the bytes begin that follow.
	Size   uint64 `cbor:"size"`
	Offset uint64 `cbor:"offset"`
	// Price is uman for each MiB, 0 for whoever need not pay.
	Price mman.Amount `cbor:"price"`
}

// Promise is what an asker has promised to pay in all.
type Promise struct {
	Amount mman.Amount `cbor:"amount"`
	// Signature is over the payload of the message with which it is redeemed.
	Signature []byte `cbor:"signature"`
}

// Upload takes a replica that is brought.
type Upload interface {
	// Size is the replica's length, Offset how much is there already.
	Size() uint64
	Offset() uint64
	io.Writer
	// Finish checks and keeps what is whole; mman.ErrContent.
	Finish(ctx context.Context) error
	io.Closer
}

// Download is a replica that is fetched.
type Download interface {
	Size() uint64
	io.ReaderAt
	io.Closer
	// Price is uman for each MiB, 0 for whoever need not pay.
	Price() mman.Amount
	// Paid checks and keeps a promise for the first n bytes after the offset;
	// mman.ErrUnpaid when it is too small.
	Paid(ctx context.Context, p Promise, n uint64) error
}

// Keeper keeps replicas. Its methods are safe for concurrent use.
type Keeper interface {
	// Take says whether a replica may be brought. remote is the connected peer and
	// equals a.Asker.
	Take(ctx context.Context, a Ask, remote mman.PeerID) (Upload, error)
	// Give says whether a replica may be fetched. It may wait for its turn.
	Give(ctx context.Context, a Ask, remote mman.PeerID) (Download, error)
}

// Config bounds one side.
type Config struct {
	// FrameTimeout bounds the wait for one frame, and the writing of one. Default
	// 30 s.
	FrameTimeout time.Duration
	// TurnTimeout bounds the wait for an answer: a slow holder serves one after
	// another. Default 10 min.
	TurnTimeout time.Duration
	// MaxStreams is how many transfers a holder serves at a time, PeerStreams how
	// many of one peer; more are mman.ErrBusy. Default 64 and 8, at least 1.
	MaxStreams, PeerStreams int
	// Logger takes the log. Default: discard.
	Logger *slog.Logger
}

// Default returns the settings of a node.
func Default() Config {
	return Config{FrameTimeout: 30 * time.Second, TurnTimeout: 10 * time.Minute, MaxStreams: 64, PeerStreams: 8, Logger: slog.New(slog.DiscardHandler)}
}

// Validate reports the first setting out of its range, as mman.ErrInvalid.
func (c Config) Validate() error {
	if c.FrameTimeout <= 0 || c.TurnTimeout <= 0 || c.MaxStreams < 1 || c.PeerStreams < 1 || c.Logger == nil {
		return fmt.Errorf("%w: replicas: timeouts %s and %s must be positive, streams %d and %d at least 1, and a logger is needed", mman.ErrInvalid, c.FrameTimeout, c.TurnTimeout, c.MaxStreams, c.PeerStreams)
	}
	return nil
}

type server struct {
	keeper Keeper
	cfg    Config

	places *wire.Places
}

// Serve answers asks on host until ctx ends.
func Serve(ctx context.Context, host *p2p.Host, keeper Keeper, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	s := &server{keeper: keeper, cfg: cfg, places: wire.NewPlaces(cfg.MaxStreams, cfg.PeerStreams)}
	host.Handle(ctx, Protocol, func(ctx context.Context, stream p2p.Stream) {
		conn := wire.New(stream, wire.Config{MaxRead: Piece + 1, IdleTimeout: cfg.FrameTimeout, FrameTimeout: cfg.FrameTimeout})
		if err := s.answer(ctx, conn); err != nil {
			cfg.Logger.DebugContext(ctx, "replica not transferred", slog.String("peer", stream.RemotePeer().String()), slog.Any("error", errors.Join(err, conn.Reset())))
		}
	})
	return nil
}

func (s *server) answer(ctx context.Context, conn *wire.Conn) error {
	peer := conn.RemotePeer()
	if err := s.places.Enter(peer); err != nil {
		return conn.Fail(err)
	}
	defer s.places.Leave(peer)
	frame, err := conn.Read()
	if err != nil {
		return err
	}
	if frame.Kind != kindAsk || len(frame.Body) > maxAsk {
		return conn.Fail(fmt.Errorf("%w: a transfer begins with an ask of at most %d bytes", mman.ErrProtocol, maxAsk))
	}
	a, err := wire.Decode[Ask](frame)
	switch {
	case err != nil:
		return conn.Fail(err)
	case a.Asker != peer:
		return conn.Fail(fmt.Errorf("%w: peer %s asks in the name of %s", mman.ErrDenied, peer, a.Asker))
	case a.Verb == Put:
		err = s.take(ctx, conn, a)
	case a.Verb == Get:
		err = s.give(ctx, conn, a)
	default:
		err = fmt.Errorf("%w: verb %.16q: use put or get", mman.ErrProtocol, a.Verb)
	}
	if err != nil {
		return conn.Fail(err)
	}
	return conn.Close()
}

func (s *server) take(ctx context.Context, conn *wire.Conn, a Ask) (err error) {
	u, err := s.keeper.Take(ctx, a, conn.RemotePeer())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.Close()) }()
	left := u.Size() - u.Offset()
	if err := conn.Send(kindAnswer, answer{Size: u.Size(), Offset: u.Offset()}); err != nil {
		return err
	}
	for left > 0 {
		f, err := conn.ReadExpected(int(min(left, Piece)))
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: %d bytes are missing", mman.ErrPeerVanished, left)
		case err != nil:
			return err
		case f.Kind != kindData || len(f.Body) == 0 || uint64(len(f.Body)) > left:
			return fmt.Errorf("%w: a frame of kind %d and %d bytes where at most %d bytes of data must follow", mman.ErrProtocol, f.Kind, len(f.Body), left)
		}
		if _, err := u.Write(f.Body); err != nil {
			return err
		}
		left -= uint64(len(f.Body))
	}
	if err := u.Finish(ctx); err != nil {
		return err
	}
	return conn.Write(kindDone)
}

func (s *server) give(ctx context.Context, conn *wire.Conn, a Ask) (err error) {
	d, err := s.keeper.Give(ctx, a, conn.RemotePeer())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if a.Offset > d.Size() {
		return fmt.Errorf("%w: offset %d of %d bytes", mman.ErrInvalid, a.Offset, d.Size())
	}
	if err := conn.Send(kindAnswer, answer{Size: d.Size(), Offset: a.Offset, Price: d.Price()}); err != nil {
		return err
	}
	buf := make([]byte, Piece)
	for at, sent := a.Offset, uint64(0); at < d.Size(); {
		if d.Price() > 0 && sent%Window == 0 {
			p, err := wire.Receive[Promise](conn, kindPay)
			if err != nil {
				return err
			}
			if err := d.Paid(ctx, p, min(sent+Window, d.Size()-a.Offset)); err != nil {
				return err
			}
		}
		n := min(Piece, d.Size()-at)
		if _, err := d.ReadAt(buf[:n], int64(at)); err != nil { //nolint:gosec // a file's length
			return fmt.Errorf("%w: the replica cannot be read: %w", mman.ErrCorrupt, err)
		}
		if err := conn.Write(kindData, buf[:n]); err != nil {
			return err
		}
		at, sent = at+n, sent+n
	}
	return conn.Write(kindDone)
}

// open begins a transfer with a holder.
func open(ctx context.Context, host *p2p.Host, holder mman.PeerID, a Ask, cfg Config) (*wire.Conn, answer, func() bool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, answer{}, nil, err
	}
	stream, err := host.Open(ctx, holder, Protocol)
	if err != nil {
		return nil, answer{}, nil, err
	}
	conn := wire.New(stream, wire.Config{MaxRead: Piece + 1, IdleTimeout: cfg.TurnTimeout, FrameTimeout: cfg.FrameTimeout})
	stop := context.AfterFunc(ctx, func() { _ = conn.Reset() })
	if err := conn.Send(kindAsk, a); err != nil {
		stop()
		return nil, answer{}, nil, err
	}
	got, err := wire.Receive[answer](conn, kindAnswer)
	if err != nil {
		stop()
		return nil, answer{}, nil, errors.Join(err, conn.Reset())
	}
	return conn, got, stop, nil
}

// Bring puts a replica of size bytes, of which the holder may have a part already.
// progress, if any, is called with how many bytes the holder has. The holder checked
// and kept the whole when it returns.
func Bring(ctx context.Context, host *p2p.Host, holder mman.PeerID, a Ask, from io.ReaderAt, size uint64, progress func(uint64), cfg Config) (err error) {
	a.Verb = Put
	conn, got, stop, err := open(ctx, host, holder, a, cfg)
	if err != nil {
		return err
	}
	defer stop()
	defer func() {
		if err != nil {
			err = errors.Join(err, conn.Reset())
		}
	}()
	if got.Size != size || got.Offset > size {
		return fmt.Errorf("%w: the holder wants %d bytes from %d, there are %d", mman.ErrProtocol, got.Size, got.Offset, size)
	}
	buf := make([]byte, Piece)
	for at := got.Offset; at < size; {
		n := min(Piece, size-at)
		if _, err := from.ReadAt(buf[:n], int64(at)); err != nil { //nolint:gosec // a file's length
			return fmt.Errorf("%w: read the replica: %w", mman.ErrHome, err)
		}
		if err := conn.Write(kindData, buf[:n]); err != nil {
			return whyNot(conn, err)
		}
		if at += n; progress != nil {
			progress(at)
		}
	}
	if err := done(conn); err != nil {
		return err
	}
	return conn.Close()
}

// whyNot prefers what the holder said to the broken pipe that it left.
func whyNot(conn *wire.Conn, err error) error {
	if _, said := conn.Read(); said != nil && !errors.Is(said, mman.ErrPeerVanished) && !errors.Is(said, io.EOF) {
		return said
	}
	return err
}

func done(conn *wire.Conn) error {
	f, err := conn.Read()
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the holder ends too early", mman.ErrPeerVanished)
	case err != nil:
		return err
	case f.Kind != kindDone:
		return fmt.Errorf("%w: frame of kind %d at the end of a transfer", mman.ErrProtocol, f.Kind)
	}
	return nil
}

// Wanted is a replica to fetch.
type Wanted struct {
	Ask Ask
	// Size is its length.
	Size uint64
	// MaxPrice is the most that a MiB may cost, Pay signs a promise for the first n
	// bytes at a price; nil for whoever does not pay.
	MaxPrice mman.Amount
	Pay      func(price mman.Amount, n uint64) (Promise, error)
	// Progress, if set, is called with how many bytes are there.
	Progress func(uint64)
}

// Fetch gets a replica from Ask.Offset on and writes it to out. What came is not
// checked: its holder may lie.
func Fetch(ctx context.Context, host *p2p.Host, holder mman.PeerID, w Wanted, out io.Writer, cfg Config) (err error) {
	w.Ask.Verb = Get
	conn, got, stop, err := open(ctx, host, holder, w.Ask, cfg)
	if err != nil {
		return err
	}
	defer stop()
	defer func() {
		if err != nil {
			err = errors.Join(err, conn.Reset())
		}
	}()
	switch {
	case got.Size != w.Size || got.Offset != w.Ask.Offset:
		return fmt.Errorf("%w: the holder has %d bytes from %d, the lease says %d", mman.ErrContent, got.Size, got.Offset, w.Size)
	case got.Price > 0 && w.Pay == nil, got.Price > w.MaxPrice:
		return fmt.Errorf("%w: a MiB costs %d uman, at most %d are allowed", mman.ErrPrice, uint64(got.Price), uint64(w.MaxPrice))
	}
	for at, came := w.Ask.Offset, uint64(0); at < w.Size; {
		if got.Price > 0 && came%Window == 0 {
			p, err := w.Pay(got.Price, min(came+Window, w.Size-w.Ask.Offset))
			if err != nil {
				return err
			}
			if err := conn.Send(kindPay, p); err != nil {
				return whyNot(conn, err)
			}
		}
		n := min(Piece, w.Size-at)
		f, err := conn.ReadExpected(int(n))
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: the holder ends %d bytes too early", mman.ErrPeerVanished, w.Size-at)
		case err != nil:
			return err
		case f.Kind != kindData || uint64(len(f.Body)) != n:
			return fmt.Errorf("%w: a frame of kind %d and %d bytes where %d bytes of data must follow", mman.ErrProtocol, f.Kind, len(f.Body), n)
		}
		if _, err := out.Write(f.Body); err != nil {
			return fmt.Errorf("keep a replica: %w", err)
		}
		if at, came = at+n, came+n; w.Progress != nil {
			w.Progress(at)
		}
	}
	if err := done(conn); err != nil {
		return err
	}
	return conn.Close()
}
