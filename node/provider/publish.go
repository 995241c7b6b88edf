package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/endpoint"
	"github.com/limboid/massive-man/resources/folder"
)

// holding is a resource that this provider lends, and its terms.
type holding struct {
	Resource mman.CID        `cbor:"resource"`
	Name     string          `cbor:"name"`
	Kind     resources.Kind  `cbor:"kind"`
	Facet    resources.Facet `cbor:"facet"`
	Content  mman.CID        `cbor:"content,omitzero"`
	Salt     mman.Hash       `cbor:"salt"`
	Private  bool            `cbor:"private"`
	// Attributes, Parents, Policy, Price, Capacity and Region go into each offer.
	Attributes []resources.Attribute `cbor:"attributes"`
	Parents    []resources.Parent    `cbor:"parents,omitempty"`
	Policy     policy.Policy         `cbor:"policy"`
	Price      price.Price           `cbor:"price"`
	Capacity   uint64                `cbor:"capacity"`
	Region     string                `cbor:"region"`
	// Bids is the rule for requests that are put out to bids; nil for none.
	Bids *Bidding `cbor:"bids,omitempty"`
	// Offer is the one that stands, with its signed bytes.
	Offer   mman.CID            `cbor:"offer,omitzero"`
	Signed  *market.SignedOffer `cbor:"signed,omitempty"`
	Expires uint64              `cbor:"expires"`
	// Endpoint is what an endpoint lends.
	Endpoint *endpoint.Settings `cbor:"endpoint,omitempty"`
	// Reads is the content of which an endpoint of this node itself sells parts.
	Reads mman.CID `cbor:"reads,omitzero"`
	// Withdrawn: lent no more, but leases made before still run.
	Withdrawn bool `cbor:"withdrawn"`
}

const holdingMax = 64 << 10

// holdings are all of them, on disk first.
type holdings struct {
	kv *store.KV
	mu sync.Mutex
	m  map[mman.CID]holding
}

func openHoldings(kv *store.KV) (*holdings, error) {
	h := &holdings{kv: kv, m: make(map[mman.CID]holding)}
	it, err := kv.Iterate([]byte{prefixResource}, []byte{prefixResource + 1}, false)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		one, err := dagcbor.Unmarshal[holding](it.Value(), holdingMax)
		if err != nil {
			return nil, fmt.Errorf("%w: resource record under key %x: %w", mman.ErrCorrupt, it.Key(), err)
		}
		h.m[one.Resource] = one
	}
	return h, it.Err()
}

func (h *holdings) get(id mman.CID) (holding, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	one, ok := h.m[id]
	return one, ok
}

func (h *holdings) put(one holding) error {
	b, err := dagcbor.Marshal(one)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.kv.Set(append([]byte{prefixResource}, one.Resource.Bytes()...), b); err != nil {
		return fmt.Errorf("resource %s: %w", one.Resource, err)
	}
	h.m[one.Resource] = one
	return nil
}

// all returns the holdings sorted by resource.
func (h *holdings) all() []holding {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]holding, 0, len(h.m))
	for _, one := range h.m {
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b holding) int { return slices.Compare(a.Resource.Bytes(), b.Resource.Bytes()) })
	return out
}

// Published is a resource as this provider lends it.
type Published struct {
	Resource mman.CID        `json:"resource"`
	Name     string          `json:"name"`
	Kind     resources.Kind  `json:"kind"`
	Facet    resources.Facet `json:"facet"`
	Private  bool            `json:"private"`
	Offer    mman.CID        `json:"offer,omitzero"`
	Expires  uint64          `json:"expires"`
	// Provided is when the peers of the DHT were last told of it, as Published
	// lists it; zero when nobody was there to be told.
	Provided time.Time `json:"provided,omitzero"`
}

func (h holding) published() Published {
	return Published{Resource: h.Resource, Name: h.Name, Kind: h.Kind, Facet: h.Facet, Private: h.Private, Offer: h.Offer, Expires: h.Expires}
}

// Reach says from where this node can be reached.
func (p *Provider) Reach() p2p.Reach { return p.host.Reach() }

