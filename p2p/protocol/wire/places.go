package wire

import (
	"fmt"
	"sync"

	mman "github.com/limboid/massive-man"
)

// Places bounds how many streams a server answers at a time, of all peers and of each.
// It is safe for concurrent use.
type Places struct {
	most, each int

	mu    sync.Mutex
	all   int
	peers map[mman.PeerID]int
}

// NewPlaces returns as many places, of which a peer may take each.
func NewPlaces(most, each int) *Places {
	return &Places{most: most, each: each, peers: map[mman.PeerID]int{}}
}

// Enter takes a place for a peer until Leave. It fails with mman.ErrBusy when all are
// taken, or the peer's are.
func (p *Places) Enter(peer mman.PeerID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.all >= p.most:
		return fmt.Errorf("%w: %d streams are being answered, try again", mman.ErrBusy, p.all)
	case p.peers[peer] >= p.each:
		return fmt.Errorf("%w: %d streams of this peer are being answered", mman.ErrBusy, p.peers[peer])
	}
	p.all++
	p.peers[peer]++
	return nil
}

// Leave gives back a place that Enter gave.
func (p *Places) Leave(peer mman.PeerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.peers[peer]--; p.peers[peer] == 0 {
		delete(p.peers, peer)
	}
}
