package blocks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
)

const (
	// unitBytes and unitBlocks bound what one want names.
	unitBytes, unitBlocks = 2 << 20, 256
	// maxNodes is how many inner nodes are on their way at a time: one, and the
	// next before its turn.
	maxNodes = 2
)

// unit is some children of one node that follow each other: what one want names.
type unit struct {
	want  want
	steps []content.Step
	bytes int
	node  bool // an inner node, alone

	got    []bool
	left   int
	flying []*conversation
}

// transfer is what all sources of a fetch share.
type transfer struct {
	job    Job
	cfg    Config
	cancel context.CancelFunc
	hired  context.CancelFunc   // nothing is left for further sources
	out    chan []content.Block // to the store; Fetch closes it
	meter  *content.Meter

	mu       sync.Mutex
	changed  chan struct{} // closed at each change that may give work
	head     header
	root     content.Block
	walk     *content.Walk // nil before the root came
	queue    []*unit       // given back by sources that failed
	flying   []*unit       // on their way, the oldest first
	nodes    int           // inner nodes on their way
	flights  int           // units on their way, once for each source
	batch    []content.Block
	held     int
	received uint64
	complete bool
	err      error // ends the transfer
}

func newTransfer(job Job, cfg Config, cancel, hired context.CancelFunc) *transfer {
	return &transfer{
		job: job, cfg: cfg, cancel: cancel, hired: hired, out: make(chan []content.Block, 1),
		meter: content.NewMeter(cfg.Now, job.Progress), changed: make(chan struct{}),
	}
}

// fail ends the transfer for every source. t.mu is held.
func (t *transfer) fail(err error) error {
	if t.err == nil {
		t.err = err
		t.cancel()
	}
	return err
}

