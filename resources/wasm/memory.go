package wasm

import "github.com/tetratelabs/wazero/experimental"

// memory is the linear memory of one run: it ends at the run's own limit, and
// remembers that the guest met it. The guest's goroutine owns it.
type memory struct {
	limit  uint64
	buffer []byte
	// files is what the guest's scratch takes of the limit.
	files   uint64
	refused bool
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
	if size > uint64(cap(m.buffer)) {
		grown := make([]byte, size, min(m.limit-m.files, max(size, uint64(cap(m.buffer))*5/4)))
		copy(grown, m.buffer)
		m.buffer = grown
	}
	m.buffer = m.buffer[:size]
	return m.buffer
}

// Free lets the memory go.
func (m *memory) Free() { m.buffer = nil }
