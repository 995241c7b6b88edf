package resources

import (
	"fmt"
	"math/bits"
	"slices"

	mman "github.com/limboid/massive-man"
)

// Usage is what a piece of work consumed, one counter for each thing that can
// have a price. Counters only grow within a lane.
type Usage struct {
	Fuel      uint64 `cbor:"fuel"       json:"fuel,omitempty"`      // metered operators
	CPUMs     uint64 `cbor:"cpu_ms"     json:"cpu_ms,omitempty"`    // processor time, ms
	WallMs    uint64 `cbor:"wall_ms"    json:"wall_ms,omitempty"`   // elapsed time, ms, rounded up
	MemoryMs  uint64 `cbor:"mib_ms"     json:"mib_ms,omitempty"`    // memory × time, MiB·ms
	InBytes   uint64 `cbor:"in_bytes"   json:"in_bytes,omitempty"`  // bytes that the work was given
	OutBytes  uint64 `cbor:"out_bytes"  json:"out_bytes,omitempty"` // bytes that the work produced
	CallCount uint64 `cbor:"calls"      json:"calls,omitempty"`     // runs or calls
	Tokens    uint64 `cbor:"tokens"     json:"tokens,omitempty"`    // model tokens
	Steps     uint64 `cbor:"steps"      json:"steps,omitempty"`     // environment steps
}

// Unit names one counter of Usage where prices refer to it.
type Unit string

// The units of price.
const (
	UnitFuel     Unit = "fuel"
	UnitCPUMs    Unit = "cpu_ms"
	UnitWallMs   Unit = "wall_ms"
	UnitMemoryMs Unit = "mib_ms"
	UnitInBytes  Unit = "in_bytes"
	UnitOutBytes Unit = "out_bytes"
	UnitCalls    Unit = "calls"
	UnitTokens   Unit = "tokens"
	UnitSteps    Unit = "steps"
)

// Of returns the counter that unit names, or mman.ErrInvalid.
func (u Usage) Of(unit Unit) (uint64, error) {
	switch unit {
	case UnitFuel:
		return u.Fuel, nil
	case UnitCPUMs:
		return u.CPUMs, nil
	case UnitWallMs:
		return u.WallMs, nil
	case UnitMemoryMs:
		return u.MemoryMs, nil
	case UnitInBytes:
		return u.InBytes, nil
	case UnitOutBytes:
		return u.OutBytes, nil
	case UnitCalls:
		return u.CallCount, nil
	case UnitTokens:
		return u.Tokens, nil
	case UnitSteps:
		return u.Steps, nil
	default:
		return 0, fmt.Errorf("%w: unit %.32q; the units are fuel, cpu_ms, wall_ms, mib_ms, in_bytes, out_bytes, calls, tokens and steps", mman.ErrInvalid, unit)
	}
}

// Metered reports whether the executors of a facet report the unit. A price in
// a unit that nobody meters would be a price of nothing.
func Metered(facet Facet, unit Unit) bool {
	seen := []Unit{UnitWallMs, UnitInBytes, UnitOutBytes, UnitCalls}
	switch facet { //nolint:exhaustive // only what runs something meters
	case FacetWasm:
		return unit == UnitFuel || unit == UnitSteps || slices.Contains(seen, unit)
	case FacetContainer:
		return unit == UnitCPUMs || unit == UnitMemoryMs || slices.Contains(seen, unit)
	case FacetHTTP:
		return unit == UnitTokens || slices.Contains(seen, unit)
	default:
		return false
	}
}

// Add returns the sum of two usages, or mman.ErrOverflow.
func (u Usage) Add(v Usage) (Usage, error) {
	var over uint64
	sum := func(a, b uint64) uint64 {
		s, carry := bits.Add64(a, b, 0)
		over |= carry
		return s
	}
	w := Usage{
		Fuel: sum(u.Fuel, v.Fuel), CPUMs: sum(u.CPUMs, v.CPUMs), WallMs: sum(u.WallMs, v.WallMs),
		MemoryMs: sum(u.MemoryMs, v.MemoryMs), InBytes: sum(u.InBytes, v.InBytes), OutBytes: sum(u.OutBytes, v.OutBytes),
		CallCount: sum(u.CallCount, v.CallCount), Tokens: sum(u.Tokens, v.Tokens), Steps: sum(u.Steps, v.Steps),
	}
	if over != 0 {
		return Usage{}, fmt.Errorf("%w: usage", mman.ErrOverflow)
	}
	return w, nil
}

