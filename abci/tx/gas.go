package tx

import (
	"fmt"
	"math/bits"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
)

// Gas returns what a transaction of size bytes with these messages, signed by a
// key of this type, needs at least: its bytes and messages under the static part of
// the gas table, known before it runs. What the messages do to the state counts
// beside it: see Limit. ErrOverflow and ErrUnknownMsg.
func Gas(table genesis.Gas, signer sig.KeyType, msgs []Msg, size int) (uint64, error) {
	sum, over := table.TxBase, uint64(0)
	add := func(n, each uint64) {
		hi, lo := bits.Mul64(n, each)
		var carry uint64
		sum, carry = bits.Add64(sum, lo, 0)
		over |= hi | carry
	}
	add(uint64(size), table.PerByte) //nolint:gosec // a length
	switch signer {
	case sig.Ed25519:
		add(1, table.Ed25519)
	case sig.Secp256k1:
		add(1, table.Secp256k1)
	}
	for _, msg := range msgs {
		switch m := msg.(type) {
		case MsgSend:
			add(1, table.Send)
		case MsgMultiSend:
			add(1, table.Send)
			add(uint64(len(m.Outputs)), table.SendOutput)
		case MsgBindNode:
			add(1, table.BindNode)
		case MsgOffer:
			add(1, table.Offer)
		case MsgWithdrawOffer:
			add(1, table.WithdrawOffer)
		case MsgRequest:
			add(1, table.Request)
			add(m.Looks, table.Look)
		case MsgCancelRequest:
			add(1, table.CancelRequest)
		case MsgSettle:
			add(1, table.Settle)
			add(uint64(len(m.Items)+len(m.Close)), table.SettleItem)
		case MsgAcceptLeases:
			add(uint64(len(m.Leases)), table.AcceptLease)
		case MsgGrant, MsgRevoke:
			add(1, table.Grant)
		case MsgOpenRFP:
			add(1, table.Request)
		case MsgCommitBids:
			add(1, table.Settle)
			add(uint64(len(m.Bids)), table.CommitBid)
		case MsgPostBid:
			add(1, table.CommitBid)
		case MsgRevealBid:
			add(1, table.RevealBid)
		case MsgCloseLease:
			add(1, table.CloseLease)
		case MsgStorageOffer, MsgPlaceStorage, MsgRenewStorage, MsgEndStorage, MsgFundRetrieval, MsgRedeemRetrieval:
			add(1, table.Storage)
		case MsgStore:
			add(1+uint64(len(m.Roots)), table.Storage)
		case MsgAcceptStorage:
			add(uint64(len(m.Replicas)), table.StorageProof)
		case MsgProveStorage:
			add(uint64(len(m.Proofs)), table.StorageProof)
		case MsgDelegate, MsgUndelegate, MsgRedelegate, MsgEditValidator, MsgUnjail:
			add(1, table.Stake)
		case MsgCreateValidator:
			add(1, table.CreateValidator)
		default:
			return 0, fmt.Errorf("%w: %s has no gas price", mman.ErrUnknownMsg, msg.TypeURL())
		}
	}
	if over != 0 {
		return 0, fmt.Errorf("%w: the gas of the transaction", mman.ErrOverflow)
	}
	return sum, nil
}

// Limit returns a gas limit for a transaction: Gas, and the reads and writes that
// such messages do at most. Where the state decides how many there are, which Varies
// says, it is a guess, and simulating the transaction tells more. Errors: see Gas.
func Limit(table genesis.Gas, signer sig.KeyType, msgs []Msg, size int) (uint64, error) {
	sum, err := Gas(table, signer, msgs, size)
	if err != nil {
		return 0, err
	}
	over := uint64(0)
	for _, msg := range msgs {
		reads, writes := operations(msg)
		for _, part := range [][2]uint64{{reads, table.Read}, {writes, table.Write}} {
			hi, lo := bits.Mul64(part[0], part[1])
			var carry uint64
			sum, carry = bits.Add64(sum, lo, 0)
			over |= hi | carry
		}
	}
	if over != 0 {
		return 0, fmt.Errorf("%w: the gas of the transaction", mman.ErrOverflow)
	}
	return sum, nil
}

// Varies reports whether the state decides how much one of the messages reads and
// writes: to how many a settlement pays, how many offers, grants and nodes somebody
// has, who lends storage, and whether a cancelled lease suspends its offer.
func Varies(msgs []Msg) bool {
	for _, msg := range msgs {
		switch msg.(type) {
		case MsgSettle, MsgOffer, MsgGrant, MsgBindNode, MsgCancelRequest, MsgOpenRFP,
			MsgStore, MsgPlaceStorage, MsgAcceptStorage, MsgProveStorage, MsgRenewStorage, MsgEndStorage:
			return true
		default:
		}
	}
	return false
}

// operations returns how many keys a message reads and writes at most, or mostly
// where Varies says so. The random workload fails on one that does more.
func operations(msg Msg) (reads, writes uint64) {
	count := func(n int) uint64 { return uint64(n) } //nolint:gosec // a length
	switch m := msg.(type) {
	case MsgSend:
		return 3, 4
	case MsgMultiSend:
		return 1 + 2*count(len(m.Outputs)), 1 + 3*count(len(m.Outputs))
	case MsgOffer:
		return 64, 48
	case MsgWithdrawOffer, MsgGrant, MsgRevoke:
		return 16, 16
	case MsgRequest, MsgOpenRFP: // all that are open are counted
		return 96, 16
	case MsgCancelRequest:
		return 32, 40
	case MsgCreateValidator:
		return 16, 20
	case MsgSettle:
		n := count(len(m.Items) + len(m.Close))
		return 8 + 24*n, 8 + 24*n
	case MsgAcceptLeases:
		return 4 + 4*count(len(m.Leases)), 4 + 4*count(len(m.Leases))
	case MsgCommitBids:
		return 4 + 5*count(len(m.Bids)), 6 + 6*count(len(m.Bids))
	case MsgStore:
		return 8 + 80*count(len(m.Roots)), 8 + 12*count(len(m.Roots))
	case MsgPlaceStorage:
		return 96, 20
	case MsgAcceptStorage:
		return 4 + 12*count(len(m.Replicas)), 4 + 16*count(len(m.Replicas))
	case MsgProveStorage:
		return 4 + 12*count(len(m.Proofs)), 4 + 16*count(len(m.Proofs))
	case MsgRenewStorage, MsgEndStorage:
		return 64, 64
	default: // what is about one record and its indexes
		return 12, 14
	}
}
