package client

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk/chain"
)

func (a *app) offer() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "offer", Short: "Look at offers; make and withdraw your own",
		Example: "  mman offer list --kind compute\n  mman offer withdraw baf…",
	}, a.offerList(), a.offerShow(), a.add("mman offer add"), a.offerStorage(), a.takeBack("withdraw", "Withdraw an offer of the own node", "mman offer withdraw"))
}

// offerEntry is an offer in a list.
type offerEntry struct {
	Offer    mman.CID        `json:"offer"`
	Resource mman.CID        `json:"resource"`
	Kind     resources.Kind  `json:"kind"`
	Facet    resources.Facet `json:"facet"`
	Provider mman.Address    `json:"provider"`
	Peer     mman.PeerID     `json:"peer"`
	Sealed   bool            `json:"sealed"`
	Region   string          `json:"region,omitempty"`
	Price    price.Price     `json:"price"`
	Capacity uint64          `json:"capacity"`
	Expires  uint64          `json:"expires"`
	// Use is there for offers of the own node.
	Use *offerUse `json:"use,omitempty"`
}

func newOfferEntry(id mman.CID, o market.Offer) offerEntry {
	return offerEntry{id, o.Resource, o.Kind, o.Facet, o.Provider, o.Peer, o.Sealed, o.Region, o.Price, o.Capacity, o.Expires, nil}
}

// offers lists standing offers whose signatures verify.
func (a *app) offers(ctx context.Context, filter chain.OfferFilter, limit int) ([]chain.OfferRecord, error) {
	c, err := a.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // nothing was written
	list, skipped, err := c.Chain().Offers(ctx, c.ChainID(), filter, limit)
	if err != nil {
		return nil, err
	}
	if skipped > 0 {
		return nil, fmt.Errorf("%w: node %s shows %d offers that their providers did not sign; use another with --node", mman.ErrBadSignature, c.Chain().URL(), skipped)
	}
	return list, nil
}

func (a *app) offerList() *cobra.Command {
	kind, resource, provider, limit := "", "", "", maxListed
	cmd := &cobra.Command{
		Use: "list", Short: "List standing offers; of those of your own node also what runs, for whom, and what they earn",
		Example: "  mman offer list --resource baf… -o json",
		Args:    console.Args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var filter chain.OfferFilter
			var err error
			if kind != kindStorage {
				if filter.Kind, err = parseKind(kind); err != nil {
					return err
				}
			}
			if resource != "" {
				if filter.Resource, err = parseCID(resource); err != nil {
					return err
				}
			}
			if provider != "" {
				if filter.Provider, err = a.party(provider); err != nil {
					return err
				}
			}
			if err := checkLimit(limit); err != nil {
				return err
			}
			if kind == kindStorage {
				return a.listRooms(cmd.Context(), filter.Provider, limit)
			}
			return a.listOffers(cmd.Context(), filter, limit)
		},
	}
	f := cmd.Flags()
	f.StringVar(&kind, "kind", "", "algorithm, dataset, compute or endpoint (default all); storage lists tiers, prices and latencies of room for replicas")
	f.StringVar(&resource, "resource", "", "CID of the resource (default all)")
	f.StringVar(&provider, "provider", "", "account of the provider (default all)")
	f.IntVar(&limit, "limit", limit, "how many to show")
	return cmd
}

// listOffers does the whole of offer list.
func (a *app) listOffers(ctx context.Context, filter chain.OfferFilter, limit int) error {
	list, err := a.offers(ctx, filter, limit)
	if err != nil {
		return err
	}
	answer := struct {
		Offers []offerEntry `json:"offers"`
	}{[]offerEntry{}}
	own := a.business(ctx)
	var rows [][]string
	var below []string
	for _, o := range list {
		e := newOfferEntry(o.ID, o.Offer)
		leases, paid := "", ""
		if e.Use = own.of(o.ID, o.Offer); e.Use != nil {
			leases, paid = strconv.Itoa(e.Use.Leases), e.Use.Paid.String()
			below = append(below, e.Use.lines(e)...)
		}
		answer.Offers = append(answer.Offers, e)
		rows = append(rows, []string{e.Offer.String(), string(e.Kind) + "/" + string(e.Facet), e.Provider.String(), e.Price.String(), strconv.FormatUint(e.Expires, 10), leases, paid})
	}
	if len(rows) == 0 {
		return a.answer(answer, "No offer stands now.")
	}
	header := []string{"OFFER", "KIND", "PROVIDER", "PRICE", "EXPIRES", "OPEN LEASES", "PAID SO FAR"}
	if own == nil {
		header = header[:5]
		for i := range rows {
			rows[i] = rows[i][:5]
		}
	}
	return a.answer(answer, append(table(header, rows), below...)...)
}

func (a *app) offerShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CID", Short: "Show an offer with its policy and price",
		Example: "  mman offer show baf… -o json",
		Args:    console.Args(1, 1, "CID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			r, err := c.Chain().Offer(cmd.Context(), c.ChainID(), id)
			if err != nil {
				return err
			}
			o := r.Offer
			answer := struct {
				ID    mman.CID     `json:"id"`
				Offer market.Offer `json:"offer"`
				Open  uint64       `json:"open"`
			}{id, o, r.Open}
			lines := facts("offer", id.String(), "resource", o.Resource.String(), "kind", string(o.Kind)+"/"+string(o.Facet), "provider", o.Provider.String(),
				"price", o.Price.String(), "leases", fmt.Sprintf("%d of %d open", r.Open, o.Capacity), "expires", fmt.Sprintf("at height %d", o.Expires), "region", o.Region,
				"policy", "default "+string(o.Policy.Default), "about", attributes(o.Attributes))
			for _, rule := range o.Policy.Rules {
				line := fmt.Sprintf("rule %s: %s", rule.ID, rule.Effect)
				if rule.When != "" {
					line += " when " + strings.Join(strings.Fields(rule.When), " ")
				}
				lines = append(lines, console.Clean(line))
			}
			for _, o := range o.Policy.Obligations {
				lines = append(lines, console.Clean("obligation "+o.String()))
			}
			for _, algorithm := range o.Policy.Algorithms {
				lines = append(lines, fmt.Sprintf("algorithm %s", algorithm))
			}
			return a.answer(answer, lines...)
		},
	}
}
