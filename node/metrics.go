package node

import (
	"net/http"
	"runtime/metrics"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/limboid/massive-man/node/consensus"
	"github.com/limboid/massive-man/node/provider"
)

// gauge is one figure of a node, read when somebody asks for it.
type gauge struct {
	desc *prometheus.Desc
	read func() (value float64, ok bool)
}

// figures is what a node tells Prometheus beside what CometBFT, libp2p and Go's
// runtime tell of themselves. It reads what is there and keeps nothing.
type figures []gauge

// Describe implements prometheus.Collector.
func (f figures) Describe(out chan<- *prometheus.Desc) {
	for _, g := range f {
		out <- g.desc
	}
}

// Collect implements prometheus.Collector. A figure that is not there yet is
// left out.
func (f figures) Collect(out chan<- prometheus.Metric) {
	for _, g := range f {
		if v, ok := g.read(); ok {
			out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, v)
		}
	}
}

// figures returns those of this node.
func (n *Node) figures(lender *provider.Provider) figures {
	one := func(name, help string, read func() (float64, bool)) gauge {
		return gauge{prometheus.NewDesc(name, help, nil, prometheus.Labels{"chain_id": n.doc.ChainID}), read}
	}
	status := func(pick func(consensus.Status) float64) func() (float64, bool) {
		return func() (float64, bool) {
			s, err := n.consensus.Status()
			if err != nil {
				return 0, false // it starts or ends
			}
			return pick(s), true
		}
	}
	return figures{
		one("mman_chain_height", "Height of the last stored block.",
			status(func(s consensus.Status) float64 { return float64(s.Height) })),
		one("mman_chain_catching_up", "1 while blocks are fetched from others.",
			status(func(s consensus.Status) float64 {
				if s.CatchingUp {
					return 1
				}
				return 0
			})),
		one("mman_chain_peers", "Connected nodes of the ledger.",
			status(func(s consensus.Status) float64 { return float64(s.Peers) })),
		one("mman_mempool_txs", "Transactions that wait for a block.",
			status(func(s consensus.Status) float64 { return float64(s.MempoolTxs) })),
		one("mman_chain_signatures_verified", "Signatures of transactions that were verified since the start, each once.",
			func() (float64, bool) { return float64(n.app.Verifications()), true }),
		one("mman_chain_blocks_executed", "Blocks and proposals that were executed since the start, each once.",
			func() (float64, bool) { return float64(n.app.Executions()), true }),
		one("mman_state_height", "Height of the last committed state.",
			func() (float64, bool) { return float64(n.app.View().Height()), true }),
		one("mman_state_pairs", "Pairs of key and value in the state.",
			func() (float64, bool) { return float64(n.app.View().Pairs()), true }),
		one("mman_p2p_peers", "Connected peers that hold or want resources.",
			func() (float64, bool) { return float64(len(n.host.Peers())), true }),
		one("mman_live_heap_bytes", "Bytes of Go's heap that were in use at its last collection.",
			liveHeap),
		one("mman_provider_listings", "Resources that this node lends.",
			func() (float64, bool) { return float64(len(lender.Published())), true }),
	}
}

// liveHeap returns how much of the heap the last collection found in use. The
// libraries' figures count what is not collected yet, too.
func liveHeap() (float64, bool) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0, false
	}
	return float64(sample[0].Value.Uint64()), true
}

// metrics serves this node's figures with those of the libraries, in
// Prometheus's text format.
func (n *Node) metrics(lender *provider.Provider) (http.Handler, error) {
	own := prometheus.NewRegistry()
	if err := own.Register(n.figures(lender)); err != nil {
		return nil, err
	}
	return promhttp.HandlerFor(prometheus.Gatherers{own, prometheus.DefaultGatherer}, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 2,
	}), nil
}
