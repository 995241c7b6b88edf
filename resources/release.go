package resources

import (
	"fmt"
	"math/bits"

	mman "github.com/limboid/massive-man"
)

// Bounds of a Release.
const (
	// ReleaseMaxOutput is the most that a run under a Release may print, before and
	// after its filters: it is held in memory until it may leave.
	ReleaseMaxOutput = 16 << 20
	// ReleaseMaxBits bounds the bits of a lease.
	ReleaseMaxBits = 1 << 40
	// ReleaseMaxArgs bounds a filter's arguments, together in bytes.
	ReleaseMaxArgs    = 512
	releaseMaxSteps   = 32
	releaseMaxSlotMs  = 3_600_000
	releaseMaxPad     = 1 << 20
	releaseExits      = 2 // a run was released, or it was not
	releaseDoublings  = 1 // after the wall time, for what a stop and a filter take
	releaseOutputUnit = 8 // bits in a byte
)

// Release says how what was computed on guarded data leaves its node: through a
// filter, and with nothing beside it that is not counted. It is part of an owner's
// policy.
type Release struct {
	// Gate is the content of a WASI command module: what a run printed is its
	// standard input, and what it prints leaves, if it ends with 0. The zero CID lets
	// output through as it is.
	Gate mman.CID `cbor:"gate,omitzero" json:"gate,omitzero"`
	// Args are the gate's arguments, at most ReleaseMaxArgs bytes.
	Args []string `cbor:"args,omitempty" json:"args,omitempty"`
	// Bits is the most that all runs of a lease may tell its consumer, in bits, 1 to
	// ReleaseMaxBits: eight for each byte of output, and for each run Outlet.Cost.
	Bits uint64 `cbor:"bits" json:"bits"`
	// OutputBytes is the most that leaves a run, 1 to ReleaseMaxOutput.
	OutputBytes uint64 `cbor:"output_bytes" json:"output_bytes"`
	// PadBytes: output is filled with line ends up to a multiple of it, 1 to 1 MiB
	// and at most OutputBytes.
	PadBytes uint64 `cbor:"pad_bytes" json:"pad_bytes"`
	// FuelSteps is into how many steps the fuel limit of a run is divided, 1 to 32,
	// each half of the next: a run is billed up to its step. 1 bills the limit.
	FuelSteps uint64 `cbor:"fuel_steps" json:"fuel_steps"`
	// SlotMs is the earliest moment at which a run is answered, from its beginning,
	// in ms, 1 to 3,600,000; the others are twice, four times, … as late.
	SlotMs uint64 `cbor:"slot_ms" json:"slot_ms"`
}

// DefaultRelease is what a policy gets that says no more than that it has one: up to
// 4 KiB in pieces of 256 bytes, 64 KiB a lease, fuel billed at its limit, answers
// after 1, 2, 4, … seconds.
func DefaultRelease() Release {
	return Release{Bits: 64 << 13, OutputBytes: 4 << 10, PadBytes: 256, FuelSteps: 1, SlotMs: 1000}
}

// Validate reports the first field out of its range, as mman.ErrInvalid.
func (r Release) Validate() error {
	total := 0
	for _, a := range r.Args {
		total += len(a)
	}
	switch err := ValidArgs(r.Args); {
	case err != nil:
		return fmt.Errorf("args: %w", err)
	case total > ReleaseMaxArgs || r.Gate.IsZero() && len(r.Args) > 0:
		return fmt.Errorf("%w: args: %d bytes: at most %d, and for a gate only", mman.ErrInvalid, total, ReleaseMaxArgs)
	}
	for _, f := range []struct {
		name       string
		value, max uint64
	}{
		{"bits", r.Bits, ReleaseMaxBits},
		{"output", r.OutputBytes, ReleaseMaxOutput},
		{"pad", r.PadBytes, min(releaseMaxPad, r.OutputBytes)},
		{"fuel_steps", r.FuelSteps, releaseMaxSteps},
		{"slot", r.SlotMs, releaseMaxSlotMs},
	} {
		if f.value == 0 || f.value > f.max {
			return fmt.Errorf("%w: %s %d: 1 to %d", mman.ErrInvalid, f.name, f.value, f.max)
		}
	}
	return nil
}

// Outlet is the one way out of a run: the releases of all its legs together.
type Outlet struct {
	// Gates are passed one after another.
	Gates []Gate
	Release
}

// Gate is one filter.
type Gate struct {
	Module mman.CID
	Args   []string
}

// Join returns the outlet of a run under these releases, each of which holds: their
// gates in order, and the strictest of each bound.
func Join(releases []Release) (o Outlet, ok bool) {
	for i, r := range releases {
		if !r.Gate.IsZero() {
			o.Gates = append(o.Gates, Gate{r.Gate, r.Args})
		}
		if i == 0 {
			o.Release = r
			o.Gate, o.Args = mman.CID{}, nil
			continue
		}
		o.Bits, o.OutputBytes = min(o.Bits, r.Bits), min(o.OutputBytes, r.OutputBytes)
		o.FuelSteps = min(o.FuelSteps, r.FuelSteps)
		o.PadBytes, o.SlotMs = max(o.PadBytes, r.PadBytes), max(o.SlotMs, r.SlotMs)
	}
	return o, len(releases) > 0
}

// Most is how many bytes a run with these limits may let out: a multiple of PadBytes.
func (o Outlet) Most(limits Limits) uint64 {
	most := min(o.OutputBytes, limits.OutputBytes)
	return most - most%o.PadBytes
}

// Slots is how many different moments there are at which a run with this wall time
// can be answered.
func (o Outlet) Slots(wallMs uint64) uint64 {
	n := uint64(1)
	for slot := o.SlotMs; slot < wallMs; slot *= 2 {
		n++
	}
	return n + releaseDoublings
}

// Cost is what a run tells beside its output, in bits: the logarithm of how many
// things its consumer can see of it, which are whether it was released, at which step
// its fuel is billed, when it is answered, and how long its output is; rounded up.
func (o Outlet) Cost(limits Limits) uint64 {
	lengths := o.Most(limits)/o.PadBytes + 1
	seen := releaseExits * o.FuelSteps * o.Slots(limits.WallMs) * lengths // below 2 × 2⁵ × 2⁵ × 2²⁵
	return uint64(bits.Len64(seen - 1))                                   //nolint:gosec // 64 at most
}

// Worth is what a run tells that lets out n bytes, in bits: n must be what Padded
// returns. All that consumers can see of runs which are worth b bits together is one
// of at most 2ᵇ.
func (o Outlet) Worth(limits Limits, n uint64) uint64 { return o.Cost(limits) + releaseOutputUnit*n }

// Padded is the length of an output of n bytes when it leaves.
func (o Outlet) Padded(n uint64) uint64 {
	return (n + o.PadBytes - 1) / o.PadBytes * o.PadBytes
}

// Fuel is the step of the limit at which used is billed.
func (o Outlet) Fuel(used, limit uint64) uint64 {
	step := limit
	for range o.FuelSteps - 1 {
		half := step - step/2
		if half < used || half == step {
			break
		}
		step = half
	}
	return step
}
