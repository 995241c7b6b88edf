package wasm

import (
	"slices"
	"sort"
)

// The scratch is the one place that a guest may write to. It lives in memory
// and ends with the run. It has files and folders and no links, so that a path
// means what it says and nothing of the machine can be reached through it.

const (
	// scratchPage is the unit in which a file takes memory; what was never
	// written takes none.
	scratchPage = 4 << 10
	// What counts beside the pages: a name with what it names, and the place of
	// a page, in bytes. Both are above what they take.
	entryBytes = 1 << 10
	slotBytes  = 48
	// maxEntryName bounds one name.
	maxEntryName = 255
	// maxTombs is how many removed entries a folder keeps at least before it
	// closes the gaps.
	maxTombs = 64
)

// The inodes of what is there from the start; inputs follow inodeData.
const (
	inodeData    = 3
	inodeTmp     = 64
	inodeScript  = 65
	inodeScratch = 1 << 10 // the first of the scratch
	inodeFolders = 1 << 32 // the first of what is in folders among the inputs
)

// scratch counts what the guest's own files take. The guest's goroutine owns it.
type scratch struct {
	memory *memory
	inodes uint64
}

// take counts n bytes more, unless that exceeds ScratchMaxBytes or, with the
// guest's memory, the memory limit.
func (s *scratch) take(n uint64) bool {
	m := s.memory
	if n > ScratchMaxBytes-m.files || uint64(len(m.buffer))+m.files+n > m.limit {
		return false
	}
	m.files += n
	return true
}

func (s *scratch) giveBack(n uint64) { s.memory.files -= n }

// node is a file or a folder.
type node struct {
	inode uint64
	kind  byte
	// scratch is nil for what cannot be changed.
	scratch *scratch
	// accessed and changed are its times.
	accessed, changed uint64

	// source is the content of a file that is one of the task's.
	source *source
	// pages are the content of any other file; one that was never written is
	// nil and reads as zeros.
	pages  [][]byte
	length uint64

	// names and order are the entries of a folder. An entry keeps its number
	// while others come and go, so that a listing can go on where it was;
	// removed ones leave a gap.
	names map[string]*entry
	order []*entry
	next  uint64

	// parent is the folder that it is in; nil for the root of a mount and for
	// what was removed.
	parent *node
	// open counts the descriptors; removed content is dropped with the last.
	open    int
	removed bool
}

type entry struct {
	name   string
	node   *node
	number uint64
}

// firstEntry is the number of a folder's first entry, behind "." and "..".
const firstEntry = 2

func newFolder(inode uint64, s *scratch) *node {
	return &node{inode: inode, kind: typeDirectory, scratch: s, accessed: ClockEpoch, changed: ClockEpoch, names: map[string]*entry{}, next: firstEntry}
}

// newContent is a file that cannot be changed.
func newContent(inode uint64, s *source) *node {
	return &node{inode: inode, kind: typeRegular, accessed: ClockEpoch, changed: ClockEpoch, source: s}
}

func (n *node) size() uint64 {
	if n.source != nil {
		return n.source.size
	}
	return n.length
}

// add puts a node into a folder.
func (n *node) add(name string, child *node) {
	e := &entry{name, child, n.next}
	n.next++
	n.names[name], n.order = e, append(n.order, e)
	child.parent = n
}

// drop takes a name out of a folder; its number leaves a gap.
func (n *node) drop(name string) {
	e := n.names[name]
	delete(n.names, name)
	e.node.parent, e.node = nil, nil
	if dead := len(n.order) - len(n.names); dead > max(maxTombs, len(n.names)) {
		n.order = slices.DeleteFunc(n.order, func(e *entry) bool { return e.node == nil })
	}
}

// from returns the entries with numbers from first on, with gaps.
func (n *node) from(first uint64) []*entry {
	return n.order[sort.Search(len(n.order), func(i int) bool { return n.order[i].number >= first }):]
}

