package meter

// origin is an operator whose result can be a NaN with any bits.
type origin struct {
	pos   int
	local int32 // the local that it reads, -1 if it computes
	// marked says that the bits come to light.
	marked bool
}

// flow is a value that is put into a local. next is the next flow out of the
// local that the value comes from, prev that into the same local.
type flow struct{ origin, local, next, prev int32 }

// localNaNs is what is known of the NaNs in one local, anywhere in the function.
type localNaNs struct {
	any  bool // it may hold one with any bits
	kept bool // it may hold one whose bits must stay
	seen bool // it is kept, and read where bits come to light
	// out and in are the first of the flows out of it and into it.
	out, in int32
}

// solveNaNs finds, whatever the order in which locals are set, where NaNs must be
// made canonical: where they are computed, if their bits come to light; or, for
// less work, where a local is read, if all NaNs in it were computed.
func (b *body) solveNaNs() {
	b.nans = resize(b.nans, len(b.locals))
	for i := range b.nans {
		b.nans[i] = localNaNs{out: -1, in: -1}
	}
	if !b.floats {
		return
	}
	for i := range b.flows {
		f := &b.flows[i]
		f.prev = b.nans[f.local].in
		b.nans[f.local].in = int32(i)
		if k := b.source(f.origin); k >= 0 {
			f.next = b.nans[k].out
			b.nans[k].out = int32(i)
		}
	}
	b.solveKept()
	b.solveSeen()
	b.solveAny()
}

// source returns the local that a value was read from, -1 for another value.
func (b *body) source(origin int32) int32 {
	if origin < 0 {
		return -1
	}
	return b.origins[origin].local
}

// spread sets a property of locals and of all that they flow into, by the ways
// that are open.
func (b *body) spread(work []int32, set func(*localNaNs) bool, open func(flow) bool) {
	for len(work) > 0 {
		l := work[len(work)-1]
		work = work[:len(work)-1]
		if !set(&b.nans[l]) {
			continue
		}
		for i := b.nans[l].out; i >= 0; i = b.flows[i].next {
			if open(b.flows[i]) {
				work = append(work, b.flows[i].local)
			}
		}
	}
}

func (b *body) solveKept() {
	var work []int32
	for l := range b.sig.params {
		work = append(work, int32(l))
	}
	for _, f := range b.flows {
		if f.origin == kept {
			work = append(work, f.local)
		}
	}
	b.spread(work, func(l *localNaNs) bool {
		was := l.kept
		l.kept = true
		return !was
	}, func(flow) bool { return true })
}

// solveSeen marks what flows into locals that also hold NaNs whose bits must
// stay, so that reading them needs nothing.
func (b *body) solveSeen() {
	var work []int32
	for _, o := range b.origins {
		if o.marked && o.local >= 0 {
			work = append(work, o.local)
		}
	}
	for len(work) > 0 {
		l := &b.nans[work[len(work)-1]]
		work = work[:len(work)-1]
		if !l.kept || l.seen {
			continue
		}
		l.seen = true
		for i := l.in; i >= 0; i = b.flows[i].prev {
			if o := b.flows[i].origin; o >= 0 {
				b.origins[o].marked = true
				if k := b.origins[o].local; k >= 0 {
					work = append(work, k)
				}
			}
		}
	}
}

func (b *body) solveAny() {
	var work []int32
	for _, f := range b.flows {
		if f.origin >= 0 && !b.origins[f.origin].marked && b.origins[f.origin].local < 0 {
			work = append(work, f.local)
		}
	}
	b.spread(work, func(l *localNaNs) bool {
		was := l.any
		l.any = true
		return !was
	}, func(f flow) bool { return !b.origins[f.origin].marked })
}

// canonical tells whether the i-th origin is a place to make NaNs canonical.
func (b *body) canonical(i int, everywhere bool) bool {
	o := b.origins[i]
	if everywhere {
		return o.local < 0
	}
	return o.marked && (o.local < 0 || b.nans[o.local].any && !b.nans[o.local].kept)
}
