package sdk

import (
	"crypto/rand"
	"log/slog"
	"sync/atomic"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/protocol/bids"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// NewKey makes the key of a lease.
func (b *LeaseBook) NewKey() (sig.PrivateKey, error) { return b.newKey(rand.Reader) }

// Key returns the key of a lease.
func (b *LeaseBook) Key(o *OwnLease) (sig.PrivateKey, error) { return b.key(o) }

// Record appends a run to the history of its lease.
func (b *LeaseBook) Record(r RunRecord) error { return b.record(r) }

// HistoryFile is where the history of a lease is.
func (b *LeaseBook) HistoryFile(id mman.LeaseID) string { return b.historyFile(id) }

// HistoryBytes is the size from which a history begins anew.
const HistoryBytes = historyBytes

// Add remembers a lease.
func (b *LeaseBook) Add(o OwnLease) (*OwnLease, error) { return b.add(o) }

// Forget drops a lease.
func (o *OwnLease) Forget() error { return o.forget() }

// TakeLane takes the first free lane.
func (o *OwnLease) TakeLane() (*Lane, error) { return o.takeLane() }

// Number returns the lane's number.
func (l *Lane) Number() uint64 { return l.n }

// Signed returns what the lane remembers.
func (l *Lane) Signed() (seq uint64, paid mman.Amount, run uint64, receipt *market.Signed) {
	return l.state.Seq, l.state.Paid, l.state.Run, l.state.Receipt
}

// Advance saves that the lane paid more.
func (l *Lane) Advance(paid mman.Amount) error {
	next := l.state
	next.Seq++
	next.Paid += paid
	return l.save(next)
}

// NewPayer returns what answers the statements of one run that began at the
// clock's zero, was given in bytes and wrote out bytes.
func (l *Lane) NewPayer(key sig.PrivateKey, peer mman.PeerID, elapsed time.Duration, in, out uint64) session.Payer {
	begun := time.Unix(1000, 0)
	return &payer{
		ctx: neverDone{}, lane: l, key: leaseSigner{key}, peer: peer, now: func() time.Time { return begun.Add(elapsed) },
		begun: begun, base: l.state.Usage, in: in, out: out, typed: new(atomic.Uint64), holds: func(market.RunResult) error { return nil },
	}
}

// Defence is one that NewTestPayer can leave out.
type Defence int

// The defences of a payer.
const (
	NoDefence Defence = iota
	AgainstUsage
	AgainstProgress
	AgainstOutput
)

// NewTestPayer is NewPayer for a run that may use that much fuel and be
// interactive, and to which no output came; without is the defence that it lacks.
func (l *Lane) NewTestPayer(key sig.PrivateKey, peer mman.PeerID, elapsed time.Duration, fuel uint64, interactive bool, without Defence) session.Payer {
	begun := time.Unix(1000, 0)
	return &payer{
		ctx: neverDone{}, lane: l, key: leaseSigner{key}, peer: peer, now: func() time.Time { return begun.Add(elapsed) },
		begun: begun, base: l.state.Usage, typed: new(atomic.Uint64), fuel: fuel, interactive: interactive, held: func(error) {},
		holds: func(r market.RunResult) error {
			if r.OutputBytes > 0 {
				return mman.ErrContent
			}
			return nil
		},
		off: undefended{usage: without == AgainstUsage, progress: without == AgainstProgress, output: without == AgainstOutput},
	}
}

// Net returns what the lane signed for in all.
func (l *Lane) Net() mman.Amount { return l.state.net() }

// neverDone is a context that never ends.
type neverDone struct{}

func (neverDone) Deadline() (time.Time, bool) { return time.Time{}, false }
func (neverDone) Done() <-chan struct{}       { return nil }
func (neverDone) Err() error                  { return nil }
func (neverDone) Value(any) any               { return nil }

// NewSession returns a session over a connection that is open already.
func NewSession(conn *session.Client, own *OwnLease, lane *Lane, key sig.PrivateKey, peer mman.PeerID, now func() time.Time) *Session {
	client := &Client{cfg: Config{Now: now}, chainID: own.ChainID, leases: OpenLeaseBook(own.dir + "/book")}
	return &Session{client: client, lease: &Lease{OwnLease: own}, lane: lane, key: leaseSigner{key}, peer: peer, conn: conn}
}

// Usage returns the usage that the lane signed for.
func (l *Lane) Usage() resources.Usage { return l.state.Usage }

// Dir returns where the lease is kept.
func (o *OwnLease) Dir() string { return o.dir }

// Collector collects commitments without a network.
type Collector struct{ col *collector }

// NewCollector returns one for a request that was put out to bids.
func NewCollector(b *LeaseBook, chainID string, id mman.RequestID, asked market.Request, key sig.PrivateKey) Collector {
	c := &Client{chainID: chainID, leases: b, log: slog.New(slog.DiscardHandler)}
	return Collector{&collector{c: c, key: key, own: ownRFP{ChainID: chainID, Request: id, Asked: asked}}}
}

// Acknowledge takes what the provider of an offer answered.
func (c Collector) Acknowledge(o market.Offer, s bids.Sealed) ([]byte, error) {
	return c.col.acknowledge(o, s)
}

// Kept returns the commitments that are on disk.
func (b *LeaseBook) Kept(id mman.RequestID) ([]market.SignedCommitment, error) {
	o, err := b.loadRFP(id)
	return o.Sealed, err
}
