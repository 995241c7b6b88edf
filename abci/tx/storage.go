package tx

import (
	"crypto/ed25519"

	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market/storage"
)

// The type URLs of storage leases.
const (
	TypeStorageOffer    = "/mman.storage.v1.MsgStorageOffer"
	TypeStore           = "/mman.storage.v1.MsgStore"
	TypeAcceptStorage   = "/mman.storage.v1.MsgAcceptStorage"
	TypeProveStorage    = "/mman.storage.v1.MsgProveStorage"
	TypePlaceStorage    = "/mman.storage.v1.MsgPlaceStorage"
	TypeRenewStorage    = "/mman.storage.v1.MsgRenewStorage"
	TypeEndStorage      = "/mman.storage.v1.MsgEndStorage"
	TypeFundRetrieval   = "/mman.storage.v1.MsgFundRetrieval"
	TypeRedeemRetrieval = "/mman.storage.v1.MsgRedeemRetrieval"
)

// MsgStorageOffer lends room of one tier, in the place of what the provider offered
// of it before. A capacity of 0 takes no more replicas.
type MsgStorageOffer struct {
	Provider mman.Address
	Peer     mman.PeerID // a node that is bound to the provider
	Tier     storage.Tier
	Region   string
	Price    mman.Amount // for each MiB and epoch
	Retrieve mman.Amount // for each MiB that others than the consumer fetch
	Latency  uint64      // claimed, in milliseconds
	Capacity uint64      // MiB
}

// MsgStore asks for a storage lease.
type MsgStore struct {
	Consumer  mman.Address
	Key       [ed25519.PublicKeySize]byte
	Content   mman.CID // of a public file, else zero
	Bytes     uint64
	Tier      storage.Tier
	MaxPrice  mman.Amount // for each MiB and epoch
	Spread    bool
	Epochs    uint64
	Roots     []mman.Hash    // 1 to storage.MaxReplicas
	Providers []mman.Address // at most storage.MaxProviders; none means all
}

// ReplicaName names a replica of a lease.
type ReplicaName struct {
	Lease   mman.LeaseID
	Replica uint8
}

// MsgAcceptStorage says that the provider has these replicas.
type MsgAcceptStorage struct {
	Provider mman.Address
	Replicas []ReplicaName // 1 to MaxAccepts
}

// MsgProveStorage proves the possession of many replicas in one epoch.
type MsgProveStorage struct {
	Provider mman.Address
	Epoch    uint64
	Proofs   [][]byte // 1 to MaxStorageProofs, as storage.Proof encodes them
}

// MsgPlaceStorage gives a replica that nobody holds another root, and asks for a
// provider for it.
type MsgPlaceStorage struct {
	Consumer mman.Address
	Lease    mman.LeaseID
	Replica  uint8
	Root     mman.Hash
}

// MsgRenewStorage adds epochs to a lease.
type MsgRenewStorage struct {
	Consumer mman.Address
	Lease    mman.LeaseID
	Epochs   uint64
}

// MsgEndStorage lets a lease end with the running epoch.
type MsgEndStorage struct {
	Consumer mman.Address
	Lease    mman.LeaseID
}

// MsgFundRetrieval sets money aside for what the consumer fetches from a provider,
// and names the key that signs how much.
type MsgFundRetrieval struct {
	Consumer mman.Address
	Provider mman.Address
	Key      [ed25519.PublicKeySize]byte
	Amount   mman.Amount // positive
}

// MsgRedeemRetrieval takes what the key signed for.
type MsgRedeemRetrieval struct {
	Provider  mman.Address
	Consumer  mman.Address
	Amount    mman.Amount // in all, since the money was set aside
	Signature []byte      // 64 bytes: the key over Payload, context mman.SignRetrieval
}

// MaxStorageProofs bounds the proofs of one message.
const MaxStorageProofs = 64

const replicaNameBytes = mman.IDSize + 1

// TypeURL returns TypeStorageOffer.
func (MsgStorageOffer) TypeURL() string { return TypeStorageOffer }

// TypeURL returns TypeStore.
func (MsgStore) TypeURL() string { return TypeStore }

// TypeURL returns TypeAcceptStorage.
func (MsgAcceptStorage) TypeURL() string { return TypeAcceptStorage }

// TypeURL returns TypeProveStorage.
func (MsgProveStorage) TypeURL() string { return TypeProveStorage }

// TypeURL returns TypePlaceStorage.
func (MsgPlaceStorage) TypeURL() string { return TypePlaceStorage }

// TypeURL returns TypeRenewStorage.
func (MsgRenewStorage) TypeURL() string { return TypeRenewStorage }

// TypeURL returns TypeEndStorage.
func (MsgEndStorage) TypeURL() string { return TypeEndStorage }

// TypeURL returns TypeFundRetrieval.
func (MsgFundRetrieval) TypeURL() string { return TypeFundRetrieval }

