package decision

import (
	"encoding/binary"
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market/policy"
)

// Bounds of an Entry.
const (
	// EntryMaxBytes bounds an encoded Entry.
	EntryMaxBytes = 1024
	maxReason     = 256
	version       = 1
)

// Event is what was decided about.
type Event string

// The events: a run that was about to begin, and output that was about to leave
// the provider.
const (
	Start  Event = "start"
	Output Event = "output"
)

// Entry is one decision of one leg's policy.
type Entry struct {
	Version uint64       `cbor:"v"     json:"version"`
	Lease   mman.LeaseID `cbor:"lease" json:"lease"`
	Lane    uint64       `cbor:"lane"  json:"lane"`
	// Run is the consumer's number of the run within its lane.
	Run   uint64 `cbor:"run"   json:"run"`
	Event Event  `cbor:"event" json:"event"`
	// Leg is the place in the lease of the leg whose policy decided, Offer what
	// it was lent by.
	Leg   uint64   `cbor:"leg"   json:"leg"`
	Offer mman.CID `cbor:"offer" json:"offer"`
	// Pieces counts the pieces of output, one after another, that got the same
	// answer of the same rule; Counts and Chain are those of the last. 1 for a
	// start.
	Pieces uint64 `cbor:"pieces" json:"pieces"`
	// Counts is what the lease's runs did, with what was asked for.
	Counts Counts `cbor:"counts" json:"counts"`
	// Height is that of the provider's node, Time its clock in seconds since 1970.
	Height uint64 `cbor:"height" json:"height"`
	Time   int64  `cbor:"time"   json:"time"`
	// Context is the digest of all that the policy could see: see Seen.
	Context mman.Hash     `cbor:"context" json:"context"`
	Effect  policy.Effect `cbor:"effect"  json:"effect"`
	Rule    string        `cbor:"rule"    json:"rule"`
	// Reason says why a rule that could not be evaluated denied.
	Reason string `cbor:"reason,omitempty" json:"reason,omitempty"`
}

// Counts are policy.Run's.
type Counts struct {
	Calls       uint64 `cbor:"calls"  json:"calls"`
	EgressBytes uint64 `cbor:"egress" json:"egress_bytes"`
	InputBytes  uint64 `cbor:"in"     json:"input_bytes"`
	OutputBytes uint64 `cbor:"out"    json:"output_bytes"`
	WallMs      uint64 `cbor:"wall"   json:"wall_ms"`
}

// Seen returns the digest of a context: SHA-256 of the digest of what does not
// change while the lease runs, static (policy.Context.Digest without Run and
// Chain), and then of each number of the run and the chain, 8 bytes each, the
// highest first.
func Seen(static mman.Hash, run policy.Run, chain policy.Chain) mman.Hash {
	b := static[:]
	for _, n := range []uint64{run.Calls, run.EgressBytes, run.InputBytes, run.OutputBytes, run.WallMs, chain.Height, uint64(chain.Time)} { //nolint:gosec // bits, not a number
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return mman.Sum256(b)
}

// New returns the entry of an answer.
func New(e Entry, static mman.Hash, run policy.Run, chain policy.Chain, a policy.Answer) Entry {
	e.Version, e.Pieces = version, max(1, e.Pieces)
	e.Counts = Counts(run)
	e.Height, e.Time, e.Context = chain.Height, chain.Time, Seen(static, run, chain)
	e.Effect, e.Rule, e.Reason = a.Effect, a.Rule, a.Reason
	if len(e.Reason) > maxReason {
		e.Reason = e.Reason[:maxReason-len("…")] + "…"
	}
	return e
}

// Same reports whether another piece of output got the same answer.
func (e Entry) Same(a policy.Answer) bool { return e.Effect == a.Effect && e.Rule == a.Rule }

// Encode returns the entry's bytes, which are a leaf of the log.
func (e Entry) Encode() ([]byte, error) {
	b, err := dagcbor.Marshal(e)
	if err == nil && len(b) > EntryMaxBytes {
		err = fmt.Errorf("decision: %w: %d bytes, at most %d are allowed", mman.ErrTooLarge, len(b), EntryMaxBytes)
	}
	return b, err
}

// Decode reads an entry.
func Decode(b []byte) (Entry, error) {
	e, err := dagcbor.Unmarshal[Entry](b, EntryMaxBytes)
	switch {
	case err != nil:
		return e, fmt.Errorf("decision: %w", err)
	case e.Version != version:
		return e, fmt.Errorf("decision: %w: version %d, this program reads %d", mman.ErrUnsupported, e.Version, version)
	case e.Event != Start && e.Event != Output, e.Effect != policy.Allow && e.Effect != policy.Deny, e.Pieces == 0:
		return e, fmt.Errorf("decision: %w: event %.16q, effect %.16q, %d pieces", mman.ErrInvalid, e.Event, e.Effect, e.Pieces)
	}
	return e, nil
}

// Seen returns what the policy could see, given what does not change while
// the lease runs.
func (e Entry) Seen(facts policy.Context) policy.Context {
	run := policy.Run(e.Counts)
	facts.Run, facts.Chain = &run, &policy.Chain{Height: e.Height, Time: e.Time}
	return facts
}

// Check decides again: facts is what does not change while the lease runs, p the
// policy of the leg, nil when it is not at hand: then only what the policy saw is
// compared. It returns mman.ErrContent when the entry is not what that gives. An
// entry that says that a share was revoked is taken as it is, since the ledger
// knows that.
func (e Entry) Check(facts policy.Context, p *policy.Policy) error {
	seen := e.Seen(facts)
	facts.Run, facts.Chain = nil, nil
	if got := Seen(facts.Digest(), *seen.Run, *seen.Chain); got != e.Context {
		return fmt.Errorf("decision on run %d of lane %d: %w: what its policy saw has the digest %s, it names %s", e.Run, e.Lane, mman.ErrContent, got, e.Context)
	}
	if p == nil || e.Rule == policy.RuleRevoked && e.Effect == policy.Deny {
		return nil
	}
	if a := p.Decide(seen); !e.Same(a) {
		return fmt.Errorf("decision on run %d of lane %d: %w: the policy gives %s by rule %q, it says %s by rule %q", e.Run, e.Lane, mman.ErrContent, a.Effect, a.Rule, e.Effect, e.Rule)
	}
	return nil
}
