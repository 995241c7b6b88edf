package market

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market/decision"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// Bounds of encoded Statements and Receipts.
const (
	StatementMaxBytes = 1024
	ReceiptMaxBytes   = 512
)

// RunResult names what a run produced.
type RunResult struct {
	// Run is the consumer's number of the run within its lane.
	Run uint64 `cbor:"run" json:"run"`
	// Algorithm is the content that ran.
	Algorithm mman.CID `cbor:"algorithm,omitzero" json:"algorithm,omitzero"`
	// Code is 0 when the algorithm ended by itself, otherwise the code of the
	// limit or fault that ended it; ExitCode is the algorithm's own.
	Code     mman.Code `cbor:"code" json:"code,omitempty"`
	ExitCode uint32    `cbor:"exit_code" json:"exit_code"`
	// Output is the standard output as a UnixFS file, and its size.
	Output      mman.CID `cbor:"output,omitzero" json:"output,omitzero"`
	OutputBytes uint64   `cbor:"output_bytes" json:"output_bytes"`
}

// Statement is the provider's signed claim about one lane of a lease. Usage and
// Gross are cumulative over the lane.
type Statement struct {
	Version uint64          `cbor:"v"     json:"version"`
	Lease   mman.LeaseID    `cbor:"lease" json:"lease"`
	Lane    uint64          `cbor:"lane"  json:"lane"`
	Seq     uint64          `cbor:"seq"   json:"seq"`
	Usage   resources.Usage `cbor:"usage" json:"usage"`
	Gross   mman.Amount     `cbor:"gross" json:"gross_uman"`
	// Factors give Gross from Usage.
	Factors price.Factors `cbor:"factors" json:"factors"`
	// Work is the digest of the run that is under way or just ended: what ran
	// on what, with which arguments, seed and limits.
	Work mman.Hash `cbor:"work"  json:"work"`
	// Decisions is the head of the lane's log of what policies decided until
	// then; see package decision.
	Decisions decision.Head `cbor:"decisions,omitzero" json:"decisions"`
	// Result is present on the statement that ends a run.
	Result *RunResult `cbor:"result,omitempty" json:"result,omitempty"`
}

// Receipt is the payer's signature under a Statement. Amounts are cumulative
// over the lane.
type Receipt struct {
	Version   uint64       `cbor:"v"         json:"version"`
	Statement mman.CID     `cbor:"statement" json:"statement"`
	Lease     mman.LeaseID `cbor:"lease"     json:"lease"`
	Lane      uint64       `cbor:"lane"      json:"lane"`
	Seq       uint64       `cbor:"seq"       json:"seq"`
	Paid      mman.Amount  `cbor:"paid"      json:"paid_uman"`
	// Returned is the part of Paid that was paid ahead and not used. Both only
	// grow; their difference is what the lane costs.
	Returned mman.Amount `cbor:"returned,omitzero" json:"returned_uman,omitempty"`
	// Final: the payer has the result that the statement names.
	Final bool `cbor:"final"     json:"final"`
}

// Net is what the receipt pays: Paid without what is returned.
func (r Receipt) Net() mman.Amount { return r.Paid - min(r.Paid, r.Returned) }

// Signed is an encoded Statement or Receipt with its ed25519 signature.
type Signed struct {
	Bytes     []byte `cbor:"bytes"     json:"bytes"`
	Signature []byte `cbor:"signature" json:"signature"`
}

// Signer signs a digest with an ed25519 key that never leaves its owner.
type Signer interface {
	Sign(purpose mman.SignContext, chainID string, payload []byte) []byte
}

// SignStatement encodes and signs a Statement with the node key, and returns
// its CID.
func SignStatement(chainID string, s Statement, node Signer) (Signed, mman.CID, error) {
	b, err := dagcbor.Marshal(s)
	if err != nil {
		return Signed{}, mman.CID{}, err
	}
	return Signed{b, node.Sign(mman.SignStatement, chainID, b)}, mman.SumCID(mman.CodecDagCBOR, b), nil
}

// DecodeStatement reads a Statement without verifying who signed it.
func DecodeStatement(b []byte) (Statement, error) {
	s, err := dagcbor.Unmarshal[Statement](b, StatementMaxBytes)
	if err != nil {
		return Statement{}, fmt.Errorf("statement: %w", err)
	}
	if s.Version != objectVersion || s.Lane >= MaxLanes || s.Seq == 0 {
		return Statement{}, fmt.Errorf("statement: %w: version %d, lane %d (0 to %d), number %d (from 1)", mman.ErrInvalid, s.Version, s.Lane, MaxLanes-1, s.Seq)
	}
	return s, nil
}

