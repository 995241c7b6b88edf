package blocks

import (
	"context"
	"fmt"
	"sync"

	mman "github.com/limboid/massive-man"
)

// turns shares the reading and sending of blocks among peers, not among their streams: who
// asks with eight streams gets no more than who asks with one. A turn is for
// one block; those who wait get theirs peer by peer, in a circle.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting map[mman.PeerID][]chan struct{}
	circle  []mman.PeerID // the peers that wait, the next one first
}

func newTurns(n int) *turns {
	return &turns{free: n, waiting: make(map[mman.PeerID][]chan struct{})}
}

// take waits for a turn; give it back with leave.
func (t *turns) take(ctx context.Context, peer mman.PeerID) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	if len(t.waiting[peer]) == 0 {
		t.circle = append(t.circle, peer)
	}
	t.waiting[peer] = append(t.waiting[peer], mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, c := range t.waiting[peer] {
		if c == mine {
			t.waiting[peer] = append(t.waiting[peer][:i], t.waiting[peer][i+1:]...)
			t.forget(peer)
			return fmt.Errorf("%w: wait for a turn: %w", mman.ErrCanceled, ctx.Err())
		}
	}
	t.pass() // it was given at the same instant
	return fmt.Errorf("%w: wait for a turn: %w", mman.ErrCanceled, ctx.Err())
}

// leave gives a turn to the next peer of the circle.
func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

func (t *turns) pass() {
	if len(t.circle) == 0 {
		t.free++
		return
	}
	peer := t.circle[0]
	next := t.waiting[peer][0]
	t.waiting[peer] = t.waiting[peer][1:]
	t.circle = t.circle[1:]
	if len(t.waiting[peer]) > 0 {
		t.circle = append(t.circle, peer)
	} else {
		delete(t.waiting, peer)
	}
	close(next)
}

// forget takes a peer that waits for nothing any more out of the circle.
func (t *turns) forget(peer mman.PeerID) {
	if len(t.waiting[peer]) > 0 {
		return
	}
	delete(t.waiting, peer)
	for i, p := range t.circle {
		if p == peer {
			t.circle = append(t.circle[:i], t.circle[i+1:]...)
			return
		}
	}
}
