package tx

import (
	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

// Limits of the envelope.
const (
	// MaxTxBytes is the length of the longest transaction.
	MaxTxBytes = 64 << 10
	// MaxMessages is how many messages a transaction carries at most.
	MaxMessages = 32
	// MaxMemoBytes is the length of the longest memo.
	MaxMemoBytes = 256
	// MaxTypeURLBytes is the length of the longest type URL.
	MaxTypeURLBytes = 128
)

// Limits of the messages, in bytes where no other unit is named. They hold
// beside MaxTxBytes.
const (
	// MaxOfferBytes bounds the DAG-CBOR form of an Offer.
	MaxOfferBytes = 32 << 10
	// MaxRequestBytes bounds the DAG-CBOR form of a Request.
	MaxRequestBytes = 32 << 10
	// IncludedLooks is how many offers are looked at for every request, MaxLooks
	// how many more can be paid for.
	IncludedLooks = 256
	MaxLooks      = 1 << 14
	// MaxReceiptBytes bounds the DAG-CBOR form of a Receipt.
	MaxReceiptBytes = 4 << 10
	// MaxSettleItems bounds how many receipts settle in one message.
	MaxSettleItems = 256
	// MaxSettleCloses bounds how many leases close in one message.
	MaxSettleCloses = 256
	// MaxAccepts bounds how many leases one message accepts.
	MaxAccepts = 256
	// MaxPolicyBytes bounds the DAG-CBOR form of a Policy.
	MaxPolicyBytes = 8 << 10
	// MaxCommittedBids bounds how many commitments a consumer brings,
	// MaxCommitmentBytes and MaxBidBytes the DAG-CBOR forms of a Commitment and a
	// Bid.
	MaxCommittedBids   = 16
	MaxCommitmentBytes = 256
	MaxBidBytes        = 1 << 10
	// MaxOutputs bounds how many accounts one message pays.
	MaxOutputs = 1024
	// MaxAddrs bounds how many multiaddrs a node's binding lists.
	MaxAddrs = 8
	// MaxAddrBytes bounds one multiaddr.
	MaxAddrBytes = 128
)

// Limits that follow from the ones above.
const (
	maxAddressText   = 64 // man1… has 42 characters
	maxCIDText       = 64 // baf… has 59
	maxCoinBytes     = 64
	maxOutputBytes   = 160
	maxPublicKey     = 2 + sig.Secp256k1Size
	maxSignerInfo    = 256
	maxFeeBytes      = 256
	maxSettleItem    = MaxReceiptBytes + sig.SignatureSize + 16
	maxCommittedBid  = MaxCommitmentBytes + sig.SignatureSize + 16
	maxHeight        = 1<<63 - 1
	peerBytes        = len(mman.PeerID{})
	signModeDirect   = 1
	maxModeInfoBytes = 16
)
