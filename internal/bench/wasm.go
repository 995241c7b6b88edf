package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/internal/alarm"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/kernel"
	"github.com/limboid/massive-man/resources/wasm/meter"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// WASMOptions size the benchmark of WebAssembly.
type WASMOptions struct {
	// GuestTime is how long each form of a kernel runs at least, in each pair.
	GuestTime time.Duration
	// Pairs are the comparisons of each kernel, of which the median counts.
	Pairs int
	// Runs of a trivial module are counted, and a tenth of them, 20 at least,
	// are stopped.
	Runs int
	// Compile has another process compile modules, see wasm.Config; nil leaves
	// apart_start out.
	Compile func(ctx context.Context, folder string, module []byte) error
}

// WASM measures what metering costs, and the executor around it. Metrics:
//
//	metered_NAME       s, a kernel metered; the reference is the same on the same
//	                   engine as it was written, and the ratio is the median of
//	                   the pairs' ratios
//	metered_mean       the geometric mean of these ratios
//	metered_worst      the highest of them
//	native_NAME        s, the kernel in Go; the reference is the metered one
//	cold_start         ms to prepare a Go program; the reference is the next
//	apart_start        ms when another process compiles with all processors; the
//	                   reference is cold_start
//	cached_start       ms with the compiled module on disk
//	runs_per_second    of a trivial module, one after the other, prepared anew
//	                   each time; the target, 1000, is the reference
//	stop_p50, _p95, _p99  ms from a deadline, the run's wall limit, to the return of
//	                   the run of a guest that computes in silence: the caller's
//	                   time from its call on less the limit, so that what starting
//	                   takes is in it; the target, 1 ms, is the reference
//	stop_waiting_p50   the same for a guest that waits for memory at each turn, so
//	                   that its fuel is slow
//	alarm_p50, _p95, _p99  ms by which this machine ends a loop in Go late that looks
//	                   at a flag at each turn, woken in the same way, in between:
//	                   what of a stop is not the guest's or the meter's doing
//	timer_p50, timer_p99  ms by which a timer of the Go runtime is late in between,
//	                   with nothing else to do: how busy the machine is
//
// The two forms of a kernel take turns call by call, on one thread, whose
// processor time counts.
func WASM(ctx context.Context, o WASMOptions) (_ *Report, err error) {
	if o.GuestTime < time.Millisecond || o.GuestTime > time.Minute || o.Pairs < 1 || o.Pairs > 99 || o.Runs < 1 || o.Runs > 1_000_000 {
		return nil, fmt.Errorf("%w: bench wasm: a guest time of %s, %d pairs, %d runs; use 1ms to 1m, 1 to 99, 1 to 1000000", mman.ErrInvalid, o.GuestTime, o.Pairs, o.Runs)
	}
	b := &wasmBench{WASMOptions: o, report: newReport("wasm")}
	for _, part := range []func(context.Context) error{b.kernels, b.starts, b.trivial, b.stops} {
		if err := part(ctx); err != nil {
			return nil, err
		}
	}
	return b.report, nil
}

type wasmBench struct {
	WASMOptions

	report *Report
}

// kernels compares each kernel metered with itself.
func (b *wasmBench) kernels(ctx context.Context) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	metered, err := meter.Instrument(kernel.Module(), meter.Options{})
	if err != nil {
		return err
	}
	var forms [2]*kernel.Instance
	for i, module := range [][]byte{kernel.Module(), metered.Module} {
		if forms[i], err = kernel.Open(ctx, module); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, forms[i].Close(ctx)) }()
	}
	logs, worst, count := 0.0, 0.0, 0
	for _, k := range kernel.List() {
		if k.Native == nil {
			continue
		}
		r := race{kernel: k, forms: []func(context.Context) (uint32, error){
			func(ctx context.Context) (uint32, error) { return forms[0].Run(ctx, k.Name, k.Rounds) },
			func(ctx context.Context) (uint32, error) { return forms[1].Run(ctx, k.Name, k.Rounds) },
			func(context.Context) (uint32, error) { return k.Native(k.Rounds), nil },
		}}
		if err := r.run(ctx, b.GuestTime, b.Pairs); err != nil {
			return err
		}
		ratio := median(r.ratios)
		b.report.Metrics["metered_"+k.Name] = Metric{Value: r.median(1), Unit: "s", Reference: r.median(0), Ratio: ratio}
		b.report.set("native_"+k.Name, "s", r.median(2), r.median(1))
		logs, worst, count = logs+math.Log(ratio), max(worst, ratio), count+1
	}
	b.report.set("metered_mean", "ratio", math.Exp(logs/float64(count)), 1)
	b.report.set("metered_worst", "ratio", worst, 1)
	return nil
}

