package chunk

import (
	"crypto/sha256"
	"encoding/binary"
)

// The sizes of chunks, in bytes.
const (
	// Min is the smallest chunk but a file's last.
	Min = 8 << 10
	// Average is about what chunks of random bytes have.
	Average = 64 << 10
	// Max is the largest chunk.
	Max = 128 << 10
)

const (
	early = uint64(1<<18-1) << (64 - 18) // before Average: a cut is rare
	late  = uint64(1<<14-1) << (64 - 14) // after it: a cut is frequent
)

// Cutter cuts. It is safe for concurrent use.
type Cutter struct{ gear [256]uint64 }

// New returns the one Cutter that there is.
func New() *Cutter {
	c := new(Cutter)
	for i := range c.gear {
		sum := sha256.Sum256(append([]byte("mman/chunk/1"), byte(i)))
		c.gear[i] = binary.BigEndian.Uint64(sum[:])
	}
	return c
}

// Cut returns how many bytes of data, from its beginning, are the next chunk. data
// is the rest of the file, or the next Max bytes of it at least.
func (c *Cutter) Cut(data []byte) int {
	if len(data) > Max {
		data = data[:Max]
	}
	if len(data) <= Min {
		return len(data)
	}
	h, gear := uint64(0), &c.gear
	soon := min(Average, len(data))
	for i, b := range data[Min:soon] {
		h = h<<1 + gear[b]
		if h&early == 0 {
			return Min + i + 1
		}
	}
	for i, b := range data[soon:] {
		h = h<<1 + gear[b]
		if h&late == 0 {
			return soon + i + 1
		}
	}
	return len(data)
}
