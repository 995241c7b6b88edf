package sdk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/feed"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// Session is an open session on a lease. One goroutine uses it.
type Session struct {
	client *Client
	lease  *Lease
	lane   *Lane
	key    leaseSigner
	peer   mman.PeerID
	conn   *session.Client
}

// reach is how long a peer may take to answer before it counts as gone.
const reach = 6 * time.Second

// introduce tells the host where a peer is: from the chain, or else from the
// DHT. A peer that answers nowhere is mman.ErrUnreachable.
func (c *Client) introduce(ctx context.Context, peer mman.PeerID) error {
	n, err := c.join(ctx)
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	gone := fmt.Errorf("%w: peer %s: nobody knows an address", mman.ErrUnreachable, peer)
	b, err := c.chain.Node(within, peer)
	if err == nil && len(b.Addrs) > 0 {
		if _, err = n.host.Connect(within, b.Addrs); err == nil {
			return nil
		}
		gone = err
	}
	// It is not bound, or has moved since.
	if addrs, err := n.disc.FindPeer(within, peer); err == nil && !slices.Equal(addrs, b.Addrs) {
		if _, err = n.host.Connect(within, addrs); err == nil {
			return nil
		}
		gone = err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
	if !errors.Is(gone, mman.ErrUnreachable) {
		gone = fmt.Errorf("%w: %w", mman.ErrUnreachable, gone)
	}
	return gone
}

// linger is for how long a broken connection of an interactive run is dialled
// again.
const linger = 90 * time.Second

// behind is how long a provider whose node has not seen the lease's block yet
// is asked again.
const (
	behind     = 10 * time.Second
	behindStep = 25 * time.Millisecond
)

// Open opens a session with the lease's compute provider on a free lane.
func (c *Client) Open(ctx context.Context, lease *Lease) (*Session, error) {
	n, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	key, err := c.leases.key(lease.OwnLease)
	if err != nil {
		return nil, err
	}
	peer := lease.Lease.Compute().Peer
	if err := c.introduce(ctx, peer); err != nil {
		return nil, fmt.Errorf("provider %s of lease %s: %w", peer, lease.Lease.ID, err)
	}
	lane, err := lease.takeLane()
	if err != nil {
		return nil, err
	}
	s := &Session{client: c, lease: lease, lane: lane, key: leaseSigner{key}, peer: peer}
	if err := s.dial(ctx, n); err != nil {
		return nil, errors.Join(err, lane.Close())
	}
	return s, nil
}

func (s *Session) dial(ctx context.Context, n *network) error {
	deadline := s.client.cfg.Now().Add(behind)
	for {
		o := session.Opening{ChainID: s.client.chainID, Lease: s.lease.Lease.ID, Lane: s.lane.n, Provider: s.peer, Last: s.lane.state.Receipt, Linger: linger}
		if _, err := io.ReadFull(rand.Reader, o.Nonce[:]); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrInternal, err)
		}
		conn, err := session.Dial(ctx, n.host, o, s.key)
		if err == nil {
			s.conn = conn
			return nil
		}
		// A lane whose session was cut is free once the provider noticed.
		if !errors.Is(err, mman.ErrLeaseUnknown) && !errors.Is(err, mman.ErrRunConflict) || !s.client.cfg.Now().Before(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
		case <-s.client.cfg.After(behindStep):
		}
	}
}

// Work is one run's input.
type Work struct {
	Args []string
	// Stdin is what the algorithm reads on standard input; nil for nothing.
	// It is read twice.
	Stdin io.ReadSeeker
	// Input makes the run interactive, instead of Stdin: the algorithm gets what is
	// read from it while it runs. It is read by a goroutine whose last Read may
	// outlast the run. Idle is how long the algorithm may wait for it, at most an
	// hour; 0 leaves that to the provider.
	Input io.Reader
	Idle  time.Duration
	// Console takes the place of Input for a program in a container: beside what is
	// typed it carries a terminal's size and files.
	Console *Console
	Seed    mman.Hash
	// Service makes the run of Input a hosted one.
	Service *resources.Service
	// Limits default to the lease's.
	Limits resources.Limits
	// Stdout and Stderr take the output as it comes; nil drops it. It is verified
	// only when Run has returned.
	Stdout, Stderr io.Writer
	// Paid, when set, is told after each receipt what the run has cost so far,
	// from the goroutine that called Run.
	Paid func(mman.Amount)
	// Tokens says what an endpoint's answer has cost in tokens by what came of it; nil
	// pays for none. It is called from the goroutine that called Run.
	Tokens func() uint64
	// Steps says how many steps an environment has answered; nil pays for none. As
	// Tokens.
	Steps func() uint64
	// Lost, when set, is told that the connection of an interactive run broke and is
	// dialled again, and, with nil, that the run goes on. Held, when set, is told
	// why the run rests without money. Both from the goroutine that called Run.
	Lost, Held func(error)

	// kept, when set, names what the run was given, as it is kept in a file.
	kept func(ctx context.Context) (RunFile, error)
}

