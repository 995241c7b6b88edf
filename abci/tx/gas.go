package tx

import (
	"fmt"
	"math/bits"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
)

// Gas returns what a transaction of size bytes with these messages, signed by a
// key of this type, needs under the static gas table. It is known before the
// transaction runs; ErrOverflow and ErrUnknownMsg.
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
