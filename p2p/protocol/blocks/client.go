package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

const (
	// batchBytes is how much is written to the store at a time.
	batchBytes = 2 << 20
	// maxFlights is how many wants an asker leaves with one source.
	maxFlights = 64
	// The pause before a source that vanished is asked again.
	pauseMin, pauseMax = time.Second, 5 * time.Second
)

// Source is a peer that may have the content.
type Source struct {
	// Peer is who is asked.
	Peer mman.PeerID
	// Request is what it is asked. All sources of a job are asked for the same
	// content.
	Request Request
}

// Job is one file to fetch.
type Job struct {
	// Sources are asked all at a time. At least one, or Search.
	Sources []Source
	// Search, if set, is called once, when the fetch begins: those whom it returns
	// are asked too, beside Sources. Its context ends when nothing is left to fetch.
	Search func(ctx context.Context) ([]Source, error)
	// Into takes the blocks; those that are there already are not fetched.
	Into content.Store
	// MaxBytes bounds the file.
	MaxBytes uint64
	// Progress, if set, is called now and then by one goroutine at a time, and
	// must return soon.
	Progress func(content.Progress)
}

// Result is what was fetched.
type Result struct {
	// Root is the file's CID.
	Root mman.CID
	// Salt is the salt of its public name, or empty.
	Salt []byte
	// Size is the length of the file in bytes.
	Size uint64
	// Received is how many bytes of blocks came, without what was here.
	Received uint64
	// Dropped are the sources that failed for good, such as one that sent a
	// block that is not what was asked for, in the order in which they were asked.
	Dropped []mman.PeerID
}

// Fetch brings one file into a store, from all sources of the job at a time. The
// root is stored last, when everything else is safe on the disk, so that a root
// that is there stands for the whole file; what came before an error stays, and
// the next Fetch goes on from there.
//
// A file above MaxBytes is mman.ErrTooLarge before its blocks are read. A source
// that sends a wrong block, breaks the protocol or has not got the content is
// dropped; one that vanishes is asked again for cfg.Patience after the last
// progress, and one that is busy also before the first. When no source is left, the error is theirs: mman.ErrNotFound for
// what is refused or not there, mman.ErrContent, mman.ErrProtocol,
// mman.ErrPeerVanished, mman.ErrTimeout, mman.ErrUnreachable, mman.ErrBusy. A
// full disk is mman.ErrDiskFull.
func Fetch(ctx context.Context, host *p2p.Host, job Job, cfg Config) (Result, error) {
	errs := []error{cfg.Validate()}
	if len(job.Sources) == 0 && job.Search == nil || job.Into == nil {
		errs = append(errs, fmt.Errorf("%w: a fetch needs a source and a store", mman.ErrInvalid))
	}
	for _, s := range job.Sources {
		errs = append(errs, s.Request.Validate())
	}
	if err := errors.Join(errs...); err != nil {
		return Result{}, err
	}
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	hiring, hired := context.WithCancel(life)
	defer hired()
	t := newTransfer(job, cfg, cancel, hired)
	stored := make(chan struct{})
	go func() {
		defer close(stored)
		t.write(ctx)
	}()
	c := &crew{t: t, host: host}
	err := c.work(life, hiring)
	close(t.out)
	<-stored
	if err := t.outcome(append(c.errs(), err)); err != nil {
		if ctx.Err() != nil {
			return Result{}, fmt.Errorf("%w: %w: %w", mman.ErrCanceled, ctx.Err(), err)
		}
		return Result{}, err
	}
	return t.finish(ctx, c.dropped())
}

// crew are the sources of one transfer.
type crew struct {
	t    *transfer
	host *p2p.Host
	all  []*hand
	busy sync.WaitGroup
}

// hand is a source and, when it has ended, why it gave up.
type hand struct {
	Source

	err error
}

// work keeps the job's sources and those that are found at work until all have ended.
// hiring ends before ctx, when nothing is left to fetch. The error is the search's.
func (c *crew) work(ctx, hiring context.Context) (err error) {
	for _, s := range c.t.job.Sources {
		c.hire(ctx, hiring, s)
	}
	if search := c.t.job.Search; search != nil {
		c.busy.Go(func() {
			var found []Source
			if found, err = search(hiring); c.t.over() {
				return
			}
			for _, s := range found {
				c.hire(ctx, hiring, s)
			}
		})
	}
	c.busy.Wait()
	return err
}

// hire sets a source to work, unless it is there already.
func (c *crew) hire(ctx, hiring context.Context, s Source) {
	for _, h := range c.all {
		if h.Peer == s.Peer {
			return
		}
	}
	one := &hand{Source: s}
	c.all = append(c.all, one)
	c.busy.Go(func() { one.err = c.t.serve(ctx, hiring, c.host, s) })
}