// TypeURL returns TypeRedeemRetrieval.
func (MsgRedeemRetrieval) TypeURL() string { return TypeRedeemRetrieval }

// Signer returns the provider.
func (m MsgStorageOffer) Signer() mman.Address { return m.Provider }

// Signer returns the consumer.
func (m MsgStore) Signer() mman.Address { return m.Consumer }

// Signer returns the provider.
func (m MsgAcceptStorage) Signer() mman.Address { return m.Provider }

// Signer returns the provider.
func (m MsgProveStorage) Signer() mman.Address { return m.Provider }

// Signer returns the consumer.
func (m MsgPlaceStorage) Signer() mman.Address { return m.Consumer }

// Signer returns the consumer.
func (m MsgRenewStorage) Signer() mman.Address { return m.Consumer }

// Signer returns the consumer.
func (m MsgEndStorage) Signer() mman.Address { return m.Consumer }

// Signer returns the consumer.
func (m MsgFundRetrieval) Signer() mman.Address { return m.Consumer }

// Signer returns the provider.
func (m MsgRedeemRetrieval) Signer() mman.Address { return m.Provider }

// Wanted returns what the message asks for.
func (m MsgStore) Wanted() storage.Wanted {
	return storage.Wanted{
		Consumer: m.Consumer, Key: m.Key[:], Content: m.Content, Bytes: m.Bytes, Tier: m.Tier, MaxPrice: m.MaxPrice,
		Spread: m.Spread, Providers: m.Providers, Epochs: m.Epochs, Roots: m.Roots,
	}
}

// Payload is what the key signs: who pays whom how much. It is the message without
// its signature.
func (m MsgRedeemRetrieval) Payload() []byte {
	m.Signature = nil
	return m.encode()
}

// decodeStorage reads the messages of this file; false for any other.
func decodeStorage(typeURL string, r *reader) (Msg, bool) {
	switch typeURL {
	case TypeStorageOffer:
		return MsgStorageOffer{
			Provider: r.address(1), Peer: mman.PeerID(r.fixed(2, peerBytes)), Tier: storage.Tier(r.text(3, maxTier)), Region: r.text(4, storage.MaxRegion),
			Price: mman.Amount(r.uint64(5)), Retrieve: mman.Amount(r.uint64(6)), Latency: r.uint64(7), Capacity: r.uint64(8),
		}, true
	case TypeStore:
		return decodeStore(r), true
	case TypeAcceptStorage:
		return decodeAcceptStorage(r), true
	case TypeProveStorage:
		return decodeProveStorage(r), true
	case TypePlaceStorage:
		return MsgPlaceStorage{Consumer: r.address(1), Lease: mman.LeaseID(r.fixed(2, mman.IDSize)), Replica: r.byte(3), Root: mman.Hash(r.fixed(4, len(mman.Hash{})))}, true
	case TypeRenewStorage:
		return MsgRenewStorage{Consumer: r.address(1), Lease: mman.LeaseID(r.fixed(2, mman.IDSize)), Epochs: r.uint64(3)}, true
	case TypeEndStorage:
		return MsgEndStorage{Consumer: r.address(1), Lease: mman.LeaseID(r.fixed(2, mman.IDSize))}, true
	case TypeFundRetrieval:
		return MsgFundRetrieval{
			Consumer: r.address(1), Provider: r.address(2), Key: [ed25519.PublicKeySize]byte(r.fixed(3, ed25519.PublicKeySize)), Amount: mman.Amount(r.uint64(4)),
		}, true
	case TypeRedeemRetrieval:
		return MsgRedeemRetrieval{Provider: r.address(1), Consumer: r.address(2), Amount: mman.Amount(r.uint64(3)), Signature: r.fixed(4, sig.SignatureSize)}, true
	default:
		return nil, false
	}
}

const maxTier = 8

// byte reads an optional number below 256.
func (r *reader) byte(num protowire.Number) uint8 {
	v := r.uint64(num)
	if v > 1<<8-1 {
		r.fail(num, "%d is above 255", v)
	}
	return uint8(v) //nolint:gosec // tested
}

// flag reads an optional number that is 1 when it is there.
func (r *reader) flag(num protowire.Number) bool {
	v := r.uint64(num)
	if v > 1 {
		r.fail(num, "%d is no truth value", v)
	}
	return v == 1
}

func appendFlag(b []byte, num protowire.Number, v bool) []byte {
	if v {
		return appendUint64(b, num, 1)
	}
	return b
}

