package content

import (
	"sync"
	"time"
)

// Progress is how far something that takes long is.
type Progress struct {
	// Done is how many bytes are here, Total how many there are; 0 when that is
	// not known yet.
	Done, Total uint64
	// Rate is how many bytes a second came in the last seconds; 0 when it is
	// not known yet.
	Rate uint64
	// Left is the time that the rest takes at that rate; 0 when it is not
	// known.
	Left time.Duration
}

const (
	// tellEvery is the least time between two reports.
	tellEvery = 200 * time.Millisecond
	// samples is how many reports the rate looks back: five seconds.
	samples = 25
)

type sample struct {
	at   time.Time
	done uint64
}

// Meter reports progress. It is safe for concurrent use; reports come one at a
// time.
type Meter struct {
	now  func() time.Time
	tell func(Progress)

	mu          sync.Mutex
	done, total uint64
	past        []sample
}

// NewMeter returns a meter that calls tell now and then; tell may be nil, and must
// return soon. Without a clock there is no rate, and every change is told.
func NewMeter(now func() time.Time, tell func(Progress)) *Meter { return &Meter{now: now, tell: tell} }

// SetTotal says how many bytes there are.
func (m *Meter) SetTotal(n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total = n
}

// Add notes bytes that are here.
func (m *Meter) Add(n uint64) {
	if m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at(m.done + n)
}

// At notes how many bytes are here.
func (m *Meter) At(done uint64) {
	if m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at(done)
}

// at notes how many bytes are here. m.mu is held.
func (m *Meter) at(done uint64) {
	if m.done = done; m.total > 0 {
		m.done = min(done, m.total)
	}
	if m.now == nil {
		m.tell(Progress{Done: m.done, Total: m.total})
		return
	}
	at := m.now()
	if len(m.past) > 0 && at.Sub(m.past[len(m.past)-1].at) < tellEvery {
		return
	}
	if len(m.past) == samples {
		m.past = append(m.past[:0], m.past[1:]...)
	}
	m.past = append(m.past, sample{at, m.done})
	m.tell(m.report(at))
}

// report says how far it is. m.mu is held.
func (m *Meter) report(at time.Time) Progress {
	p := Progress{Done: m.done, Total: m.total}
	first := m.past[0]
	if took := at.Sub(first.at); took > 0 && m.done > first.done {
		rate := float64(m.done-first.done) / took.Seconds()
		p.Rate = uint64(rate)
		if m.total > m.done {
			p.Left = time.Duration(float64(m.total-m.done) / rate * float64(time.Second))
		}
	}
	return p
}

// End reports that everything is here: a block that stands twice in a file was
// counted once.
func (m *Meter) End() {
	if m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.total > 0 {
		m.done = m.total
	}
	if m.now == nil || len(m.past) == 0 {
		m.tell(Progress{Done: m.done, Total: m.total})
		return
	}
	m.tell(m.report(m.now()))
}
