package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

// Dialer opens streams; *p2p.Host is one.
type Dialer interface {
	ID() mman.PeerID
	Open(ctx context.Context, to mman.PeerID, protocol string) (p2p.Stream, error)
}

// Source opens a content that the consumer supplies.
type Source func(id mman.CID) (r io.ReadCloser, size uint64, err error)

// Payer answers Statements. It must persist a receipt before it returns it.
type Payer interface {
	// Acknowledge returns the receipt for the statement; ok is false when
	// nothing more is authorised before the result, which is no error. An error
	// ends the session.
	Acknowledge(s market.Signed) (r market.Signed, ok bool, err error)
}

// Sinks take what a run writes.
type Sinks struct {
	Stdout io.Writer
	Stderr io.Writer
}

// Client is the consumer's side of an accepted session. One goroutine uses it.
type Client struct {
	conn   *wire.Conn
	accept Accept
}

// Opening says which lease to use, on which lane.
type Opening struct {
	ChainID  string
	Lease    mman.LeaseID
	Lane     uint64
	Provider mman.PeerID
	Nonce    mman.Hash
	// Last is the latest receipt signed on the lane, nil at the start.
	Last *market.Signed
}

// Dial opens a session. The lease key signs the hello; the provider's refusal
// comes back as its coded error.
func Dial(ctx context.Context, d Dialer, o Opening, key market.Signer) (*Client, error) {
	hello := Hello{Lease: o.Lease, Consumer: d.ID(), Provider: o.Provider, Nonce: o.Nonce, Lane: o.Lane, Last: o.Last}
	payload, err := hello.payload()
	if err != nil {
		return nil, err
	}
	hello.Signature = key.Sign(mman.SignHandshake, o.ChainID, payload)
	stream, err := d.Open(ctx, o.Provider, Protocol)
	if err != nil {
		return nil, fmt.Errorf("open session on lease %s: %w", o.Lease, err)
	}
	c := &Client{conn: wire.New(stream, wireConfig())}
	defer c.watch(ctx)()
	if err := c.conn.Send(kindHello, hello); err != nil {
		return nil, fmt.Errorf("open session on lease %s: %w", o.Lease, err)
	}
	if c.accept, err = wire.Receive[Accept](c.conn, kindAccept); err != nil {
		return nil, fmt.Errorf("open session on lease %s: %w", o.Lease, c.cause(ctx, err))
	}
	if c.accept.Lease != o.Lease || c.accept.Lane != o.Lane || c.accept.Nonce != o.Nonce {
		return nil, c.protocol("the accept answers another hello")
	}
	if err := c.accept.Verify(o.ChainID, o.Provider); err != nil {
		return nil, errors.Join(err, c.conn.Reset())
	}
	return c, nil
}

// Accept returns the provider's signed consent.
func (c *Client) Accept() Accept { return c.accept }

// watch resets the stream when ctx ends while the client waits for the peer.
func (c *Client) watch(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.conn.Reset() }) // a second reset has nothing to say
}

// cause prefers the caller's own cancellation to the broken stream that it
// made.
func (c *Client) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
	return err
}

func (c *Client) protocol(format string, args ...any) error {
	err := fmt.Errorf("%w: %s", mman.ErrProtocol, fmt.Sprintf(format, args...))
	return errors.Join(err, c.conn.Reset())
}

// Run asks for a run and follows it to its result. The payer answers the
// statements on the way and the last one, whose signed form is returned. A run
// that the provider did not carry out is its coded error, and the session goes
// on; after any other error it is over.
func (c *Client) Run(ctx context.Context, run Run, source Source, payer Payer, sinks Sinks) (market.Signed, error) {
	defer c.watch(ctx)()
	if err := c.conn.Send(kindRun, run); err != nil {
		return market.Signed{}, c.cause(ctx, err)
	}
	for {
		f, err := c.conn.Read()
		if err == io.EOF { //nolint:errorlint // the bare value is the clean end
			err = fmt.Errorf("%w: before the result", mman.ErrPeerVanished)
		}
		if err != nil {
			return market.Signed{}, fmt.Errorf("run %d: %w", run.Number, c.cause(ctx, err))
		}
		last, done, err := c.follow(f, source, payer, sinks)
		if err != nil {
			return market.Signed{}, fmt.Errorf("run %d: %w", run.Number, c.cause(ctx, err))
		}
		if done {
			return last, nil
		}
	}
}

