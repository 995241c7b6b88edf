package abci

import (
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
)

// maxInstants bounds the remembered times of blocks.
const maxInstants = 512

// retention says which blocks CometBFT may forget: none that evidence can still
// be about, that a power cut could make the state need again, or that the
// operator wants to keep.
type retention struct {
	keep    uint64 // blocks; 0 keeps all
	flushed func() uint64
	seen    []instant // ascending, some of the blocks since the start
}

// instant is when a block was.
type instant struct {
	height uint64
	time   int64
}

// below returns the height below which blocks may go after the block of that
// height and time, 0 for none. A restart begins to count time anew, which keeps
// more.
func (r *retention) below(p genesis.Params, height uint64, time int64) uint64 {
	if r.keep == 0 || r.flushed == nil {
		return 0
	}
	if height%max(p.EvidenceMaxBlocks/64, 1) == 0 {
		r.note(instant{height, time})
	}
	old := uint64(0)
	for _, i := range r.seen {
		if i.time+wireInt(p.EvidenceMaxSeconds) < time {
			old = i.height
		}
	}
	// Evidence counts until both of its ages are reached.
	window := max(p.EvidenceMaxBlocks, state.KeepHeights)
	return min(old, less(r.flushed(), window), less(height, r.keep))
}

func (r *retention) note(i instant) {
	if len(r.seen) == maxInstants { // every second one is as good
		kept := r.seen[:0]
		for j := 0; j < len(r.seen); j += 2 {
			kept = append(kept, r.seen[j])
		}
		r.seen = kept
	}
	r.seen = append(r.seen, i)
}

// less returns a − b, 0 when that is below it.
func less(a, b uint64) uint64 { return a - min(a, b) }
