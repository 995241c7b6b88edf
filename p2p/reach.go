package p2p

import (
	"context"
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"

	mman "github.com/limboid/massive-man"
)

// Reach says from where a host can be reached.
type Reach string

// The four answers.
const (
	// ReachMachine is a host that listens on loopback only.
	ReachMachine Reach = "machine"
	// ReachPublic is a host that others have dialed from outside.
	ReachPublic Reach = "public"
	// ReachPrivate is a host that others tried in vain to dial.
	ReachPrivate Reach = "private"
	// ReachUnknown is a host that nobody has tried to dial yet.
	ReachUnknown Reach = "unknown"
)

// reached is what AutoNAT found last.
type reached struct {
	mu sync.Mutex
	// addrs is what its second version says of each address, host what the first one
	// says of all of them.
	addrs event.EvtHostReachableAddrsChanged
	host  network.Reachability
}

func (r *reached) note(found any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch found := found.(type) {
	case event.EvtHostReachableAddrsChanged:
		r.addrs = found
	case event.EvtLocalReachabilityChanged:
		r.host = found.Reachability
	}
}

// watch notes what AutoNAT finds until the host is closed. h.mu is held.
func (h *Host) watch(ctx context.Context) error {
	sub, err := h.h.EventBus().Subscribe([]any{new(event.EvtHostReachableAddrsChanged), new(event.EvtLocalReachabilityChanged)})
	if err != nil {
		return fmt.Errorf("%w: watch AutoNAT: %w", mman.ErrInternal, err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h.cancels = append(h.cancels, cancel)
	h.running.Go(func() {
		defer sub.Close() //nolint:errcheck // nothing is written
		for {
			select {
			case <-ctx.Done():
				return
			case found := <-sub.Out():
				h.reached.note(found)
			}
		}
	})
	return nil
}

// Reach says from where this host can be reached, as AutoNAT last found: by the addresses
// that its second version tried, or else by what the first one says of the whole host.
func (h *Host) Reach() Reach {
	if h.LoopbackOnly() {
		return ReachMachine
	}
	h.reached.mu.Lock()
	defer h.reached.mu.Unlock()
	addrs, host := h.reached.addrs, h.reached.host
	switch {
	case len(addrs.Reachable) > 0, host == network.ReachabilityPublic:
		return ReachPublic
	case len(addrs.Unreachable) > 0, host == network.ReachabilityPrivate:
		return ReachPrivate
	default:
		return ReachUnknown
	}
}
