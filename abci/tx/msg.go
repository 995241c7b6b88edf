package tx

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

// The type URLs of the messages.
const (
	TypeSend          = "/cosmos.bank.v1beta1.MsgSend"
	TypeMultiSend     = "/cosmos.bank.v1beta1.MsgMultiSend"
	TypeOffer         = "/mman.market.v1.MsgOffer"
	TypeWithdrawOffer = "/mman.market.v1.MsgWithdrawOffer"
	TypeBindNode      = "/mman.market.v1.MsgBindNode"
	TypeRequest       = "/mman.market.v1.MsgRequest"
	TypeCancelRequest = "/mman.market.v1.MsgCancelRequest"
	TypeSettle        = "/mman.market.v1.MsgSettle"
	TypeCloseLease    = "/mman.market.v1.MsgCloseLease"
)

// TypeURLs returns the type URLs of all messages, in a fixed order. The caller
// owns the slice.
func TypeURLs() []string {
	return []string{
		TypeSend, TypeMultiSend, TypeOffer, TypeWithdrawOffer, TypeBindNode,
		TypeRequest, TypeCancelRequest, TypeSettle, TypeCloseLease, TypeAcceptLeases, TypeGrant, TypeRevoke,
		TypeOpenRFP, TypeCommitBids, TypePostBid, TypeRevealBid,
		TypeStorageOffer, TypeStore, TypeAcceptStorage, TypeProveStorage, TypePlaceStorage, TypeRenewStorage, TypeEndStorage, TypeFundRetrieval, TypeRedeemRetrieval,
		TypeDelegate, TypeUndelegate, TypeRedelegate, TypeCreateValidator, TypeEditValidator, TypeUnjail,
	}
}

// Any is a message before it is decoded.
type Any struct {
	TypeURL string
	Value   []byte // the protobuf form of the message
}

// Msg is one of the Msg… structs of this package, as a value, never as a
// pointer.
type Msg interface {
	// TypeURL returns the message's name on the wire.
	TypeURL() string
	// Signer returns the account that must sign the transaction.
	Signer() mman.Address

	encode() []byte
}

// MsgSend pays Amount uman from one account to another, as any wallet of the
// ecosystem writes it. The amount is positive.
type MsgSend struct {
	From   mman.Address
	To     mman.Address
	Amount mman.Amount
}

// MsgMultiSend pays many accounts from one, as any wallet of the ecosystem
// writes it.
type MsgMultiSend struct {
	From    mman.Address
	Outputs []Output // 1 to MaxOutputs; their sum is what From pays
}

// Output is one payment of a MsgMultiSend. The amount is positive.
type Output struct {
	To     mman.Address
	Amount mman.Amount
}

