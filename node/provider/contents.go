package provider

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// contents finds what the runs of one lease read, and keeps what they write. It
// opens nothing that the lease does not name.
type contents struct {
	p     *Provider
	lease market.Lease
	own   *content.PrivateStore // the lease's own store
}

func (p *Provider) contents(lease market.Lease) contents {
	return contents{p, lease, p.stores.Lease(lease.ID)}
}

// missing lists the contents of a run that only the consumer has.
func (c contents) missing(ctx context.Context, run session.Run) ([]mman.CID, error) {
	var out []mman.CID
	want := func(id mman.CID) error {
		has, err := c.own.Has(ctx, id)
		if err == nil && !has {
			out = append(out, id)
		}
		return err
	}
	for _, leg := range c.lease.Legs {
		if leg.Supplied {
			if err := want(leg.Resource); err != nil {
				return nil, err
			}
		}
	}
	if i, ok := resources.InterpreterOf(c.lease.Algorithm().Facet); ok {
		here, err := c.p.interpreter(ctx, i)
		if err != nil {
			return nil, err
		}
		if !here {
			out = append(out, i.Module)
		}
	}
	if !run.Stdin.IsZero() && len(run.Inline) == 0 && run.StdinBytes > 0 {
		// What another provider lent to the lease is here too, and the consumer may
		// neither read it nor learn that it is: it has to bring it.
		lent, err := c.lent(run.Stdin)
		if err == nil && lent {
			out = append(out, run.Stdin)
		} else if err == nil {
			err = want(run.Stdin)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// lent reports whether another provider lent the content to the lease.
func (c contents) lent(id mman.CID) (bool, error) {
	return c.p.records.Has(lentKey(c.lease.ID, id))
}

func lentKey(lease mman.LeaseID, id mman.CID) []byte {
	return append(append([]byte{prefixLent}, lease[:]...), id.Bytes()...)
}

// supply stores a content under the lease and refuses one that is not id.
func (c contents) supply(ctx context.Context, id mman.CID, size uint64, r io.Reader) error {
	if i, ok := resources.InterpreterAt(id); ok && i.Facet == c.lease.Algorithm().Facet {
		return c.p.install(ctx, i, r)
	}
	most := c.lease.Limits.InputBytes
	if algorithm := c.lease.Algorithm(); algorithm.Supplied && algorithm.Resource == id && algorithm.Facet == resources.FacetContainer {
		most = max(most, maxImageBytes) // an image is larger than what it reads
	}
	if size > most {
		return fmt.Errorf("%w: %d bytes, the lease allows %d", mman.ErrInputLimit, size, c.lease.Limits.InputBytes)
	}
	if lent, err := c.lent(id); lent || err != nil {
		if err == nil {
			err = owns(ctx, id, r)
		}
		return errors.Join(err, drain(r))
	}
	if has, err := c.own.Has(ctx, id); has || err != nil {
		return errors.Join(err, drain(r))
	}
	if err := c.p.book.store(c.p.book.account(c.lease.ID), size, c.p.leaseBytes()); err != nil {
		return err
	}
	got, n, err := content.AddTo(ctx, c.own, r)
	if err != nil {
		return err
	}
	if got != id || n != size {
		return fmt.Errorf("%w: %d bytes came that make %s, announced were %d of %s", mman.ErrContent, n, got, size, id)
	}
	if algorithm := c.lease.Algorithm(); algorithm.Supplied && algorithm.Resource == id {
		c.arrived(ctx, algorithm.Facet, id)
	}
	return nil
}

// arrived has an algorithm that is whole in the lease's store compiled.
func (c contents) arrived(ctx context.Context, facet resources.Facet, id mman.CID) {
	if facet == resources.FacetWasm {
		c.p.worker.Ahead(ctx, facet, id, c.local(c.own, id))
	}
}

// owns reports as an error that r is not the content.
func owns(ctx context.Context, id mman.CID, r io.Reader) error {
	got, n, err := content.SumUnixFS(ctx, r)
	if err == nil && got != id {
		err = fmt.Errorf("%w: %d bytes came that make %s, announced was %s", mman.ErrContent, n, got, id)
	}
	return err
}

// drain reads what need not be kept.
func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// inline stores a run's standard input that came with it.
func (c contents) inline(ctx context.Context, run session.Run) error {
	if run.Stdin.IsZero() || len(run.Inline) == 0 && run.StdinBytes > 0 {
		return nil
	}
	return c.supply(ctx, run.Stdin, run.StdinBytes, bytes.NewReader(run.Inline))
}

// keep stores a run's output under the lease.
func (c contents) keep(ctx context.Context, r io.Reader) (mman.CID, uint64, error) {
	id, n, err := content.AddTo(ctx, c.own, r)
	if err == nil {
		// It fitted when the run began; runs of other lanes may have been faster.
		err = c.p.book.store(c.p.book.account(c.lease.ID), n, math.MaxUint64)
	}
	return id, n, err
}

// task resolves the lease's legs to contents that are here.
func (c contents) task(ctx context.Context, run session.Run, limits resources.Limits) (resources.Task, error) {
	open := opener{}
	if isEndpoint(c.lease) {
		task := resources.Task{Algorithm: c.lease.Compute().Resource, Args: run.Args, Seed: run.Seed, Limits: limits, Content: open}
		return task, task.Validate()
	}
	resolve := func(leg market.Leg) (mman.CID, error) {
		id, from, err := c.resolve(ctx, leg, limits)
		if err != nil {
			return mman.CID{}, fmt.Errorf("%s %s: %w", leg.Role, leg.Resource, err)
		}
		open[id] = from
		return id, nil
	}
	algorithm, err := resolve(c.lease.Algorithm())
	if err != nil {
		return resources.Task{}, err
	}
	facet := c.lease.Algorithm().Facet
	if i, ok := resources.InterpreterOf(facet); ok {
		open[i.Module] = c.p.shelved(i)
	}
	task := resources.Task{Algorithm: algorithm, Facet: facet, Args: run.Args, Stdin: run.Stdin, Seed: run.Seed, Limits: limits, Content: open, Service: run.Service, Environment: isEnvironment(c.lease)}
	outlet, _ := c.lease.Outlet()
	for _, g := range outlet.Gates {
		open[g.Module] = c.public(g.Module)
	}
	for _, leg := range c.lease.Data() {
		id, err := resolve(leg)
		if err != nil {
			return resources.Task{}, err
		}
		task.Inputs, task.Folders = append(task.Inputs, id), append(task.Folders, leg.Facet == resources.FacetFolder)
	}
	if !run.Stdin.IsZero() {
		open[run.Stdin] = c.local(c.own, run.Stdin)
	}
	return task, task.Validate()
}

// source opens one content.
type source func(ctx context.Context) (resources.Blob, error)

// opener opens the contents of one task and no other.
type opener map[mman.CID]source

// Open opens a content of the task.
func (o opener) Open(ctx context.Context, id mman.CID) (resources.Blob, error) {
	open, ok := o[id]
	if !ok {
		return nil, fmt.Errorf("content %s: %w: the task does not name it", id, mman.ErrNotFound)
	}
	return open(ctx)
}

func (c contents) local(from *content.PrivateStore, id mman.CID) source {
	return func(ctx context.Context) (resources.Blob, error) { return content.OpenFrom(ctx, from, id, maxContent) }
}

// resolve finds the content behind a leg: supplied by the consumer, held here,
// public, or private at another provider, from whom it is fetched within the
// lease and kept in the lease's own store.
func (c contents) resolve(ctx context.Context, leg market.Leg, limits resources.Limits) (mman.CID, source, error) {
	if leg.Supplied {
		return leg.Resource, c.local(c.own, leg.Resource), nil
	}
	// Anybody can offer anything under any name: a private resource is lent only
	// where the lease's leg is this node's own, so that its policy was asked.
	if h, ok := c.p.holdings.get(leg.Resource); ok && h.Private && leg.Peer == c.p.peer {
		if err := isWhatItWasLeasedAs(leg, h.Kind, h.Facet); err != nil {
			return mman.CID{}, nil, err
		}
		return h.Content, c.local(c.p.stores.Private(), h.Content), nil
	}
	manifest, err := c.p.Manifest(ctx, leg.Resource)
	if err != nil {
		return mman.CID{}, nil, err
	}
	if err := isWhatItWasLeasedAs(leg, manifest.Kind, manifest.Facet); err != nil {
		return mman.CID{}, nil, err
	}
	if manifest.Content.Bytes > max(limits.InputBytes, maxAlgorithm(leg)) {
		return mman.CID{}, nil, fmt.Errorf("%w: %d bytes, the lease allows %d", mman.ErrInputLimit, manifest.Content.Bytes, limits.InputBytes)
	}
	if !manifest.Content.Public.IsZero() {
		return manifest.Content.Public, c.public(manifest.Content.Public), nil
	}
	id, err := c.fetch(ctx, leg, manifest)
	return id, c.local(c.own, id), err
}

// isWhatItWasLeasedAs refuses a resource under a name that is not its own. Anybody
// can offer anything as anything, and a policy that allows a script of JavaScript
// does not allow what Python makes of it.
func isWhatItWasLeasedAs(leg market.Leg, kind resources.Kind, facet resources.Facet) error {
	if kind == leg.Role.Kind() && facet == leg.Facet {
		return nil
	}
	return fmt.Errorf("%w: its manifest says %s/%s, its offer said %s/%s", mman.ErrContent, kind, facet, leg.Role.Kind(), leg.Facet)
}

// maxContent bounds the contents that are opened; the executor holds them to the
// lease's limits.
const maxContent = resources.MaxContentBytes

// maxAlgorithmBytes is the largest module that is fetched whatever the input
// limit says.
const maxAlgorithmBytes = 32 << 20

// maxImageBytes is the largest image, as an archive, that is fetched or taken
// whatever the input limit says.
const maxImageBytes = 4 << 30

// maxAlgorithm is what a leg's content may have in any case.
func maxAlgorithm(leg market.Leg) uint64 {
	if leg.Role == market.RoleAlgorithm && leg.Facet == resources.FacetContainer {
		return maxImageBytes
	}
	return maxAlgorithmBytes
}

func (c contents) public(id mman.CID) source {
	return func(ctx context.Context) (resources.Blob, error) { return c.p.public.Open(ctx, id, maxContent) }
}

// fetch brings private content from the leg's provider into the lease's store,
// once for each lease.
func (c contents) fetch(ctx context.Context, leg market.Leg, manifest resources.Manifest) (mman.CID, error) {
	key := fetchKey{c.lease.ID, leg.Resource}
	if id, ok := c.p.fetched.get(key); ok {
		has, err := c.own.Has(ctx, id)
		if has || err != nil {
			return id, err
		}
	}
	if _, addrs, err := c.p.ledger.Bound(leg.Peer); err == nil {
		if err := c.p.host.Remember(addrs); err != nil {
			return mman.CID{}, err
		}
	}
	since := c.lease.Opened
	if leg.Price.PerLease > 0 {
		var err error
		if since, err = c.p.accepted(ctx, c.lease.ID); err != nil {
			return mman.CID{}, err
		}
	}
	req := blocks.Request{Lease: c.lease.ID, Asker: c.p.peer, Name: manifest.Content.Private}
	if _, err := rand.Read(req.Nonce[:]); err != nil {
		return mman.CID{}, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	payload, err := req.Payload()
	if err != nil {
		return mman.CID{}, err
	}
	req.Signature = c.p.host.Sign(mman.SignBlocks, c.p.cfg.ChainID, payload)
	for {
		next := c.p.blocks.next()
		got, err := blocks.Fetch(ctx, c.p.host, blocks.Job{
			Sources: []blocks.Source{{Peer: leg.Peer, Request: req}}, Into: c.own, MaxBytes: manifest.Content.Bytes,
		}, c.p.cfg.Blocks)
		if err == nil {
			c.p.fetched.set(key, got.Root)
			if leg.Role == market.RoleAlgorithm {
				c.arrived(ctx, leg.Facet, got.Root)
			}
			return got.Root, c.p.records.Set(lentKey(c.lease.ID, got.Root), nil)
		}
		if !notFound(err) && !errors.Is(err, mman.ErrLeaseState) || c.p.ledger.Height() >= since+behindBlocks {
			return mman.CID{}, err
		}
		// The other node may not have the lease's block yet, or that in which it was
		// accepted.
		select {
		case <-next:
		case <-ctx.Done():
			return mman.CID{}, fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
		}
	}
}

// behindBlocks is by how many blocks another provider's node may be behind this
// one when a lease is new or was just accepted.
const behindBlocks = 3
