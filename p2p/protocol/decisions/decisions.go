package decisions

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/decision"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

// Protocol is the name of the protocol.
const Protocol = "/mman/decisions/1"

const (
	kindQuery  wire.Kind = 1
	kindAnswer wire.Kind = 2
)

const (
	// MaxPage is the largest number of entries in an answer.
	MaxPage = 256
	// NonceSize is the length of a nonce in bytes.
	NonceSize = 16
	maxQuery  = 512
	maxAnswer = MaxPage*(decision.EntryMaxBytes+4) + 4096
)

// Query asks for entries of the log of one lane.
type Query struct {
	// Lease is the lease that gives the right.
	Lease mman.LeaseID `cbor:"lease"`
	Lane  uint64       `cbor:"lane"`
	// Asker is the peer that asks; it must be the one that is connected.
	Asker mman.PeerID `cbor:"asker"`
	// Size says of which log: the first so many entries; 0 for all that there
	// are.
	Size uint64 `cbor:"size"`
	// From is the first entry wanted, Count how many, 1 to MaxPage.
	From  uint64 `cbor:"from"`
	Count uint64 `cbor:"count"`
	// Prove asks for the path of the first of them.
	Prove bool `cbor:"prove"`
	// Nonce makes each query its own. Random.
	Nonce [NonceSize]byte `cbor:"nonce"`
	// Signature is the lease key's or the node key's, see Sign.
	Signature []byte `cbor:"signature,omitempty"`
}

// Payload returns the bytes that are signed: the query without signature.
func (q Query) Payload() ([]byte, error) {
	q.Signature = nil
	return dagcbor.Marshal(q)
}

// Sign returns the query with the key's signature.
func (q Query) Sign(chainID string, key market.Signer) (Query, error) {
	payload, err := q.Payload()
	if err != nil {
		return q, err
	}
	q.Signature = key.Sign(mman.SignDecisions, chainID, payload)
	return q, nil
}

// Validate reports whether the query is well formed, as mman.ErrInvalid. It does
// not verify the signature.
func (q Query) Validate() error {
	switch {
	case q.Lane >= market.MaxLanes:
		return fmt.Errorf("%w: lane %d, there are 0 to %d", mman.ErrInvalid, q.Lane, market.MaxLanes-1)
	case q.Count == 0 || q.Count > MaxPage || q.From >= decision.MaxEntries || q.Size > decision.MaxEntries:
		return fmt.Errorf("%w: %d entries from %d of %d: ask for 1 to %d of at most %d", mman.ErrInvalid, q.Count, q.From, q.Size, MaxPage, decision.MaxEntries)
	case len(q.Signature) != ed25519.SignatureSize:
		return fmt.Errorf("%w: a query for decisions with a signature of %d bytes, ed25519 has %d", mman.ErrInvalid, len(q.Signature), ed25519.SignatureSize)
	}
	return nil
}

// Answer is what a holder says.
type Answer struct {
	// Size is how many entries the log has now.
	Size uint64 `cbor:"size"`
	// Entries are encoded; see decision.Decode.
	Entries [][]byte `cbor:"entries"`
	// Path proves the first of them; see decision.Verify.
	Path []mman.Hash `cbor:"path"`
}

func (a Answer) validate(q Query) error {
	if uint64(len(a.Entries)) > q.Count || len(a.Path) > bits.Len64(decision.MaxEntries) || a.Size > decision.MaxEntries {
		return fmt.Errorf("%w: an answer of %d entries and %d hashes to a query for %d", mman.ErrProtocol, len(a.Entries), len(a.Path), q.Count)
	}
	return nil
}

// Source holds the logs. Node implements it.
type Source interface {
	// Decisions verifies the query's signature and its right under the lease;
	// remote is the connected peer and equals q.Asker. Any error is a refusal;
	// the asker never sees which. It must be safe for concurrent use.
	Decisions(ctx context.Context, q Query, remote mman.PeerID) (Answer, error)
}

// Config bounds one side.
type Config struct {
	// FrameTimeout bounds the wait for one frame, and the writing of one.
	// Default 10 s.
	FrameTimeout time.Duration
	// MaxAnswers is how many queries a holder answers at a time; more are
	// mman.ErrBusy. Default 4.
	MaxAnswers int
	// Logger takes the log. Default: discard.
	Logger *slog.Logger
}

