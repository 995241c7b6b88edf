package blocks

import (
	"context"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/discovery"
)

// maxSources is how many connected peers, and how many that are found, are asked for
// one public file.
const maxSources = 8

// Finder finds who has a content; *discovery.Discovery is one.
type Finder interface {
	FindProviders(ctx context.Context, c mman.CID, limit int) ([]discovery.Provider, error)
}

// Bulk returns the function for content.Config.Bulk: it fetches large public
// files from connected peers that speak this protocol, and from those that finder
// finds meanwhile: so another can finish when one vanishes.
func Bulk(host *p2p.Host, finder Finder, cfg Config) func(ctx context.Context, root mman.CID, maxBytes uint64, into content.Store) error {
	return func(ctx context.Context, root mman.CID, maxBytes uint64, into content.Store) error {
		job := Job{Into: into, MaxBytes: maxBytes}
		job.Sources = public(host, root, host.Speaking(Protocol, maxSources))
		job.Search = func(ctx context.Context) ([]Source, error) {
			found, err := finder.FindProviders(ctx, root, maxSources)
			var far []mman.PeerID
			for _, p := range found {
				if rerr := host.Remember(p.Addrs); rerr == nil {
					far = append(far, p.ID)
				}
			}
			return public(host, root, far), err
		}
		_, err := Fetch(ctx, host, job, cfg)
		return err
	}
}

// public makes sources of peers who may have a public file.
func public(host *p2p.Host, root mman.CID, peers []mman.PeerID) []Source {
	var out []Source
	for _, p := range peers {
		out = append(out, Source{p, Public(host.ID(), root)})
	}
	return out
}