func (c *crew) errs() []error {
	out := make([]error, len(c.all))
	for i, h := range c.all {
		out[i] = h.err
	}
	return out
}

func (c *crew) dropped() []mman.PeerID {
	var out []mman.PeerID
	for _, h := range c.all {
		if h.err != nil {
			out = append(out, h.Peer)
		}
	}
	return out
}

// serve keeps one source at work until the transfer ends, the source is dropped,
// or nothing came from anybody for too long. Nobody is waited for or dialled after
// hiring has ended.
func (t *transfer) serve(ctx, hiring context.Context, host *p2p.Host, s Source) error {
	if t.cfg.Liars.Has(s.Peer) {
		return fmt.Errorf("%w: peer %s sent a false block within the last day and is not asked", mman.ErrContent, s.Peer)
	}
	pause, waited := pauseMin, time.Duration(0)
	for {
		before := t.progress()
		err := t.pull(ctx, hiring, host, s)
		if err == nil || t.over() {
			return nil
		}
		err = fmt.Errorf("fetch from peer %s within lease %s: %w", s.Peer, s.Request.Lease, err)
		if errors.Is(err, errFalse) {
			t.cfg.Liars.note(s.Peer)
		}
		now := t.progress()
		if now > before {
			pause, waited = pauseMin, 0
		}
		early := now == 0 && !errors.Is(err, mman.ErrBusy) // it may never have been there
		if !mayReturn(err) || early || t.cfg.After == nil || waited >= t.cfg.Patience {
			return err
		}
		select {
		case <-hiring.Done():
			return err
		case <-t.cfg.After(pause):
		}
		waited += pause
		pause = min(2*pause, pauseMax)
	}
}

// mayReturn reports whether a source may be asked again after an error.
func mayReturn(err error) bool {
	for _, kind := range []error{mman.ErrContent, mman.ErrProtocol, mman.ErrTooLarge, mman.ErrNotFound, mman.ErrInvalid} {
		if errors.Is(err, kind) {
			return false
		}
	}
	return true
}

// pull asks one source for whatever is wanted next until nothing is.
func (t *transfer) pull(ctx, hiring context.Context, host *p2p.Host, s Source) error {
	stream, err := host.Open(hiring, s.Peer, Protocol)
	if err != nil {
		return err
	}
	defer host.Hold(s.Peer)()
	conn := wire.New(stream, wire.Config{MaxRead: content.MaxBlock + 1, IdleTimeout: t.cfg.FrameTimeout, FrameTimeout: t.cfg.FrameTimeout})
	stop := context.AfterFunc(ctx, func() { _ = conn.Reset() })
	defer stop()
	c := &conversation{t: t, conn: conn, req: s.Request}
	if err := c.run(ctx); err != nil {
		t.giveBack(c)
		return errors.Join(err, conn.Reset())
	}
	return conn.Close()
}

// flight is a unit on its way from one source.
type flight struct {
	unit *unit
	next int // the block that comes next
	done int // how many were delivered
}

// largeBody is from where a block is hashed beside the reading of the next one.
const largeBody = 64 << 10

// arrival is a block that came and is hashed and delivered.
type arrival struct {
	flight *flight
	err    error
	over   chan struct{} // closed when err is known
}

// conversation is what one source is asked and sends, in order.
type conversation struct {
	t       *transfer
	conn    *wire.Conn
	req     Request
	flights []*flight
	bytes   int      // of the flights
	last    *arrival // what was read last, until it is settled
}

// run ends when nothing is delivered any more.
func (c *conversation) run(ctx context.Context) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	err := c.talk(ctx)
	return errors.Join(c.settle(), err)
}

// talk asks and receives until nothing is left.
func (c *conversation) talk(ctx context.Context) error {
	for {
		wait, err := c.ask()
		if err != nil {
			return err
		}
		if len(c.flights) > 0 {
			if err := c.receive(ctx); err != nil {
				return err
			}
			continue
		}
		if c.t.over() {
			return c.conn.CloseWrite()
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
		}
	}
}

// begin asks for the file and takes its root.
func (c *conversation) begin(ctx context.Context) error {
	if err := c.conn.Send(kindRequest, c.req); err != nil {
		return err
	}
	head, err := wire.Receive[header](c.conn, kindHeader)
	if err != nil {
		return err
	}
	if err := checkHeader(c.req, head, c.t.job.MaxBytes); err != nil {
		return err
	}
	root, err := readBlock(c.conn, head.Root, 0)
	if err != nil {
		return err
	}
	return c.t.begin(ctx, head, root)
}

