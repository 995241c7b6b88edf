package tx

import (
	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
)

// The type URLs of the messages about deals that stand beside a lease's own.
const (
	TypeAcceptLeases = "/mman.market.v1.MsgAcceptLeases"
	TypeGrant        = "/mman.market.v1.MsgGrant"
	TypeRevoke       = "/mman.market.v1.MsgRevoke"
)

// MsgAcceptLeases says that the provider of the compute leg serves these leases.
type MsgAcceptLeases struct {
	Provider mman.Address
	Leases   []mman.LeaseID // 1 to MaxAccepts
}

// MsgGrant shares an offer with one account under a policy of its own, which
// stands in the place of the offer's rules. It takes the place of an earlier
// grant, and stays when the offer is renewed.
type MsgGrant struct {
	Provider mman.Address
	Offer    mman.CID
	Grantee  mman.Address
	Policy   []byte // DAG-CBOR of a policy.Policy, at most MaxPolicyBytes
	Expires  uint64 // height from which it no longer counts
}

// MsgRevoke takes a grant back.
type MsgRevoke struct {
	Provider mman.Address
	Offer    mman.CID
	Grantee  mman.Address
}

// TypeURL returns TypeAcceptLeases.
func (MsgAcceptLeases) TypeURL() string { return TypeAcceptLeases }

// TypeURL returns TypeGrant.
func (MsgGrant) TypeURL() string { return TypeGrant }

// TypeURL returns TypeRevoke.
func (MsgRevoke) TypeURL() string { return TypeRevoke }

// Signer returns the provider.
func (m MsgAcceptLeases) Signer() mman.Address { return m.Provider }

// Signer returns the provider.
func (m MsgGrant) Signer() mman.Address { return m.Provider }

// Signer returns the provider.
func (m MsgRevoke) Signer() mman.Address { return m.Provider }

// decodeDeal reads the messages of this file; false for any other.
func decodeDeal(typeURL string, r *reader) (Msg, bool) {
	switch typeURL {
	case TypeAcceptLeases:
		return decodeAcceptLeases(r), true
	case TypeGrant:
		return MsgGrant{
			Provider: r.address(1), Offer: r.cid(2), Grantee: r.address(3),
			Policy: r.required(4, MaxPolicyBytes), Expires: r.uint64(5),
		}, true
	case TypeRevoke:
		return MsgRevoke{Provider: r.address(1), Offer: r.cid(2), Grantee: r.address(3)}, true
	default:
		return nil, false
	}
}

func decodeAcceptLeases(r *reader) MsgAcceptLeases {
	m := MsgAcceptLeases{Provider: r.address(1)}
	for r.has(2, protowire.BytesType) {
		id := r.fixedElement(2, mman.IDSize)
		if len(m.Leases) == MaxAccepts {
			r.fail(2, "more than %d leases to accept", MaxAccepts)
			return m
		}
		m.Leases = append(m.Leases, mman.LeaseID(id))
	}
	if len(m.Leases) == 0 {
		r.fail(2, "there is no lease to accept")
	}
	return m
}

func (m MsgAcceptLeases) encode() []byte {
	b := appendText(nil, 1, m.Provider.String())
	for _, id := range m.Leases {
		b = appendElement(b, 2, id[:])
	}
	return b
}

func (m MsgGrant) encode() []byte {
	b := appendText(appendText(nil, 1, m.Provider.String()), 2, m.Offer.String())
	return appendUint64(appendBytes(appendText(b, 3, m.Grantee.String()), 4, m.Policy), 5, m.Expires)
}

func (m MsgRevoke) encode() []byte {
	return appendText(appendText(appendText(nil, 1, m.Provider.String()), 2, m.Offer.String()), 3, m.Grantee.String())
}