func decodeStore(r *reader) MsgStore {
	m := MsgStore{Consumer: r.address(1), Key: [ed25519.PublicKeySize]byte(r.fixed(2, ed25519.PublicKeySize))}
	if r.has(3, protowire.BytesType) {
		m.Content = r.cid(3)
	}
	m.Bytes, m.Tier, m.MaxPrice, m.Spread, m.Epochs = r.uint64(4), storage.Tier(r.text(5, maxTier)), mman.Amount(r.uint64(6)), r.flag(7), r.uint64(8)
	for r.has(9, protowire.BytesType) {
		root := r.fixedElement(9, len(mman.Hash{}))
		if len(m.Roots) == storage.MaxReplicas {
			r.fail(9, "more than %d replicas", storage.MaxReplicas)
			return m
		}
		m.Roots = append(m.Roots, mman.Hash(root))
	}
	for r.has(10, protowire.BytesType) {
		provider := r.fixedElement(10, mman.AddressSize)
		if len(m.Providers) == storage.MaxProviders {
			r.fail(10, "more than %d providers", storage.MaxProviders)
			return m
		}
		m.Providers = append(m.Providers, mman.Address(provider))
	}
	if len(m.Roots) == 0 {
		r.fail(9, "there is no replica to store")
	}
	return m
}

func decodeAcceptStorage(r *reader) MsgAcceptStorage {
	m := MsgAcceptStorage{Provider: r.address(1)}
	for r.has(2, protowire.BytesType) {
		b := r.fixedElement(2, replicaNameBytes)
		if len(m.Replicas) == MaxAccepts {
			r.fail(2, "more than %d replicas to accept", MaxAccepts)
			return m
		}
		m.Replicas = append(m.Replicas, ReplicaName{mman.LeaseID(b[:mman.IDSize]), b[mman.IDSize]})
	}
	if len(m.Replicas) == 0 {
		r.fail(2, "there is no replica to accept")
	}
	return m
}

func decodeProveStorage(r *reader) MsgProveStorage {
	m := MsgProveStorage{Provider: r.address(1), Epoch: r.uint64(2)}
	for r.has(3, protowire.BytesType) {
		b := r.element(3, storage.ProofMaxBytes)
		if len(m.Proofs) == MaxStorageProofs {
			r.fail(3, "more than %d proofs", MaxStorageProofs)
			return m
		}
		m.Proofs = append(m.Proofs, b)
	}
	if len(m.Proofs) == 0 {
		r.fail(3, "there is no proof")
	}
	return m
}

func (m MsgStorageOffer) encode() []byte {
	b := appendBytes(appendText(nil, 1, m.Provider.String()), 2, m.Peer[:])
	b = appendText(appendText(b, 3, string(m.Tier)), 4, m.Region)
	b = appendUint64(appendUint64(b, 5, uint64(m.Price)), 6, uint64(m.Retrieve))
	return appendUint64(appendUint64(b, 7, m.Latency), 8, m.Capacity)
}

func (m MsgStore) encode() []byte {
	b := appendBytes(appendText(nil, 1, m.Consumer.String()), 2, m.Key[:])
	if !m.Content.IsZero() {
		b = appendText(b, 3, m.Content.String())
	}
	b = appendUint64(appendText(appendUint64(b, 4, m.Bytes), 5, string(m.Tier)), 6, uint64(m.MaxPrice))
	b = appendUint64(appendFlag(b, 7, m.Spread), 8, m.Epochs)
	for _, root := range m.Roots {
		b = appendElement(b, 9, root[:])
	}
	for _, provider := range m.Providers {
		b = appendElement(b, 10, provider[:])
	}
	return b
}

func (m MsgAcceptStorage) encode() []byte {
	b := appendText(nil, 1, m.Provider.String())
	for _, n := range m.Replicas {
		b = appendElement(b, 2, append(n.Lease[:len(n.Lease):len(n.Lease)], n.Replica))
	}
	return b
}

func (m MsgProveStorage) encode() []byte {
	b := appendUint64(appendText(nil, 1, m.Provider.String()), 2, m.Epoch)
	for _, p := range m.Proofs {
		b = appendElement(b, 3, p)
	}
	return b
}

func (m MsgPlaceStorage) encode() []byte {
	b := appendBytes(appendText(nil, 1, m.Consumer.String()), 2, m.Lease[:])
	return appendBytes(appendUint64(b, 3, uint64(m.Replica)), 4, m.Root[:])
}

func (m MsgRenewStorage) encode() []byte {
	return appendUint64(appendBytes(appendText(nil, 1, m.Consumer.String()), 2, m.Lease[:]), 3, m.Epochs)
}

func (m MsgEndStorage) encode() []byte {
	return appendBytes(appendText(nil, 1, m.Consumer.String()), 2, m.Lease[:])
}

func (m MsgFundRetrieval) encode() []byte {
	b := appendText(appendText(nil, 1, m.Consumer.String()), 2, m.Provider.String())
	return appendUint64(appendBytes(b, 3, m.Key[:]), 4, uint64(m.Amount))
}

func (m MsgRedeemRetrieval) encode() []byte {
	b := appendText(appendText(nil, 1, m.Provider.String()), 2, m.Consumer.String())
	return appendBytes(appendUint64(b, 3, uint64(m.Amount)), 4, m.Signature)
}
