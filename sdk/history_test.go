package sdk_test

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/sdk"
)

// TestHistoryBeginsAnew lets many sessions of a lease end their runs when its history
// is full: one of them puts the old one aside, and no run is lost.
func TestHistoryBeginsAnew(t *testing.T) {
	t.Parallel()
	dir, lease := t.TempDir(), mman.LeaseID{7}
	path := sdk.OpenLeaseBook(dir).HistoryFile(lease)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, sdk.HistoryBytes+1))
	receipt := func(i int) market.Signed {
		return market.Signed{Bytes: []byte("receipt " + strconv.Itoa(i)), Signature: make([]byte, 64)}
	}
	const runs = 64
	errs := make([]error, runs)
	var all sync.WaitGroup
	for i := range runs {
		all.Go(func() {
			// Its own book, as another process has.
			errs[i] = sdk.OpenLeaseBook(dir).Record(sdk.RunRecord{ChainID: chainID, Lease: lease, Statement: receipt(i), Receipt: receipt(i)})
		})
	}
	all.Wait()
	for i, err := range errs {
		require.NoError(t, err)
		r, err := sdk.OpenLeaseBook(dir).FindRun(sdk.ReceiptID(receipt(i)))
		require.NoError(t, err)
		require.Equal(t, receipt(i), r.Receipt)
	}
	old, err := os.Stat(path + ".old")
	require.NoError(t, err)
	require.EqualValues(t, sdk.HistoryBytes+1, old.Size(), "the full one is still there")
}