// race lets several forms of a kernel take turns.
type race struct {
	kernel kernel.Kernel
	forms  []func(context.Context) (uint32, error)

	times  [][]float64 // s of each form in each pair
	ratios []float64   // of the second form to the first
}

// run fills times and ratios. Which form goes first changes from turn to turn.
func (r *race) run(ctx context.Context, guestTime time.Duration, pairs int) error {
	r.times = make([][]float64, len(r.forms))
	var checksum uint32
	for i := range r.forms { // warms up, too
		sum, err := r.forms[i](ctx)
		if err != nil {
			return err
		}
		if i > 0 && sum != checksum {
			return fmt.Errorf("%w: kernel %s gave %#x and %#x", mman.ErrInvariant, r.kernel.Name, checksum, sum)
		}
		checksum = sum
	}
	for range pairs {
		spent := make([]time.Duration, len(r.forms))
		for turn := 0; min(spent[0], spent[1]) < guestTime; turn++ {
			for i := range r.forms {
				form := (i + turn) % len(r.forms)
				took, err := r.turn(ctx, form, checksum)
				if err != nil {
					return err
				}
				spent[form] += took
			}
		}
		for i, d := range spent {
			r.times[i] = append(r.times[i], d.Seconds())
		}
		r.ratios = append(r.ratios, float64(spent[1])/float64(spent[0]))
	}
	return nil
}

func (r *race) turn(ctx context.Context, form int, checksum uint32) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("%w: %w", mman.ErrCanceled, err)
	}
	begun, err := processorTime()
	if err != nil {
		return 0, err
	}
	sum, err := r.forms[form](ctx)
	if err != nil {
		return 0, err
	}
	ended, err := processorTime()
	if sum != checksum {
		err = fmt.Errorf("%w: kernel %s gave %#x and %#x", mman.ErrInvariant, r.kernel.Name, checksum, sum)
	}
	return ended - begun, err
}

func (r *race) median(form int) float64 { return median(r.times[form]) }

// median returns the middle of the values, which it sorts.
func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// starts prepares a real program without and with its compiled form on disk.
func (b *wasmBench) starts(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "mman-bench-")
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var cold, cached, apart []time.Duration
	for range min(b.Pairs, 7) {
		folder, err := os.MkdirTemp(dir, "cache-")
		if err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		for _, times := range []*[]time.Duration{&cold, &cached} {
			took, err := b.start(ctx, wasm.Config{CacheDir: folder})
			if err != nil {
				return err
			}
			*times = append(*times, took)
		}
		if b.Compile != nil {
			took, err := b.start(ctx, wasm.Config{CacheDir: filepath.Join(folder, "apart"), Compile: b.Compile})
			if err != nil {
				return err
			}
			apart = append(apart, took)
		}
	}
	if b.Compile != nil {
		b.report.set("apart_start", "ms", quantile(apart, 0.5), quantile(cold, 0.5))
	}
	warm := quantile(cached, 0.5)
	b.report.set("cold_start", "ms", quantile(cold, 0.5), warm)
	b.report.set("cached_start", "ms", warm, quantile(cold, 0.5))
	return nil
}

