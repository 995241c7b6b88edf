package sdk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/folder"
	"github.com/limboid/massive-man/sdk/chain"
)

// Content is what fills a leg: a resource that somebody offers, by the CID of
// its manifest or by a condition on its offer, or a local file that the consumer
// brings.
type Content struct {
	Resource mman.CID
	File     string
	// Where is a condition over the words of policy.Where, for a dataset that may be any.
	Where string
	// Stored is a storage lease of one's own, whose file or folder is fetched first: it
	// is a File then.
	Stored mman.LeaseID
}

// Foreign reports whether it is no resource but must be brought to this machine: what
// is stored, or the content of a file or folder by itself.
func (c Content) Foreign() bool {
	return c.Stored != mman.LeaseID{} || !c.Resource.IsZero() && c.Resource.Codec() != mman.CodecDagCBOR
}

// ParseContent reads a command line's word: a CID, or the path of a file or folder, or
// else a lease.
func ParseContent(word string) (Content, error) {
	if id, err := mman.ParseCID(word); err == nil {
		return Content{Resource: id}, nil
	}
	if _, err := os.Stat(word); err != nil {
		var c Content
		if c.Stored.UnmarshalText([]byte(word)) == nil {
			return c, nil
		}
		return c, fmt.Errorf("%w: %.200q is neither a CID nor a file here", mman.ErrNotFound, word)
	}
	return Content{File: word}, nil
}

// Wanted says what to lease.
type Wanted struct {
	Algorithm Content
	Data      []Content
	// Environment takes the algorithm's place: a module that is reset and stepped.
	Environment Content
	// Endpoint is an endpoint to call, by the CID of its manifest; nothing else is
	// leased then.
	Endpoint mman.CID
	// Cap is the most that the lease may cost.
	Cap    mman.Amount
	Limits resources.Limits
	// Blocks is how long the lease shall last, Patience how long the request
	// may wait for a match, both in blocks.
	Blocks   uint64
	Patience uint64
	// Purpose is what for, as policies may ask; a claim, "" for none.
	Purpose string
	// Network says that the work cannot do without a network, which policies refuse.
	Network bool
	// Accepts are the obligations that the consumer takes on.
	Accepts []policy.Obligation
	// Where is a condition over the words of policy.Where that the compute offer must
	// meet, "" for none.
	Where string
	// Discover finds candidates through the DHT instead of the chain's index.
	Discover bool
	// Fresh asks for a new lease even if an own one would do.
	Fresh bool
	// Looks is how many offers the ledger may look at for the request beyond
	// tx.IncludedLooks, at most tx.MaxLooks; each costs gas.
	Looks uint64
	// Wait keeps a request that nothing fits in the queue until its deadline,
	// instead of taking it back at once.
	Wait bool
}

// DefaultWanted returns the terms of a request that names none: at most 1 MAN,
// for about an hour of blocks, matched within a minute.
func DefaultWanted() Wanted {
	return Wanted{Cap: mman.MAN, Limits: resources.DefaultLimits(), Blocks: 3600, Patience: 60}
}

// Lease is a lease that this process can use, and what it brings itself.
type Lease struct {
	*OwnLease

	Request mman.RequestID
	// Match is how long it took to get the lease, 0 for one that was open.
	Match time.Duration
	files map[mman.CID]string
}

// NotServedError says why a request found nothing.
type NotServedError struct {
	Request  mman.RequestID
	Decision match.Decision
}

// Error says it in one sentence.
func (e *NotServedError) Error() string {
	return fmt.Sprintf("request %s was not served: %s", e.Request, e.Decision.Explain())
}

// Unwrap gives the code of the most telling rejection.
func (e *NotServedError) Unwrap() error {
	var found *mman.Error
	for _, r := range e.Decision.Rejections {
		switch r.Code {
		case mman.ErrPolicy.Code:
			return mman.ErrPolicy
		case mman.ErrPrice.Code:
			found = mman.ErrPrice
		case mman.ErrCapacity.Code:
			found = mman.ErrCapacity
		}
	}
	if found != nil {
		return found
	}
	return mman.ErrResourceGone
}

// Lease returns an open lease on what is wanted: an own one when there is one
// with the same parties and terms, otherwise a new one.
func (c *Client) Lease(ctx context.Context, w Wanted) (*Lease, error) {
	legs, files, err := c.legs(ctx, w)
	if err != nil {
		return nil, err
	}
	wanted, err := digest(legs, w)
	if err != nil {
		return nil, err
	}
	if !w.Fresh {
		if own, err := c.reusable(ctx, wanted); own != nil || err != nil {
			if own == nil {
				return nil, err
			}
			return &Lease{OwnLease: own, Request: own.Lease.Request, files: files}, err
		}
	}
	if w.Discover {
		if err := c.name(ctx, legs); err != nil {
			return nil, err
		}
	}
	begun := c.cfg.Now()
	lease, err := c.request(ctx, w, legs)
	if err != nil {
		return nil, err
	}
	own := OwnLease{ChainID: c.chainID, Lease: lease, Wanted: wanted}
	if own.InBytes, err = c.leasedBytes(ctx, lease); err != nil {
		return nil, err
	}
	saved, err := c.leases.add(own)
	if err != nil {
		return nil, err
	}
	return &Lease{OwnLease: saved, Request: lease.Request, Match: c.cfg.Now().Sub(begun), files: files}, nil
}

