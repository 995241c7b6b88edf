package content

import (
	"context"
	"io"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	mman "github.com/limboid/massive-man"
)

// Wants reports whether the want of a peer for c stands at this node.
func (s *Service) Wants(id mman.PeerID, c mman.CID) bool {
	k, err := toCid(c)
	return err == nil && slices.Contains(s.swap.WantlistForPeer(peer.ID(id.Bytes())), k)
}

// ImportInto is ImportCAR into a store that nobody serves; what fails leaves what it
// stored.
func ImportInto(ctx context.Context, r io.ReadSeeker, maxBytes uint64, store *PublicStore) ([]mman.CID, error) {
	return importCAR(ctx, r, maxBytes, store, func(batch []Block) error { return store.Put(ctx, batch) })
}
