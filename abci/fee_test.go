package abci_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
)

// TestBaseFee: full blocks raise the base fee, quiet ones lower it without a
// write, and everybody pays that of the block, however much is offered.
func TestBaseFee(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(1)
	require.Equal(t, uint64(87_500), f.BaseFee())
	var heavy [][]byte
	for range 6 {
		heavy = append(heavy, f.Sign(f.cleo, send(f.cleo, f.dora.Actor, 5), func(d *tx.Draft) { d.GasLimit, d.Fee = 20_000_000, 3*mman.MAN }))
	}
	before := f.Balance(f.cleo)
	b := f.Block(heavy...)
	for _, r := range b.Results {
		require.Zero(t, r.Code, r.Log)
		fee, ok := abcitest.Attribute(r.Events, "tx", "fee")
		require.True(t, ok)
		require.Equal(t, "1750000uman", fee)
	}
	require.Equal(t, before-6*(1_750_000+5), f.Balance(f.cleo))
	require.Equal(t, uint64(98_437), f.BaseFee(), "a full block raises it by an eighth")
	s := f.supply(t)
	require.Equal(t, mman.Amount(6*1_750_000), s.Burned+s.Pools)
	require.Equal(t, s.Burned, s.Pools)

	root := f.Root()
	want := f.BaseFee()
	for range 60 {
		f.Pass(1)
		var err error
		want, err = f.Doc.Params.NextBaseFee(want, 0)
		require.NoError(t, err)
		require.Equal(t, want, f.BaseFee())
	}
	require.Equal(t, f.Doc.Params.BaseFeeFloorMicro, f.BaseFee())
	require.Equal(t, root, f.Root(), "quiet blocks lower the fee and change nothing")
	f.Replay(func(h uint64) (restart, drop bool) { return h%7 == 0, false })
}