// Since returns what was used after earlier, which must be at most u.
func (u Usage) Since(earlier Usage) Usage {
	return Usage{
		Fuel: u.Fuel - earlier.Fuel, CPUMs: u.CPUMs - earlier.CPUMs, WallMs: u.WallMs - earlier.WallMs,
		MemoryMs: u.MemoryMs - earlier.MemoryMs, InBytes: u.InBytes - earlier.InBytes, OutBytes: u.OutBytes - earlier.OutBytes,
		CallCount: u.CallCount - earlier.CallCount, Tokens: u.Tokens - earlier.Tokens, Steps: u.Steps - earlier.Steps,
	}
}

// AtMost reports whether every counter of u is at or below that of bound.
func (u Usage) AtMost(bound Usage) bool {
	return u.Fuel <= bound.Fuel && u.CPUMs <= bound.CPUMs && u.WallMs <= bound.WallMs &&
		u.MemoryMs <= bound.MemoryMs && u.InBytes <= bound.InBytes && u.OutBytes <= bound.OutBytes &&
		u.CallCount <= bound.CallCount && u.Tokens <= bound.Tokens && u.Steps <= bound.Steps
}

// Limits bound one run. Executors enforce them; guests are not asked.
type Limits struct {
	WallMs      uint64 `cbor:"wall_ms"      json:"wall_ms"`
	MemoryBytes uint64 `cbor:"memory_bytes" json:"memory_bytes"`
	InputBytes  uint64 `cbor:"input_bytes"  json:"input_bytes"`
	OutputBytes uint64 `cbor:"output_bytes" json:"output_bytes"` // stdout and stderr together
	// Fuel bounds the metered operators. Unlike the wall time it ends a run at
	// the same place on every machine.
	Fuel uint64 `cbor:"fuel" json:"fuel"`
}

// DefaultLimits are what a run gets when nobody asks for another bound: one
// minute, 256 MiB of memory, 64 MiB in, 16 MiB out, 10¹¹ fuel, which is some
// ten seconds of a processor.
func DefaultLimits() Limits {
	return Limits{WallMs: 60_000, MemoryBytes: 256 << 20, InputBytes: 64 << 20, OutputBytes: 16 << 20, Fuel: 100_000_000_000}
}

// MaxLimits are the largest limits that anybody may ask for: a day, 4 GiB (what
// a 32-bit guest can address), 64 GiB in, 4 GiB out, 2⁵⁰ fuel.
func MaxLimits() Limits {
	return Limits{WallMs: 24 * 3600 * 1000, MemoryBytes: 4 << 30, InputBytes: 64 << 30, OutputBytes: 4 << 30, Fuel: 1 << 50}
}

// Validate refuses a limit of nothing and one above MaxLimits.
func (l Limits) Validate() error {
	top := MaxLimits()
	for _, f := range []struct {
		name       string
		value, max uint64
	}{
		{"wall_ms", l.WallMs, top.WallMs},
		{"memory_bytes", l.MemoryBytes, top.MemoryBytes},
		{"input_bytes", l.InputBytes, top.InputBytes},
		{"output_bytes", l.OutputBytes, top.OutputBytes},
		{"fuel", l.Fuel, top.Fuel},
	} {
		if f.value == 0 || f.value > f.max {
			return fmt.Errorf("%w: limits.%s %d: 1 to %d", mman.ErrInvalid, f.name, f.value, f.max)
		}
	}
	return nil
}

// Mebibytes returns the memory limit in MiB, rounded up: what is set aside for a
// run, and what memory × time is billed by where that is metered.
func (l Limits) Mebibytes() uint64 { return (l.MemoryBytes + 1<<20 - 1) >> 20 }

// Tighten returns, field by field, the smaller of l and m; a zero in m bounds
// nothing.
func (l Limits) Tighten(m Limits) Limits {
	tight := func(a, b uint64) uint64 {
		if b == 0 {
			return a
		}
		return min(a, b)
	}
	return Limits{
		WallMs: tight(l.WallMs, m.WallMs), MemoryBytes: tight(l.MemoryBytes, m.MemoryBytes),
		InputBytes: tight(l.InputBytes, m.InputBytes), OutputBytes: tight(l.OutputBytes, m.OutputBytes),
		Fuel: tight(l.Fuel, m.Fuel),
	}
}
