package market

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// Bounds of an Offer.
const (
	OfferMaxBytes       = 16 << 10
	maxRegion           = 64
	maxAttributesBytes  = 2 << 10
	maxCapacity         = 1 << 20
	maxMeter            = 1 << 16
	objectVersion       = 1
	maxDataLegs         = 8
	MaxCandidates       = 16 // Offers that one Request may name, over all legs
	MaxOffersInAnAnswer = 64
)

// Offer is a Resource with the terms under which its holder lends it. The
// provider's account signs its bytes; their CID is the Offer's id.
type Offer struct {
	Version  uint64       `cbor:"v"        json:"version"`
	Provider mman.Address `cbor:"provider" json:"provider"`
	// Peer is the node that serves the Offer. The chain must know it as bound
	// to the provider's account.
	Peer     mman.PeerID     `cbor:"peer"     json:"peer"`
	Kind     resources.Kind  `cbor:"kind"     json:"kind"`
	Facet    resources.Facet `cbor:"facet"    json:"facet"`
	Resource mman.CID        `cbor:"resource" json:"resource"`
	// Sealed content never leaves the provider: only its own compute can see
	// it.
	Sealed bool   `cbor:"sealed"   json:"sealed,omitempty"`
	Region string `cbor:"region"   json:"region,omitempty"` // a claim, nobody checks it
	// Attributes are copied from the manifest so that the chain can see them.
	Attributes []resources.Attribute `cbor:"attributes" json:"attributes,omitempty"`
	// Parents are copied from the manifest: those whose owners are paid a share of
	// what the offer earns.
	Parents []resources.Parent `cbor:"parents,omitempty" json:"parents,omitempty"`
	Policy  policy.Policy      `cbor:"policy"   json:"policy"`
	Price   price.Price        `cbor:"price"    json:"price"`
	// Meter is the version of the meter that counts the fuel of its runs, 0
	// where there is none.
	Meter uint64 `cbor:"meter"    json:"meter,omitempty"`
	// Capacity is the number of leases that may be open at once.
	Capacity uint64 `cbor:"capacity" json:"capacity"`
	// Expires is the height from which the Offer no longer stands.
	Expires uint64 `cbor:"expires"  json:"expires"`
}

// Encode returns the Offer's bytes and id. The Offer must be valid.
func (o Offer) Encode() ([]byte, mman.CID, error) {
	if err := o.Validate(); err != nil {
		return nil, mman.CID{}, err
	}
	b, err := dagcbor.Marshal(o)
	if err != nil {
		return nil, mman.CID{}, err
	}
	if len(b) > OfferMaxBytes {
		return nil, mman.CID{}, fmt.Errorf("offer: %w: %d bytes, at most %d are allowed", mman.ErrTooLarge, len(b), OfferMaxBytes)
	}
	return b, mman.SumCID(mman.CodecDagCBOR, b), nil
}

// DecodeOffer reads and validates an Offer and returns its id.
func DecodeOffer(b []byte) (Offer, mman.CID, error) {
	o, err := dagcbor.Unmarshal[Offer](b, OfferMaxBytes)
	if err != nil {
		return Offer{}, mman.CID{}, fmt.Errorf("offer: %w", err)
	}
	if err := o.Validate(); err != nil {
		return Offer{}, mman.CID{}, err
	}
	return o, mman.SumCID(mman.CodecDagCBOR, b), nil
}

