// Package submit signs messages with an account's key and brings them into a
// block: it prices the transaction, keeps the account's sequence, and waits for
// the result. The client program and a node that acts for its own account use
// it alike.
package submit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/sdk/chain"
)

// Chain is where transactions go; *chain.Client is one.
type Chain interface {
	Account(ctx context.Context, a mman.Address) (chain.Account, error)
	Fee(ctx context.Context) (chain.Fee, error)
	Simulate(ctx context.Context, raw []byte) (gas uint64, err error)
	Broadcast(ctx context.Context, raw []byte) error
	Tx(ctx context.Context, hash mman.Hash) (chain.TxResult, error)
}

// Lock makes sure that the caller alone, among all processes, submits for the
// account until it calls unlock.
type Lock func(ctx context.Context, account mman.Address) (unlock func(), err error)

// Submitter submits for one account. It is safe for concurrent use.
type Submitter struct {
	chain   Chain
	chainID string
	key     sig.PrivateKey
	lock    Lock
	after   func(time.Duration) <-chan time.Time

	mu sync.Mutex
	// next is the sequence after the latest transaction that was handed over:
	// the ledger's own count lags behind by a block.
	next uint64
}

// New returns a submitter for the account of key. after is the clock between
// two looks for the result; time.After in a program.
func New(c Chain, chainID string, key sig.PrivateKey, lock Lock, after func(time.Duration) <-chan time.Time) *Submitter {
	return &Submitter{chain: c, chainID: chainID, key: key, lock: lock, after: after}
}

// Address returns the account.
func (s *Submitter) Address() mman.Address { return s.key.Public().Address() }

// Key returns the account's public key.
func (s *Submitter) Key() sig.PublicKey { return s.key.Public() }

const (
	// tries bounds how often a transaction is signed again because another
	// process, mostly the account's own node, used the sequence first.
	tries = 100
	// again is the pause before that: the other's transaction must be counted,
	// which is in the next block, on a busy machine seconds away.
	again = 300 * time.Millisecond
	// look is the pause between two looks for the result, patience how long it
	// is looked for.
	look     = 15 * time.Millisecond
	patience = 60 * time.Second
	// resend is the number of looks after which the transaction is handed over
	// again: a node that was full, or that ended and came back, has lost it.
	resend = 100
	// slack is how many bytes the fee, the gas limit and the signature add to
	// the draft that is priced.
	slack = 128
)

// Handed is a transaction that is handed over.
type Handed struct {
	Hash mman.Hash `json:"hash"`
	// Sequence is the signer's: once its account has counted beyond it, the transaction
	// is in a block or never will be.
	Sequence uint64 `json:"sequence"`
}

// Submit signs the messages in one transaction, hands it to the node and waits
// until it is in a block. The error is the one that the ledger gave:
// mman.ErrFunds, ErrFeeTooLow, … When the result does not come in time the
// error is mman.ErrTimeout and names the hash: the transaction may still land.
func (s *Submitter) Submit(ctx context.Context, msgs ...tx.Msg) (chain.TxResult, error) {
	return s.SubmitNoted(ctx, func(Handed) error { return nil }, msgs...)
}

// SubmitNoted is Submit for who has to know after a crash what may have been handed
// over: note is called before, each time that the messages are signed. Its error ends
// the submission, and that transaction is not handed over.
func (s *Submitter) SubmitNoted(ctx context.Context, note func(Handed) error, msgs ...tx.Msg) (chain.TxResult, error) {
	fee, err := s.chain.Fee(ctx)
	if err != nil {
		return chain.TxResult{}, err
	}
	for try := 1; ; try++ {
		t, err := s.broadcast(ctx, fee, note, msgs)
		if errors.Is(err, mman.ErrSequence) && try < tries {
			select {
			case <-ctx.Done():
				return chain.TxResult{}, fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
			case <-s.after(again):
				continue
			}
		}
		if err != nil {
			return chain.TxResult{}, err
		}
		return s.wait(ctx, t)
	}
}

