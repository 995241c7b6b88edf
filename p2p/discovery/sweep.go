package discovery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"math/bits"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
)

const (
	// sweepTimeout bounds the search for the peers of one region.
	sweepTimeout = 30 * time.Second
	// peerTimeout bounds what one peer may take for one record.
	peerTimeout = 10 * time.Second
)

// spot is where something stands in the DHT: SHA-256 of a CID's multihash, or of a
// peer's id.
type spot [sha256.Size]byte

// shared returns how many bits two spots begin with alike.
func (s spot) shared(other spot) int {
	for i := range s {
		if x := s[i] ^ other[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 8 * len(s)
}

// item is a CID that is to be announced again.
type item struct {
	cid  mman.CID
	key  cid.Cid
	spot spot
}

// reprovide announces items again. It sweeps through the DHT in the order of their
// spots: the peers closest to one CID are searched once, and told of all CIDs that
// have the same closest peers. So a host with many CIDs makes about as many searches
// as the network has peers, divided by how many keep each record. It ends when nobody
// is left to be told: Run starts again with the first who comes.
func (d *Discovery) reprovide(ctx context.Context, all []item) {
	searches, told := 0, 0
	for len(all) > 0 && ctx.Err() == nil && d.Peers() > 0 {
		n, err := d.sweep(ctx, all)
		d.note(ctx, "a region was not announced", err)
		searches++
		told += n
		all = all[n:]
	}
	if told > 0 {
		d.cfg.Logger.DebugContext(ctx, "announced again", slog.Int("count", told), slog.Int("searches", searches))
	}
}

// items lists what is provided, or what of it nobody was told of, in the order of the
// spots.
func (d *Discovery) items(untold bool) []item {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]item, 0, len(d.provided))
	for c, it := range d.provided {
		if !untold || it.at.IsZero() {
			all = append(all, item{c, it.key, sha256.Sum256(it.key.Hash())})
		}
	}
	slices.SortFunc(all, func(a, b item) int { return bytes.Compare(a.spot[:], b.spot[:]) })
	return all
}

// sweep announces the first of the items and all that stand in its region, and returns
// how many these are.
func (d *Discovery) sweep(ctx context.Context, all []item) (int, error) {
	search, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	peers, err := d.dht.GetClosestPeers(search, string(all[0].key.Hash()))
	if err != nil || len(peers) == 0 {
		return 1, err //nolint:wrapcheck // it is only logged
	}
	n := region(all, peers, d.dht.BucketSize())
	self := peer.AddrInfo{ID: d.host.Libp2p().ID(), Addrs: d.dht.FilteredAddrs()}
	for _, it := range all[:n] {
		if err := d.dht.ProviderStore().AddProvider(ctx, it.key.Hash(), peer.AddrInfo{ID: self.ID}); err != nil {
			return n, err //nolint:wrapcheck // it is only logged
		}
	}
	reached := make([][]bool, len(peers))
	var telling errgroup.Group
	for i, p := range peers {
		telling.Go(func() error {
			reached[i] = d.tellAll(ctx, p, self, all[:n])
			return nil
		})
	}
	_ = telling.Wait() // nobody fails
	for k, it := range all[:n] {
		if slices.ContainsFunc(reached, func(took []bool) bool { return took[k] }) {
			d.told(it.cid)
		}
	}
	return n, nil
}

// tellAll tells one peer of all items, and gives up at the first that it does not
// take: it returns which it took.
func (d *Discovery) tellAll(ctx context.Context, to peer.ID, self peer.AddrInfo, list []item) []bool {
	took := make([]bool, len(list))
	for i, it := range list {
		one, cancel := context.WithTimeout(ctx, peerTimeout)
		err := d.tell.PutProviderAddrs(one, to, it.key.Hash(), self)
		cancel()
		if err != nil {
			d.cfg.Logger.DebugContext(ctx, "announcement failed", slog.String("peer", to.String()), slog.Any("error", err))
			break
		}
		took[i] = true
	}
	return took
}

// region returns how many of the items have the same closest peers as the first: all
// where fewer peers were found than keep a record, since these are everybody, and
// else those that share more bits with it than the farthest of the peers, whom an
// unknown peer can then not beat by more than the last bits.
func region(all []item, peers []peer.ID, keep int) int {
	if len(peers) < keep {
		return len(all)
	}
	far := 8 * sha256.Size
	for _, p := range peers {
		far = min(far, all[0].spot.shared(sha256.Sum256([]byte(p))))
	}
	n := 1
	for n < len(all) && all[n].spot.shared(all[0].spot) > far {
		n++
	}
	return n
}
