package abci

import (
	"fmt"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
)

// gate admits transactions: it checks everything that does not depend on what
// the messages do, and charges the signer.
type gate struct {
	chainID string
	params  genesis.Params
	// baseFee is that of the next block, in 10⁻⁶ uman per gas.
	baseFee  uint64
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
	if o.gas, err = tx.Gas(g.params.Gas, t.Signer.Type(), msgs, len(raw)); err != nil {
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

// fee returns what the transaction pays: its gas limit at the base fee. What it
// offers above that stays with the signer.
func (g gate) fee(o opened) (mman.Amount, error) { return genesis.FeeAt(g.baseFee, o.GasLimit) }

// admit checks fee, timeout, sequence and signature and charges the signer.
func (g gate) admit(w state.Writer, o opened, height uint64) error {
	fee, err := g.fee(o)
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
	number, err := bank.Charge(w, o.Tx, fee)
	if err != nil {
		return err
	}
	return g.verify(o, number)
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
