package provider_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/resources"
)

// TestParts: calls bring every part of the file that is sold, and no other block of the
// store; who reads them takes none that is not what its CID says.
func TestParts(t *testing.T) {
	t.Parallel()
	store := content.NewPrivateStore(content.Memory())
	data := make([]byte, 3<<20+7)
	for i := range data {
		data[i] = byte(i>>10) ^ byte(i*7)
	}
	root, _, err := content.AddTo(t.Context(), store, bytes.NewReader(data))
	require.NoError(t, err)
	secret, _, err := content.AddTo(t.Context(), store, bytes.NewReader([]byte("of another owner")))
	require.NoError(t, err)
	parts := provider.NewParts(store, root)
	get := func(ctx context.Context, path string) (int, []byte) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://content.invalid"+path, http.NoBody)
		require.NoError(t, err)
		resp, err := parts.RoundTrip(req)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, errors.Join(err, resp.Body.Close()))
		return resp.StatusCode, b
	}
	lie := func(b []byte) []byte { return b }
	var asked []string
	from := func(ctx context.Context, c mman.CID, off uint64) ([]byte, error) {
		path := "/" + strconv.FormatUint(off, 10) + "/" + c.String()
		asked = append(asked, path)
		status, b := get(ctx, path)
		require.Equal(t, http.StatusOK, status)
		return lie(b), nil
	}
	at, err := content.AtFrom(t.Context(), root, 1<<30, from)
	require.NoError(t, err)
	require.Equal(t, uint64(len(data)), at.Size())
	got := make([]byte, len(data))
	n, err := at.Read(t.Context(), got, 0)
	require.NoError(t, err)
	require.Equal(t, data, got[:n])
	leaf := asked[len(asked)-1]

	for _, path := range []string{
		"/", "/0", "/0/", "/x/" + root.String(), "/-1/" + root.String(), "/0/" + secret.String(), "/0" + leaf[len("/3145728"):],
		"/99999999/" + leaf[len("/3145728/"):], "/18446744073709551615/" + leaf[len("/3145728/"):], "/0/" + root.String() + "/0", "/0/nonsense",
	} {
		status, b := get(t.Context(), path)
		require.Equal(t, http.StatusNotFound, status, path)
		require.Empty(t, b, path)
	}

	for _, lie = range []func([]byte) []byte{
		func(b []byte) []byte { return append(bytes.Clone(b), 0) },
		func([]byte) []byte { return nil },
		func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b },
	} {
		_, err = content.AtFrom(t.Context(), root, 1<<30, from)
		require.ErrorIs(t, err, mman.ErrContent)
	}
	lie = func(b []byte) []byte { return b }
	_, err = content.AtFrom(t.Context(), root, 1000, from)
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

// TestReadsListing: what a price for reads may stand beside.
func TestReadsListing(t *testing.T) {
	t.Parallel()
	const fine = "resource: {kind: dataset, facet: file, name: A set, content: a.csv}\npolicy: {default: allow}\nreads: {price: 0.01MAN}\n"
	l, err := provider.ParseListing([]byte(fine))
	require.NoError(t, err)
	require.Equal(t, &provider.Reads{Price: 10_000}, l.Reads)
	require.Equal(t, policy.Allow, l.Policy.Default)
	require.Equal(t, resources.KindDataset, l.Manifest.Kind)
	for _, tc := range []struct{ name, from, to, says string }{
		{"no price", "price: 0.01MAN", "", "reads.price"},
		{"for nothing", "0.01MAN", "0MAN", "for nothing"},
		{"a private set", "content: a.csv", "content: a.csv, private: true", "never leaves its node"},
		{"a checkpoint", "facet: file", "facet: checkpoint", "dataset/file"},
		{"a list of algorithms", "default: allow", "default: allow, algorithms: [bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy]", "guard nothing"},
		{"a gate", "default: allow", "default: allow, release: {output: 1KiB}", "guard nothing"},
		{"another key", "price: 0.01MAN", "price: 0.01MAN, rows: 1", "rows"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			text := bytes.Replace([]byte(fine), []byte(tc.from), []byte(tc.to), 1)
			_, err := provider.ParseListing(text)
			require.ErrorContains(t, err, tc.says)
		})
	}
}