// Published lists what this provider lends.
func (p *Provider) Published() []Published {
	out := []Published{}
	for _, h := range p.holdings.all() {
		if !h.Withdrawn {
			one := h.published()
			one.Provided = p.discovery.Provided(h.Resource)
			out = append(out, one)
		}
	}
	return out
}

// Publish adds the listing's content, makes its manifest findable, and puts
// its offer on the chain. Publishing the same again renews the offer with the
// listing's terms. Of a dataset whose reads have a price, what sells them is published
// beside it.
func (p *Provider) Publish(ctx context.Context, l Listing) (Published, error) {
	out, err := p.publish(ctx, l)
	if err != nil {
		return out, err
	}
	return out, p.publishReads(ctx, l, out.Resource)
}

func (p *Provider) publish(ctx context.Context, l Listing) (Published, error) {
	fail := func(err error) (Published, error) {
		return Published{}, fmt.Errorf("publish %q: %w", l.Manifest.Name, err)
	}
	if err := l.validate(); err != nil {
		return fail(err)
	}
	if err := p.capable(l.Manifest.Kind, l.Manifest.Facet, l.Manifest.Attributes); err != nil {
		return fail(err)
	}
	l, err := p.recognise(ctx, l.capped())
	if err != nil {
		return fail(err)
	}
	if err := p.gated(ctx, l.Policy); err != nil {
		return fail(err)
	}
	p.offering.Lock()
	defer p.offering.Unlock()
	if err := p.describe(ctx, &l); err != nil {
		return fail(err)
	}
	h, manifest, err := p.hold(ctx, l)
	if err != nil {
		return fail(err)
	}
	if _, err := p.public.PutBlock(ctx, manifest); err != nil {
		return fail(err)
	}
	if h.Kind == resources.KindAlgorithm && h.Facet == resources.FacetWasm {
		p.worker.Ahead(ctx, h.Facet, h.Content, p.openHeld(h))
	}
	// What is held must be on disk before anybody can lease it; it is not lent,
	// or on the old terms, until the offer is on the chain.
	before, held := p.holdings.get(h.Resource)
	if !held {
		before = h
		before.Withdrawn = true
		if err := p.holdings.put(before); err != nil {
			return fail(err)
		}
	}
	if h.Endpoint != nil {
		if err := p.serveEndpoint(h); err != nil {
			return fail(err)
		}
	}
	if err := p.announce(ctx, h); err != nil {
		return fail(err)
	}
	if err := p.bind(ctx, p.ledger.Height()); err != nil {
		return fail(err)
	}
	if h, err = p.offer(ctx, h); err != nil {
		if before.Withdrawn {
			p.conceal(h)
		}
		return fail(err)
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "resource published", slog.String("name", h.Name), slog.String("resource", h.Resource.String()), slog.String("offer", h.Offer.String()))
	return h.published(), nil
}

// gated reports as an error that the policy's gate is nowhere to be had.
func (p *Provider) gated(ctx context.Context, terms policy.Policy) error {
	if terms.Release == nil || terms.Release.Gate.IsZero() {
		return nil
	}
	blob, err := p.public.Open(ctx, terms.Release.Gate, maxAlgorithmBytes)
	if err != nil {
		return fmt.Errorf("policy.release.gate %s: %w; add its file to this node first, with mman add", terms.Release.Gate, err)
	}
	return blob.Close()
}

// hold stores the listing's content and returns its record and manifest.
func (p *Provider) hold(ctx context.Context, l Listing) (holding, []byte, error) {
	h := holding{
		Name: l.Manifest.Name, Kind: l.Manifest.Kind, Facet: l.Manifest.Facet, Private: l.kept(),
		Attributes: l.Manifest.Attributes, Parents: market.PaidParents(l.Manifest), Policy: l.Policy, Price: l.Price, Capacity: l.Capacity, Region: l.Region, Bids: l.Bids,
		Endpoint: l.Endpoint, Reads: l.root,
	}
	if l.Content != "" {
		size, err := p.holdContent(ctx, l, &h)
		if err != nil {
			return h, nil, err
		}
		l.Manifest.Content = resources.Content{Public: h.Content, Bytes: size}
		if h.Private {
			l.Manifest.Content = resources.Content{Private: resources.SaltedName(h.Salt, h.Content), Bytes: size}
		}
	}
	b, id, err := l.Manifest.Encode()
	h.Resource = id
	return h, b, err
}