// ask sends wants until the window is full. The channel is closed when there may
// be more to want.
func (c *conversation) ask() (<-chan struct{}, error) {
	for c.bytes < c.t.cfg.Window && len(c.flights) < maxFlights {
		u, wait := c.t.take(c)
		if u == nil {
			return wait, nil
		}
		c.flights = append(c.flights, &flight{unit: u})
		c.bytes += u.bytes
		if err := c.conn.Send(kindWant, u.want); err != nil {
			return nil, err
		}
	}
	return nil, nil //nolint:nilnil // nobody waits with flights under way
}

// receive reads the next block, while the one before it is hashed and delivered, which
// would hold up the line.
func (c *conversation) receive(ctx context.Context) error {
	var next *flight
	for _, f := range c.flights {
		if f.next < len(f.unit.steps) {
			next = f
			break
		}
	}
	if next == nil {
		return c.settle()
	}
	step := next.unit.steps[next.next]
	body, err := readBody(c.conn, step.CID, step.Size)
	if err := errors.Join(c.settle(), err); err != nil {
		return err
	}
	c.last = &arrival{flight: next, over: make(chan struct{})}
	if len(body) < largeBody {
		c.accept(ctx, c.last, next.next, body)
	} else {
		go c.accept(ctx, c.last, next.next, body)
	}
	next.next++
	return nil
}

// accept hashes a block and delivers it. A false one ends the reading of the next.
func (c *conversation) accept(ctx context.Context, a *arrival, i int, body []byte) {
	defer close(a.over)
	b, err := checkBody(a.flight.unit.steps[i].CID, body)
	if err == nil {
		err = c.t.deliver(ctx, a.flight.unit, i, b)
	}
	if err != nil {
		a.err = errors.Join(err, c.conn.Reset())
	}
}

// settle waits until what was read last is delivered.
func (c *conversation) settle() error {
	a := c.last
	if a == nil {
		return nil
	}
	c.last = nil
	<-a.over
	if a.err != nil {
		return a.err
	}
	f := a.flight
	if f.done++; f.done == len(f.unit.steps) {
		c.flights = c.flights[1:]
		c.bytes -= f.unit.bytes
		c.t.landed(f.unit)
	}
	return nil
}

// readBlock reads the block that must come next and checks its hash.
func readBlock(conn *wire.Conn, next mman.CID, size uint64) (content.Block, error) {
	body, err := readBody(conn, next, size)
	if err != nil {
		return content.Block{}, err
	}
	return checkBody(next, body)
}

// readBody reads the body of the block that must come next.
func readBody(conn *wire.Conn, next mman.CID, size uint64) ([]byte, error) {
	f, err := conn.ReadExpected(int(min(size, content.MaxBlock)))
	switch {
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("%w: the answer ends too early", mman.ErrPeerVanished)
	case err != nil:
	case f.Kind == kindMissing:
		err = fmt.Errorf("%w: the source has not got all of it", mman.ErrNotFound)
	case f.Kind != kindBlock:
		err = fmt.Errorf("%w: frame of kind %d where kind %d must follow", mman.ErrProtocol, f.Kind, kindBlock)
	}
	if err != nil {
		return nil, fmt.Errorf("block %s: %w", next, err)
	}
	return f.Body, nil
}

func checkBody(id mman.CID, body []byte) (content.Block, error) {
	b, err := content.CheckBlock(id, body)
	if err != nil {
		return content.Block{}, fmt.Errorf("%w: %w", errFalse, err)
	}
	return b, nil
}

// errFalse is a block that is not what its hash says: only its sender can have made
// it so, because the connection is authenticated.
var errFalse = fmt.Errorf("%w: false block", mman.ErrContent)

func checkHeader(req Request, head header, maxBytes uint64) error {
	switch {
	case head.Size > maxBytes:
		return fmt.Errorf("%w: the content has %d bytes where at most %d are allowed", mman.ErrTooLarge, head.Size, maxBytes)
	case len(head.Salt) != 0 && len(head.Salt) != SaltSize:
		return fmt.Errorf("%w: a salt of %d bytes", mman.ErrProtocol, len(head.Salt))
	case !req.Root.IsZero() && head.Root != req.Root:
		return fmt.Errorf("%w: root %s came where %s was asked for", mman.ErrContent, head.Root, req.Root)
	case req.Root.IsZero() && (len(head.Salt) != SaltSize || Name([SaltSize]byte(head.Salt), head.Root) != req.Name):
		return fmt.Errorf("%w: root %s is not what the name %s stands for", mman.ErrContent, head.Root, req.Name)
	}
	return nil
}
