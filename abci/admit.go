package abci

import (
	"fmt"
	"sync"
	"sync/atomic"

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
	chainID string
	params  genesis.Params
	// baseFee is that of the next block, in 10⁻⁶ uman per gas.
	baseFee  uint64
	verified *verifiedTxs
	waiting  *waitingTxs
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
	o, err := g.decode(raw)
	if err != nil {
		return opened{}, err
	}
	if o.gas, err = tx.Gas(g.params.Gas, o.Signer.Type(), o.msgs, len(raw)); err != nil {
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

// decode decodes a transaction and its messages unless CheckTx did.
func (g gate) decode(raw []byte) (opened, error) {
	hash := mman.Sum256(raw)
	if o, ok := g.waiting.get(hash); ok {
		return o, nil
	}
	t, err := tx.Decode(raw)
	if err != nil {
		return opened{}, err
	}
	msgs, err := t.Msgs()
	if err != nil {
		return opened{}, err
	}
	return opened{Tx: t, hash: hash, msgs: msgs}, nil
}

// entry is one of the transactions of a block.
type entry struct {
	opened

	raw []byte
	err error // why it is not in order
}

const (
	// batchLeast is from how many signatures on they are verified together, and
	// batchMost how many at once.
	batchLeast = 4
	batchMost  = 256
)

// openAll opens the transactions of a block, and verifies together the
// signatures that CheckTx has not seen. Those that verify are remembered; admit
// looks at the others one by one.
func (g gate) openAll(r state.Reader, txs [][]byte) ([]entry, error) {
	entries := make([]entry, len(txs))
	var unseen []*entry
	for i, raw := range txs {
		t := &entries[i]
		t.raw = raw
		if i == 0 && tx.IsBeacon(raw) {
			continue
		}
		if t.opened, t.err = g.open(raw); t.err == nil && !g.verified.knows(t.hash) {
			unseen = append(unseen, t)
		}
	}
	for len(unseen) >= batchLeast {
		n := min(len(unseen), batchMost)
		if err := g.verifyTogether(r, unseen[:n]); err != nil {
			return nil, err
		}
		unseen = unseen[n:]
	}
	return entries, nil
}

func (g gate) verifyTogether(r state.Reader, unseen []*entry) error {
	batch := sig.NewBatchVerifier(len(unseen))
	keys := make([]verifiedTx, 0, len(unseen))
	for _, t := range unseen {
		account, ok, err := bank.Lookup(r, t.Signer.Address())
		if err != nil {
			return err
		}
		if ok { // others are refused, or come to be within this block
			batch.Add(t.Signer, t.SignBytes(g.chainID, account.Number), t.Signature)
			keys = append(keys, verifiedTx{t.hash, account.Number})
		}
	}
	_, valid := batch.Verify()
	g.verified.count.Add(uint64(len(keys)))
	for i, ok := range valid {
		if ok {
			g.verified.add(keys[i])
		}
	}
	return nil
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
	g.verified.count.Add(1)
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
	// count is how many signatures were verified.
	count atomic.Uint64

	mu       sync.Mutex
	half     int
	new, old map[mman.Hash]uint64 // account numbers by transaction
}

func newVerifiedTxs(size int) *verifiedTxs {
	return &verifiedTxs{half: size / 2, new: map[mman.Hash]uint64{}}
}

// knows reports whether the transaction's signature verified, for whatever
// account number.
func (v *verifiedTxs) knows(hash mman.Hash) bool {
	_, ok := v.number(hash)
	return ok
}

func (v *verifiedTxs) has(key verifiedTx) bool {
	number, ok := v.number(key.hash)
	return ok && number == key.number
}

func (v *verifiedTxs) number(hash mman.Hash) (number uint64, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if number, ok = v.new[hash]; !ok {
		number, ok = v.old[hash]
	}
	return number, ok
}

func (v *verifiedTxs) add(key verifiedTx) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.new) >= v.half {
		v.old, v.new = v.new, map[mman.Hash]uint64{}
	}
	v.new[key.hash] = key.number
}

func (v *verifiedTxs) drop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.old, v.new = nil, map[mman.Hash]uint64{}
}

// waitingTxs holds the transactions that CheckTx admitted and that are in no block
// yet as they were decoded, for they are looked at again after each block, when one
// is proposed and when one is executed. What it forgets is decoded again to the
// same. Safe for concurrent use.
type waitingTxs struct {
	mu    sync.Mutex
	bytes int // of all of them
	txs   map[mman.Hash]opened
}

// waitingBytes bounds the encoded transactions in waitingTxs, which the mempool holds
// too, so that what is decoded comes on top. It is as much as a mempool takes; when
// there is more all is forgotten at once, which costs time only.
const waitingBytes = 64 << 20

func newWaitingTxs() *waitingTxs { return &waitingTxs{txs: map[mman.Hash]opened{}} }

func (w *waitingTxs) get(hash mman.Hash) (opened, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := w.txs[hash]
	return o, ok
}

func (w *waitingTxs) add(o opened) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.txs[o.hash]; ok {
		return
	}
	if w.bytes += len(o.Raw()); w.bytes > waitingBytes {
		w.bytes, w.txs = len(o.Raw()), map[mman.Hash]opened{}
	}
	w.txs[o.hash] = o
}

// remove forgets what is in a block now.
func (w *waitingTxs) remove(taken []entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range taken {
		if o, ok := w.txs[t.hash]; ok {
			delete(w.txs, t.hash)
			w.bytes -= len(o.Raw())
		}
	}
}

func (w *waitingTxs) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes, w.txs = 0, map[mman.Hash]opened{}
}