// OpenStatement verifies that peer signed the Statement for this chain.
func OpenStatement(chainID string, s Signed, peer mman.PeerID) (Statement, mman.CID, error) {
	st, err := DecodeStatement(s.Bytes)
	if err != nil {
		return Statement{}, mman.CID{}, err
	}
	digest := mman.SignDigest(mman.SignStatement, chainID, s.Bytes)
	if !sig.VerifyEd25519(peer, digest[:], s.Signature) {
		return Statement{}, mman.CID{}, fmt.Errorf("statement %d of lease %s: %w: it is not signed by %s", st.Seq, st.Lease, mman.ErrBadSignature, peer)
	}
	return st, mman.SumCID(mman.CodecDagCBOR, s.Bytes), nil
}

// SignReceipt encodes and signs a Receipt with the lease key.
func SignReceipt(chainID string, r Receipt, lease Signer) (Signed, error) {
	b, err := dagcbor.Marshal(r)
	if err != nil {
		return Signed{}, err
	}
	return Signed{b, lease.Sign(mman.SignReceipt, chainID, b)}, nil
}

// DecodeReceipt reads a Receipt without verifying who signed it.
func DecodeReceipt(b []byte) (Receipt, error) {
	r, err := dagcbor.Unmarshal[Receipt](b, ReceiptMaxBytes)
	if err != nil {
		return Receipt{}, fmt.Errorf("receipt: %w", err)
	}
	if r.Version != objectVersion || r.Lane >= MaxLanes || r.Seq == 0 {
		return Receipt{}, fmt.Errorf("receipt: %w: version %d, lane %d (0 to %d), number %d (from 1)", mman.ErrInvalid, r.Version, r.Lane, MaxLanes-1, r.Seq)
	}
	if r.Returned > r.Paid {
		return Receipt{}, fmt.Errorf("receipt: %w: it returns %s of %s", mman.ErrInvalid, r.Returned, r.Paid)
	}
	return r, nil
}

// OpenReceipt verifies that the lease key signed the Receipt for this chain.
func OpenReceipt(chainID string, s Signed, key mman.LeaseKey) (Receipt, error) {
	r, err := DecodeReceipt(s.Bytes)
	if err != nil {
		return Receipt{}, err
	}
	digest := mman.SignDigest(mman.SignReceipt, chainID, s.Bytes)
	if !sig.VerifyEd25519(key, digest[:], s.Signature) {
		return Receipt{}, fmt.Errorf("receipt %d of lease %s: %w: it is not signed by the lease key", r.Seq, r.Lease, mman.ErrBadSignature)
	}
	return r, nil
}

// ProgressPPM is the part of a lease's cap that a payer authorises before it
// holds a result, in millionths (market rule "progress", default 20 %).
const ProgressPPM = 200_000

// Progress returns what the payer of the lease authorises before a result.
func (l Lease) Progress() mman.Amount {
	p, err := l.Cap.MulDivFloor(ProgressPPM, 1_000_000)
	if err != nil {
		return 0 // cannot happen: the factor is below 1
	}
	return p
}

// WindowPPM is by which part of the lease's cap the payer of an interactive run
// pays ahead, in millionths: 2 %.
const WindowPPM = 20_000

// Window returns by how much the payer of an interactive run pays ahead, and how
// much work a provider risks for a payer that falls behind; at least 1 uman.
func (l Lease) Window() mman.Amount {
	w, err := l.Cap.MulDivFloor(WindowPPM, 1_000_000)
	if err != nil {
		return 0 // cannot happen: the factor is below 1
	}
	return max(w, 1)
}

// Owed is what a payer knows of a lane before it signs the next receipt.
type Owed struct {
	// Seq, Paid and Returned are of the latest receipt that it signed on the lane,
	// Usage of the statement under it; zero at the start.
	Seq      uint64
	Paid     mman.Amount
	Returned mman.Amount
	Usage    resources.Usage
	// Decisions is the head of the log of decisions under that statement.
	Decisions decision.Head
	// Interactive runs are paid one window ahead, up to the cap.
	Interactive bool
	// OtherLanes is the sum of what it signed on the lease's other lanes.
	OtherLanes mman.Amount
	// Most is the usage that the lane can have reached by what the payer saw
	// itself: elapsed wall time, bytes given and received.
	Most resources.Usage
}

