package wasm

import (
	"sync"

	"github.com/tetratelabs/wazero/experimental"
)

// memory is the linear memory of one run: it ends at the run's own limit, and
// remembers that the guest met it. The guest's goroutine owns it.
type memory struct {
	limit  uint64
	buffer []byte
	// files is what the guest's scratch takes of the limit.
	files   uint64
	refused bool
	spare   *spares // nil for none
}

// spares are memories of guests that are gone, empty again, for the first memory of
// the next: short runs would otherwise leave the collector most of their work.
type spares struct{ pool sync.Pool }

// spareBytes is the largest memory that is kept.
const spareBytes = 1 << 20

// take returns a memory of zeros with size bytes, nil when there is none.
func (s *spares) take(size uint64) []byte {
	if s == nil || size > spareBytes {
		return nil
	}
	b, _ := s.pool.Get().(*[]byte)
	if b == nil || uint64(cap(*b)) < size {
		return nil
	}
	return (*b)[:size]
}

// put takes a memory that nobody uses any more.
func (s *spares) put(b []byte) {
	if s == nil || cap(b) == 0 || cap(b) > spareBytes {
		return
	}
	b = b[:cap(b)]
	clear(b)
	s.pool.Put(&b)
}

var (
	_ experimental.MemoryAllocator = (*memory)(nil)
	_ experimental.LinearMemory    = (*memory)(nil)
)

// Allocate begins the memory; wazero asks for the minimum next.
func (m *memory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate returns the memory with size bytes, or nil above the limit. It
// grows by a quarter at least, so that a guest that grows page by page does not
// make the host copy its memory each time.
func (m *memory) Reallocate(size uint64) []byte {
	if size > m.limit-min(m.limit, m.files) {
		m.refused = true
		return nil
	}
	if m.buffer == nil {
		m.buffer = m.spare.take(size)
	}
	if size > uint64(cap(m.buffer)) {
		grown := make([]byte, size, min(m.limit-m.files, max(size, uint64(cap(m.buffer))*5/4)))
		copy(grown, m.buffer)
		m.buffer = grown
	}
	m.buffer = m.buffer[:size]
	return m.buffer
}

// Free lets the memory go.
func (m *memory) Free() {
	m.spare.put(m.buffer)
	m.buffer = nil
}
