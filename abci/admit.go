package abci

import (
	"fmt"
	"math/bits"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
)

// gate admits transactions: it checks everything that does not depend on what
// the messages do, and charges the signer.
type gate struct {
	chainID  string
	params   genesis.Params
	verified *verifiedTxs
}

// opened is a transaction whose bytes are in order.
type opened struct {
	*tx.Tx
	hash mman.Hash
	msgs []tx.Msg
	gas  uint64 // what it needs
}

// open decodes a transaction and its messages and counts its gas. What fails
// here fails on every node at every height, so no honest proposal holds it.
func (g gate) open(raw []byte) (opened, error) {
	if uint64(len(raw)) > g.params.TxMaxBytes {
		return opened{}, fmt.Errorf("%w: transaction of %d bytes, at most %d are allowed", mman.ErrTooLarge, len(raw), g.params.TxMaxBytes)
	}
	t, err := tx.Decode(raw)
	if err != nil {
		return opened{}, err
	}
	msgs, err := t.Msgs()
	if err != nil {
		return opened{}, err
	}
	o := opened{Tx: t, hash: t.Hash(), msgs: msgs}
	if o.gas, err = gasNeeded(g.params.Gas, t, msgs, len(raw)); err != nil {
		return opened{}, err
	}
	switch {
	case o.GasLimit > g.params.MaxGasPerTx:
		return opened{}, fmt.Errorf("%w: gas limit %d, at most %d are allowed", mman.ErrOutOfGas, o.GasLimit, g.params.MaxGasPerTx)
	case o.gas > o.GasLimit:
		return opened{}, fmt.Errorf("%w: %d gas are needed, the limit is %d: raise it", mman.ErrOutOfGas, o.gas, o.GasLimit)
	}
	return o, nil
}

// admit checks fee, timeout, sequence and signature and charges the signer.
func (g gate) admit(w state.Writer, o opened, height uint64) error {
	fee, err := g.params.Fee(o.GasLimit)
	switch {
	case err != nil:
		return err
	case o.Fee < fee:
		return fmt.Errorf("%w: insufficient fees; got: %duman required: %duman for a gas limit of %d", mman.ErrFeeTooLow, uint64(o.Fee), uint64(fee), o.GasLimit)
	case o.TimeoutHeight != 0 && height > o.TimeoutHeight:
		return fmt.Errorf("%w: it was valid until height %d, this is %d: sign it again", mman.ErrTxExpired, o.TimeoutHeight, height)
	}
	// Charging first finds a missing account or a wrong sequence before the
	// costly signature; the caller drops the write when that does not verify.
	number, err := charge(w, o)
	if err != nil {
		return err
	}
	return g.verify(o, number)
}

func charge(w state.Writer, o opened) (uint64, error) {
	if err := bank.Charge(w, o.Tx); err != nil {
		return 0, err
	}
	account, _, err := bank.Lookup(w, o.Signer.Address())
	return account.Number, err
}

func (g gate) verify(o opened, number uint64) error {
	key := verifiedTx{o.hash, number}
	if g.verified.has(key) {
		return nil
	}
	if err := o.Verify(g.chainID, number); err != nil {
		return err
	}
	g.verified.add(key)
	return nil
}

// gasNeeded is the static gas of a transaction.
func gasNeeded(gas genesis.Gas, t *tx.Tx, msgs []tx.Msg, size int) (uint64, error) {
	sum, over := gas.TxBase, uint64(0)
	add := func(n, each uint64) {
		hi, lo := bits.Mul64(n, each)
		var carry uint64
		sum, carry = bits.Add64(sum, lo, 0)
		over |= hi | carry
	}
	add(uint64(size), gas.PerByte) //nolint:gosec // a length
	switch t.Signer.Type() {
	case sig.Ed25519:
		add(1, gas.Ed25519)
	case sig.Secp256k1:
		add(1, gas.Secp256k1)
	}
	for _, msg := range msgs {
		switch m := msg.(type) {
		case tx.MsgSend:
			add(1, gas.Send)
		case tx.MsgBindNode:
			add(1, gas.BindNode)
		case tx.MsgOffer:
			add(1, gas.Offer)
		case tx.MsgWithdrawOffer:
			add(1, gas.WithdrawOffer)
		case tx.MsgRequest:
			add(1, gas.Request)
		case tx.MsgCancelRequest:
			add(1, gas.CancelRequest)
		case tx.MsgSettle:
			add(1, gas.Settle)
			add(uint64(len(m.Items)+len(m.Close)), gas.SettleItem)
		case tx.MsgCloseLease:
			add(1, gas.CloseLease)
		default:
			return 0, fmt.Errorf("%w: %s has no gas price", mman.ErrUnknownMsg, msg.TypeURL())
		}
	}
	if over != 0 {
		return 0, fmt.Errorf("%w: the gas of the transaction", mman.ErrOverflow)
	}
	return sum, nil
}

// Gas returns what a transaction of this size, signer and messages needs, for
// clients that set a limit.
func Gas(gas genesis.Gas, t *tx.Tx, msgs []tx.Msg, size int) (uint64, error) {
	return gasNeeded(gas, t, msgs, size)
}

// verifiedTx names a signature that verified: the transaction's hash fixes the
// bytes, the account number what they were signed for.
type verifiedTx struct {
	hash   mman.Hash
	number uint64
}

// verifiedTxs remembers verified signatures, so that each is checked once in
// CheckTx and not again in the block. It holds between half of and all of its
// size; dropping it changes no result. Safe for concurrent use.
type verifiedTxs struct {
	mu       sync.Mutex
	half     int
	new, old map[verifiedTx]struct{}
}

func newVerifiedTxs(size int) *verifiedTxs {
	return &verifiedTxs{half: size / 2, new: map[verifiedTx]struct{}{}}
}

func (v *verifiedTxs) has(key verifiedTx) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.new[key]
	if !ok {
		_, ok = v.old[key]
	}
	return ok
}

func (v *verifiedTxs) add(key verifiedTx) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.new) >= v.half {
		v.old, v.new = v.new, map[verifiedTx]struct{}{}
	}
	v.new[key] = struct{}{}
}

func (v *verifiedTxs) drop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.old, v.new = nil, map[verifiedTx]struct{}{}
}
