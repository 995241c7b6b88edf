package blocks

import (
	"sync"
	"time"
)

// Progress is how far a transfer is.
type Progress struct {
	// Done is how many bytes of the file are here, Total how many it has.
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

// meter reports progress.
type meter struct {
	now   func() time.Time
	tell  func(Progress)
	total uint64

	mu   sync.Mutex
	done uint64
	past []sample
}

// add notes bytes of the file that are here.
func (m *meter) add(n uint64) {
	if m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = min(m.done+n, m.total)
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

func (m *meter) report(at time.Time) Progress {
	p := Progress{Done: m.done, Total: m.total}
	first := m.past[0]
	if took := at.Sub(first.at); took > 0 && m.done > first.done {
		rate := float64(m.done-first.done) / took.Seconds()
		p.Rate = uint64(rate)
		p.Left = time.Duration(float64(m.total-m.done) / rate * float64(time.Second))
	}
	return p
}

// end reports that everything is here: a block that stands twice in a file was
// counted once.
func (m *meter) end() {
	if m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = m.total
	if m.now == nil || len(m.past) == 0 {
		m.tell(Progress{Done: m.done, Total: m.total})
		return
	}
	m.tell(m.report(m.now()))
}
