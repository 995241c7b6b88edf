package abci_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
)

// BenchmarkTransfers proposes, executes and commits blocks of 1000 signed
// transfers between 1000 accounts, each transaction checked before.
func BenchmarkTransfers(b *testing.B) {
	const size = 1000
	var actors []abcitest.Actor
	for i := range size {
		actors = append(actors, abcitest.NewActor(b, strconv.Itoa(i)))
	}
	c := abcitest.New(b, abcitest.Genesis(b, 1000*mman.MAN, actors...))
	c.Pass(1)
	var check, process time.Duration
	for b.Loop() {
		b.StopTimer()
		txs := make([][]byte, size)
		for i, a := range actors {
			txs[i] = c.Sign(a, send(a, actors[(i+7)%size], 5))
		}
		b.StartTimer()
		at := time.Now()
		for _, raw := range txs {
			if r, err := c.App.CheckTx(b.Context(), &types.RequestCheckTx{Tx: raw}); err != nil || r.Code != 0 {
				b.Fatal(err, r)
			}
		}
		check += time.Since(at)
		req := c.Request(txs...)
		at = time.Now()
		answer, err := c.App.ProcessProposal(b.Context(), abcitest.Proposal(req))
		require.NoError(b, err)
		require.True(b, answer.IsAccepted())
		process += time.Since(at)
		b.StopTimer()
		c.Force(txs...)
		b.StartTimer()
	}
	n := time.Duration(b.N * size)
	b.ReportMetric(float64(check/n), "check-ns/tx")
	b.ReportMetric(float64(process/n), "process-ns/tx")
}
