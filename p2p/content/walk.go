package content

import (
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
)

// Walk goes through the DAG of one file in depth-first order, children in the
// order of the file, each block once, where it is first met. It knows which
// blocks come next and refuses those that are not what their parents said, so
// that whoever follows it reads a file that costs what its root declares. It is
// for one goroutine.
type Walk struct {
	root  mman.CID
	limit uint64
	size  uint64
	raw   uint64
	known map[mman.CID]uint64 // the size that the first parent gave
	done  map[mman.CID]struct{}
	stack []Step
	taken map[mman.CID]Step
}

// Step is one block of a walk, with its place.
type Step struct {
	// CID is the block.
	CID mman.CID
	// Size is how many bytes of the file its parent says it holds; 0 for the
	// root, which nobody has described yet.
	Size uint64

	at *place
}

// place is where a block stands: which child of which node. The root has none.
type place struct {
	parent *place
	index  uint32
	depth  int
}

func (p *place) level() int {
	if p == nil {
		return 0
	}
	return p.depth
}

// Path returns the way to the block: the number of a child at each level, from
// the root down; the root's is empty.
func (s Step) Path() []uint32 {
	path := make([]uint32, s.at.level())
	for at := s.at; at != nil; at = at.parent {
		path[at.depth-1] = at.index
	}
	return path
}

// Follows reports whether s is the next child after before of the same node.
func (s Step) Follows(before Step) bool {
	return s.at != nil && before.at != nil && s.at.parent == before.at.parent && s.at.index == before.at.index+1
}

// NewWalk returns a walk from root through a file of at most maxBytes.
func NewWalk(root mman.CID, maxBytes uint64) *Walk {
	return &Walk{
		root: root, limit: maxBytes,
		known: make(map[mman.CID]uint64),
		done:  make(map[mman.CID]struct{}),
		taken: make(map[mman.CID]Step),
		stack: []Step{{CID: root}},
	}
}

// Take returns the next blocks in order, at most n; none when the walk is over
// or waits for blocks that were taken and not accepted.
func (w *Walk) Take(n int) []mman.CID {
	var out []mman.CID
	for len(out) < n {
		next, ok := w.Next()
		if !ok {
			break
		}
		out = append(out, next.CID)
		w.Pop()
	}
	return out
}

// Next returns the block that comes next and does not take it; false when the
// walk is over or waits.
func (w *Walk) Next() (Step, bool) {
	for len(w.stack) > 0 {
		next := w.stack[len(w.stack)-1]
		if _, ok := w.done[next.CID]; !ok {
			return next, true
		}
		w.stack = w.stack[:len(w.stack)-1]
	}
	return Step{}, false
}

// Pop takes the block that Next returned.
func (w *Walk) Pop() {
	next, ok := w.Next()
	if !ok {
		return
	}
	w.stack = w.stack[:len(w.stack)-1]
	w.done[next.CID] = struct{}{}
	w.taken[next.CID] = next
}

// Waiting returns how many blocks were taken and not accepted.
func (w *Walk) Waiting() int { return len(w.taken) }

// Accept checks a block that was taken, and makes its children next. Children
// for which have returns true are left out; it may be nil.
func (w *Walk) Accept(b Block, have func(Child) bool) error {
	at, ok := w.taken[b.cid]
	if !ok {
		return fmt.Errorf("%w: block %s was not asked for", mman.ErrContent, b.cid)
	}
	delete(w.taken, b.cid)
	node, err := ParseNode(b)
	if err != nil {
		return err
	}
	if at.at == nil {
		w.size = node.Size
		w.known[w.root] = node.Size
	}
	w.raw += uint64(len(b.data))
	switch {
	case node.Size != w.known[b.cid]:
		return fmt.Errorf("%w: block %s holds %d bytes, its parent says %d", mman.ErrContent, b.cid, node.Size, w.known[b.cid])
	case w.size > w.limit:
		return tooLarge(w.root, w.size, w.limit)
	case w.raw > rawLimit(w.limit):
		return fmt.Errorf("%w: content %s needs more than %d bytes of blocks for a file of at most %d", mman.ErrTooLarge, w.root, rawLimit(w.limit), w.limit)
	case len(node.Children) > 0 && at.at.level() == MaxDepth:
		return fmt.Errorf("%w: content %s is more than %d levels deep", mman.ErrContent, w.root, MaxDepth)
	}
	for i, child := range slices.Backward(node.Children) {
		if before, ok := w.known[child.CID]; ok && before != child.Size {
			return fmt.Errorf("%w: two nodes give block %s the sizes %d and %d", mman.ErrContent, child.CID, before, child.Size)
		}
		w.known[child.CID] = child.Size
		if have != nil && have(child) {
			continue
		}
		w.stack = append(w.stack, Step{child.CID, child.Size, &place{at.at, uint32(i), at.at.level() + 1}}) //nolint:gosec // ParseNode bounds the links
	}
	return nil
}

// Size returns the length of the file, once its root was accepted.
func (w *Walk) Size() uint64 { return w.size }

// rawLimit is how many bytes of blocks a file of n bytes may need: nodes are an
// eighth at most, and small files get some room.
func rawLimit(n uint64) uint64 {
	if limit := n + n/8 + 1<<20; limit > n {
		return limit
	}
	return n
}