// Outcome is a verified run.
type Outcome struct {
	Statement market.Statement
	Result    market.RunResult
	// SHA256 is the digest of the output bytes.
	SHA256 mman.Hash
	// Usage is this run's own, Paid what it added to the lease's bill.
	Usage resources.Usage
	Paid  mman.Amount
	Time  time.Duration
	// Receipt names the receipt that paid for the run; see Client.Replay.
	Receipt mman.CID
}

// Run has the lease's algorithm run once, pays for it, and checks that the
// output is the one that the provider signed for. An algorithm that failed or
// was stopped is no error: see Outcome.Result.
func (s *Session) Run(ctx context.Context, w Work) (Outcome, error) {
	if w.Console != nil {
		defer w.Console.end()
	}
	run, err := s.prepare(ctx, w)
	if err != nil {
		return Outcome{}, err
	}
	before := s.lane.state
	before.Run = run.Number
	if err := s.lane.save(before); err != nil {
		return Outcome{}, err
	}
	p := &payer{ctx: ctx, lane: s.lane, key: s.key, peer: s.peer, now: s.client.cfg.Now, begun: s.client.cfg.Now(), base: before.Usage, paid: before.net(), told: w.Paid, tokens: w.Tokens, steps: w.Steps, fuel: run.Limits.Fuel, mebibytes: run.Limits.Mebibytes(), in: s.lease.InBytes + run.StdinBytes, typed: new(atomic.Uint64)}
	if p.in, err = s.suppliedBytes(ctx, p.in); err != nil {
		return Outcome{}, err
	}
	check := NewChecker(ctx)
	var sha *mman.Hash
	p.holds = func(result market.RunResult) error {
		got, sum, size, err := check.End()
		sha = &sum
		if err == nil && (result.Output != got || result.OutputBytes != size) {
			err = fmt.Errorf("%w: the provider signed for output %s of %d bytes, what came is %s of %d bytes", mman.ErrContent, result.Output, result.OutputBytes, got, size)
		}
		return err
	}
	sinks := session.Sinks{
		Stdout: counter{io.MultiWriter(check, orDiscard(w.Stdout)), &p.out, run.Limits.OutputBytes},
		Stderr: counter{orDiscard(w.Stderr), &p.out, run.Limits.OutputBytes},
	}
	if run.Interactive {
		p.talk(ctx, w)
		sinks.Stdin, sinks.Lost = typist{w.Input, p.typed}, w.Lost
		if w.Console != nil {
			sinks.Stdin = typist{w.Console, p.typed}
			sinks.Aside = counter{aside{w.Console}, &p.out, run.Limits.OutputBytes}
		}
	}
	_, err = s.conn.Run(ctx, run, s.source(ctx, w, run), p, sinks)
	if sha == nil { // there is no result
		_, _, _, endErr := check.End()
		err = errors.Join(err, endErr)
	}
	if err != nil {
		return Outcome{}, s.named(err)
	}
	receipt := *s.lane.state.Receipt
	record := RunRecord{
		ChainID: s.client.chainID, Lease: s.lease.Lease.ID, Run: run, Statement: p.signed, Receipt: receipt, Before: before.Usage, Files: s.files(w, run),
	}
	if w.kept != nil {
		input, err := w.kept(context.WithoutCancel(ctx))
		if err != nil {
			return Outcome{}, err
		}
		record.Input, record.Files = input.Content, append(record.Files, input)
	}
	if err := s.client.leases.record(record); err != nil {
		return Outcome{}, err
	}
	return Outcome{
		Receipt: ReceiptID(receipt), Statement: p.last, Result: *p.last.Result, SHA256: *sha, Usage: p.last.Usage.Since(before.Usage),
		Paid: s.lane.state.net() - min(s.lane.state.net(), before.net()), Time: s.client.cfg.Now().Sub(p.begun),
	}, nil
}

