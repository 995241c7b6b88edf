package wasm

import (
	"fmt"
	"sync"

	"github.com/tetratelabs/wazero/api"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

// MeterVersion is the version of the meter that counts the fuel of runs. It is
// part of offers and leases.
const MeterVersion = meter.Version

// gauge is the meter's globals of one instance. The guest's goroutine owns it
// but for stop, which writes aligned words that the guest reads.
type gauge struct {
	used, limit, next api.MutableGlobal
	why               api.Global

	mu      *sync.Mutex // guards the limit, and used among this program's own goroutines
	allowed uint64      // the limit before stop
	stopped bool

	fuel   uint64 // what the guest had used when it was last read
	reason uint64 // why the meter trapped then
}

// newGauge gives the guest its fuel.
func newGauge(instance api.Module, fuel uint64) (gauge, error) {
	used, ok := instance.ExportedGlobal(meter.UsedGlobal).(api.MutableGlobal)
	limit, ok2 := instance.ExportedGlobal(meter.LimitGlobal).(api.MutableGlobal)
	next, ok3 := instance.ExportedGlobal(meter.NextGlobal).(api.MutableGlobal)
	why := instance.ExportedGlobal(meter.StopGlobal)
	if !ok || !ok2 || !ok3 || why == nil {
		return gauge{}, fmt.Errorf("%w: the metered module has no meter", mman.ErrInternal)
	}
	limit.Set(fuel)
	return gauge{used: used, limit: limit, next: next, why: why, mu: new(sync.Mutex), allowed: fuel}, nil
}

// stop makes the guest stop at its next look at the limit. It may be called from
// any goroutine while the guest runs.
func (g *gauge) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	g.limit.Set(0)
	g.next.Set(0)
}

// allow moves the limit, unless the guest was told to stop. It may be called from
// any goroutine while the guest runs.
func (g *gauge) allow(fuel uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.stopped {
		g.allowed = fuel
		g.limit.Set(fuel)
	}
}

// read takes the counters when the guest has ended.
func (g *gauge) read() { g.fuel, g.reason = g.used.Get(), g.why.Get() }

// charge adds the price of n bytes that pass between guest and host, the same as
// that of an operator on a range. It is called in host calls only.
func (g *gauge) charge(n uint64) {
	if g.used != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.used.Set(g.used.Get() + (n+meter.RangeUnit-1)/meter.RangeUnit)
	}
}

// sample returns what the guest has used at least. It may be called from any
// goroutine while the guest runs: a loop without calls shows its fuel late.
func (g *gauge) sample() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.used.Get()
}