// legs turns what is wanted into the legs of a request; local files are named
// by their content.
func (c *Client) legs(ctx context.Context, w Wanted) ([]market.LegRequest, map[mman.CID]string, error) {
	files := make(map[mman.CID]string)
	if !w.Endpoint.IsZero() {
		return []market.LegRequest{{Role: market.RoleEndpoint, Facet: resources.FacetHTTP, Resource: w.Endpoint, Where: w.Where}}, files, nil
	}
	leg := func(role market.Role, facet resources.Facet, what Content) (market.LegRequest, error) {
		if what.File == "" {
			return market.LegRequest{Role: role, Facet: facet, Resource: what.Resource, Where: what.Where}, nil
		}
		id, err := SumSupplied(ctx, what.File)
		if err != nil {
			return market.LegRequest{}, err
		}
		if role == market.RoleData && isFolder(what.File) {
			facet = resources.FacetFolder
		}
		files[id] = what.File
		return market.LegRequest{Role: role, Facet: facet, Resource: id, Supplied: true}, nil
	}
	role, what := market.RoleAlgorithm, w.Algorithm
	facet, err := c.facet(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	if w.Environment != (Content{}) {
		role, what = market.RoleEnvironment, w.Environment
	}
	algorithm, err := leg(role, facet, what)
	if err != nil {
		return nil, nil, err
	}
	legs := []market.LegRequest{algorithm}
	for _, d := range w.Data {
		facet, err := c.dataFacet(ctx, d, w.Discover)
		if err != nil {
			return nil, nil, err
		}
		data, err := leg(market.RoleData, facet, d)
		if err != nil {
			return nil, nil, err
		}
		legs = append(legs, data)
	}
	return append(legs, market.LegRequest{Role: market.RoleCompute, Facet: resources.RunsOn(facet), Where: w.Where}), files, nil
}

// facet says how the wanted algorithm is written: its file's name tells, or who
// offers it.
func (c *Client) facet(ctx context.Context, w Wanted) (resources.Facet, error) {
	if w.Environment != (Content{}) {
		return resources.FacetWasm, nil
	}
	if w.Algorithm.File != "" {
		return resources.FacetOfFile(w.Algorithm.File), nil
	}
	found, err := c.Find(ctx, resources.KindAlgorithm, "", w.Algorithm.Resource, w.Discover)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return resources.FacetWasm, nil // the request will say that nobody offers it
	}
	return found[0].Offer.Facet, nil
}

// dataFacet says how wanted data is laid out: a file, or what its offers say.
func (c *Client) dataFacet(ctx context.Context, d Content, discover bool) (resources.Facet, error) {
	if d.File != "" || d.Resource.IsZero() {
		return resources.FacetFile, nil
	}
	found, err := c.Find(ctx, resources.KindDataset, "", d.Resource, discover)
	if err != nil || len(found) == 0 {
		return resources.FacetFile, err // without an offer the request says that there is none
	}
	return found[0].Offer.Facet, nil
}