// create makes an empty file or folder in a folder of the scratch.
func (n *node) create(name string, kind byte, now uint64) (*node, errno) {
	switch {
	case n.scratch == nil:
		return nil, errReadOnly
	case n.removed:
		return nil, errNoEnt
	case len(name) > maxEntryName:
		return nil, errLongName
	case !n.scratch.take(entryBytes):
		return nil, errNoSpace
	}
	child := newFolder(n.scratch.inodes, n.scratch)
	if kind == typeRegular {
		child.kind, child.names = kind, nil
	}
	n.scratch.inodes++
	child.accessed, child.changed, n.changed = now, now, now
	n.add(name, child)
	return child, success
}

// remove takes a file or an empty folder out of its folder.
func (n *node) remove(name string, now uint64) {
	child := n.names[name].node
	n.drop(name)
	n.changed = now
	child.removed = true
	n.scratch.giveBack(entryBytes)
	child.release()
}

// release drops the content of what was removed and is not open.
func (n *node) release() {
	if n.removed && n.open == 0 && n.scratch != nil {
		n.resize(0)
	}
}

// holds reports whether n is other or a folder above it.
func (n *node) holds(other *node) bool {
	for ; other != nil; other = other.parent {
		if other == n {
			return true
		}
	}
	return false
}

// resize cuts a file of the scratch or grows it by zeros.
func (n *node) resize(size uint64) errno {
	if size > ScratchMaxBytes {
		return errBigFile
	}
	slots := (size + scratchPage - 1) / scratchPage
	if have := uint64(len(n.pages)); slots > have {
		if !n.scratch.take((slots - have) * slotBytes) {
			return errNoSpace
		}
		n.pages = append(n.pages, make([][]byte, slots-have)...)
	}
	for _, p := range n.pages[slots:] {
		n.scratch.giveBack(slotBytes)
		if p != nil {
			n.scratch.giveBack(scratchPage)
		}
	}
	clear(n.pages[slots:])
	n.pages = n.pages[:slots]
	if slots == 0 {
		n.pages = nil
	}
	if in := size % scratchPage; size < n.length && in > 0 && n.pages[slots-1] != nil {
		clear(n.pages[slots-1][in:])
	}
	n.length = size
	return success
}

// writeAt writes b into a file of the scratch and returns how much of it there
// was room for.
func (n *node) writeAt(b []byte, offset uint64) (uint64, errno) {
	if offset > ScratchMaxBytes || uint64(len(b)) > ScratchMaxBytes-offset {
		return 0, errBigFile
	}
	done := uint64(0)
	for len(b) > 0 {
		at := offset + done
		in := at % scratchPage
		piece := b[:min(uint64(len(b)), scratchPage-in)]
		before := n.length
		if end := at + uint64(len(piece)); end > n.length {
			if e := n.resize(end); e != success {
				return done, e
			}
		}
		page := &n.pages[at/scratchPage]
		if *page == nil {
			if !n.scratch.take(scratchPage) {
				n.resize(before) // a shorter file always fits
				return done, errNoSpace
			}
			*page = make([]byte, scratchPage)
		}
		copy((*page)[in:], piece)
		done += uint64(len(piece))
		b = b[len(piece):]
	}
	return done, success
}

// readAt fills b from a file that is no content of the task's, and returns how
// much there was.
func (n *node) readAt(b []byte, offset uint64) uint64 {
	left := n.length - min(offset, n.length)
	b = b[:min(uint64(len(b)), left)]
	done := uint64(0)
	for done < uint64(len(b)) {
		at := offset + done
		in := at % scratchPage
		piece := b[done:min(uint64(len(b)), done+scratchPage-in)]
		if page := n.pages[at/scratchPage]; page != nil {
			copy(piece, page[in:])
		} else {
			clear(piece)
		}
		done += uint64(len(piece))
	}
	return done
}

// newText is a file that cannot be changed, with text of the host's.
func newText(inode uint64, text []byte) *node {
	n := &node{inode: inode, kind: typeRegular, accessed: ClockEpoch, changed: ClockEpoch, length: uint64(len(text))}
	n.pages = slices.Collect(slices.Chunk(text, scratchPage))
	return n
}