// Sum returns what all outputs together pay; mman.ErrOverflow.
func (m MsgMultiSend) Sum() (mman.Amount, error) {
	var sum mman.Amount
	var err error
	for _, o := range m.Outputs {
		if sum, err = sum.Add(o.Amount); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// MsgOffer publishes an Offer.
type MsgOffer struct {
	Provider  mman.Address
	Offer     []byte // DAG-CBOR of a market.Offer, at most MaxOfferBytes
	Signature []byte // 64 bytes: the account's key over the Offer, context mman.SignOffer
}

// MsgWithdrawOffer takes an Offer out of the book.
type MsgWithdrawOffer struct {
	Provider mman.Address
	Offer    mman.CID
}

// MsgBindNode binds a node to the account that answers for it, or changes the
// node's addresses. Both sign: the account the transaction, the node this
// message.
type MsgBindNode struct {
	Account       mman.Address
	Peer          mman.PeerID
	Addrs         []string // at most MaxAddrs multiaddrs of at most MaxAddrBytes printable ASCII characters
	NodeSignature []byte   // 64 bytes, see SignNode
}

// MsgRequest asks for a lease. The chain's id for it comes from the
// transaction's hash and the message's index.
type MsgRequest struct {
	Consumer mman.Address
	Request  []byte // DAG-CBOR of a market.Request, at most MaxRequestBytes
	// Looks is how many offers may be looked at for it beyond IncludedLooks, at
	// most MaxLooks; each is paid with the transaction.
	Looks uint64
}

// MsgCancelRequest takes back a request that is not matched, or whose lease its
// provider did not accept in time.
type MsgCancelRequest struct {
	Consumer mman.Address
	Request  mman.RequestID
}

// SettleItem is one Receipt with the lease key's signature.
type SettleItem struct {
	Receipt   []byte // DAG-CBOR of a market.Receipt, at most MaxReceiptBytes
	Signature []byte // 64 bytes: the lease key over the Receipt, context mman.SignReceipt
}

// MsgSettle turns Receipts into transfers. At least one item or close is there.
type MsgSettle struct {
	Sender mman.Address
	Items  []SettleItem   // at most MaxSettleItems
	Close  []mman.LeaseID // leases that the sender, their provider, agrees to close now; at most MaxSettleCloses
}

// MsgCloseLease ends a lease.
type MsgCloseLease struct {
	Account mman.Address
	Lease   mman.LeaseID
}

// TypeURL returns TypeSend.
func (MsgSend) TypeURL() string { return TypeSend }

// TypeURL returns TypeMultiSend.
func (MsgMultiSend) TypeURL() string { return TypeMultiSend }

// TypeURL returns TypeOffer.
func (MsgOffer) TypeURL() string { return TypeOffer }

// TypeURL returns TypeWithdrawOffer.
func (MsgWithdrawOffer) TypeURL() string { return TypeWithdrawOffer }

// TypeURL returns TypeBindNode.
func (MsgBindNode) TypeURL() string { return TypeBindNode }

// TypeURL returns TypeRequest.
func (MsgRequest) TypeURL() string { return TypeRequest }

// TypeURL returns TypeCancelRequest.
func (MsgCancelRequest) TypeURL() string { return TypeCancelRequest }

// TypeURL returns TypeSettle.
func (MsgSettle) TypeURL() string { return TypeSettle }

// TypeURL returns TypeCloseLease.
func (MsgCloseLease) TypeURL() string { return TypeCloseLease }

// Signer returns the payer.
func (m MsgSend) Signer() mman.Address { return m.From }

// Signer returns the payer.
func (m MsgMultiSend) Signer() mman.Address { return m.From }

// Signer returns the provider.
func (m MsgOffer) Signer() mman.Address { return m.Provider }

// Signer returns the provider.
func (m MsgWithdrawOffer) Signer() mman.Address { return m.Provider }

// Signer returns the account that answers for the node.
func (m MsgBindNode) Signer() mman.Address { return m.Account }

// Signer returns the consumer.
func (m MsgRequest) Signer() mman.Address { return m.Consumer }

// Signer returns the consumer.
func (m MsgCancelRequest) Signer() mman.Address { return m.Consumer }

// Signer returns who submits the receipts.
func (m MsgSettle) Signer() mman.Address { return m.Sender }

// Signer returns the party that ends the lease.
func (m MsgCloseLease) Signer() mman.Address { return m.Account }

// NodePayload is what the node signs: the message without its signature, context
// mman.SignBind.
func (m MsgBindNode) NodePayload() []byte {
	m.NodeSignature = nil
	return m.encode()
}

// SignNode returns m with the node's signature: its ed25519 key over the
// message without the signature, context mman.SignBind.
func (m MsgBindNode) SignNode(node sig.PrivateKey, chainID string) MsgBindNode {
	digest := mman.SignDigest(mman.SignBind, chainID, m.NodePayload())
	m.NodeSignature = node.Sign(digest[:])
	return m
}

// NodeDigest returns what the node signs, for callers whose node key lives
// elsewhere.
func (m MsgBindNode) NodeDigest(chainID string) mman.Hash {
	return mman.SignDigest(mman.SignBind, chainID, m.NodePayload())
}

// VerifyNode reports whether the node signed the binding for this chain.
func (m MsgBindNode) VerifyNode(chainID string) bool {
	digest := m.NodeDigest(chainID)
	return sig.VerifyEd25519(m.Peer, digest[:], m.NodeSignature)
}

// EncodeMsg returns the one encoding of m. It checks nothing: what is not valid
// does not decode, and Build refuses it.
func EncodeMsg(m Msg) Any { return Any{TypeURL: m.TypeURL(), Value: m.encode()} }

// DecodeMsg reads the value of a message. It fails with ErrUnknownMsg for a
// type URL that is not in TypeURLs, and with ErrTxDecode for a value that is
// not strict or breaks a limit. The message shares memory with value.
func DecodeMsg(typeURL string, value []byte) (Msg, error) {
	if len(value) > MaxTxBytes {
		return nil, fmt.Errorf("%w: %.128q of %d bytes: at most %d are allowed", mman.ErrTxDecode, typeURL, len(value), MaxTxBytes)
	}
	r := &reader{what: typeURL, rest: value}
	var m Msg
	switch typeURL {
	case TypeSend:
		m = decodeSend(r)
	case TypeMultiSend:
		m = decodeMultiSend(r)
	case TypeOffer:
		m = decodeOffer(r)
	case TypeWithdrawOffer:
		m = MsgWithdrawOffer{Provider: r.address(1), Offer: r.cid(2)}
	case TypeBindNode:
		m = decodeBindNode(r)
	case TypeRequest:
		m = decodeRequest(r)
	case TypeCancelRequest:
		m = MsgCancelRequest{Consumer: r.address(1), Request: mman.RequestID(r.fixed(2, mman.IDSize))}
	case TypeSettle:
		m = decodeSettle(r)
	case TypeCloseLease:
		m = MsgCloseLease{Account: r.address(1), Lease: mman.LeaseID(r.fixed(2, mman.IDSize))}
	default:
		var ok bool
		if m, ok = decodeDeal(typeURL, r); !ok {
			m, ok = decodeRFP(typeURL, r)
		}
		if !ok {
			m, ok = decodeStorage(typeURL, r)
		}
		if !ok {
			m, ok = decodeStaking(typeURL, r)
		}
		if !ok {
			return nil, fmt.Errorf("%w: %.128q: this chain does not have it", mman.ErrUnknownMsg, typeURL)
		}
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return m, nil
}

func decodeSend(r *reader) MsgSend {
	return MsgSend{From: r.address(1), To: r.address(2), Amount: r.coin(3)}
}

func (m MsgSend) encode() []byte {
	b := appendText(nil, 1, m.From.String())
	b = appendText(b, 2, m.To.String())
	return appendCoin(b, 3, m.Amount)
}

func decodeMultiSend(r *reader) MsgMultiSend {
	in := &reader{what: r.what + " input", rest: r.message(1, maxOutputBytes)}
	m := MsgMultiSend{}
	var paid mman.Amount
	if m.From, paid = in.address(1), in.coin(2); r.err == nil {
		r.err = in.end()
	}
	if r.has(1, protowire.BytesType) {
		r.fail(1, "exactly one account pays")
	}
	for r.has(2, protowire.BytesType) {
		out := &reader{what: r.what + " output", rest: r.element(2, maxOutputBytes)}
		if len(m.Outputs) == MaxOutputs {
			r.fail(2, "more than %d payments", MaxOutputs)
		}
		if r.err != nil {
			return m
		}
		m.Outputs = append(m.Outputs, Output{To: out.address(1), Amount: out.coin(2)})
		r.err = out.end()
	}
	sum, err := m.Sum()
	if err != nil || sum != paid || sum == 0 {
		r.fail(2, "the payments must add up to the input's %duman", uint64(paid))
	}
	return m
}

func (m MsgMultiSend) encode() []byte {
	sum, err := m.Sum()
	if err != nil {
		sum = 0 // an input without a coin does not decode
	}
	b := appendElement(nil, 1, appendCoin(appendText(nil, 1, m.From.String()), 2, sum))
	for _, o := range m.Outputs {
		b = appendElement(b, 2, appendCoin(appendText(nil, 1, o.To.String()), 2, o.Amount))
	}
	return b
}

func decodeOffer(r *reader) MsgOffer {
	return MsgOffer{
		Provider:  r.address(1),
		Offer:     r.required(2, MaxOfferBytes),
		Signature: r.fixed(3, sig.SignatureSize),
	}
}

func (m MsgOffer) encode() []byte {
	b := appendText(nil, 1, m.Provider.String())
	b = appendBytes(b, 2, m.Offer)
	return appendBytes(b, 3, m.Signature)
}

func (m MsgWithdrawOffer) encode() []byte {
	return appendText(appendText(nil, 1, m.Provider.String()), 2, m.Offer.String())
}

func decodeBindNode(r *reader) MsgBindNode {
	m := MsgBindNode{Account: r.address(1), Peer: mman.PeerID(r.fixed(2, peerBytes))}
	for r.has(3, protowire.BytesType) {
		addr := r.element(3, MaxAddrBytes)
		if len(m.Addrs) == MaxAddrs {
			r.fail(3, "more than %d addresses", MaxAddrs)
			return m
		}
		if !isAddr(addr) {
			r.fail(3, "the address %q is no multiaddr: it starts with / and is printable ASCII", addr)
			return m
		}
		m.Addrs = append(m.Addrs, string(addr))
	}
	m.NodeSignature = r.fixed(4, sig.SignatureSize)
	return m
}

func isAddr(b []byte) bool {
	if len(b) < 2 || b[0] != '/' {
		return false
	}
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

func (m MsgBindNode) encode() []byte {
	b := appendText(nil, 1, m.Account.String())
	b = appendBytes(b, 2, m.Peer[:])
	for _, addr := range m.Addrs {
		b = appendElement(b, 3, []byte(addr))
	}
	return appendBytes(b, 4, m.NodeSignature)
}

func decodeRequest(r *reader) MsgRequest {
	m := MsgRequest{Consumer: r.address(1), Request: r.required(2, MaxRequestBytes), Looks: r.uint64(3)}
	if m.Looks > MaxLooks {
		r.fail(3, "%d looks, at most %d can be paid for", m.Looks, MaxLooks)
	}
	return m
}

func (m MsgRequest) encode() []byte {
	return appendUint64(appendBytes(appendText(nil, 1, m.Consumer.String()), 2, m.Request), 3, m.Looks)
}

func (m MsgCancelRequest) encode() []byte {
	return appendBytes(appendText(nil, 1, m.Consumer.String()), 2, m.Request[:])
}

func decodeSettle(r *reader) MsgSettle {
	m := MsgSettle{Sender: r.address(1)}
	for r.has(2, protowire.BytesType) {
		item := &reader{what: r.what + " item", rest: r.element(2, maxSettleItem)}
		if len(m.Items) == MaxSettleItems {
			r.fail(2, "more than %d receipts", MaxSettleItems)
		}
		if r.err != nil {
			return m
		}
		m.Items = append(m.Items, SettleItem{Receipt: item.required(1, MaxReceiptBytes), Signature: item.fixed(2, sig.SignatureSize)})
		r.err = item.end()
	}
	for r.has(3, protowire.BytesType) {
		id := r.fixedElement(3, mman.IDSize)
		if len(m.Close) == MaxSettleCloses {
			r.fail(3, "more than %d leases to close", MaxSettleCloses)
			return m
		}
		m.Close = append(m.Close, mman.LeaseID(id))
	}
	if len(m.Items)+len(m.Close) == 0 {
		r.fail(2, "there is nothing to settle and nothing to close")
	}
	return m
}

func (m MsgSettle) encode() []byte {
	b := appendText(nil, 1, m.Sender.String())
	for _, it := range m.Items {
		b = appendElement(b, 2, appendBytes(appendBytes(nil, 1, it.Receipt), 2, it.Signature))
	}
	for _, id := range m.Close {
		b = appendElement(b, 3, id[:])
	}
	return b
}

func (m MsgCloseLease) encode() []byte {
	return appendBytes(appendText(nil, 1, m.Account.String()), 2, m.Lease[:])
}

// ResultData returns the TxMsgData of a transaction whose messages, named by
// their type URLs, succeeded: an empty response for each, "…Response", which is
// what CosmJS expects in a result's data. No messages give no bytes.
func ResultData(typeURLs []string) []byte {
	var b []byte
	for _, u := range typeURLs {
		b = appendElement(b, 2, appendText(nil, 1, u+"Response"))
	}
	return b
}
