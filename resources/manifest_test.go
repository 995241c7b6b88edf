package resources_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

func dataset() resources.Manifest {
	return resources.Manifest{
		Version: 1, Kind: resources.KindDataset, Facet: resources.FacetFile, Name: "Penguins", Summary: "344 rows\nof three species",
		Licence: "CC0-1.0", Source: "palmerpenguins",
		Content:    resources.Content{Public: mman.SumCID(mman.CodecRaw, []byte("rows")), Bytes: 4},
		Inputs:     []resources.Port{},
		Outputs:    []resources.Port{{Name: "rows", Structure: "table", DType: "f64", Shape: []uint64{0, 7}}},
		Attributes: []resources.Attribute{{Key: "rows", Value: "344"}, {Key: "species", Value: "3"}},
		Parents:    []resources.Parent{{Resource: mman.SumCID(mman.CodecDagCBOR, []byte("older")), Share: 250}},
	}
}

func TestManifestRoundTrip(t *testing.T) {
	t.Parallel()
	m := dataset()
	b, id, err := m.Encode()
	require.NoError(t, err)
	got, err := resources.DecodeManifest(id, b)
	require.NoError(t, err)
	again, sameID, err := got.Encode()
	require.NoError(t, err)
	require.Equal(t, id, sameID)
	require.Equal(t, b, again)
	require.Equal(t, m.Attributes, got.Attributes)
	require.Equal(t, m.Parents, got.Parents)

	_, err = resources.DecodeManifest(mman.SumCID(mman.CodecDagCBOR, []byte("another")), b)
	require.ErrorIs(t, err, mman.ErrContent)
}

func TestManifestRefusals(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1025)
	for name, c := range map[string]struct {
		change func(*resources.Manifest)
		want   *mman.Error
		says   string
	}{
		"another version":      {func(m *resources.Manifest) { m.Version = 2 }, mman.ErrUnsupported, "version 2"},
		"unknown kind":         {func(m *resources.Manifest) { m.Kind = "gpu" }, mman.ErrUnsupported, `"gpu"`},
		"facet of another":     {func(m *resources.Manifest) { m.Facet = resources.FacetWasm }, mman.ErrUnsupported, `"wasm"`},
		"no name":              {func(m *resources.Manifest) { m.Name = "" }, mman.ErrInvalid, "name"},
		"long name":            {func(m *resources.Manifest) { m.Name = strings.Repeat("n", 65) }, mman.ErrInvalid, "64"},
		"name with space":      {func(m *resources.Manifest) { m.Name = " n" }, mman.ErrInvalid, "space"},
		"escape in name":       {func(m *resources.Manifest) { m.Name = "a\x1b[2J" }, mman.ErrInvalid, "U+001B"},
		"long summary":         {func(m *resources.Manifest) { m.Summary = long }, mman.ErrTooLarge, "1025"},
		"licence not UTF-8":    {func(m *resources.Manifest) { m.Licence = "\xff" }, mman.ErrInvalid, "UTF-8"},
		"no content":           {func(m *resources.Manifest) { m.Content = resources.Content{} }, mman.ErrInvalid, "content"},
		"public and private":   {func(m *resources.Manifest) { m.Content.Private = mman.Hash{1} }, mman.ErrInvalid, "content"},
		"absurd size":          {func(m *resources.Manifest) { m.Content.Bytes = 1 << 60 }, mman.ErrTooLarge, "bytes"},
		"compute with content": {func(m *resources.Manifest) { m.Kind, m.Facet = resources.KindCompute, resources.FacetWasm }, mman.ErrInvalid, "compute"},
		"many ports":           {func(m *resources.Manifest) { m.Inputs = make([]resources.Port, 17) }, mman.ErrTooLarge, "17"},
		"port without name":    {func(m *resources.Manifest) { m.Outputs[0].Name = "" }, mman.ErrInvalid, "outputs[0].name"},
		"unknown structure":    {func(m *resources.Manifest) { m.Outputs[0].Structure = "graph" }, mman.ErrInvalid, `"graph"`},
		"long dtype":           {func(m *resources.Manifest) { m.Outputs[0].DType = long }, mman.ErrTooLarge, "dtype"},
		"many dimensions":      {func(m *resources.Manifest) { m.Outputs[0].Shape = make([]uint64, 9) }, mman.ErrTooLarge, "9 dimensions"},
		"unsorted attributes":  {func(m *resources.Manifest) { m.Attributes[0].Key = "z" }, mman.ErrInvalid, `"species"`},
		"doubled attribute":    {func(m *resources.Manifest) { m.Attributes[1].Key = "rows" }, mman.ErrInvalid, `"rows"`},
		"long attribute":       {func(m *resources.Manifest) { m.Attributes[0].Value = strings.Repeat("v", 257) }, mman.ErrTooLarge, "257"},
		"many attributes":      {func(m *resources.Manifest) { m.Attributes = make([]resources.Attribute, 33) }, mman.ErrTooLarge, "33"},
		"parent without name":  {func(m *resources.Manifest) { m.Parents[0].Resource = mman.CID{} }, mman.ErrInvalid, "parents[0]"},
		"parents take all":     {func(m *resources.Manifest) { m.Parents[0].Share = 5001 }, mman.ErrInvalid, "5000"},
		"many parents":         {func(m *resources.Manifest) { m.Parents = make([]resources.Parent, 17) }, mman.ErrTooLarge, "17"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := dataset()
			c.change(&m)
			_, _, err := m.Encode()
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestManifestBytesAreBounded(t *testing.T) {
	t.Parallel()
	b := make([]byte, resources.ManifestMaxBytes+1)
	_, err := resources.DecodeManifest(mman.SumCID(mman.CodecDagCBOR, b), b)
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

func FuzzDecodeManifest(f *testing.F) {
	b, _, err := dataset().Encode()
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte{})
	f.Add([]byte{0xa0})
	f.Add(bytes.Repeat([]byte{0x81}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		id := mman.SumCID(mman.CodecDagCBOR, b)
		m, err := resources.DecodeManifest(id, b)
		if err != nil {
			return
		}
		again, sameID, err := m.Encode()
		require.NoError(t, err)
		require.Equal(t, b, again)
		require.Equal(t, id, sameID)
	})
}

func TestSaltedNameHidesContent(t *testing.T) {
	t.Parallel()
	id := mman.SumCID(mman.CodecRaw, []byte("secret"))
	one, two := resources.SaltedName(mman.Hash{1}, id), resources.SaltedName(mman.Hash{2}, id)
	require.NotEqual(t, one, two)
	require.Equal(t, mman.Sum256(make([]byte, 0), append(append([]byte{1}, make([]byte, 31)...), id.Bytes()...)), one)
}
