package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

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
	// Stdin is the input of an interactive run; any error ends it. It is read by a
	// goroutine of its own, whose last Read may outlast the run.
	Stdin io.Reader
	// Aside takes the answers to the records of a framed run.
	Aside io.Writer
	// Lost is told that the stream broke and is dialled again, and then, with
	// nil, that the run goes on. It may be nil.
	Lost func(error)
}

// Client is the consumer's side of an accepted session. One goroutine uses it.
type Client struct {
	conn   *wire.Conn
	accept Accept

	dialer  Dialer
	opening Opening
	key     market.Signer
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
	// Linger is for how long an interactive run whose stream broke is dialled
	// again; 0 gives it up.
	Linger time.Duration
}

// Dial opens a session. The lease key signs the hello; the provider's refusal
// comes back as its coded error.
func Dial(ctx context.Context, d Dialer, o Opening, key market.Signer) (*Client, error) {
	c := &Client{dialer: d, opening: o, key: key}
	if err := c.dial(ctx, nil); err != nil {
		return nil, fmt.Errorf("open session on lease %s: %w", o.Lease, err)
	}
	return c, nil
}

// dial opens the stream and greets.
func (c *Client) dial(ctx context.Context, from *Resume) error {
	o := c.opening
	hello := Hello{Lease: o.Lease, Consumer: c.dialer.ID(), Provider: o.Provider, Nonce: o.Nonce, Lane: o.Lane, Last: o.Last, Resume: from}
	payload, err := hello.payload()
	if err != nil {
		return err
	}
	hello.Signature = c.key.Sign(mman.SignHandshake, o.ChainID, payload)
	stream, err := c.dialer.Open(ctx, o.Provider, Protocol)
	if err != nil {
		return err
	}
	c.conn = wire.New(stream, wireConfig())
	defer c.watch(ctx)()
	if err := c.greet(o, hello); err != nil {
		return errors.Join(c.cause(ctx, err), c.conn.Reset())
	}
	return nil
}

func (c *Client) greet(o Opening, hello Hello) (err error) {
	if err := c.conn.Send(kindHello, hello); err != nil {
		return err
	}
	if c.accept, err = wire.Receive[Accept](c.conn, kindAccept); err != nil {
		return err
	}
	if c.accept.Lease != o.Lease || c.accept.Lane != o.Lane || c.accept.Nonce != o.Nonce {
		return fmt.Errorf("%w: the accept answers another hello", mman.ErrProtocol)
	}
	return c.accept.Verify(o.ChainID, o.Provider)
}

// Accept returns the provider's signed consent.
func (c *Client) Accept() Accept { return c.accept }

// watch resets the stream when ctx ends while the client waits for the peer.
func (c *Client) watch(ctx context.Context) (stop func() bool) {
	conn := c.conn
	return context.AfterFunc(ctx, func() { _ = conn.Reset() }) // a second reset has nothing to say
}

// cause prefers the caller's own cancellation to the broken stream that it
// made.
func (c *Client) cause(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", mman.ErrTimeout, context.Cause(ctx))
	default:
		return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
}

// Run asks for a run and follows it to its result. The payer answers the
// statements on the way and the last one, whose signed form is returned. A run
// that the provider did not carry out is its coded error, and the session goes
// on; after any other error it is over.
func (c *Client) Run(ctx context.Context, run Run, source Source, payer Payer, sinks Sinks) (market.Signed, error) {
	work, err := run.Work(c.accept.Lease)
	if err != nil {
		return market.Signed{}, err
	}
	r := &running{c: c, run: run, work: work, source: source, payer: payer, sinks: sinks}
	if run.Interactive {
		return r.interact(ctx)
	}
	defer c.watch(ctx)()
	if err := c.conn.Send(kindRun, run); err != nil {
		return market.Signed{}, fmt.Errorf("run %d: %w", run.Number, c.cause(ctx, err))
	}
	for {
		last, end, err := r.next()
		if end {
			if err != nil {
				err = fmt.Errorf("run %d: %w", run.Number, err)
			}
			return last, err
		}
		if err != nil {
			return market.Signed{}, errors.Join(fmt.Errorf("run %d: %w", run.Number, c.cause(ctx, err)), c.conn.Reset())
		}
	}
}