// Default returns the settings of a node.
func Default() Config {
	return Config{FrameTimeout: 10 * time.Second, MaxAnswers: 4, Logger: slog.New(slog.DiscardHandler)}
}

// Validate reports the first setting out of its range, as mman.ErrInvalid.
func (c Config) Validate() error {
	if c.FrameTimeout <= 0 || c.MaxAnswers < 1 || c.Logger == nil {
		return fmt.Errorf("%w: decisions: timeout %s must be positive, answers %d at least 1, and a logger is needed", mman.ErrInvalid, c.FrameTimeout, c.MaxAnswers)
	}
	return nil
}

// Serve answers queries on host from source until ctx ends.
func Serve(ctx context.Context, host *p2p.Host, source Source, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	slots := make(chan struct{}, cfg.MaxAnswers)
	host.Handle(ctx, Protocol, func(ctx context.Context, s p2p.Stream) {
		conn := wire.New(s, wire.Config{MaxRead: maxQuery, IdleTimeout: cfg.FrameTimeout, FrameTimeout: cfg.FrameTimeout})
		var err error
		select {
		case slots <- struct{}{}:
			err = answer(ctx, conn, source)
			<-slots
		default:
			err = conn.Fail(fmt.Errorf("%w: %d queries are being answered", mman.ErrBusy, cfg.MaxAnswers))
		}
		if err != nil {
			cfg.Logger.DebugContext(ctx, "query for decisions not answered", slog.String("peer", s.RemotePeer().String()), slog.Any("error", err))
		}
	})
	return nil
}

func answer(ctx context.Context, conn *wire.Conn, source Source) error {
	q, err := wire.Receive[Query](conn, kindQuery)
	if err != nil {
		return err
	}
	if err := q.Validate(); err != nil {
		return conn.Fail(err)
	}
	refuse := func(err error) error {
		return errors.Join(err, conn.Fail(fmt.Errorf("%w: no such decisions for you here", mman.ErrNotFound)))
	}
	if q.Asker != conn.RemotePeer() {
		return refuse(fmt.Errorf("%w: peer %s asks in the name of %s", mman.ErrDenied, conn.RemotePeer(), q.Asker))
	}
	a, err := source.Decisions(ctx, q, conn.RemotePeer())
	if err != nil {
		return refuse(err)
	}
	if err := conn.Send(kindAnswer, a); err != nil {
		return err
	}
	return conn.Close()
}

// Ask returns the answer of the peer to. Nothing about it is verified but its
// bounds. Failures are those of p2p.Host.Open, the peer's own error,
// mman.ErrTimeout, and mman.ErrProtocol for an answer that is not one.
func Ask(ctx context.Context, host *p2p.Host, to mman.PeerID, q Query, cfg Config) (Answer, error) {
	if err := errors.Join(cfg.Validate(), q.Validate()); err != nil {
		return Answer{}, err
	}
	s, err := host.Open(ctx, to, Protocol)
	if err != nil {
		return Answer{}, err
	}
	conn := wire.New(s, wire.Config{MaxRead: maxAnswer, IdleTimeout: cfg.FrameTimeout, FrameTimeout: cfg.FrameTimeout})
	stop := context.AfterFunc(ctx, func() { _ = conn.Reset() })
	a, err := receive(conn, q)
	canceled := !stop()
	if err == nil {
		return a, conn.Close()
	}
	err = fmt.Errorf("ask peer %s for decisions on lease %s: %w", to, q.Lease, err)
	if canceled {
		err = fmt.Errorf("%w: %w: %w", mman.ErrCanceled, ctx.Err(), err)
	}
	return Answer{}, errors.Join(err, conn.Reset())
}

func receive(conn *wire.Conn, q Query) (Answer, error) {
	if err := conn.Send(kindQuery, q); err != nil {
		return Answer{}, err
	}
	a, err := wire.Receive[Answer](conn, kindAnswer)
	if err != nil {
		return Answer{}, err
	}
	return a, a.validate(q)
}