// Acknowledge decides whether the payer signs a receipt under the statement and
// for how much. It recomputes the price, holds the usage against what the payer
// saw, and keeps to the cap. Without a result it pays an interactive run one
// window ahead, and another only while the whole lease has cost at most the
// progress part: after that it answers ok = false, which is no error. With the
// result it pays what that cost, and takes back what was paid ahead.
func (l Lease) Acknowledge(s Statement, id mman.CID, owed Owed) (r Receipt, ok bool, err error) {
	if err := l.fair(s, owed); err != nil {
		return Receipt{}, false, fmt.Errorf("statement %d of lease %s: %w", s.Seq, l.ID, err)
	}
	before, pay := owed.Paid-min(owed.Paid, owed.Returned), s.Gross
	switch {
	case s.Result != nil:
	case owed.Interactive:
		pay = max(before, pay+min(l.Window(), l.Cap-owed.OtherLanes-pay))
	default:
		if progress := l.Progress(); owed.OtherLanes > progress || pay > progress-owed.OtherLanes {
			return Receipt{}, false, nil
		}
		pay = max(before, pay)
	}
	r = Receipt{
		Version: objectVersion, Statement: id, Lease: l.ID, Lane: s.Lane, Seq: s.Seq,
		Paid: owed.Paid, Returned: owed.Returned, Final: s.Result != nil,
	}
	if pay < before {
		r.Returned += before - pay
		return r, true, nil
	}
	r.Paid, err = r.Paid.Add(pay - before)
	return r, err == nil, err
}

// fair reports why a payer would not sign a statement at all.
func (l Lease) fair(s Statement, owed Owed) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", mman.ErrReceipt, fmt.Sprintf(format, args...))
	}
	if s.Lease != l.ID {
		return refuse("it is for lease %s", s.Lease)
	}
	if s.Seq <= owed.Seq {
		return refuse("number %d was already signed", owed.Seq)
	}
	if !owed.Usage.AtMost(s.Usage) || !s.Usage.AtMost(owed.Most) {
		return refuse("it claims %+v, signed were %+v, and at most %+v can have been used", s.Usage, owed.Usage, owed.Most)
	}
	if !s.Decisions.Follows(owed.Decisions) {
		return refuse("its log of decisions has %d entries under %s, the one before %d under %s: it only grows", s.Decisions.Size, s.Decisions.Root, owed.Decisions.Size, owed.Decisions.Root)
	}
	factors, err := l.Factors(s.Lane)
	if err != nil {
		return err
	}
	if !s.Factors.Equal(factors) {
		return refuse("its factors are %+v, the lease's are %+v", s.Factors, factors)
	}
	gross, err := factors.Gross(s.Usage)
	if err != nil {
		return err
	}
	if s.Gross != gross {
		return refuse("it claims %s, the lease's prices give %s", s.Gross, gross)
	}
	if owed.OtherLanes > l.Cap || gross > l.Cap-owed.OtherLanes {
		return refuse("%s is above the cap of %s", gross, l.Cap)
	}
	return nil
}

// Audit verifies a Statement and the Receipt under it as anybody can who has the
// lease: the provider's node and the lease key signed them for this chain, the one
// names the other, the factors are those of the lease, and the price follows from
// them and the usage. It is mman.ErrReceipt when something does not.
func (l Lease) Audit(chainID string, statement, receipt Signed) (Statement, Receipt, error) {
	st, id, err := OpenStatement(chainID, statement, l.Compute().Peer)
	if err != nil {
		return st, Receipt{}, err
	}
	r, err := OpenReceipt(chainID, receipt, l.LeaseKey)
	if err != nil {
		return st, r, err
	}
	wrong := func(format string, args ...any) (Statement, Receipt, error) {
		return st, r, fmt.Errorf("statement %d of lease %s: %w: %s", st.Seq, st.Lease, mman.ErrReceipt, fmt.Sprintf(format, args...))
	}
	if st.Lease != l.ID || r.Lease != l.ID || r.Statement != id || r.Lane != st.Lane || r.Seq != st.Seq {
		return wrong("receipt %d of lease %s lane %d is for statement %s, this is %s", r.Seq, r.Lease, r.Lane, r.Statement, id)
	}
	factors, err := l.Factors(st.Lane)
	if err != nil {
		return st, r, err
	}
	if !factors.Equal(st.Factors) {
		return wrong("its factors are not those that were agreed when the lease was made")
	}
	gross, err := st.Factors.Gross(st.Usage)
	if err != nil {
		return st, r, err
	}
	if gross != st.Gross {
		return wrong("by its factors the usage costs %s, it says %s", gross, st.Gross)
	}
	return st, r, nil
}