// signal wakes the sources that wait for work. t.mu is held.
func (t *transfer) signal() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// begin takes the root from the first source that has it.
func (t *transfer) begin(ctx context.Context, head header, root content.Block) error {
	node, err := content.ParseNode(root)
	if err != nil {
		return err
	}
	if node.Size != head.Size {
		return fmt.Errorf("%w: %d bytes were announced, the root has %d", mman.ErrContent, head.Size, node.Size)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.walk != nil {
		if head.Root != t.head.Root {
			return fmt.Errorf("%w: root %s came, another source has %s", mman.ErrContent, head.Root, t.head.Root)
		}
		return nil
	}
	t.head, t.root, t.walk = head, root, content.NewWalk(head.Root, t.job.MaxBytes)
	t.meter.SetTotal(head.Size)
	t.walk.Pop()
	t.received += uint64(len(root.Data()))
	if err := t.walk.Accept(root, t.have(ctx)); err != nil {
		return t.fail(err)
	}
	if err := t.passLocal(ctx); err != nil {
		return t.fail(err)
	}
	if node.Children == nil {
		t.meter.Add(node.Size)
	}
	t.settle()
	t.signal()
	return nil
}

// have leaves out the leaves that are in the store.
func (t *transfer) have(ctx context.Context) func(content.Child) bool {
	return func(child content.Child) bool {
		if !content.HasLeaf(ctx, t.job.Into, child) {
			return false
		}
		t.meter.Add(child.Size)
		return true
	}
}

// passLocal goes through the inner nodes that are in the store. t.mu is held.
func (t *transfer) passLocal(ctx context.Context) error {
	for {
		step, ok := t.walk.Next()
		if !ok || step.CID.Codec() != mman.CodecDagPB {
			return nil
		}
		b, err := t.job.Into.Get(ctx, step.CID)
		if err != nil {
			return nil //nolint:nilerr // missing or damaged: it is fetched
		}
		t.walk.Pop()
		if err := t.walk.Accept(b, t.have(ctx)); err != nil {
			return err
		}
	}
}

// take returns what c asks for next; with none it returns a channel that is
// closed when there may be something.
func (t *transfer) take(c *conversation) (*unit, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.complete || t.err != nil {
		return nil, t.changed
	}
	var u *unit
	if len(t.queue) > 0 {
		u, t.queue = t.queue[0], t.queue[1:]
		t.flying = append(t.flying, u)
	} else if u = t.next(); u != nil {
		t.flying = append(t.flying, u)
	} else if u = t.late(c); u == nil {
		return nil, t.changed
	}
	u.flying = append(u.flying, c)
	t.flights++
	return u, nil
}

// next cuts a unit from the walk. t.mu is held.
func (t *transfer) next() *unit {
	u := &unit{}
	for {
		step, ok := t.walk.Next()
		if !ok {
			break
		}
		// What is larger than a block is no leaf.
		node := step.CID.Codec() == mman.CodecDagPB && step.Size > content.MaxBlock
		switch {
		case len(u.steps) == 0 && node && t.nodes >= maxNodes:
			return nil
		case len(u.steps) > 0 && (node || u.node || u.bytes >= unitBytes || len(u.steps) == unitBlocks || !step.Follows(u.steps[len(u.steps)-1])):
			return u.seal()
		}
		t.walk.Pop()
		u.steps = append(u.steps, step)
		if node {
			u.node = true
			t.nodes++
			continue
		}
		u.bytes += int(min(step.Size, content.MaxBlock))
	}
	if len(u.steps) == 0 {
		return nil
	}
	return u.seal()
}

func (u *unit) seal() *unit {
	path := u.steps[0].Path()
	at := path[len(path)-1]
	u.want = want{path[:len(path)-1], at, at + uint32(len(u.steps))} //nolint:gosec // at most unitBlocks
	u.got, u.left = make([]bool, len(u.steps)), len(u.steps)
	return u
}

// late returns the unit that another source will reach last, when nothing else
// is left to do: a source that stalls does not hold up the end. t.mu is held.
func (t *transfer) late(c *conversation) *unit {
	if _, more := t.walk.Next(); more {
		return nil
	}
	for _, u := range slices.Backward(t.flying) {
		if len(u.flying) == 1 && u.flying[0] != c {
			return u
		}
	}
	return nil
}

// deliver takes a block that a source sent for a unit. It may wait for the disk,
// never for ever: write takes every batch until out is closed.
func (t *transfer) deliver(ctx context.Context, u *unit, i int, b content.Block) error {
	batch, err := t.accept(ctx, u, i, b)
	if batch != nil {
		t.out <- batch
	}
	return err
}

// accept returns a batch that is full. An error that is the content's, not the
// source's, ends the transfer.
func (t *transfer) accept(ctx context.Context, u *unit, i int, b content.Block) ([]content.Block, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u.got[i] || t.err != nil {
		return nil, t.err
	}
	if err := t.walk.Accept(b, t.have(ctx)); err != nil {
		return nil, t.fail(err)
	}
	u.got[i] = true
	u.left--
	t.received += uint64(len(b.Data()))
	if u.node {
		t.nodes--
	} else if node, err := content.ParseNode(b); err == nil && len(node.Children) == 0 {
		t.meter.Add(node.Size)
	}
	if err := t.passLocal(ctx); err != nil {
		return nil, t.fail(err)
	}
	if u.node {
		t.signal()
	}
	t.batch = append(t.batch, b)
	if t.held += len(b.Data()); t.held < batchBytes {
		t.settle()
		return nil, nil
	}
	batch := t.batch
	t.batch, t.held = nil, 0
	t.settle()
	return batch, nil
}

// settle notes the end. t.mu is held.
func (t *transfer) settle() {
	if _, more := t.walk.Next(); !more && t.walk.Waiting() == 0 {
		t.complete = true
		t.hired()
		t.signal()
	}
}

// landed forgets a unit that came whole, and at the end stops the sources that
// still send what others brought.
func (t *transfer) landed(u *unit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(u)
	if t.flights--; t.complete && t.flights > 0 {
		t.cancel()
	}
}

// forget takes a unit out of those that are on their way. t.mu is held.
func (t *transfer) forget(u *unit) {
	if i := slices.Index(t.flying, u); i >= 0 {
		t.flying = slices.Delete(t.flying, i, i+1)
	}
}

// giveBack lets other sources have what a source that failed was asked for.
func (t *transfer) giveBack(c *conversation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flights -= len(c.flights)
	for _, f := range c.flights {
		u := f.unit
		u.flying = slices.DeleteFunc(u.flying, func(other *conversation) bool { return other == c })
		if len(u.flying) == 0 && u.left > 0 {
			t.forget(u)
			t.queue = append(t.queue, u)
		}
	}
	t.signal()
}

// progress returns how many bytes came.
func (t *transfer) progress() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.received
}

// over reports whether nothing is left to fetch.
func (t *transfer) over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.complete || t.err != nil
}

// write stores batches as they come.
func (t *transfer) write(ctx context.Context) {
	for batch := range t.out {
		if err := t.job.Into.Put(ctx, batch); err != nil {
			t.mu.Lock()
			_ = t.fail(err) // outcome reports it
			t.mu.Unlock()
			break
		}
	}
	for range t.out {
		continue // what came after a failure is dropped, so that nobody waits
	}
}

// outcome says why a transfer is not complete.
func (t *transfer) outcome(ended []error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.err != nil:
		return t.err
	case t.complete:
		return nil
	}
	if err := errors.Join(ended...); err != nil {
		return err
	}
	return fmt.Errorf("%w: nobody is known who sends it in bulk", mman.ErrNotFound)
}

// finish stores what is left, and the root after everything else is safe.
func (t *transfer) finish(ctx context.Context, dropped []mman.PeerID) (Result, error) {
	res := Result{Root: t.head.Root, Salt: t.head.Salt, Size: t.head.Size, Received: t.received, Dropped: dropped}
	into := t.job.Into
	if t.head.Size <= batchBytes {
		if err := into.Put(ctx, append(t.batch, t.root)); err != nil {
			return Result{}, err
		}
		t.meter.End()
		return res, nil
	}
	if err := into.Put(ctx, t.batch); err != nil {
		return Result{}, err
	}
	if err := into.Sync(); err != nil {
		return Result{}, err
	}
	if err := into.Put(ctx, []content.Block{t.root}); err != nil {
		return Result{}, err
	}
	t.meter.End()
	return res, into.Sync()
}
