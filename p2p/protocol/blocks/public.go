package blocks

import (
	"context"
	"errors"
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/discovery"
)

// maxSources is how many peers are asked for one public file.
const maxSources = 8

// Finder finds who has a content; *discovery.Discovery is one.
type Finder interface {
	FindProviders(ctx context.Context, c mman.CID, limit int) ([]discovery.Provider, error)
}

// Bulk returns the function for content.Config.Bulk: it fetches large public
// files from connected peers that speak this protocol, or else from those that
// finder finds.
func Bulk(host *p2p.Host, finder Finder, cfg Config) func(ctx context.Context, root mman.CID, maxBytes uint64, into content.Store) error {
	return BulkWith(host, finder, cfg, nil)
}

// BulkWith is Bulk for somebody who waits: progress is that of Job.
func BulkWith(host *p2p.Host, finder Finder, cfg Config, progress func(content.Progress)) func(ctx context.Context, root mman.CID, maxBytes uint64, into content.Store) error {
	return func(ctx context.Context, root mman.CID, maxBytes uint64, into content.Store) error {
		job := Job{Into: into, MaxBytes: maxBytes, Progress: progress}
		near := host.Speaking(Protocol, maxSources)
		err := fetchPublic(ctx, host, near, root, job, cfg)
		if err == nil || ctx.Err() != nil || mman.RetryOf(err) == mman.RetryNever {
			return err
		}
		found, ferr := finder.FindProviders(ctx, root, maxSources)
		if ferr != nil {
			return errors.Join(err, ferr)
		}
		var far []mman.PeerID
		for _, p := range found {
			if rerr := host.Remember(p.Addrs); rerr == nil {
				far = append(far, p.ID)
			}
		}
		return fetchPublic(ctx, host, far, root, job, cfg)
	}
}

func fetchPublic(ctx context.Context, host *p2p.Host, peers []mman.PeerID, root mman.CID, job Job, cfg Config) error {
	if len(peers) == 0 {
		return fmt.Errorf("%w: nobody is known who sends %s in bulk", mman.ErrNotFound, root)
	}
	for _, p := range peers {
		job.Sources = append(job.Sources, Source{p, Public(host.ID(), root)})
	}
	_, err := Fetch(ctx, host, job, cfg)
	return err
}
