package client

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// foundEntry is an offer that a search found.
type foundEntry struct {
	offerEntry

	// Name and Summary are empty when the manifest could not be had.
	Name       string                `json:"name,omitempty"`
	Summary    string                `json:"summary,omitempty"`
	Licence    string                `json:"licence,omitempty"`
	Bytes      uint64                `json:"bytes,omitempty"`
	Attributes []resources.Attribute `json:"attributes,omitempty"`
	// Table says what a dataset of rows holds.
	Table *resources.Table `json:"table,omitempty"`
}

func (a *app) search() *cobra.Command {
	kind, discover, limit, where := "", discoverIndex, maxListed, ""
	cmd := &cobra.Command{
		Use: "search [WORD…]", Short: "Search what is offered by the words of its manifest",
		Long: `Search what is offered by the words of its manifest.

All words must be in the name, summary, licence, attributes, columns, kind or region
of a resource; without words everything is shown. Manifests come from their providers:
of one that cannot be reached only what its offer says is searched.`,
		Example: "  mman search penguins --kind dataset\n  mman search --where 'offer.region.startsWith(\"eu\")'\n  mman search --discover dht --peer /ip4/127.0.0.1/tcp/4051/p2p/12D3…",
		Args:    console.Args(0, -1, "words"),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := parseKind(kind)
			if err != nil {
				return err
			}
			dht, err := parseDiscover(discover)
			if err != nil {
				return err
			}
			if err := checkLimit(limit); err != nil {
				return err
			}
			var fits *policy.Where
			if where != "" {
				if fits, err = policy.CompileWhere(where); err != nil {
					return console.Wrong("--where: %w", err)
				}
			}
			found, err := a.find(cmd.Context(), k, dht, fits)
			if err != nil {
				return err
			}
			answer := struct {
				Found []foundEntry `json:"found"`
			}{[]foundEntry{}}
			var rows [][]string
			for _, f := range found {
				if len(rows) == limit || !matches(f, args) {
					continue
				}
				answer.Found = append(answer.Found, f)
				rows = append(rows, []string{f.Resource.String(), string(f.Kind) + "/" + string(f.Facet), f.Name, f.Price.String()})
			}
			if len(rows) == 0 {
				return a.answer(answer, "Nothing that is offered now fits.")
			}
			return a.answer(answer, table([]string{"RESOURCE", "KIND", "NAME", "PRICE"}, rows)...)
		},
	}
	f := cmd.Flags()
	f.StringVar(&kind, "kind", "", "algorithm, dataset, compute or endpoint (default all)")
	f.StringVar(&where, "where", "", "condition on the offer, for example 'offer.per_lease_uman < 1000'; mman policy words lists what it may read")
	f.StringVar(&discover, "discover", discover, "find offers in the chain's index, or through the dht")
	f.IntVar(&limit, "limit", limit, "how many to show")
	return cmd
}

// find lists what is offered of a kind, "" for all, and fits, when that is asked
// for, with manifests.
func (a *app) find(ctx context.Context, kind resources.Kind, dht bool, fits *policy.Where) ([]foundEntry, error) {
	c, err := a.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // nothing was written
	var found []sdk.Found
	var gone error // a provider of one kind that is gone does not hide the other kinds
	for _, k := range kinds() {
		if kind != "" && kind != k.Kind {
			continue
		}
		a.tick("looking for %s …", k.Kind)
		some, err := c.Find(ctx, k.Kind, k.Facet, mman.CID{}, dht)
		switch {
		case errors.Is(err, mman.ErrUnreachable):
			gone = err
		case err != nil && !errors.Is(err, mman.ErrNotFound):
			return nil, err
		}
		if fits != nil {
			some = slices.DeleteFunc(some, func(f sdk.Found) bool { return !fits.Holds(f.Offer.Listed()) })
		}
		found = append(found, some...)
	}
	if len(found) == 0 && gone != nil {
		return nil, gone
	}
	c.Describe(ctx, found)
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(mman.ErrCanceled, err)
	}
	a.tick("")
	entries := make([]foundEntry, len(found))
	for i, f := range found {
		entries[i] = foundEntry{offerEntry: newOfferEntry(f.ID, f.Offer), Attributes: f.Offer.Attributes}
		if m := f.Manifest; m != nil {
			entries[i].Name, entries[i].Summary, entries[i].Licence = m.Name, m.Summary, m.Licence
			entries[i].Bytes, entries[i].Attributes, entries[i].Table = m.Content.Bytes, m.Attributes, m.Table
		}
	}
	return entries, nil
}

// matches reports whether all words are in what is known of an entry.
func matches(f foundEntry, words []string) bool {
	var columns []string
	if f.Table != nil {
		for _, c := range f.Table.Columns {
			columns = append(columns, c.Name)
		}
	}
	text := strings.ToLower(strings.Join([]string{
		strings.Join(columns, "\n"),
		f.Name, f.Summary, f.Licence, attributes(f.Attributes), string(f.Kind), string(f.Facet), f.Region, f.Resource.String(), f.Offer.String(), f.Provider.String(),
	}, "\n"))
	for _, w := range words {
		if !strings.Contains(text, strings.ToLower(w)) {
			return false
		}
	}
	return true
}
