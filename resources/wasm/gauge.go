package wasm

import (
	"fmt"

	"github.com/tetratelabs/wazero/api"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

// MeterVersion is the version of the meter that counts the fuel of runs. It is
// part of offers and leases.
const MeterVersion = meter.Version

// gauge is the meter's globals of one instance. The guest's goroutine owns it
// but for stop, which writes one aligned word that the guest reads.
type gauge struct {
	used, limit api.MutableGlobal
	why         api.Global

	fuel   uint64 // what the guest had used when it was last read
	reason uint64 // why the meter trapped then
}

// newGauge gives the guest its fuel.
func newGauge(instance api.Module, fuel uint64) (gauge, error) {
	used, ok := instance.ExportedGlobal(meter.UsedGlobal).(api.MutableGlobal)
	limit, ok2 := instance.ExportedGlobal(meter.LimitGlobal).(api.MutableGlobal)
	why := instance.ExportedGlobal(meter.StopGlobal)
	if !ok || !ok2 || why == nil {
		return gauge{}, fmt.Errorf("%w: the metered module has no meter", mman.ErrInternal)
	}
	limit.Set(fuel)
	return gauge{used: used, limit: limit, why: why}, nil
}

// stop makes the guest stop at its next look at the limit. It may be called from
// any goroutine while the guest runs.
func (g *gauge) stop() { g.limit.Set(0) }

// read takes the counters when the guest has ended.
func (g *gauge) read() { g.fuel, g.reason = g.used.Get(), g.why.Get() }

// charge adds the price of n bytes that pass between guest and host, the same as
// that of an operator on a range. It is called in host calls only.
func (g *gauge) charge(n uint64) {
	if g.used != nil {
		g.used.Set(g.used.Get() + (n+meter.RangeUnit-1)/meter.RangeUnit)
	}
}