// broadcast holds the account's lock while it reads the sequence and hands the
// transaction over.
func (s *Submitter) broadcast(ctx context.Context, fee chain.Fee, note func(Handed) error, msgs []tx.Msg) (*tx.Tx, error) {
	unlock, err := s.lock(ctx, s.Address())
	if err != nil {
		return nil, err
	}
	defer unlock()
	account, err := s.chain.Account(ctx, s.Address())
	if chain.Gone(err) {
		return nil, fmt.Errorf("%w: account %s has never received anything: fund it first", mman.ErrFunds, s.Address())
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	account.Sequence = max(account.Sequence, s.next)
	t, err := s.price(ctx, fee, account, msgs)
	if err != nil {
		return nil, err
	}
	if err := affordable(account, t, msgs); err != nil {
		return nil, err
	}
	if err := note(Handed{t.Hash(), account.Sequence}); err != nil {
		return nil, err
	}
	if err := s.chain.Broadcast(ctx, t.Raw()); err != nil {
		s.next = 0 // whatever was lost, the ledger's count is right
		return nil, err
	}
	s.next = account.Sequence + 1
	return t, nil
}

// affordable refuses what the account cannot pay, before a fee is lost on it.
func affordable(account chain.Account, t *tx.Tx, msgs []tx.Msg) error {
	need := t.Fee
	for _, m := range msgs {
		var out mman.Amount
		switch m := m.(type) {
		case tx.MsgSend:
			out = m.Amount
		case tx.MsgRequest:
			r, err := market.DecodeRequest(m.Request)
			if err != nil {
				return err
			}
			out = r.Cap
		case tx.MsgOpenRFP:
			r, err := market.DecodeRequest(m.Request)
			if err != nil {
				return err
			}
			out = r.Cap
		}
		var err error
		if need, err = need.Add(out); err != nil {
			return err
		}
	}
	if need > account.Balance {
		return fmt.Errorf("%w: account %s has %s, %s are needed with the fee of %s", mman.ErrFunds, account.Address, account.Balance, need, t.Fee)
	}
	return nil
}

// price signs the messages with a gas limit that suffices. Where the state decides,
// the ledger is asked by simulating them, and a quarter is added for what happens
// until they are in a block; when it refuses that, the transaction says why.
func (s *Submitter) price(ctx context.Context, fee chain.Fee, account chain.Account, msgs []tx.Msg) (*tx.Tx, error) {
	size := slack
	for _, m := range msgs {
		size += len(tx.EncodeMsg(m).Value) + len(m.TypeURL()) + 16
	}
	size += 128 // public key, signature and their envelopes
	gas, err := tx.Limit(fee.Gas, s.key.Type(), msgs, size)
	if err != nil {
		return nil, err
	}
	t, err := s.sign(fee, account, msgs, gas)
	if err != nil || !tx.Varies(msgs) {
		return t, err
	}
	if needs, err := s.chain.Simulate(ctx, t.Raw()); err == nil {
		return s.sign(fee, account, msgs, needs+needs/4)
	}
	return t, nil
}

func (s *Submitter) sign(fee chain.Fee, account chain.Account, msgs []tx.Msg, gas uint64) (*tx.Tx, error) {
	gas = min(gas, fee.MaxGasPerTx)
	// What is offered above the base fee is not charged, so the offer leaves
	// room for busy blocks.
	amount, err := genesis.FeeAt(2*fee.BaseFeeMicro, gas)
	if err != nil {
		return nil, err
	}
	return tx.Sign(s.key, s.chainID, account.Number, tx.Draft{Msgs: msgs, Sequence: account.Sequence, Fee: amount, GasLimit: gas})
}

func (s *Submitter) wait(caller context.Context, t *tx.Tx) (chain.TxResult, error) {
	ctx, cancel := context.WithTimeout(caller, patience)
	defer cancel()
	hash := t.Hash()
	for looks := 1; ; looks++ {
		r, err := s.chain.Tx(ctx, hash)
		if err == nil {
			if r.Err != nil {
				return r, fmt.Errorf("transaction %s: %w", hash, r.Err)
			}
			return r, nil
		}
		if !chain.Gone(err) && ctx.Err() == nil {
			return chain.TxResult{}, err
		}
		if looks%resend == 0 {
			// Most nodes have it still and say so; whatever else one says, the
			// result tells.
			_ = s.chain.Broadcast(ctx, t.Raw())
		}
		select {
		case <-ctx.Done():
			if caller.Err() != nil {
				return chain.TxResult{}, fmt.Errorf("transaction %s: %w: it was handed over and may still land; look with: mman tx %s", hash, mman.ErrCanceled, hash)
			}
			return chain.TxResult{}, fmt.Errorf("transaction %s: %w: it is in no block after %s; look again with: mman tx %s", hash, mman.ErrTimeout, patience, hash)
		case <-s.after(look):
		}
	}
}
