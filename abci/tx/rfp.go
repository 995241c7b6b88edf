package tx

import (
	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

// The type URLs of the messages about requests that are put out to sealed bids.
const (
	TypeOpenRFP    = "/mman.market.v1.MsgOpenRFP"
	TypeCommitBids = "/mman.market.v1.MsgCommitBids"
	TypePostBid    = "/mman.market.v1.MsgPostBid"
	TypeRevealBid  = "/mman.market.v1.MsgRevealBid"
)

// MsgOpenRFP puts a request out to sealed bids. The chain's id for it is made as
// that of a MsgRequest.
type MsgOpenRFP struct {
	Consumer mman.Address
	Request  []byte      // DAG-CBOR of a market.Request, at most MaxRequestBytes
	Bond     mman.Amount // what each bidder has at stake, in uman; positive
	CommitBy uint64      // last height for commitments
}

// CommittedBid is the commitment to a bid with its bidder's signature.
type CommittedBid struct {
	Commitment []byte // DAG-CBOR of a market.Commitment, at most MaxCommitmentBytes
	Signature  []byte // 64 bytes: the bidder's account key over it, context mman.SignBid
}

// MsgCommitBids brings the commitments that the consumer collected.
type MsgCommitBids struct {
	Consumer mman.Address
	Request  mman.RequestID
	Bids     []CommittedBid // 1 to MaxCommittedBids
}

// MsgPostBid brings a commitment that the consumer acknowledged and left out.
type MsgPostBid struct {
	Bidder          mman.Address
	Commitment      []byte // DAG-CBOR of a market.Commitment, at most MaxCommitmentBytes
	Acknowledgement []byte // 64 bytes: the lease key over it, context mman.SignBidAck
}

// MsgRevealBid opens a commitment.
type MsgRevealBid struct {
	Bidder  mman.Address
	Request mman.RequestID
	Bid     []byte // DAG-CBOR of a market.Bid, at most MaxBidBytes
	Salt    mman.Hash
}

// TypeURL returns TypeOpenRFP.
func (MsgOpenRFP) TypeURL() string { return TypeOpenRFP }

// TypeURL returns TypeCommitBids.
func (MsgCommitBids) TypeURL() string { return TypeCommitBids }

// TypeURL returns TypePostBid.
func (MsgPostBid) TypeURL() string { return TypePostBid }

// TypeURL returns TypeRevealBid.
func (MsgRevealBid) TypeURL() string { return TypeRevealBid }

// Signer returns the consumer.
func (m MsgOpenRFP) Signer() mman.Address { return m.Consumer }

// Signer returns the consumer.
func (m MsgCommitBids) Signer() mman.Address { return m.Consumer }

// Signer returns the bidder.
func (m MsgPostBid) Signer() mman.Address { return m.Bidder }

// Signer returns the bidder.
func (m MsgRevealBid) Signer() mman.Address { return m.Bidder }

// decodeRFP reads the messages of this file; false for any other.
func decodeRFP(typeURL string, r *reader) (Msg, bool) {
	switch typeURL {
	case TypeOpenRFP:
		m := MsgOpenRFP{Consumer: r.address(1), Request: r.required(2, MaxRequestBytes), Bond: mman.Amount(r.uint64(3)), CommitBy: r.uint64(4)}
		if m.Bond == 0 || m.Bond > mman.MaxSupply {
			r.fail(3, "a bond of %d uman", uint64(m.Bond))
		}
		return m, true
	case TypeCommitBids:
		return decodeCommitBids(r), true
	case TypePostBid:
		return MsgPostBid{Bidder: r.address(1), Commitment: r.required(2, MaxCommitmentBytes), Acknowledgement: r.fixed(3, sig.SignatureSize)}, true
	case TypeRevealBid:
		return MsgRevealBid{
			Bidder: r.address(1), Request: mman.RequestID(r.fixed(2, mman.IDSize)),
			Bid: r.required(3, MaxBidBytes), Salt: mman.Hash(r.fixed(4, len(mman.Hash{}))),
		}, true
	default:
		return nil, false
	}
}

func decodeCommitBids(r *reader) MsgCommitBids {
	m := MsgCommitBids{Consumer: r.address(1), Request: mman.RequestID(r.fixed(2, mman.IDSize))}
	for r.has(3, protowire.BytesType) {
		bid := &reader{what: r.what + " bid", rest: r.element(3, maxCommittedBid)}
		if len(m.Bids) == MaxCommittedBids {
			r.fail(3, "more than %d commitments", MaxCommittedBids)
		}
		if r.err != nil {
			return m
		}
		m.Bids = append(m.Bids, CommittedBid{Commitment: bid.required(1, MaxCommitmentBytes), Signature: bid.fixed(2, sig.SignatureSize)})
		r.err = bid.end()
	}
	if len(m.Bids) == 0 {
		r.fail(3, "there is no commitment to bring")
	}
	return m
}

func (m MsgOpenRFP) encode() []byte {
	b := appendBytes(appendText(nil, 1, m.Consumer.String()), 2, m.Request)
	return appendUint64(appendUint64(b, 3, uint64(m.Bond)), 4, m.CommitBy)
}

func (m MsgCommitBids) encode() []byte {
	b := appendBytes(appendText(nil, 1, m.Consumer.String()), 2, m.Request[:])
	for _, bid := range m.Bids {
		b = appendElement(b, 3, appendBytes(appendBytes(nil, 1, bid.Commitment), 2, bid.Signature))
	}
	return b
}

func (m MsgPostBid) encode() []byte {
	return appendBytes(appendBytes(appendText(nil, 1, m.Bidder.String()), 2, m.Commitment), 3, m.Acknowledgement)
}

func (m MsgRevealBid) encode() []byte {
	b := appendBytes(appendText(nil, 1, m.Bidder.String()), 2, m.Request[:])
	return appendBytes(appendBytes(b, 3, m.Bid), 4, m.Salt[:])
}
