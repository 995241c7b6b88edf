package client

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk/chain"
)

func (a *app) resource() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "resource", Short: "Look at resources; lend and take back your own",
		Example: "  mman resource list --kind dataset\n  mman resource add listing.yaml",
	}, a.resourceList(), a.resourceShow(), a.resourceRead(), a.resourceInstall(), a.add("mman resource add"), a.takeBack("rm", "Stop lending a resource of the own node", "mman resource rm"))
}

// kinds are the kinds that can be offered, each with each of its facets.
func kinds() []struct {
	Kind  resources.Kind
	Facet resources.Facet
} {
	return []struct {
		Kind  resources.Kind
		Facet resources.Facet
	}{
		{resources.KindAlgorithm, resources.FacetWasm},
		{resources.KindAlgorithm, resources.FacetJS},
		{resources.KindAlgorithm, resources.FacetPython},
		{resources.KindAlgorithm, resources.FacetContainer},
		{resources.KindDataset, resources.FacetFile},
		{resources.KindDataset, resources.FacetFolder},
		{resources.KindDataset, resources.FacetCheckpoint},
		{resources.KindCompute, resources.FacetWasm},
		{resources.KindCompute, resources.FacetContainer},
		{resources.KindEndpoint, resources.FacetHTTP},
		{resources.KindEnvironment, resources.FacetWasm},
	}
}

// parseKind reads a kind, "" for all.
func parseKind(word string) (resources.Kind, error) {
	for _, k := range kinds() {
		if word == "" || word == string(k.Kind) {
			return resources.Kind(word), nil
		}
	}
	return "", console.Wrong("--kind %.40q is not known: use algorithm, dataset, compute, endpoint or environment", word)
}

func parseCID(word string) (mman.CID, error) {
	id, err := mman.ParseCID(word)
	if err != nil {
		return id, console.Wrong("%w", err)
	}
	return id, nil
}

// resourceEntry is a resource with how many offers there are for it.
type resourceEntry struct {
	Resource   mman.CID              `json:"resource"`
	Kind       resources.Kind        `json:"kind"`
	Facet      resources.Facet       `json:"facet"`
	Name       string                `json:"name,omitempty"`
	Attributes []resources.Attribute `json:"attributes,omitempty"`
	Offers     int                   `json:"offers"`
}

func (a *app) resourceList() *cobra.Command {
	kind, limit, mine := "", maxListed, false
	cmd := &cobra.Command{
		Use: "list", Short: "List what is offered now, or with --mine what the own node lends",
		Example: "  mman resource list --kind algorithm",
		Args:    console.Args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := parseKind(kind)
			if err != nil {
				return err
			}
			if err := checkLimit(limit); err != nil {
				return err
			}
			var entries []resourceEntry
			if mine {
				entries, err = a.myResources(cmd.Context(), k)
			} else {
				entries, err = a.offered(cmd.Context(), k, limit)
			}
			if err != nil {
				return err
			}
			answer := struct {
				Resources []resourceEntry `json:"resources"`
			}{append([]resourceEntry{}, entries...)}
			if len(entries) == 0 {
				return a.answer(answer, "Nothing is offered now.")
			}
			rows := make([][]string, len(entries))
			for i, e := range entries {
				rows[i] = []string{e.Resource.String(), string(e.Kind) + "/" + string(e.Facet), strconv.Itoa(e.Offers), e.Name + " " + attributes(e.Attributes)}
			}
			return a.answer(answer, table([]string{"RESOURCE", "KIND", "OFFERS", "ABOUT"}, rows)...)
		},
	}
	cmd.Flags().StringVar(&kind, "kind", "", "algorithm, dataset, compute or endpoint (default all)")
	cmd.Flags().IntVar(&limit, "limit", limit, "how many offers to look at")
	cmd.Flags().BoolVar(&mine, "mine", false, "what the node of this home lends")
	return cmd
}

func (a *app) offered(ctx context.Context, kind resources.Kind, limit int) ([]resourceEntry, error) {
	offers, err := a.offers(ctx, chain.OfferFilter{Kind: kind}, limit)
	if err != nil {
		return nil, err
	}
	var entries []resourceEntry
	at := make(map[mman.CID]int)
	for _, o := range offers {
		i, ok := at[o.Offer.Resource]
		if !ok {
			i, at[o.Offer.Resource] = len(entries), len(entries)
			entries = append(entries, resourceEntry{Resource: o.Offer.Resource, Kind: o.Offer.Kind, Facet: o.Offer.Facet, Attributes: o.Offer.Attributes})
		}
		entries[i].Offers++
	}
	return entries, nil
}

