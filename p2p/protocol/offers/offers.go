package offers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

// Protocol is the name of the protocol.
const Protocol = "/mman/offers/1"

const (
	// MaxOffers is the largest number of offers in an answer.
	MaxOffers = 64
	// MaxOffer bounds one offer's bytes: 64 KiB.
	MaxOffer = 64 << 10
	// maxKey and maxSignature bound a public key and a signature, in bytes.
	maxKey, maxSignature = 128, 256
	// maxName bounds a kind or a facet, in bytes.
	maxName  = 64
	maxQuery = 512
	maxFrame = MaxOffer + maxKey + maxSignature + 64
)

const (
	kindQuery wire.Kind = 1
	kindOffer wire.Kind = 2
	kindEnd   wire.Kind = 3
)

// Query says which offers are asked for: those of a kind, and of a facet unless
// it is empty; or those of one resource.
type Query struct {
	// Kind is a resource kind such as "algorithm"; empty when Resource is given.
	Kind string `cbor:"kind"`
	// Facet narrows the kind, such as "wasm"; empty for every facet.
	Facet string `cbor:"facet"`
	// Resource is the manifest's CID; zero when Kind is given.
	Resource mman.CID `cbor:"resource,omitzero"`
}

// Validate reports whether the query is well formed, as mman.ErrInvalid.
func (q Query) Validate() error {
	switch {
	case (q.Kind == "") == q.Resource.IsZero():
		return fmt.Errorf("%w: a query for offers names either a kind or a resource", mman.ErrInvalid)
	case q.Kind == "" && q.Facet != "":
		return fmt.Errorf("%w: a query for offers has the facet %.80q and no kind", mman.ErrInvalid, q.Facet)
	case len(q.Kind) > maxName || len(q.Facet) > maxName:
		return fmt.Errorf("%w: kind %.80q or facet %.80q is longer than %d bytes", mman.ErrInvalid, q.Kind, q.Facet, maxName)
	}
	return nil
}

// Signed is an offer as its provider published it, opaque here. The receiver
// owns the slices.
type Signed struct {
	// Offer is the offer's DAG-CBOR.
	Offer []byte `cbor:"offer"`
	// Signature is the account key's over the offer.
	Signature []byte `cbor:"signature"`
	// Key is the account's public key.
	Key []byte `cbor:"key"`
}

// Validate reports a part that is missing or too long, as mman.ErrInvalid.
func (s Signed) Validate() error {
	for _, p := range []struct {
		name       string
		size, most int
	}{{"offer", len(s.Offer), MaxOffer}, {"signature", len(s.Signature), maxSignature}, {"key", len(s.Key), maxKey}} {
		if p.size == 0 || p.size > p.most {
			return fmt.Errorf("%w: a signed offer whose %s has %d bytes, 1 to %d are allowed", mman.ErrInvalid, p.name, p.size, p.most)
		}
	}
	return nil
}

// Source holds this peer's own offers. Node implements it.
type Source interface {
	// Offers returns at most MaxOffers published offers that match; more are
	// cut off. It must be safe for concurrent use.
	Offers(ctx context.Context, q Query) ([]Signed, error)
}

// Config bounds one side.
type Config struct {
	// FrameTimeout bounds the wait for one frame, and the writing of one.
	// Default 10 s.
	FrameTimeout time.Duration
	// Logger takes the log. Default: discard.
	Logger *slog.Logger
}

// Default returns the settings of a node.
func Default() Config {
	return Config{FrameTimeout: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)}
}

// Validate reports the first setting out of its range, as mman.ErrInvalid.
func (c Config) Validate() error {
	if c.FrameTimeout <= 0 {
		return fmt.Errorf("%w: offers: timeout %s must be positive", mman.ErrInvalid, c.FrameTimeout)
	}
	return nil
}

func (c Config) wire(maxRead int) wire.Config {
	return wire.Config{MaxRead: maxRead, IdleTimeout: c.FrameTimeout, FrameTimeout: c.FrameTimeout}
}

// Serve answers queries on host from source until ctx ends.
func Serve(ctx context.Context, host *p2p.Host, source Source, cfg Config) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	host.Handle(ctx, Protocol, func(ctx context.Context, s p2p.Stream) {
		if err := answer(ctx, wire.New(s, cfg.wire(maxQuery)), source); err != nil {
			cfg.Logger.DebugContext(ctx, "query for offers not answered", slog.String("peer", s.RemotePeer().String()), slog.Any("error", err))
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
	list, err := source.Offers(ctx, q)
	if err != nil {
		// Only the code goes out: the text may name what is inside this node.
		return errors.Join(err, conn.Fail(fmt.Errorf("%w: the offers cannot be read now", mman.ErrBusy)))
	}
	for _, o := range list[:min(len(list), MaxOffers)] {
		if err := o.Validate(); err != nil {
			return errors.Join(err, conn.Fail(fmt.Errorf("%w: an offer here is damaged", mman.ErrInternal)))
		}
		if err := conn.Send(kindOffer, o); err != nil {
			return err
		}
	}
	if err := conn.Write(kindEnd); err != nil {
		return err
	}
	return conn.Close()
}

// Ask returns the offers of the peer to that match, at most MaxOffers. Nothing
// about them is verified. Failures are those of p2p.Host.Open, the peer's own
// error, mman.ErrTimeout, and mman.ErrProtocol for an answer that is not one.
func Ask(ctx context.Context, host *p2p.Host, to mman.PeerID, q Query, cfg Config) ([]Signed, error) {
	if err := errors.Join(cfg.Validate(), q.Validate()); err != nil {
		return nil, err
	}
	s, err := host.Open(ctx, to, Protocol)
	if err != nil {
		return nil, err
	}
	conn := wire.New(s, cfg.wire(maxFrame))
	stop := context.AfterFunc(ctx, func() { _ = conn.Reset() })
	list, err := receive(conn, q)
	canceled := !stop()
	if err == nil {
		return list, conn.Close()
	}
	err = fmt.Errorf("ask peer %s for offers: %w", to, err)
	if canceled {
		err = fmt.Errorf("%w: %w: %w", mman.ErrCanceled, ctx.Err(), err)
	}
	return nil, errors.Join(err, conn.Reset())
}

func receive(conn *wire.Conn, q Query) ([]Signed, error) {
	if err := conn.Send(kindQuery, q); err != nil {
		return nil, err
	}
	var list []Signed
	for {
		f, err := conn.Read()
		if err != nil {
			return nil, fmt.Errorf("after %d offers: %w", len(list), coded(err))
		}
		if f.Kind == kindEnd && len(f.Body) == 0 {
			return list, nil
		}
		if f.Kind != kindOffer || len(list) == MaxOffers {
			return nil, fmt.Errorf("%w: frame of kind %d after %d offers", mman.ErrProtocol, f.Kind, len(list))
		}
		o, err := wire.Decode[Signed](f)
		if err != nil {
			return nil, err
		}
		if err := o.Validate(); err != nil {
			return nil, fmt.Errorf("%w: %w", mman.ErrProtocol, err)
		}
		list = append(list, o)
	}
}

// coded gives the bare end of a stream its number.
func coded(err error) error {
	if _, ok := errors.AsType[*mman.Error](err); ok {
		return err
	}
	return fmt.Errorf("%w: the answer ends too early: %w", mman.ErrPeerVanished, err)
}