// named says which lease an error is about, unless the provider has.
func (s *Session) named(err error) error {
	name := fmt.Sprintf("lease %s: ", s.lease.Lease.ID)
	if strings.Contains(err.Error(), name) {
		return err
	}
	return fmt.Errorf("%s%w", name, err)
}

// files lists the local files of a run whose place is known.
func (s *Session) files(w Work, run session.Run) []RunFile {
	var out []RunFile
	for _, leg := range s.lease.Lease.Legs {
		if leg.Supplied {
			out = append(out, RunFile{leg.Resource, s.lease.files[leg.Resource]})
		}
	}
	if f, ok := w.Stdin.(*os.File); ok && f != nil {
		out = append(out, RunFile{run.Stdin, f.Name()})
	}
	for i, f := range out {
		if abs, err := filepath.Abs(f.Path); err == nil {
			out[i].Path = abs
		}
	}
	return out
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// prepare makes the run's message.
func (s *Session) prepare(ctx context.Context, w Work) (session.Run, error) {
	run := session.Run{Number: s.lane.state.Run + 1, Args: w.Args, Seed: w.Seed, Limits: s.lease.Lease.Limits.Tighten(w.Limits)}
	if w.Input != nil || w.Console != nil {
		if w.Stdin != nil || w.Input != nil && w.Console != nil {
			return run, fmt.Errorf("%w: the input of a run is given before it or while it runs, not both", mman.ErrInvalid)
		}
		if w.Console != nil {
			run.Framed, run.Terminal = true, w.Console.terminal
		}
		run.Service = w.Service
		run.Interactive, run.IdleMs = true, uint64(max(0, w.Idle/time.Millisecond))
		return run, run.Validate()
	}
	if w.Stdin == nil {
		return run, run.Validate()
	}
	var err error
	if run.Stdin, run.StdinBytes, err = content.SumUnixFS(ctx, w.Stdin); err != nil {
		return run, err
	}
	if _, err := w.Stdin.Seek(0, io.SeekStart); err != nil {
		return run, fmt.Errorf("input: %w: it can be read only once: %w", mman.ErrInvalid, err)
	}
	if run.StdinBytes <= session.InlineMax {
		run.Inline = make([]byte, run.StdinBytes)
		if _, err := io.ReadFull(w.Stdin, run.Inline); err != nil {
			return run, fmt.Errorf("input: %w: it changed while it was read: %w", mman.ErrInvalid, err)
		}
	}
	return run, run.Validate()
}

// suppliedBytes adds the consumer's own data, which every run reads.
func (s *Session) suppliedBytes(ctx context.Context, n uint64) (uint64, error) {
	for _, leg := range s.lease.Lease.Data() {
		if !leg.Supplied {
			continue
		}
		f, size, err := OpenSupplied(ctx, s.lease.files[leg.Resource])
		if err != nil {
			return 0, err
		}
		if err := f.Close(); err != nil {
			return 0, fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		n += size
	}
	return n, nil
}

// source opens what the provider asks for: the lease's local files and the
// run's input.
func (s *Session) source(ctx context.Context, w Work, run session.Run) session.Source {
	return func(id mman.CID) (io.ReadCloser, uint64, error) {
		if path, ok := s.lease.files[id]; ok {
			return OpenSupplied(ctx, path)
		}
		if i, ok := resources.InterpreterAt(id); ok && i.Facet == s.lease.Lease.Algorithm().Facet {
			return s.client.interpreter(i)
		}
		if id == run.Stdin && w.Stdin != nil {
			if _, err := w.Stdin.Seek(0, io.SeekStart); err != nil {
				return nil, 0, fmt.Errorf("input: %w", err)
			}
			return io.NopCloser(w.Stdin), run.StdinBytes, nil
		}
		return nil, 0, fmt.Errorf("%w: the provider asks for %s, which is no part of this run", mman.ErrProtocol, id)
	}
}

// interpreter opens what runs scripts, for a provider that does not have it.
func (c *Client) interpreter(i resources.Interpreter) (io.ReadCloser, uint64, error) {
	lacks := func(err error) error {
		return fmt.Errorf("neither the provider nor anybody else that it found has %s: %w", i.Name, err)
	}
	if c.cfg.Interpreter == nil {
		return nil, 0, lacks(mman.ErrNotFound)
	}
	b, err := c.cfg.Interpreter(i.Module)
	if err != nil {
		return nil, 0, lacks(err)
	}
	return b, b.Size(), nil
}

// Close ends the session. The lease stays open for the next one.
func (s *Session) Close(ctx context.Context) error {
	_, err := s.conn.Close(ctx, false)
	return errors.Join(err, s.lane.Close())
}

// Settle ends the session and the lease: the provider settles the receipts and
// agrees to close, so that the rest of the escrow comes back at once.
func (s *Session) Settle(ctx context.Context) (mman.Hash, error) {
	closed, err := s.conn.Close(ctx, true)
	if err = errors.Join(err, s.lane.Close()); err != nil {
		return mman.Hash{}, err
	}
	return closed.TxHash, s.lease.forget()
}

// CloseLease ends a lease: through its provider when that can be reached,
// otherwise alone, which opens the dispute window. waits is the height at which
// the rest comes back, 0 when it already has.
func (c *Client) CloseLease(ctx context.Context, id mman.LeaseID) (waits uint64, err error) {
	own, err := c.leases.Get(id)
	if err == nil {
		var s *Session
		if s, err = c.Open(ctx, &Lease{OwnLease: own, Request: own.Lease.Request}); err == nil {
			_, err = s.Settle(ctx)
		}
	}
	if err == nil { // unless others are owed something still
		now, err := c.chain.Lease(ctx, id)
		if err != nil || now.State != market.LeaseClosing {
			return 0, err
		}
		return now.CloseAt, nil
	}
	if errors.Is(err, mman.ErrCanceled) {
		return 0, err
	}
	submitter, serr := c.Submitter()
	if serr != nil {
		return 0, errors.Join(err, serr)
	}
	if ok, err := c.abandoned(ctx, id); err != nil || ok {
		return 0, err
	}
	if _, err := submitter.Submit(ctx, tx.MsgCloseLease{Account: submitter.Address(), Lease: id}); err != nil {
		return 0, fmt.Errorf("close lease %s: %w", id, err)
	}
	now, err := c.chain.Lease(ctx, id)
	return now.CloseAt, err
}

// abandoned cancels a lease that its provider let the time to accept pass: the
// escrow comes back at once.
func (c *Client) abandoned(ctx context.Context, id mman.LeaseID) (bool, error) {
	l, err := c.chain.Lease(ctx, id)
	if err != nil {
		return false, err
	}
	params, err := c.chain.Params(ctx)
	if err != nil {
		return false, err
	}
	st, err := c.chain.Status(ctx)
	if err != nil || l.State != market.LeaseOpen || l.Accepted > 0 || l.Paid > 0 || st.Height < l.Opened+params.AcceptBlocks {
		return false, err
	}
	err = c.Cancel(ctx, l.Request)
	if errors.Is(err, mman.ErrLeaseState) {
		return false, nil // it was accepted meanwhile
	}
	return err == nil, err
}

// Checker hashes an output while it comes: its CID as the provider must have
// computed it, and its SHA-256. End must be called.
type Checker struct {
	feed *feed.Feed
	sha  mman.Summer
	id   mman.CID
	size uint64
}

// NewChecker returns an empty Checker. It ends with its writer, not with ctx: what a
// canceled run wrote is checked all the same.
func NewChecker(ctx context.Context) *Checker {
	ctx = context.WithoutCancel(ctx)
	c := &Checker{sha: mman.NewSum256()}
	c.feed = feed.New(func(r io.Reader) (err error) {
		c.id, c.size, err = content.SumUnixFS(ctx, r)
		return err
	})
	return c
}

// Write adds p.
func (c *Checker) Write(p []byte) (int, error) {
	n, err := c.feed.Write(p)
	if n > 0 {
		_, _ = c.sha.Write(p[:n]) // a digest never fails
	}
	return n, err
}

// End returns the CID, the SHA-256 and the size of what was written.
func (c *Checker) End() (mman.CID, mman.Hash, uint64, error) {
	if err := c.feed.End(); err != nil {
		return mman.CID{}, mman.Hash{}, 0, err
	}
	return c.id, c.sha.Hash(), c.size, nil
}
