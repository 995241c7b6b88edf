package content

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	mman "github.com/limboid/massive-man"
)

// Wants reports whether the want of a peer for c stands at this node.
func (s *Service) Wants(id mman.PeerID, c mman.CID) bool {
	k, err := toCid(c)
	return err == nil && slices.Contains(s.swap.WantlistForPeer(peer.ID(id.Bytes())), k)
}