// Validate checks everything about an Offer that does not depend on the chain.
func (o Offer) Validate() error {
	if o.Version != objectVersion {
		return fmt.Errorf("offer: %w: version %d, this program reads %d", mman.ErrUnsupported, o.Version, objectVersion)
	}
	if o.Provider.IsZero() || o.Peer.IsZero() || o.Resource.IsZero() {
		return fmt.Errorf("offer: %w: provider, peer and resource are all needed", mman.ErrInvalid)
	}
	if !resources.ValidFacet(o.Kind, o.Facet) {
		return fmt.Errorf("offer: %w: kind %.32q with facet %.32q", mman.ErrUnsupported, o.Kind, o.Facet)
	}
	if o.Sealed && o.Kind != resources.KindDataset {
		return fmt.Errorf("offer: %w: only a dataset can be sealed", mman.ErrInvalid)
	}
	if o.Region != "" {
		if err := resources.ValidName("offer: region", o.Region); err != nil {
			return err
		}
	}
	if err := resources.ValidAttributes(o.Attributes); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	size := 0
	for _, a := range o.Attributes {
		size += len(a.Key) + len(a.Value)
	}
	if size > maxAttributesBytes {
		return fmt.Errorf("offer: %w: attributes of %d bytes, at most %d are allowed", mman.ErrTooLarge, size, maxAttributesBytes)
	}
	if err := validOfferParents(o.Parents); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	if err := o.Policy.Validate(); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	if len(o.Policy.Algorithms) > 0 && o.Kind != resources.KindDataset {
		return fmt.Errorf("offer: %w: policy.algorithms belongs to datasets, this is %s", mman.ErrInvalid, o.Kind)
	}
	if err := o.Price.Validate(o.Kind, o.Facet); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	if metered := o.Kind == resources.KindCompute && o.Facet == resources.FacetWasm; metered != (o.Meter > 0) || o.Meter > maxMeter {
		return fmt.Errorf("offer: %w: meter %d: compute/wasm names the version of its meter, 1 to %d, others none", mman.ErrInvalid, o.Meter, maxMeter)
	}
	if o.Capacity == 0 || o.Capacity > maxCapacity {
		return fmt.Errorf("offer: %w: capacity %d: 1 to %d leases", mman.ErrInvalid, o.Capacity, maxCapacity)
	}
	if o.Expires == 0 {
		return fmt.Errorf("offer: %w: it has no height at which it expires", mman.ErrInvalid)
	}
	return nil
}

// Listed returns the offer as a consumer's condition sees it.
func (o Offer) Listed() policy.Listed {
	return policy.Listed{
		Kind: o.Kind, Facet: o.Facet, Resource: o.Resource, Provider: o.Provider, Peer: o.Peer, Region: o.Region,
		Sealed: o.Sealed, Attributes: o.Attributes, Obligations: o.Policy.Obligations,
		PerLease: o.Price.PerLease, Share: o.Price.Share, Capacity: o.Capacity,
	}
}

// SignedOffer is an Offer as it travels between peers.
type SignedOffer struct {
	Bytes     []byte        `cbor:"offer"`
	Key       sig.PublicKey `cbor:"key"`
	Signature []byte        `cbor:"signature"`
}

// SignOffer encodes and signs an Offer with the provider's account key.
func SignOffer(chainID string, o Offer, key sig.PrivateKey) (SignedOffer, mman.CID, error) {
	b, id, err := o.Encode()
	if err != nil {
		return SignedOffer{}, mman.CID{}, err
	}
	if key.Public().Address() != o.Provider {
		return SignedOffer{}, mman.CID{}, fmt.Errorf("offer: %w: the key is of %s, the provider is %s", mman.ErrDenied, key.Public().Address(), o.Provider)
	}
	digest := mman.SignDigest(mman.SignOffer, chainID, b)
	return SignedOffer{b, key.Public(), key.Sign(digest[:])}, id, nil
}

// Open verifies that the provider's account signed the Offer for this chain and
// returns the Offer and its id.
func (s SignedOffer) Open(chainID string) (Offer, mman.CID, error) {
	o, id, err := DecodeOffer(s.Bytes)
	if err != nil {
		return Offer{}, mman.CID{}, err
	}
	digest := mman.SignDigest(mman.SignOffer, chainID, s.Bytes)
	if s.Key.Address() != o.Provider || !s.Key.Verify(digest[:], s.Signature) {
		return Offer{}, mman.CID{}, fmt.Errorf("offer %s: %w: it is not signed by its provider %s for chain %s", id, mman.ErrBadSignature, o.Provider, chainID)
	}
	return o, id, nil
}