// OpenSupplied opens what is supplied to a run from a path of this machine, and says
// how long it is: a file, or the pack of a folder. mman.ErrNotFound.
func OpenSupplied(ctx context.Context, path string) (io.ReadCloser, uint64, error) {
	if isFolder(path) {
		return folder.Open(ctx, os.DirFS(path))
	}
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", mman.ErrNotFound, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("%w: %w", mman.ErrNotFound, err), f.Close())
	}
	return f, uint64(info.Size()), nil //nolint:gosec // sizes are not negative
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// SumSupplied returns the CID of what OpenSupplied opens.
func SumSupplied(ctx context.Context, path string) (_ mman.CID, err error) {
	f, _, err := OpenSupplied(ctx, path)
	if err != nil {
		return mman.CID{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	id, _, err := content.SumUnixFS(ctx, f)
	return id, err
}

// digest names a request's parties and terms.
func digest(legs []market.LegRequest, w Wanted) (mman.Hash, error) {
	b, err := dagcbor.Marshal(struct {
		Legs   []market.LegRequest `cbor:"legs"`
		Cap    mman.Amount         `cbor:"cap"`
		Limits resources.Limits    `cbor:"limits"`
		Blocks uint64              `cbor:"blocks"`

		Purpose string              `cbor:"purpose,omitempty"`
		Accepts []policy.Obligation `cbor:"accepts,omitempty"`
		Network bool                `cbor:"network,omitempty"`
	}{legs, w.Cap, w.Limits, w.Blocks, w.Purpose, w.Accepts, w.Network})
	return mman.Sum256(b), err
}

// reuseMargin is how many blocks an own lease must still last to be used again.
const reuseMargin = 10

// reusable returns an own open lease on the same terms, or nil.
func (c *Client) reusable(ctx context.Context, wanted mman.Hash) (*OwnLease, error) {
	all, err := c.leases.All()
	if err != nil {
		return nil, err
	}
	for _, own := range all {
		if own.ChainID != c.chainID || own.Wanted != wanted {
			continue
		}
		now, err := c.chain.Lease(ctx, own.Lease.ID)
		if err != nil && !chain.Gone(err) {
			return nil, err
		}
		if err != nil || now.State == market.LeaseClosed {
			if err := own.forget(); err != nil {
				return nil, err
			}
			continue
		}
		st, err := c.chain.Status(ctx)
		if err != nil {
			return nil, err
		}
		paid, err := own.Paid()
		if err != nil {
			return nil, err
		}
		// A lease of which most is spent would stop the next run in the middle.
		if now.State == market.LeaseOpen && st.Height+reuseMargin < now.Expires && paid < now.Cap/2 {
			return own, nil
		}
	}
	return nil, nil
}

// request submits a request and waits for its lease.
func (c *Client) request(ctx context.Context, w Wanted, legs []market.LegRequest) (market.Lease, error) {
	submitter, err := c.Submitter()
	if err != nil {
		return market.Lease{}, err
	}
	st, err := c.chain.Status(ctx)
	if err != nil {
		return market.Lease{}, err
	}
	key, err := c.leases.newKey(rand.Reader)
	if err != nil {
		return market.Lease{}, err
	}
	b, err := market.Request{
		Version: 1, Consumer: submitter.Address(), LeaseKey: mman.LeaseKey(key.Public().Bytes()), Legs: legs,
		Cap: w.Cap, Blocks: w.Blocks, Deadline: st.Height + w.Patience, Limits: w.Limits,
		Purpose: w.Purpose, Accepts: w.Accepts, Network: w.Network,
	}.Encode()
	if err != nil {
		return market.Lease{}, err
	}
	done, err := submitter.Submit(ctx, tx.MsgRequest{Consumer: submitter.Address(), Request: b, Looks: w.Looks})
	if err != nil {
		return market.Lease{}, fmt.Errorf("request: %w", err)
	}
	return c.await(ctx, mman.NewRequestID(c.chainID, done.Hash, 0), w.Wait)
}

// lookEvery is the pause between two looks at a queued request.
const lookEvery = 50 * time.Millisecond

// await follows a request until it is matched or cannot be; it takes back what
// it gives up.
func (c *Client) await(ctx context.Context, id mman.RequestID, patient bool) (market.Lease, error) {
	for {
		r, err := c.chain.Request(ctx, id)
		if err != nil {
			return market.Lease{}, err
		}
		switch {
		case r.State == match.Matched:
			return c.chain.Lease(ctx, id.Lease())
		case r.State == match.Queued && (patient || r.Decision == nil || r.Decision.More):
		case r.State == match.Queued:
			if err := c.Cancel(ctx, id); err != nil && !errors.Is(err, mman.ErrLeaseState) {
				return market.Lease{}, err
			}
			return market.Lease{}, &NotServedError{id, *r.Decision}
		default:
			if r.Decision == nil {
				r.Decision = &match.Decision{Request: id, Outcome: r.State}
			}
			return market.Lease{}, &NotServedError{id, *r.Decision}
		}
		select {
		case <-ctx.Done():
			return market.Lease{}, fmt.Errorf("request %s: %w: it stays queued until its deadline; look with: mman why %s", id, mman.ErrCanceled, id)
		case <-c.cfg.After(lookEvery):
		}
	}
}

// Cancel takes a queued request back; its escrow is refunded.
func (c *Client) Cancel(ctx context.Context, id mman.RequestID) error {
	submitter, err := c.Submitter()
	if err != nil {
		return err
	}
	_, err = submitter.Submit(ctx, tx.MsgCancelRequest{Consumer: submitter.Address(), Request: id})
	return err
}

// leasedBytes adds up the data that each run of the lease reads, as the
// manifests state it: what a provider may charge for as bytes in.
func (c *Client) leasedBytes(ctx context.Context, lease market.Lease) (uint64, error) {
	var sum uint64
	for _, leg := range lease.Data() {
		if leg.Supplied {
			continue
		}
		if err := c.introduce(ctx, leg.Peer); err != nil {
			return 0, err
		}
		m, err := c.Manifest(ctx, leg.Resource)
		if err != nil {
			return 0, err
		}
		sum += m.Content.Bytes
	}
	return sum, nil
}
