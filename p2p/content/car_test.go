package content_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
)

func TestCAR(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config())
	added, err := a.AddPublicFolder(t.Context(), tree(t))
	require.NoError(t, err)
	var car, again bytes.Buffer
	require.NoError(t, b.ExportCAR(t.Context(), added.Root, unlimited, &car), "what is not here is fetched")
	require.NoError(t, a.ExportCAR(t.Context(), added.Root, unlimited, &again))
	require.True(t, bytes.Equal(car.Bytes(), again.Bytes()), "one tree has one CAR file")
	require.ErrorIs(t, a.ExportCAR(t.Context(), added.Root, 1<<20, &bytes.Buffer{}), mman.ErrTooLarge)

	c, _ := pair(t, config())
	roots, err := c.ImportCAR(t.Context(), bytes.NewReader(car.Bytes()), unlimited)
	require.NoError(t, err)
	require.Equal(t, []mman.CID{added.Root}, roots)
	var third bytes.Buffer
	require.NoError(t, c.ExportCAR(t.Context(), added.Root, unlimited, &third))
	require.True(t, bytes.Equal(car.Bytes(), third.Bytes()))
	_, err = c.ImportCAR(t.Context(), bytes.NewReader(car.Bytes()), 1000)
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

func TestBadCARs(t *testing.T) {
	t.Parallel()
	a, _ := pair(t, config())
	root, _, err := a.AddPublic(t.Context(), bytes.NewReader(random(t, 3<<20)))
	require.NoError(t, err)
	var car bytes.Buffer
	require.NoError(t, a.ExportCAR(t.Context(), root, unlimited, &car))
	whole := car.Bytes()
	head, n := binary.Uvarint(whole)
	begin := int(head) + n
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	for name, file := range map[string][]byte{
		"empty":          {},
		"not a CAR":      []byte("not a CAR file"),
		"no blocks":      whole[:begin],
		"cut off":        whole[:len(whole)-1],
		"a block less":   whole[:begin+200],
		"damaged":        damaged,
		"large section":  append(bytes.Clone(whole[:begin]), 0xff, 0xff, 0xff, 0x7f),
		"large header":   {0xff, 0xff, 0xff, 0x7f},
		"empty section":  append(bytes.Clone(whole), 0),
		"endless length": append(bytes.Clone(whole[:begin]), bytes.Repeat([]byte{0xff}, 20)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, b := pair(t, config())
			_, err := b.ImportCAR(t.Context(), bytes.NewReader(file), unlimited)
			require.Error(t, err)
			require.NotEqual(t, mman.ErrInternal.Code, mman.CodeOf(err), err)
		})
	}
}