// running is one call of Run.
type running struct {
	c      *Client
	run    Run
	work   mman.Hash
	source Source
	payer  Payer
	sinks  Sinks
	needed bool   // the provider has said what it lacks
	hand   *hand  // writes the input of an interactive run, nil for another
	frames uint64 // of an interactive run that came
	unsaid uint64 // of those, what the provider was not told of
	weight uint64 // their bytes
}

// next takes a frame. At the end the run is over and the session goes on;
// otherwise an error ends the session.
func (r *running) next() (last market.Signed, end bool, err error) {
	f, err := r.read()
	if err != nil {
		return last, false, err
	}
	return r.frame(f)
}

func (r *running) read() (wire.Frame, error) {
	f, err := r.c.conn.Read()
	if err == io.EOF { //nolint:errorlint // the bare value is the clean end
		err = fmt.Errorf("%w: before the result", mman.ErrPeerVanished)
	}
	return f, err
}

func (r *running) frame(f wire.Frame) (last market.Signed, end bool, err error) {
	switch f.Kind {
	case kindNeed:
		n, err := wire.Decode[need](f)
		if err != nil {
			return last, false, err
		}
		return last, false, r.supply(n.Contents)
	case kindStdout:
		_, err := r.sinks.Stdout.Write(f.Body)
		return last, false, err
	case kindStderr:
		_, err := r.sinks.Stderr.Write(f.Body)
		return last, false, err
	case kindAside:
		if !r.run.Framed || r.sinks.Aside == nil {
			return last, false, fmt.Errorf("%w: an answer to records of a run without any", mman.ErrProtocol)
		}
		_, err := r.sinks.Aside.Write(f.Body)
		return last, false, err
	case kindStatement:
		return r.statement(f)
	case kindTaken:
		if r.hand == nil {
			return last, false, fmt.Errorf("%w: input is taken of a run without any", mman.ErrProtocol)
		}
		t, err := wire.Decode[taken](f)
		if err == nil {
			err = r.hand.taken(t.Bytes)
		}
		return last, false, err
	case kindFailed:
		x, err := wire.Decode[failed](f)
		if err == nil {
			err = x.validate(r.run)
		}
		if err != nil {
			return last, false, err
		}
		return last, true, mman.RemoteError(x.Code, x.Retry, x.Text)
	case wire.KindError: // Read returns it as an error
		fallthrough
	default:
		return last, false, fmt.Errorf("%w: frame of kind %d in a run", mman.ErrProtocol, f.Kind)
	}
}

// statement lets the payer answer a statement that is about this run.
func (r *running) statement(f wire.Frame) (last market.Signed, end bool, err error) {
	st, err := wire.Decode[market.Signed](f)
	if err != nil {
		return last, false, err
	}
	body, err := market.DecodeStatement(st.Bytes)
	if err != nil {
		return last, false, err
	}
	if body.Lease != r.c.accept.Lease || body.Lane != r.c.accept.Lane || body.Work != r.work || (body.Result != nil && body.Result.Run != r.run.Number) {
		return last, false, fmt.Errorf("%w: statement %d is about another run", mman.ErrProtocol, body.Seq)
	}
	receipt, ok, err := r.payer.Acknowledge(st)
	if err != nil {
		return last, false, errors.Join(err, r.c.conn.Fail(err))
	}
	if ok {
		r.c.opening.Last = &receipt
		if err := r.c.conn.Send(kindReceipt, receipt); err != nil {
			return last, false, err
		}
	}
	return st, body.Result != nil, nil
}

func (r *running) supply(contents []mman.CID) error {
	if r.needed {
		return fmt.Errorf("%w: contents are asked for a second time", mman.ErrProtocol)
	}
	r.needed = true
	for i, id := range contents {
		if slices.Contains(contents[:i], id) {
			return fmt.Errorf("%w: content %s is asked for twice", mman.ErrProtocol, id)
		}
		if err := r.c.send(id, r.source); err != nil {
			return fmt.Errorf("supply of %s: %w", id, err)
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
// Run waits, but not of an interactive run, which ends with its context. What was
// used is stated and owed.
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
		return Closed{}, errors.Join(fmt.Errorf("close session: %w", c.cause(ctx, err)), c.conn.Reset())
	}
	return closed, c.conn.Close()
}

// Reset drops the session at once.
func (c *Client) Reset() error { return c.conn.Reset() }
