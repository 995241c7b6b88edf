package sdk

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/p2p/protocol/offers"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk/chain"
)

// Found is an offer that was found, signature verified, with the manifest of
// its resource when that could be had.
type Found struct {
	ID       mman.CID            `json:"id"`
	Offer    market.Offer        `json:"offer"`
	Manifest *resources.Manifest `json:"manifest,omitempty"`
}

// maxAsked is how many peers are asked for their offers in one search.
const maxAsked = 32

// Find lists offers of a kind and facet, or of a resource when it is not zero.
// With dht they come from the providers themselves, found through the DHT;
// otherwise from the chain's index.
func (c *Client) Find(ctx context.Context, kind resources.Kind, facet resources.Facet, resource mman.CID, dht bool) ([]Found, error) {
	if dht {
		return c.findPeers(ctx, kind, facet, resource)
	}
	list, skipped, err := c.chain.Offers(ctx, c.chainID, chain.OfferFilter{Kind: kind, Facet: facet, Resource: resource}, market.MaxOffersInAnAnswer)
	if err != nil {
		return nil, err
	}
	if skipped > 0 {
		return nil, fmt.Errorf("%w: node %s shows %d offers that their providers did not sign; use another with --node", mman.ErrBadSignature, c.chain.URL(), skipped)
	}
	out := make([]Found, 0, len(list))
	for _, o := range list {
		out = append(out, Found{ID: o.ID, Offer: o.Offer})
	}
	return out, nil
}

// findPeers asks the DHT who provides, and each of those for its offers.
func (c *Client) findPeers(ctx context.Context, kind resources.Kind, facet resources.Facet, resource mman.CID) ([]Found, error) {
	n, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.disc.WaitReady(ctx); err != nil {
		return nil, err
	}
	topic := resource
	if topic.IsZero() {
		topic = discovery.Topic(c.chainID, string(kind), string(facet))
	}
	peers, err := n.disc.FindProviders(ctx, topic, maxAsked)
	if err != nil {
		return nil, err
	}
	query := offers.Query{Resource: resource}
	if resource.IsZero() {
		query = offers.Query{Kind: string(kind), Facet: string(facet)}
	}
	answers := make([][]Found, len(peers))
	errs := make([]error, len(peers))
	var g errgroup.Group
	g.SetLimit(describing)
	for i, p := range peers {
		g.Go(func() error {
			one, cancel := context.WithTimeout(ctx, describeTime)
			defer cancel()
			if answers[i], errs[i] = c.ask(one, n, p, query); errs[i] != nil {
				c.log.DebugContext(ctx, "provider not asked", slog.String("peer", p.ID.String()), slog.Any("error", errs[i]))
			}
			return nil
		})
	}
	_ = g.Wait() // it returns no error
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
	out := slices.Concat(answers...)
	if len(out) == 0 { // somebody provides, but could not be asked
		if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
			return nil, fmt.Errorf("provider %s: %w", peers[i].ID, errs[i])
		}
	}
	slices.SortFunc(out, func(a, b Found) int { return slices.Compare(a.ID.Bytes(), b.ID.Bytes()) })
	return slices.CompactFunc(out, func(a, b Found) bool { return a.ID == b.ID }), nil
}

func (c *Client) ask(ctx context.Context, n *network, p discovery.Provider, q offers.Query) ([]Found, error) {
	if err := n.host.Remember(p.Addrs); err != nil {
		return nil, err
	}
	answers, err := offers.Ask(ctx, n.host, p.ID, q, offers.Default())
	if err != nil {
		return nil, err
	}
	var out []Found
	for _, a := range answers {
		key, err := sig.ParsePublicKey(string(a.Key))
		if err != nil {
			return nil, err
		}
		o, id, err := market.SignedOffer{Bytes: a.Offer, Key: key, Signature: a.Signature}.Open(c.chainID)
		if err != nil {
			return nil, err
		}
		// A provider speaks for its own node only, and answers what was asked.
		if o.Peer != p.ID || (q.Kind != "" && o.Kind != resources.Kind(q.Kind)) || (!q.Resource.IsZero() && o.Resource != q.Resource) {
			return nil, fmt.Errorf("offer %s: %w: it is not what peer %s was asked for", id, mman.ErrProtocol, p.ID)
		}
		f := Found{ID: id, Offer: o}
		if m, err := c.Manifest(ctx, o.Resource); err == nil {
			f.Manifest = &m
		}
		out = append(out, f)
	}
	return out, nil
}

// Bounds of Describe.
const (
	// describing is how many manifests are asked for at once, describeTime how
	// long one is waited for.
	describing   = 8
	describeTime = 5 * time.Second
)

// Describe fills in the manifests that are missing, as far as they can be had
// within a few seconds: each is asked from the peer that offers the resource.
func (c *Client) Describe(ctx context.Context, found []Found) {
	var g errgroup.Group
	g.SetLimit(describing)
	for i := range found {
		if found[i].Manifest != nil {
			continue
		}
		g.Go(func() error {
			one, cancel := context.WithTimeout(ctx, describeTime)
			defer cancel()
			if err := c.introduce(one, found[i].Offer.Peer); err != nil {
				c.log.DebugContext(ctx, "provider of an offer not reached", slog.String("offer", found[i].ID.String()), slog.Any("error", err))
				return nil
			}
			m, err := c.Manifest(one, found[i].Offer.Resource)
			if err != nil {
				c.log.DebugContext(ctx, "manifest not had", slog.String("resource", found[i].Offer.Resource.String()), slog.Any("error", err))
				return nil
			}
			found[i].Manifest = &m
			return nil
		})
	}
	_ = g.Wait() // it returns no error
}

// name puts the offers that the DHT finds into the legs as candidates.
func (c *Client) name(ctx context.Context, legs []market.LegRequest) error {
	each := market.MaxCandidates / len(legs)
	for i := range legs {
		leg := &legs[i]
		if leg.Supplied {
			continue
		}
		found, err := c.Find(ctx, leg.Role.Kind(), leg.Facet, leg.Resource, true)
		if err != nil {
			return fmt.Errorf("find %s: %w", leg.Role, err)
		}
		if len(found) == 0 {
			return fmt.Errorf("%w: the DHT knows no provider of %s %s", mman.ErrNotFound, leg.Role, leg.Resource)
		}
		for _, f := range found[:min(each, len(found))] {
			leg.Offers = append(leg.Offers, f.ID)
		}
	}
	return nil
}

// standing lists offers from the chain's index, verified, with what is open.
func (c *Client) standing(ctx context.Context, kind resources.Kind, facet resources.Facet, resource mman.CID) ([]chain.OfferRecord, error) {
	list, skipped, err := c.chain.Offers(ctx, c.chainID, chain.OfferFilter{Kind: kind, Facet: facet, Resource: resource}, maxQuoted)
	if err == nil && skipped > 0 {
		err = fmt.Errorf("%w: node %s shows %d offers that their providers did not sign; use another with --node", mman.ErrBadSignature, c.chain.URL(), skipped)
	}
	return list, err
}
