package bench_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/bench"
)

func TestContentOptions(t *testing.T) {
	t.Parallel()
	_, err := bench.Content(t.Context(), bench.ContentOptions{})
	require.ErrorIs(t, err, mman.ErrInvalid)
}
