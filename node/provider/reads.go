package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/endpoint"
)

// Reads is what reading parts of a dataset costs.
type Reads struct {
	// Price is what each MiB that comes costs, more than 0.
	Price mman.Amount
}

const (
	readsPrefix   = "Reads of "
	readsNowhere  = "http://content.invalid" // an upstream must have an address
	readsAllow    = "GET /*"
	readsPer      = 1 << 20
	readsMaxDepth = 32 // of the nodes of a file
)

// kept reports whether the content is kept like private content.
func (l Listing) kept() bool { return l.Private || l.Reads != nil }

func (l Listing) validReads() error {
	switch {
	case l.Reads == nil:
		return nil
	case l.Manifest.Kind != resources.KindDataset || l.Manifest.Facet != resources.FacetFile:
		return fmt.Errorf("%w: reads: rows and columns are those of a dataset/file, this is %s/%s", mman.ErrInvalid, l.Manifest.Kind, l.Manifest.Facet)
	case l.Private:
		return fmt.Errorf("%w: reads: a private dataset never leaves its node; leave out private, or reads", mman.ErrInvalid)
	case len(l.Policy.Algorithms) > 0 || l.Policy.Release != nil:
		return fmt.Errorf("%w: reads: whoever pays reads all of it, so policy.algorithms and policy.release would guard nothing; leave them out, or reads", mman.ErrInvalid)
	case l.Reads.Price == 0:
		return fmt.Errorf("%w: reads.price: name what a MiB costs; without reads a public set is read for nothing", mman.ErrInvalid)
	}
	return nil
}

// publishReads publishes, or takes back, what sells parts of a dataset.
func (p *Provider) publishReads(ctx context.Context, l Listing, set mman.CID) error {
	if l.Reads == nil {
		if old, ok := p.readsOf(set); ok {
			return p.withdraw(ctx, old.Resource)
		}
		return nil
	}
	h, ok := p.holdings.get(set)
	if !ok {
		return fmt.Errorf("%w: resource %s was published and is not here", mman.ErrInvariant, set)
	}
	reads := Listing{
		Manifest: resources.Manifest{
			Version: 1, Kind: resources.KindEndpoint, Facet: resources.FacetHTTP, Licence: l.Manifest.Licence, Source: l.Manifest.Source,
			Name:       readsPrefix + strings.ToValidUTF8(h.Name[:min(len(h.Name), resources.MaxName-len(readsPrefix))], ""),
			Attributes: resources.SortedAttributes(map[string]string{resources.AttributeReads: set.String(), resources.AttributeContent: h.Content.String()}),
		},
		Endpoint: &endpoint.Settings{Upstream: readsNowhere, API: "http", Allow: []string{readsAllow}},
		Policy:   l.Policy,
		Price:    price.Price{Units: []price.UnitPrice{{Unit: resources.UnitOutBytes, Per: readsPer, UMan: l.Reads.Price}}},
		Capacity: l.Capacity, Region: l.Region, root: h.Content,
	}
	_, err := p.publish(ctx, reads)
	return err
}

// readsOf returns what sells parts of a dataset.
func (p *Provider) readsOf(set mman.CID) (holding, bool) {
	want := resources.Attribute{Key: resources.AttributeReads, Value: set.String()}
	for _, h := range p.holdings.all() {
		if !h.Withdrawn && !h.Reads.IsZero() && slices.Contains(h.Attributes, want) {
			return h, true
		}
	}
	return holding{}, false
}

// serveEndpoint serves calls to an endpoint: to its upstream, or to parts of a content.
func (p *Provider) serveEndpoint(h holding) error {
	if h.Reads.IsZero() {
		return p.endpoints.Serve(h.Resource, *h.Endpoint)
	}
	return p.endpoints.ServeFrom(h.Resource, *h.Endpoint, parts{p.stores.Private(), h.Reads})
}

// parts answers GET /OFFSET/CID with the block of a file that holds that byte or stands
// above it. It is reached from the file's root, so that a call leads to nothing else.
type parts struct {
	store content.Reader
	root  mman.CID
}

// RoundTrip implements http.RoundTripper.
func (o parts) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		if err := req.Body.Close(); err != nil {
			return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
		}
	}
	status := http.StatusOK
	body, err := o.block(req.Context(), req.URL.Path)
	switch {
	case errors.Is(err, mman.ErrNotFound):
		status = http.StatusNotFound
	case err != nil:
		return nil, err
	}
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/vnd.ipld.raw"}},
		Body:   io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}, nil
}

func (o parts) block(ctx context.Context, path string) ([]byte, error) {
	missing := fmt.Errorf("%w: %.80q: write /OFFSET/CID of a block of %s", mman.ErrNotFound, path, o.root)
	place, name, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	off, err := strconv.ParseUint(place, 10, 63)
	if err != nil {
		return nil, missing
	}
	want, err := mman.ParseCID(name)
	if err != nil {
		return nil, missing
	}
	at := o.root
	for range readsMaxDepth {
		b, err := o.store.Get(ctx, at)
		if err != nil {
			return nil, err
		}
		if at == want {
			return b.Data(), nil
		}
		node, err := content.ParseNode(b)
		if err != nil {
			return nil, err
		}
		found := false
		for _, c := range node.Children {
			if found = off < c.Size; found {
				at = c.CID
				break
			}
			off -= c.Size
		}
		if !found {
			break
		}
	}
	return nil, missing
}