func (p *Provider) holdContent(ctx context.Context, l Listing, h *holding) (size uint64, err error) {
	info, err := os.Stat(l.Content)
	if err != nil {
		return 0, fmt.Errorf("%w: resource.content: %w", mman.ErrNotFound, err)
	}
	if err := l.suits(info); err != nil {
		return 0, err
	}
	var f io.ReadCloser
	if info.IsDir() {
		f, _, err = folder.Open(ctx, os.DirFS(l.Content))
	} else if f, err = os.Open(l.Content); err != nil {
		err = fmt.Errorf("%w: resource.content: %w", mman.ErrDenied, err)
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	addPublic, addPrivate := p.public.AddPublic, content.AddTo
	if l.Manifest.Facet == resources.FacetCheckpoint {
		addPublic, addPrivate = p.public.AddCheckpoint, content.AddCheckpointTo
	}
	if !h.Private {
		h.Content, size, err = addPublic(ctx, f)
		return size, err
	}
	if h.Content, size, err = addPrivate(ctx, p.stores.Private(), f); err != nil {
		return 0, err
	}
	// The same content keeps its salt, so that publishing again gives the same
	// manifest.
	for _, old := range p.holdings.all() {
		if old.Private && old.Content == h.Content {
			h.Salt = old.Salt
			return size, nil
		}
	}
	_, err = io.ReadFull(rand.Reader, h.Salt[:])
	return size, err
}

// announce makes a resource findable: its manifest, its public content and the
// topic of its offer.
func (p *Provider) announce(ctx context.Context, h holding) error {
	for _, id := range p.findable(h) {
		if err := p.discovery.Provide(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (p *Provider) findable(h holding) []mman.CID {
	ids := []mman.CID{h.Resource, discovery.Topic(p.cfg.ChainID, string(h.Kind), string(h.Facet))}
	if !h.Private && !h.Content.IsZero() {
		ids = append(ids, h.Content)
	}
	return ids
}

// conceal stops announcing a resource that is lent no more.
func (p *Provider) conceal(h holding) {
	alike := func(match func(holding) bool) bool {
		return slices.ContainsFunc(p.holdings.all(), func(o holding) bool {
			return !o.Withdrawn && o.Resource != h.Resource && match(o)
		})
	}
	p.discovery.Withdraw(h.Resource)
	if !h.Private && !h.Content.IsZero() && !alike(func(o holding) bool { return !o.Private && o.Content == h.Content }) {
		p.discovery.Withdraw(h.Content)
	}
	if !alike(func(o holding) bool { return o.Kind == h.Kind && o.Facet == h.Facet }) {
		p.discovery.Withdraw(discovery.Topic(p.cfg.ChainID, string(h.Kind), string(h.Facet)))
	}
}

// offer signs a new offer for the holding and brings it to the chain.
func (p *Provider) offer(ctx context.Context, h holding) (holding, error) {
	height := p.ledger.Height()
	o := market.Offer{
		Version: 1, Provider: p.submitter.Address(), Peer: p.peer, Kind: h.Kind, Facet: h.Facet, Resource: h.Resource,
		Sealed: h.Private && h.Kind == resources.KindDataset, Region: h.Region, Attributes: h.Attributes, Parents: h.Parents,
		Policy: h.Policy, Price: h.Price, Capacity: h.Capacity, Expires: height + p.cfg.OfferBlocks,
	}
	if h.Kind == resources.KindCompute {
		o.Meter = p.meters[h.Facet]
	}
	signed, id, err := p.submitter.SignOffer(o)
	if err != nil {
		return h, err
	}
	if err := p.remember(id, signed, o.Expires); err != nil {
		return h, err
	}
	if _, err := p.submitter.Submit(ctx, tx.MsgOffer{Provider: o.Provider, Offer: signed.Bytes, Signature: signed.Signature}); err != nil {
		return h, err
	}
	h.Offer, h.Signed, h.Expires, h.Withdrawn = id, &signed, o.Expires, false
	return h, p.holdings.put(h)
}

// Withdraw takes a resource's offer off the market, and that of its reads. Open leases
// go on.
func (p *Provider) Withdraw(ctx context.Context, resource mman.CID) error {
	if reads, ok := p.readsOf(resource); ok {
		if err := p.withdraw(ctx, reads.Resource); err != nil {
			return err
		}
	}
	return p.withdraw(ctx, resource)
}

func (p *Provider) withdraw(ctx context.Context, resource mman.CID) error {
	p.offering.Lock()
	defer p.offering.Unlock()
	h, ok := p.holdings.get(resource)
	if !ok || h.Withdrawn {
		return fmt.Errorf("resource %s: %w: this node does not lend it", resource, mman.ErrNotFound)
	}
	if _, err := p.submitter.Submit(ctx, tx.MsgWithdrawOffer{Provider: p.submitter.Address(), Offer: h.Offer}); err != nil {
		return fmt.Errorf("withdraw %q: %w", h.Name, err)
	}
	h.Withdrawn = true
	p.conceal(h)
	return p.holdings.put(h)
}

// Keeping calls use with the roots of all public content that this provider needs: what
// it lends, or lent and may still owe, its manifests, and the gates of its policies.
// Nothing is published meanwhile.
func (p *Provider) Keeping(ctx context.Context, use func(ctx context.Context, roots []mman.CID) error) error {
	p.offering.Lock()
	defer p.offering.Unlock()
	var roots []mman.CID
	for _, h := range p.holdings.all() {
		roots = append(roots, h.Resource)
		if !h.Private && !h.Content.IsZero() {
			roots = append(roots, h.Content)
		}
		if r := h.Policy.Release; r != nil && !r.Gate.IsZero() {
			roots = append(roots, r.Gate)
		}
	}
	return use(ctx, roots)
}

// Bind makes sure that the ledger knows this node and where it is.
func (p *Provider) Bind(ctx context.Context) error { return p.bind(ctx, p.ledger.Height()) }

// bind tells the chain that this node serves the account, and where it is.
func (p *Provider) bind(ctx context.Context, _ uint64) error {
	addrs := slices.Sorted(slices.Values(p.cfg.Addrs())) // their order is no news
	if len(addrs) > tx.MaxAddrs {
		addrs = addrs[:tx.MaxAddrs]
	}
	account, known, err := p.ledger.Bound(p.peer)
	if err != nil && !notFound(err) {
		return err
	}
	if err == nil && account == p.submitter.Address() && slices.Equal(known, addrs) {
		return nil
	}
	msg := tx.MsgBindNode{Account: p.submitter.Address(), Peer: p.peer, Addrs: addrs}
	msg.NodeSignature = p.host.Sign(mman.SignBind, p.cfg.ChainID, msg.NodePayload())
	_, err = p.submitter.Submit(ctx, msg)
	switch {
	case errors.Is(err, mman.ErrFunds) && len(p.Published()) == 0:
		return nil // a node that lends nothing need not have an account with funds
	case err != nil:
		return fmt.Errorf("bind node %s: %w", p.peer, err)
	}
	return nil
}

// renew offers again what is past half of its time, or fell off the chain.
func (p *Provider) renew(ctx context.Context, height uint64) error {
	if p.isDraining() {
		return nil
	}
	if !p.offering.TryLock() {
		return nil // somebody publishes, which can wait for blocks: the next one will do
	}
	defer p.offering.Unlock()
	var errs []error
	for _, h := range p.holdings.all() {
		if h.Withdrawn || height+p.cfg.OfferBlocks/2 < h.Expires {
			continue
		}
		if p.capable(h.Kind, h.Facet, h.Attributes) != nil {
			continue // what this node can do no more lapses
		}
		if _, err := p.offer(ctx, h); err != nil {
			errs = append(errs, fmt.Errorf("renew the offer of %q: %w", h.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Announce makes everything that this node lends findable again, after a
// restart.
func (p *Provider) Announce(ctx context.Context) error {
	var ids []mman.CID
	for _, h := range p.holdings.all() {
		if !h.Withdrawn {
			ids = append(ids, p.findable(h)...)
		}
	}
	return p.discovery.ProvideAll(ctx, ids)
}
