package abci

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/beside"
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
	// signatures verifies while the block is executed; nil verifies at once.
	signatures *signatures
}

// opened is a transaction whose bytes are in order.
type opened struct {
	*tx.Tx
	hash mman.Hash
	msgs []tx.Msg
	gas  uint64 // what it needs
	// expected says that the signature is valid for the account number, or is being
	// verified for it by the gate's signatures.
	expected bool
	number   uint64
}

// open decodes a transaction and its messages and counts its gas. What fails
// here fails on every node at every height, so no honest proposal holds it.
func (g *gate) open(raw []byte) (opened, error) {
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
func (g *gate) decode(raw []byte) (opened, error) {
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
	// batchMost how many at once: more would cost less each, but the last ones of a
	// block are waited for.
	batchLeast = 4
	batchMost  = 256
	// halvesLeast is how many transactions are worth a goroutine to open them.
	halvesLeast = 64
)

// openAll opens the transactions of a block, the two halves at the same time, and
// begins to verify their signatures when the gate has a place for that.
func (g *gate) openAll(txs [][]byte) []entry {
	entries := make([]entry, len(txs))
	open := func(from, to int) []*opened {
		unverified := make([]*opened, 0, to-from)
		for i := from; i < to; i++ {
			t := &entries[i]
			t.raw = txs[i]
			if i == 0 && tx.IsBeacon(t.raw) {
				continue
			}
			if t.opened, t.err = g.open(t.raw); t.err != nil || g.signatures == nil {
				continue
			}
			if g.signatures.expect(&t.opened, g.verified) {
				unverified = append(unverified, &t.opened)
			}
		}
		return unverified
	}
	var unverified []*opened
	if half := len(txs) / 2; half < halvesLeast {
		unverified = open(0, len(txs))
	} else {
		wait := beside.Start(func() []*opened { return open(0, half) })
		second := open(half, len(txs))
		unverified = append(wait(), second...)
	}
	if g.signatures != nil {
		g.signatures.begin(unverified)
	}
	return entries
}

// signatures verifies those of many transactions in batches on other processors. A
// block is executed meanwhile as if all of them were valid; whoever executes asks at
// the end whether they were, and drops what he did when not.
type signatures struct {
	chainID string
	// before is the state in which the numbers of most signers are found before
	// anything is executed.
	before  *state.Snapshot
	next    []*opened // the batch that grows
	batches []running
}

// running is a batch that is being verified, each for its own account number.
type running struct {
	txs  []*opened
	wait func() []bool
}

// expect reports whether a transaction's signature must be verified for the number
// that its account has before the block, and counts it as valid for that from now on.
// One that was verified counts already; an account that the block itself makes is met
// when the transaction is admitted, and so is an error.
func (s *signatures) expect(o *opened, verified *verifiedTxs) (unverified bool) {
	if o.number, o.expected = verified.number(o.hash); o.expected {
		return false
	}
	account, ok, err := bank.Lookup(s.before, o.Address())
	o.number, o.expected = account.Number, ok && err == nil
	return o.expected
}

// begin takes what expect asked for, and starts it in batches of one size, since a small
// one costs more for each signature.
func (s *signatures) begin(txs []*opened) {
	batches := max((len(txs)+batchMost-1)/batchMost, 1)
	for batch := range slices.Chunk(txs, max((len(txs)+batches-1)/batches, 1)) {
		s.next = batch
		s.start(batchLeast)
	}
}

// add takes one more signature, for the number that o names.
func (s *signatures) add(o opened) {
	s.next = append(s.next, &o)
	s.start(batchMost)
}

// start begins to verify the batch that grows when it has at least so many.
func (s *signatures) start(least int) {
	txs, chainID := s.next, s.chainID
	if len(txs) < least {
		return
	}
	s.next = nil
	s.batches = append(s.batches, running{txs, sig.VerifyBeside(len(txs), func(batch *sig.BatchVerifier) {
		for _, t := range txs {
			batch.Add(t.Signer, t.SignBytes(chainID, t.number), t.Signature)
		}
	})})
}

// settled reports whether all signatures were valid. Those that were are remembered.
func (s *signatures) settled(verified *verifiedTxs) bool {
	s.start(batchLeast)
	all := true
	for _, batch := range slices.Backward(s.batches) { // the last is the least likely to be begun
		verified.count.Add(uint64(len(batch.txs)))
		for i, valid := range batch.wait() {
			if t := batch.txs[i]; valid {
				verified.add(verifiedTx{t.hash, t.number})
			} else {
				all = false
			}
		}
	}
	for _, t := range s.next {
		verified.count.Add(1)
		if t.Verify(s.chainID, t.number) != nil {
			return false
		}
		verified.add(verifiedTx{t.hash, t.number})
	}
	return all
}

// fee returns what the transaction pays: its gas limit at the base fee. What it
// offers above that stays with the signer.
func (g *gate) fee(o opened) (mman.Amount, error) { return genesis.FeeAt(g.baseFee, o.GasLimit) }

// admit checks fee, timeout, sequence and signature and charges the signer. It
// writes nothing when it refuses.
func (g *gate) admit(w state.Writer, o opened, height uint64) error {
	bill, err := g.examine(w, o, height)
	if err != nil {
		return err
	}
	return bill.Take(w)
}

// examine is admit without the charge, which the bill holds.
func (g *gate) examine(r state.Reader, o opened, height uint64) (bank.Bill, error) {
	fee, err := g.fee(o)
	switch {
	case err != nil:
		return bank.Bill{}, err
	case o.Fee < fee:
		return bank.Bill{}, fmt.Errorf("%w: insufficient fees; got: %duman required: %duman for a gas limit of %d", mman.ErrFeeTooLow, uint64(o.Fee), uint64(fee), o.GasLimit)
	case o.TimeoutHeight != 0 && height > o.TimeoutHeight:
		return bank.Bill{}, fmt.Errorf("%w: it was valid until height %d, this is %d: sign it again", mman.ErrTxExpired, o.TimeoutHeight, height)
	}
	// A missing account and a wrong sequence are found before the costly signature.
	bill, err := bank.Charge(r, o.Tx, fee)
	if err != nil {
		return bank.Bill{}, err
	}
	return bill, g.verify(o, bill.Number())
}

func (g *gate) verify(o opened, number uint64) error {
	if o.expected && o.number == number {
		return nil
	}
	key := verifiedTx{o.hash, number}
	if known, ok := g.verified.number(o.hash); ok && known == number {
		return nil
	}
	if g.signatures != nil {
		o.number = number
		g.signatures.add(o)
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

// number returns the account number for which the transaction's signature is valid.
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
