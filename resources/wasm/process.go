package wasm

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Arguments, environment, clocks, randomness and sleeping: the same answers on
// every machine.

func (r *run) argsSizesGet(mem guestMemory, args []uint64) errno {
	size := uint64(0)
	for _, a := range r.args {
		size += uint64(len(a)) + 1
	}
	if e := mem.putU32(args[0], i32(uint64(len(r.args)))); e != success {
		return e
	}
	return mem.putU32(args[1], i32(size))
}

func (r *run) argsGet(mem guestMemory, args []uint64) errno {
	pointers, address := args[0], args[1]
	for _, a := range r.args {
		if e := mem.putU32(pointers, i32(address)); e != success {
			return e
		}
		if e := mem.put(address, append([]byte(a), 0)); e != success {
			return e
		}
		pointers += 4
		address += uint64(len(a)) + 1
	}
	return success
}

func (r *run) environSizesGet(mem guestMemory, args []uint64) errno {
	if e := mem.putU32(args[0], 0); e != success {
		return e
	}
	return mem.putU32(args[1], 0)
}

// The clocks of WASI: real time, monotonic, and the two of processor time.
const (
	clockRealtime = 0
	clockCount    = 4
)

func (r *run) clockResGet(mem guestMemory, args []uint64) errno {
	if i32(args[0]) >= clockCount {
		return errInval
	}
	return mem.putU64(args[1], ClockStep)
}

func (r *run) clockTimeGet(mem guestMemory, args []uint64) errno {
	if i32(args[0]) >= clockCount {
		return errInval
	}
	r.advance(ClockStep)
	return mem.putU64(args[2], r.clock(i32(args[0])))
}

// clock returns what the clock shows, in nanoseconds.
func (r *run) clock(id uint32) uint64 {
	if id == clockRealtime {
		return ClockEpoch + r.elapsed
	}
	return r.elapsed
}

// advance moves the guest's clocks. They stop before they would wrap, some 238
// years after ClockEpoch.
func (r *run) advance(ns uint64) {
	sum, carry := bits.Add64(r.elapsed, ns, 0)
	if top := uint64(math.MaxInt64) - ClockEpoch; carry != 0 || sum > top {
		sum = top
	}
	r.elapsed = sum
}

func (r *run) randomGet(mem guestMemory, args []uint64) errno {
	dst, ok := mem.view(args[0], args[1])
	if !ok {
		return errFault
	}
	for len(dst) > 0 {
		n := min(len(dst), chunkBytes)
		_, _ = r.random.Read(dst[:n]) // never fails
		dst = dst[n:]
		r.checkDone()
	}
	return success
}

// The layout of poll_oneoff's records, and its kinds of subscription.
const (
	subscriptionBytes = 48
	eventBytes        = 32
	maxSubscriptions  = 4096
	eventClock        = 0
	eventFDRead       = 1
	eventFDWrite      = 2
)

type subscription struct {
	user uint64
	kind byte
	code errno
	// deadline of a clock, on the elapsed time.
	deadline uint64
	// size of what can be read.
	size uint64
}

// pollOneoff answers at once: every file is ready, and without files the clocks
// move to the first deadline.
func (r *run) pollOneoff(mem guestMemory, args []uint64) errno {
	count := uint64(i32(args[2]))
	if count == 0 || count > maxSubscriptions {
		return errInval
	}
	in, ok := mem.array(args[0], count, subscriptionBytes)
	if !ok {
		return errFault
	}
	subs := make([]subscription, 0, count)
	first, ready := uint64(math.MaxUint64), false
	for ; len(in) > 0; in = in[subscriptionBytes:] {
		s, e := r.subscription(in)
		if e != success {
			return e
		}
		if s.kind == eventClock {
			first = min(first, s.deadline)
		} else {
			ready = true
		}
		subs = append(subs, s)
	}
	if !ready && first > r.elapsed {
		r.advance(first - r.elapsed)
	}
	var out []byte
	events := uint32(0)
	for _, s := range subs {
		// The clocks stop at their end; the first deadline is met all the same.
		if s.kind == eventClock && s.deadline > r.elapsed && (ready || s.deadline != first) {
			continue
		}
		events++
		out = binary.LittleEndian.AppendUint64(out, s.user)
		out = binary.LittleEndian.AppendUint16(out, uint16(s.code&math.MaxUint16))
		out = append(out, s.kind, 0, 0, 0, 0, 0)
		out = binary.LittleEndian.AppendUint64(out, s.size)
		out = append(out, make([]byte, 8)...)
	}
	if e := mem.put(args[1], out); e != success {
		return e
	}
	return mem.putU32(args[3], events)
}

func (r *run) subscription(b []byte) (subscription, errno) {
	s := subscription{user: binary.LittleEndian.Uint64(b), kind: b[8]}
	switch s.kind {
	case eventClock:
		id, timeout := binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint64(b[24:])
		absolute := binary.LittleEndian.Uint16(b[40:]) & 1
		if id >= clockCount {
			return s, errInval
		}
		base := r.elapsed
		if absolute != 0 {
			base = 0
			if id == clockRealtime {
				timeout -= min(timeout, ClockEpoch)
			}
		}
		sum, carry := bits.Add64(base, timeout, 0)
		if carry != 0 {
			sum = math.MaxUint64
		}
		s.deadline = sum
	case eventFDRead, eventFDWrite:
		f, e := r.file(uint64(binary.LittleEndian.Uint32(b[16:])))
		s.code = e
		if e == success && s.kind == eventFDRead {
			s.size = f.left()
		}
	default:
		return s, errInval
	}
	return s, success
}
