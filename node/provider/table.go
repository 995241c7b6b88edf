package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/dataset"
)

// publicSample is how many rows of public data are shown when the listing does not
// say; of private data none are.
const publicSample = 3

// describe says in the manifest what a dataset of rows holds, and in its attributes,
// where the listing does not say otherwise, its format and how many rows. What is not
// recognised is a file like any other.
func (p *Provider) describe(ctx context.Context, l *Listing) (err error) {
	if l.Manifest.Kind != resources.KindDataset || l.Manifest.Facet != resources.FacetFile {
		return nil
	}
	f, err := os.Open(l.Content)
	if err != nil {
		return fmt.Errorf("%w: resource.content: %w", mman.ErrDenied, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%w: resource.content: %w", mman.ErrInvalid, err)
	}
	sample := publicSample
	if l.Private {
		sample = 0
	}
	if l.Sample != nil {
		sample = int(*l.Sample) //nolint:gosec // validate bounds it
	}
	table, err := dataset.Describe(f, uint64(info.Size()), sample) //nolint:gosec // sizes are not negative
	switch {
	case errors.Is(err, mman.ErrUnsupported), errors.Is(err, mman.ErrContent), errors.Is(err, mman.ErrTooLarge):
		p.log.LogAttrs(ctx, slog.LevelInfo, "dataset is not read as a table", slog.String("name", l.Manifest.Name), slog.Any("why", err))
		return nil
	case err != nil:
		return err
	}
	l.Manifest.Table = &table
	l.Manifest.Attributes = withAttribute(l.Manifest.Attributes, "format", table.Format)
	l.Manifest.Attributes = withAttribute(l.Manifest.Attributes, "rows", strconv.FormatUint(table.Rows, 10))
	return fit(&l.Manifest)
}

// fit leaves out of a table what makes its manifest too large: the sample, then the
// last columns.
func fit(m *resources.Manifest) error {
	// The content's name is not there yet.
	const room = resources.ManifestMaxBytes - 256
	whole := *m // it shares the table
	whole.Content = resources.Content{Public: mman.SumCID(mman.CodecRaw, nil)}
	for {
		b, _, err := whole.Encode()
		if err != nil || len(b) <= room {
			return err
		}
		switch t := whole.Table; {
		case len(t.Sample) > 0:
			t.Sample = nil
		case len(t.Columns) > 0:
			t.Columns = t.Columns[:len(t.Columns)/2]
		default:
			return fmt.Errorf("%w: the manifest has %d bytes, at most %d are allowed", mman.ErrTooLarge, len(b), room)
		}
	}
}

// withAttribute adds a pair in its place, unless the key or the room is taken.
func withAttribute(list []resources.Attribute, key, value string) []resources.Attribute {
	at, taken := slices.BinarySearchFunc(list, key, func(a resources.Attribute, key string) int {
		switch {
		case a.Key < key:
			return -1
		case a.Key > key:
			return 1
		default:
			return 0
		}
	})
	longer := slices.Insert(slices.Clone(list), at, resources.Attribute{Key: key, Value: value})
	if taken || resources.ValidAttributes(longer) != nil {
		return list
	}
	return longer
}
