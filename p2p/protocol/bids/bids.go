package bids

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

// Protocol is the name of the protocol.
const Protocol = "/mman/bids/1"

const (
	// maxCommitment, maxKey and maxSignature bound the parts of an answer, in
	// bytes.
	maxCommitment, maxKey, maxSignature = 256, 128, 128
	maxInvite                           = 64
	maxAnswer                           = 2 << 10
)

const (
	kindInvite     wire.Kind = 1
	kindCommitment wire.Kind = 2
	kindAck        wire.Kind = 3
	kindEnd        wire.Kind = 4
)

type invite struct {
	Request mman.RequestID `cbor:"request"`
}

// Sealed is a commitment as its bidder signed it, opaque here. The receiver owns
// the slices.
type Sealed struct {
	// Commitment is its DAG-CBOR.
	Commitment []byte `cbor:"commitment"`
	// Key is the account's public key in text, Signature what it signed.
	Key       []byte `cbor:"key"`
	Signature []byte `cbor:"signature"`
}

// Validate reports a part that is missing or too long, as mman.ErrInvalid.
func (s Sealed) Validate() error {
	for _, p := range []struct {
		name       string
		size, most int
	}{{"commitment", len(s.Commitment), maxCommitment}, {"key", len(s.Key), maxKey}, {"signature", len(s.Signature), maxSignature}} {
		if p.size == 0 || p.size > p.most {
			return fmt.Errorf("%w: a sealed bid whose %s has %d bytes, 1 to %d are allowed", mman.ErrInvalid, p.name, p.size, p.most)
		}
	}
	return nil
}

type ack struct {
	Signature []byte `cbor:"signature"`
}

// Bidder decides whether and what to bid. Node implements it. It must be safe for
// concurrent use.
type Bidder interface {
	// Bid returns the commitment to the one bid on the request; asked again, the
	// same. The error goes to the consumer: it must not hold secrets.
	Bid(ctx context.Context, request mman.RequestID) (Sealed, error)
	// Acknowledged keeps the consumer's signature over it.
	Acknowledged(ctx context.Context, request mman.RequestID, signature []byte) error
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
		return fmt.Errorf("%w: bids: timeout %s must be positive", mman.ErrInvalid, c.FrameTimeout)
	}
	return nil
}

func (c Config) wire(maxRead int) wire.Config {
	return wire.Config{MaxRead: maxRead, IdleTimeout: c.FrameTimeout, FrameTimeout: c.FrameTimeout}
}

// Serve answers invitations on host with the bidder's commitments until ctx ends.
func Serve(ctx context.Context, host *p2p.Host, bidder Bidder, cfg Config) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	host.Handle(ctx, Protocol, func(ctx context.Context, s p2p.Stream) {
		if err := answer(ctx, wire.New(s, cfg.wire(maxInvite+maxSignature)), bidder); err != nil {
			cfg.Logger.DebugContext(ctx, "invitation to bid not answered", slog.String("peer", s.RemotePeer().String()), slog.Any("error", err))
		}
	})
	return nil
}

func answer(ctx context.Context, conn *wire.Conn, bidder Bidder) error {
	in, err := wire.Receive[invite](conn, kindInvite)
	if err != nil {
		return err
	}
	sealed, err := bidder.Bid(ctx, in.Request)
	if err != nil {
		return errors.Join(err, conn.Fail(err))
	}
	if err := sealed.Validate(); err != nil {
		return errors.Join(err, conn.Fail(fmt.Errorf("%w: the bid here is damaged", mman.ErrInternal)))
	}
	if err := conn.Send(kindCommitment, sealed); err != nil {
		return err
	}
	got, err := wire.Receive[ack](conn, kindAck)
	if err != nil {
		return err
	}
	if err := bidder.Acknowledged(ctx, in.Request, got.Signature); err != nil {
		return errors.Join(err, conn.Fail(err))
	}
	if err := conn.Write(kindEnd); err != nil {
		return err
	}
	return conn.Close()
}

// Invite asks a peer to bid on a request. Acknowledge is given the commitment and
// returns the signature that tells the bidder that it came in time; when it fails,
// none is given and Invite returns its error. Failures else are those of
// p2p.Host.Open, the peer's own reason, mman.ErrTimeout, and mman.ErrProtocol for an
// answer that is not one. After the acknowledgement was sent the commitment counts,
// whatever Invite returns.
func Invite(ctx context.Context, host *p2p.Host, to mman.PeerID, request mman.RequestID, cfg Config, acknowledge func(Sealed) ([]byte, error)) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	s, err := host.Open(ctx, to, Protocol)
	if err != nil {
		return err
	}
	conn := wire.New(s, cfg.wire(maxAnswer))
	stop := context.AfterFunc(ctx, func() { _ = conn.Reset() })
	err = converse(conn, request, acknowledge)
	canceled := !stop()
	if err == nil {
		return conn.Close()
	}
	err = fmt.Errorf("ask peer %s to bid: %w", to, err)
	if canceled {
		err = fmt.Errorf("%w: %w: %w", mman.ErrCanceled, ctx.Err(), err)
	}
	return errors.Join(err, conn.Reset())
}

func converse(conn *wire.Conn, request mman.RequestID, acknowledge func(Sealed) ([]byte, error)) error {
	if err := conn.Send(kindInvite, invite{request}); err != nil {
		return err
	}
	sealed, err := wire.Receive[Sealed](conn, kindCommitment)
	if err != nil {
		return err
	}
	if err := sealed.Validate(); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrProtocol, err)
	}
	signature, err := acknowledge(sealed)
	if err != nil {
		return err
	}
	if err := conn.Send(kindAck, ack{signature}); err != nil {
		return err
	}
	f, err := conn.Read()
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the peer ended before it took the acknowledgement", mman.ErrPeerVanished)
	case err != nil:
		return err
	case f.Kind != kindEnd || len(f.Body) > 0:
		return fmt.Errorf("%w: frame of kind %d after the acknowledgement", mman.ErrProtocol, f.Kind)
	}
	return nil
}