func (b *wasmBench) start(ctx context.Context, config wasm.Config) (took time.Duration, err error) {
	config.Clock = time.Now
	e, err := wasm.New(config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	at := time.Now()
	prepared, err := e.Prepare(ctx, alone(examples.WordcountModule()))
	if err != nil {
		return 0, err
	}
	return time.Since(at), prepared.Close()
}

// alone is a task of a module without inputs.
func alone(module []byte) resources.Task {
	return resources.Task{Algorithm: mman.SumCID(mman.CodecRaw, module), Limits: resources.DefaultLimits(), Content: oneContent(module)}
}

// trivial counts runs of a module that does nothing.
func (b *wasmBench) trivial(ctx context.Context) (err error) {
	e, err := wasm.New(wasm.Config{Clock: time.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	task := alone(wasmtest.Nothing())
	begun := time.Now()
	for range b.Runs {
		prepared, err := e.Prepare(ctx, task)
		if err != nil {
			return err
		}
		if _, err := e.Run(ctx, prepared, resources.IO{}); err != nil {
			return err
		}
		if err := prepared.Close(); err != nil {
			return err
		}
	}
	b.report.set("runs_per_second", "1/s", float64(b.Runs)/time.Since(begun).Seconds(), 1000)
	return nil
}

// stops lets guests that compute in silence meet a deadline.
func (b *wasmBench) stops(ctx context.Context) (err error) {
	e, err := wasm.New(wasm.Config{Clock: time.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	var late, waiting, timers, alarms []time.Duration
	for range max(20, b.Runs/10) {
		for _, part := range []struct {
			module []byte
			late   *[]time.Duration
		}{{wasmtest.LoopForever(), &late}, {wasmtest.WaitForMemory(), &waiting}} {
			took, err := stopLate(ctx, e, part.module)
			if err != nil {
				return err
			}
			*part.late = append(*part.late, took)
		}
		begun := time.Now()
		<-time.After(stopAfter)
		timers = append(timers, time.Since(begun)-stopAfter)
		alarms = append(alarms, alarmLate())
	}
	for _, q := range []int{50, 95, 99} {
		b.report.set(fmt.Sprintf("stop_p%d", q), "ms", quantile(late, float64(q)/100), 1)
		b.report.set(fmt.Sprintf("alarm_p%d", q), "ms", quantile(alarms, float64(q)/100), 1)
	}
	b.report.set("stop_waiting_p50", "ms", quantile(waiting, 0.5), 1)
	b.report.set("timer_p50", "ms", quantile(timers, 0.5), 1)
	b.report.set("timer_p99", "ms", quantile(timers, 0.99), 1)
	return nil
}

// stopAfter is the deadline of guests that are stopped.
const stopAfter = 10 * time.Millisecond

// alarmLate returns how long after its deadline a loop without a guest ends.
func alarmLate() time.Duration {
	var over atomic.Bool
	begun := time.Now()
	defer alarm.After(stopAfter, func() { over.Store(true) })()
	for !over.Load() {
		continue
	}
	return time.Since(begun) - stopAfter
}

// stopLate returns how long after its deadline a run of a guest without end returns.
func stopLate(ctx context.Context, e *wasm.Executor, module []byte) (time.Duration, error) {
	task := alone(module)
	task.Limits.Fuel = resources.MaxLimits().Fuel
	task.Limits.WallMs = uint64(stopAfter.Milliseconds()) //nolint:gosec // positive
	prepared, err := e.Prepare(ctx, task)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	_, err = e.Run(ctx, prepared, resources.IO{})
	late := time.Since(begun) - stopAfter
	if !errors.Is(err, mman.ErrWall) {
		return 0, fmt.Errorf("%w: a guest without end ended: %w", mman.ErrInvariant, err)
	}
	return late, prepared.Close()
}

// oneContent is the only content of a task.
type oneContent []byte

func (c oneContent) Open(context.Context, mman.CID) (resources.Blob, error) {
	return blob{bytes.NewReader(c)}, nil
}
