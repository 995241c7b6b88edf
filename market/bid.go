package market

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// Bounds of an encoded Bid and of the commitment to one.
const (
	BidMaxBytes        = 1 << 10
	CommitmentMaxBytes = 256
)

// Bid answers a Request that was put out to bids: what its bidder asks for the
// compute leg, in the place of the price of its Offer. The other terms are those
// of the Offer that stands for the resource on the peer when it is awarded.
type Bid struct {
	Version uint64         `cbor:"v"        json:"version"`
	Request mman.RequestID `cbor:"request"  json:"request"`
	Bidder  mman.Address   `cbor:"bidder"   json:"bidder"`
	// Peer is the node that will serve, Resource the manifest of the compute.
	Peer     mman.PeerID `cbor:"peer"     json:"peer"`
	Resource mman.CID    `cbor:"resource" json:"resource"`
	// Price has no load curve: it is what the lease will cost.
	Price price.Price `cbor:"price"    json:"price"`
}

// Encode returns the Bid's bytes and id. The Bid must be valid.
func (b Bid) Encode() ([]byte, mman.CID, error) {
	if err := b.validate(); err != nil {
		return nil, mman.CID{}, err
	}
	enc, err := dagcbor.Marshal(b)
	if err != nil {
		return nil, mman.CID{}, err
	}
	if len(enc) > BidMaxBytes {
		return nil, mman.CID{}, fmt.Errorf("bid: %w: %d bytes, at most %d are allowed", mman.ErrTooLarge, len(enc), BidMaxBytes)
	}
	return enc, mman.SumCID(mman.CodecDagCBOR, enc), nil
}

// DecodeBid reads a Bid and checks all that does not depend on its Request.
func DecodeBid(enc []byte) (Bid, error) {
	b, err := dagcbor.Unmarshal[Bid](enc, BidMaxBytes)
	if err != nil {
		return Bid{}, fmt.Errorf("bid: %w", err)
	}
	return b, b.validate()
}

func (b Bid) validate() error {
	switch {
	case b.Version != objectVersion:
		return fmt.Errorf("bid: %w: version %d, this program reads %d", mman.ErrUnsupported, b.Version, objectVersion)
	case b.Bidder.IsZero() || b.Peer.IsZero() || b.Resource.IsZero():
		return fmt.Errorf("bid: %w: bidder, peer and resource are all needed", mman.ErrInvalid)
	case len(b.Price.Load) > 0:
		return fmt.Errorf("bid: %w: price.load: a bid has one price, whatever is leased", mman.ErrInvalid)
	}
	return nil
}

// Answers reports whether the Bid is one for the compute leg of the Request.
func (b Bid) Answers(id mman.RequestID, r Request) error {
	leg := r.Legs[len(r.Legs)-1]
	switch {
	case b.Request != id:
		return fmt.Errorf("bid: %w: it answers request %s, not %s", mman.ErrBid, b.Request, id)
	case !leg.Resource.IsZero() && leg.Resource != b.Resource:
		return fmt.Errorf("bid: %w: it is for compute %s, %s is wanted", mman.ErrBid, b.Resource, leg.Resource)
	}
	if err := b.Price.Validate(resources.KindCompute, leg.Facet); err != nil {
		return fmt.Errorf("bid: %w", err)
	}
	return nil
}

// Seal returns the digest that a bidder commits to: SHA-512/256 of the domain
// mman.SealBid, the chain, the salt, the request, the bidder and the Bid's bytes.
// The salt of 32 random bytes hides the Bid from those who try all prices; the
// bidder in it keeps others from committing to a copy.
func Seal(chainID string, request mman.RequestID, bidder mman.Address, bid []byte, salt mman.Hash) mman.Hash {
	payload := make([]byte, 0, len(salt)+len(request)+len(bidder)+len(bid))
	payload = append(append(append(append(payload, salt[:]...), request[:]...), bidder[:]...), bid...)
	return mman.SignDigest(mman.SealBid, chainID, payload)
}

// Commitment binds a bidder to a Bid that nobody else can read.
type Commitment struct {
	Version uint64         `cbor:"v"       json:"version"`
	Request mman.RequestID `cbor:"request" json:"request"`
	Bidder  mman.Address   `cbor:"bidder"  json:"bidder"`
	Digest  mman.Hash      `cbor:"digest"  json:"digest"`
}

// SignedCommitment is a Commitment as it travels, signed by the bidder's account,
// whose bond it puts at stake.
type SignedCommitment struct {
	Bytes     []byte        `cbor:"commitment"`
	Key       sig.PublicKey `cbor:"key"`
	Signature []byte        `cbor:"signature"`
}

// SignCommitment encodes and signs a Commitment with the bidder's account key.
func SignCommitment(chainID string, c Commitment, key sig.PrivateKey) (SignedCommitment, error) {
	b, err := dagcbor.Marshal(c)
	if err != nil {
		return SignedCommitment{}, err
	}
	if key.Public().Address() != c.Bidder {
		return SignedCommitment{}, fmt.Errorf("commitment: %w: the key is of %s, the bidder is %s", mman.ErrDenied, key.Public().Address(), c.Bidder)
	}
	digest := mman.SignDigest(mman.SignBid, chainID, b)
	return SignedCommitment{b, key.Public(), key.Sign(digest[:])}, nil
}

// DecodeCommitment reads a Commitment without verifying who signed it.
func DecodeCommitment(b []byte) (Commitment, error) {
	c, err := dagcbor.Unmarshal[Commitment](b, CommitmentMaxBytes)
	if err != nil {
		return Commitment{}, fmt.Errorf("commitment: %w", err)
	}
	if c.Version != objectVersion || c.Bidder.IsZero() || c.Digest.IsZero() {
		return Commitment{}, fmt.Errorf("commitment: %w: version %d, this program reads %d; bidder and digest are needed", mman.ErrInvalid, c.Version, objectVersion)
	}
	return c, nil
}

// Open verifies that the bidder's account signed the Commitment for this chain.
func (s SignedCommitment) Open(chainID string) (Commitment, error) {
	c, err := DecodeCommitment(s.Bytes)
	if err != nil {
		return Commitment{}, err
	}
	digest := mman.SignDigest(mman.SignBid, chainID, s.Bytes)
	if s.Key.Address() != c.Bidder || !s.Key.Verify(digest[:], s.Signature) {
		return Commitment{}, fmt.Errorf("commitment: %w: it is not signed by its bidder %s for chain %s", mman.ErrBadSignature, c.Bidder, chainID)
	}
	return c, nil
}

// Acknowledged reports whether the lease key signed that the commitment's bytes
// came in time.
func Acknowledged(chainID string, key mman.LeaseKey, commitment, signature []byte) bool {
	digest := mman.SignDigest(mman.SignBidAck, chainID, commitment)
	return sig.VerifyEd25519(key, digest[:], signature)
}