func (c *Client) follow(f wire.Frame, source Source, payer Payer, sinks Sinks) (last market.Signed, done bool, err error) {
	switch f.Kind {
	case kindNeed:
		n, err := wire.Decode[need](f)
		if err != nil {
			return last, false, errors.Join(err, c.conn.Reset())
		}
		return last, false, c.supply(n.Contents, source)
	case kindStdout:
		return last, false, c.write(sinks.Stdout, f.Body)
	case kindStderr:
		return last, false, c.write(sinks.Stderr, f.Body)
	case kindStatement:
		return c.statement(f, payer)
	case kindFailed:
		x, err := wire.Decode[failed](f)
		if err != nil {
			return last, false, errors.Join(err, c.conn.Reset())
		}
		return last, false, mman.RemoteError(x.Code, x.Retry, x.Text)
	default:
		return last, false, c.protocol("frame of kind %d in a run", f.Kind)
	}
}

func (c *Client) write(w io.Writer, p []byte) error {
	if _, err := w.Write(p); err != nil {
		return errors.Join(err, c.conn.Reset())
	}
	return nil
}

func (c *Client) statement(f wire.Frame, payer Payer) (last market.Signed, done bool, err error) {
	st, err := wire.Decode[market.Signed](f)
	if err != nil {
		return last, false, errors.Join(err, c.conn.Reset())
	}
	body, err := market.DecodeStatement(st.Bytes)
	if err != nil {
		return last, false, errors.Join(err, c.conn.Reset())
	}
	r, ok, err := payer.Acknowledge(st)
	if err != nil {
		return last, false, errors.Join(err, c.conn.Fail(err))
	}
	if ok {
		if err := c.conn.Send(kindReceipt, r); err != nil {
			return last, false, err
		}
	}
	return st, body.Result != nil, nil
}

func (c *Client) supply(contents []mman.CID, source Source) error {
	for i, id := range contents {
		if slices.Contains(contents[:i], id) {
			return c.protocol("content %s is asked for twice", id)
		}
		if err := c.send(id, source); err != nil {
			return errors.Join(fmt.Errorf("supply of %s: %w", id, err), c.conn.Reset())
		}
	}
	return nil
}

func (c *Client) send(id mman.CID, source Source) (err error) {
	r, size, err := source(id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := c.conn.Send(kindBlob, blob{id, size}); err != nil {
		return err
	}
	buf := make([]byte, chunkSize)
	for left := size; left > 0; {
		n, err := r.Read(buf[:min(left, chunkSize)])
		if n > 0 {
			left -= uint64(n)
			if err := c.conn.Write(kindChunk, buf[:n]); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			err = io.ErrNoProgress
		}
		return fmt.Errorf("%d of %d bytes are missing: %w", left, size, err)
	}
	return nil
}

// Cancel asks the provider to stop the run under way; it may be called while
// Run waits. What was used is stated and owed.
func (c *Client) Cancel() error { return c.conn.Send(kindCancel, cancel{}) }

// Close ends the session between runs. With settle the provider also submits
// the lease's receipts and ends the lease; the transaction is in the answer.
func (c *Client) Close(ctx context.Context, settle bool) (Closed, error) {
	defer c.watch(ctx)()
	if err := c.conn.Send(kindClose, closing{settle}); err != nil {
		return Closed{}, c.cause(ctx, err)
	}
	closed, err := wire.Receive[Closed](c.conn, kindClosed)
	if err != nil {
		return Closed{}, fmt.Errorf("close session: %w", c.cause(ctx, err))
	}
	return closed, c.conn.Close()
}

// Reset drops the session at once.
func (c *Client) Reset() error { return c.conn.Reset() }