func (a *app) myResources(ctx context.Context, kind resources.Kind) ([]resourceEntry, error) {
	n, err := a.ownNode()
	if err != nil {
		return nil, err
	}
	listings, err := n.listings(ctx)
	if err != nil {
		return nil, err
	}
	var entries []resourceEntry
	for _, l := range listings {
		if kind != "" && l.Kind != kind {
			continue
		}
		e := resourceEntry{Resource: l.Resource, Kind: l.Kind, Facet: l.Facet, Name: l.Name}
		if !l.Offer.IsZero() {
			e.Offers = 1
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (a *app) resourceShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CID", Short: "Show a resource's manifest and the offers for it",
		Example: "  mman resource show baf… -o json",
		Args:    console.Args(1, 1, "CID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			return a.showResource(cmd.Context(), id)
		},
	}
}

func (a *app) showResource(ctx context.Context, id mman.CID) error {
	c, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing was written
	found, err := c.Find(ctx, "", "", id, false)
	if err != nil {
		return err
	}
	c.Describe(ctx, found)
	answer := struct {
		Resource mman.CID           `json:"resource"`
		Manifest resources.Manifest `json:"manifest"`
		Offers   []offerEntry       `json:"offers"`
	}{Resource: id, Offers: []offerEntry{}}
	known := false
	for _, f := range found {
		answer.Offers = append(answer.Offers, newOfferEntry(f.ID, f.Offer))
		if f.Manifest != nil {
			answer.Manifest, known = *f.Manifest, true
		}
	}
	if !known { // nobody offers it now, but somebody may still have it
		if answer.Manifest, err = c.Manifest(ctx, id); err != nil {
			return err
		}
	}
	m := answer.Manifest
	lines := facts("resource", id.String(), "kind", string(m.Kind)+"/"+string(m.Facet), "name", m.Name, "summary", m.Summary,
		"licence", m.Licence, "source", m.Source, "about", attributes(m.Attributes), "bytes", strconv.FormatUint(m.Content.Bytes, 10), "content", visibility(m.Content))
	for _, p := range m.Parents {
		parent := p.Resource.String()
		if p.Share > 0 {
			parent += fmt.Sprintf(", %d basis points to %s", p.Share, p.Owner)
		}
		lines = append(lines, facts("parent", parent)...)
	}
	if t := m.Table; t != nil {
		columns := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			columns[i] = c.Name + " " + c.Type
		}
		lines = append(lines, facts("format", t.Format, "rows", strconv.FormatUint(t.Rows, 10), "columns", strings.Join(columns, ", "))...)
		for _, row := range t.Sample {
			lines = append(lines, "  "+console.Clean(row))
		}
	}
	for _, o := range answer.Offers {
		lines = append(lines, fmt.Sprintf("offer %s from %s, %s", o.Offer, o.Provider, o.Price.String()))
	}
	return a.answer(answer, lines...)
}

func visibility(c resources.Content) string {
	switch {
	case !c.Public.IsZero():
		return "public, " + c.Public.String()
	case !c.Private.IsZero():
		return "private"
	default:
		return ""
	}
}

func attributes(list []resources.Attribute) string {
	words := make([]string, len(list))
	for i, kv := range list {
		words[i] = kv.Key + "=" + kv.Value
	}
	return strings.Join(words, " ")
}

// add is the verb that lends what a listing file says; a resource and its offer
// are published together.
func (a *app) add(path string) *cobra.Command {
	return &cobra.Command{
		Use: "add FILE", Short: "Lend what a listing file says, through the own node",
		Long: `Lend what a listing file says, through the node that runs from this home.

The file says what the resource is, who may use it and for how much.`,
		Example: "  " + path + " dataset.yaml",
		Args:    console.Args(1, 1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := regular(args[0]); err != nil {
				return err
			}
			file, err := filepath.Abs(args[0])
			if err != nil {
				return fmt.Errorf("%w: %w", mman.ErrInvalid, err)
			}
			n, err := a.ownNode()
			if err != nil {
				return err
			}
			a.tick("publishing …")
			l, err := n.publish(cmd.Context(), file)
			if err != nil {
				return err
			}
			return a.answer(l, facts("resource", l.Resource.String(), "name", l.Name, "kind", string(l.Kind)+"/"+string(l.Facet), "offer", l.Offer.String(), "expires", fmt.Sprintf("at height %d", l.Expires))...)
		},
	}
}

// takeBack is the verb that stops lending; the resource and its offer may both
// name what.
func (a *app) takeBack(verb, short, path string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " CID", Short: short,
		Long:    short + ".\n\nCID is the resource's or its offer's. Open leases go on to their end.",
		Example: "  " + path + " baf…",
		Args:    console.Args(1, 1, "CID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			n, err := a.ownNode()
			if err != nil {
				return err
			}
			listings, err := n.listings(cmd.Context())
			if err != nil {
				return err
			}
			for _, l := range listings {
				if l.Resource != id && l.Offer != id {
					continue
				}
				if err := n.withdraw(cmd.Context(), l.Resource); err != nil {
					return err
				}
				return a.answer(l, console.Clean(l.Name)+" is no longer lent")
			}
			return fmt.Errorf("%w: the own node lends no %s: see mman resource list --mine", mman.ErrNotFound, id)
		},
	}
}
