package blocks

import (
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
)

const (
	// liarFor is how long a liar is not asked again.
	liarFor = 24 * time.Hour
	// maxLiars bounds how many are remembered; more drive out the oldest.
	maxLiars = 4096
)

// Liars remembers peers that sent a block that is not what its hash says, for every
// transfer of a program. It is safe for concurrent use; nil remembers nobody.
type Liars struct {
	now func() time.Time

	mu    sync.Mutex
	since map[mman.PeerID]time.Time
}

// NewLiars returns an empty memory; now is the clock.
func NewLiars(now func() time.Time) *Liars {
	return &Liars{now: now, since: make(map[mman.PeerID]time.Time)}
}

// Has reports whether a peer lied within the last 24 hours.
func (l *Liars) Has(peer mman.PeerID) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.since[peer]
	if ok && l.now().Sub(at) >= liarFor {
		delete(l.since, peer)
		return false
	}
	return ok
}

// note remembers that a peer lied.
func (l *Liars) note(peer mman.PeerID) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.since[peer]; !ok && len(l.since) >= maxLiars {
		var oldest mman.PeerID
		var first time.Time
		for p, at := range l.since {
			if first.IsZero() || at.Before(first) {
				oldest, first = p, at
			}
		}
		delete(l.since, oldest)
	}
	l.since[peer] = l.now()
}
