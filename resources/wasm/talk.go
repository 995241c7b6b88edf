package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/environment"
)

// An interactive guest reads what comes while it runs. Whenever it waits, for
// input, for a consumer who takes its output or for money, it gives its place to
// another guest.

// talk is what an interactive run has beside the others.
type talk struct {
	credit resources.Credit // nil when nothing is paid ahead
	read   func(p []byte) (int, error)
	await  func(used resources.Usage) // until it is paid for or the run is over
	usage  func() resources.Usage
	places chan struct{}
	away   bool            // it has no place at the moment
	asked  resources.Usage // when the credit was asked last
}

func newTalk(ctx context.Context, in resources.Input, credit resources.Credit, places chan struct{}, usage func() resources.Usage) *talk {
	return &talk{
		credit: credit, usage: usage, places: places,
		read:  func(p []byte) (int, error) { return in.Read(ctx, p) },
		await: func(used resources.Usage) { _ = credit.Await(ctx, used) }, // it fails when the run is over
	}
}

// leavePlace gives the run's place back, unless it is away.
func (r *run) leavePlace(places chan struct{}) {
	if r.talk == nil || !r.talk.away {
		<-places
	}
}

// rest gives the place to others while wait goes on. The wait for a place after
// that costs nothing.
func (r *run) rest(wait func()) {
	t := r.talk
	<-t.places
	t.away = true
	wait()
	select {
	case t.places <- struct{}{}:
		t.away = false
		return
	default:
	}
	r.watch.rest()
	defer r.watch.resume()
	select {
	case t.places <- struct{}{}:
		t.away = false
	case <-r.done:
		panic(stopped{})
	}
}

// awaitTalking is await for a guest that gives its place to others meanwhile.
func (r *run) awaitTalking(result <-chan ioResult) (err error) {
	select {
	case got := <-result: // it need not wait
		return got.err
	default:
	}
	over := false
	r.rest(func() {
		select {
		case got := <-result:
			err = got.err
		case <-r.done:
			r.pending, over = result, true
		}
	})
	if over {
		panic(stopped{})
	}
	return err
}

// standardInput is the guest's descriptor 0.
func (r *run) standardInput() *file {
	if r.live == nil {
		return &file{source: r.stdin}
	}
	return &file{live: r.live}
}

// listen reads from an input that comes while the guest runs: what is there, or
// else what comes first.
func (r *run) listen(f *file, mem guestMemory, args []uint64) errno {
	buffers, e := r.vectors(mem, args[1], args[2])
	if e != success {
		return e
	}
	if r.buffer == nil {
		r.buffer = make([]byte, chunkBytes)
	}
	b := r.buffer[:room(buffers)]
	n := 0
	if len(b) > 0 {
		n = r.hear(f, b)
	}
	// The wait may have moved the guest's memory: nothing else runs in it, but
	// the views are taken anew all the same.
	if buffers, e = r.vectors(mem, args[1], args[2]); e != success {
		return e
	}
	return mem.putU32(args[3], i32(scatter(buffers, b[:n])))
}

// hear waits for input. In a framed run files may come and go before it does.
func (r *run) hear(f *file, b []byte) int {
	for {
		if n, over := r.hearOnce(f, b); n > 0 || over || r.desk == nil {
			return n
		}
	}
}

func (r *run) hearOnce(f *file, b []byte) (n int, over bool) {
	n, err := r.heard(f, b)
	for refusal := (*environment.RefusalError)(nil); errors.As(err, &refusal); n, err = r.heard(f, b) {
		if err := r.await(func() error { return writeAll(r.stdout.w, refusal.Frame) }); err != nil {
			r.fail(fmt.Errorf("pass a refusal on: %w", err))
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		return 0, true
	case err != nil:
		r.checkDone()
		r.fail(err)
	}
	cost := uint64(n) //nolint:gosec // readers count upwards
	if r.desk != nil {
		cost = r.desk.cost()
	}
	if in := r.inBytes.Add(cost); in > r.inLimit {
		r.fail(fmt.Errorf("%w: %d bytes", mman.ErrInputLimit, r.inLimit))
	}
	r.gauge.charge(cost)
	r.pay()
	if r.desk != nil {
		r.answer()
	}
	return n, false
}

// heard takes what is there, or waits for it.
func (r *run) heard(f *file, b []byte) (n int, err error) {
	if f.live.Ready() {
		return r.talk.read(b)
	}
	r.settle() // before it waits for long
	r.rest(func() { n, err = r.talk.read(b) })
	return n, err
}

// What a guest may use between two looks at its credit.
const (
	payFuel  = 1 << 20
	payBytes = 4 << 10
)

// pay pauses the guest while what it used is not paid for. It looks only now and
// then.
func (r *run) pay() {
	t := r.talk
	if t.credit == nil {
		return
	}
	since := t.usage().Since(t.asked)
	if t.asked.CallCount == 0 || since.WallMs > 0 || since.Fuel >= payFuel || since.InBytes+since.OutBytes >= payBytes {
		r.settle()
	}
}

// settle pauses the guest until all that it used is paid for.
func (r *run) settle() {
	t := r.talk
	if t.credit == nil {
		return
	}
	used := t.usage()
	if !t.credit.Covers(used) {
		r.rest(func() {
			r.watch.rest()
			defer r.watch.resume()
			t.await(used)
		})
		r.checkDone()
	}
	t.asked = used
}

// follow moves the limit of a guest that makes no call to the host, until the
// returned function is called.
func (r *run) follow(ctx context.Context) (stop func()) {
	if r.talk == nil || r.talk.credit == nil {
		return func() {}
	}
	credit := r.talk.credit
	fuel := credit.Fuel()
	r.gauge.allow(min(fuel, r.fuel))
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			more, err := credit.MoreFuel(ctx, fuel)
			if err != nil {
				return
			}
			fuel = more
			r.gauge.allow(min(fuel, r.fuel))
		}
	}()
	return func() {
		cancel()
		<-stopped
	}
}

// stopwatch measures the time that is billed. It is safe for concurrent use.
type stopwatch struct {
	mu      sync.Mutex
	clock   func() time.Time
	since   time.Time // it runs from then on
	before  time.Duration
	resting int
}

func (w *stopwatch) start(clock func() time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock, w.since = clock, clock()
}

// spent returns the time without the rests.
func (w *stopwatch) spent() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.resting > 0 {
		return w.before
	}
	return w.before + max(0, w.clock().Sub(w.since))
}

// rest stops the watch until resume was called as often.
func (w *stopwatch) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.resting++; w.resting == 1 {
		w.before += max(0, w.clock().Sub(w.since))
	}
}

func (w *stopwatch) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.resting--; w.resting == 0 {
		w.since = w.clock()
	}
}
