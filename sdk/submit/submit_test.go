package submit_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/sdk/chain"
	"github.com/limboid/massive-man/sdk/submit"
)

// ledger is a chain that takes transactions and never puts them into a block.
type ledger struct {
	balance mman.Amount
	gas     uint64        // what simulating says
	taken   chan []byte   // every transaction that was handed over
	ahead   chan struct{} // as often another one's transaction is not counted yet
}

func (l ledger) Account(_ context.Context, a mman.Address) (chain.Account, error) {
	return chain.Account{Address: a, Balance: l.balance}, nil
}

func (l ledger) Fee(context.Context) (chain.Fee, error) {
	p := genesis.Defaults(genesis.Local)
	return chain.Fee{BaseFeeMicro: p.BaseFeeMicro, Gas: p.Gas, MaxGasPerTx: p.MaxGasPerTx}, nil
}

func (l ledger) Simulate(context.Context, []byte) (uint64, error) { return l.gas, nil }

func (l ledger) Broadcast(ctx context.Context, raw []byte) error {
	select {
	case <-l.ahead:
		return fmt.Errorf("%w: account sequence mismatch, expected 1, got 0", mman.ErrSequence)
	case l.taken <- raw:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l ledger) Tx(context.Context, mman.Hash) (chain.TxResult, error) {
	return chain.TxResult{}, mman.ErrNotFound
}

func newSubmitter(t *testing.T, l ledger) *submit.Submitter {
	t.Helper()
	key, err := sig.Generate(sig.Ed25519, rand.Reader)
	require.NoError(t, err)
	lock := func(context.Context, mman.Address) (func(), error) { return func() {}, nil }
	return submit.New(l, "test", key, lock, func(time.Duration) <-chan time.Time { return nil })
}

// TestNotAffordable: what the account cannot pay is refused before it costs a
// fee.
func TestNotAffordable(t *testing.T) {
	t.Parallel()
	l := ledger{balance: mman.MAN, taken: make(chan []byte, 1)}
	s := newSubmitter(t, l)
	for name, msg := range map[string]tx.Msg{
		"more than there is":     tx.MsgSend{From: s.Address(), To: mman.Address{1}, Amount: 99 * mman.MAN},
		"nothing left for a fee": tx.MsgSend{From: s.Address(), To: mman.Address{1}, Amount: mman.MAN},
		"beyond all money":       tx.MsgSend{From: s.Address(), To: mman.Address{1}, Amount: ^mman.Amount(0)},
	} {
		_, err := s.Submit(t.Context(), msg)
		if name != "beyond all money" {
			require.ErrorIs(t, err, mman.ErrFunds, name)
			require.ErrorContains(t, err, "has 1MAN", name)
		}
		require.Error(t, err, name)
		require.Empty(t, l.taken, name)
	}
	_, err := s.Submit(t.Context(), tx.MsgRequest{Consumer: s.Address(), Request: []byte("none")})
	require.ErrorIs(t, err, mman.ErrInvalid)
	require.Empty(t, l.taken)
}

// TestCanceled: a transaction that was handed over is named, since it may still
// land.
func TestCanceled(t *testing.T) {
	t.Parallel()
	l := ledger{balance: mman.MAN, taken: make(chan []byte, 1)}
	s := newSubmitter(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.Submit(ctx, tx.MsgSend{From: s.Address(), To: mman.Address{1}, Amount: 1})
		ended <- err
	}()
	sent, err := tx.Decode(<-l.taken)
	require.NoError(t, err)
	cancel()
	err = <-ended
	require.ErrorIs(t, err, mman.ErrCanceled)
	require.ErrorContains(t, err, "mman tx "+sent.Hash().String())
	require.NotErrorIs(t, err, context.Canceled, "the hint stays in what the user reads")
}

// TestNoted: whoever notes knows of each transaction before it is handed over, and what
// cannot be noted is not handed over.
func TestNoted(t *testing.T) {
	t.Parallel()
	l := ledger{balance: mman.MAN, taken: make(chan []byte), ahead: make(chan struct{})}
	key, err := sig.Generate(sig.Ed25519, rand.Reader)
	require.NoError(t, err)
	lock := func(context.Context, mman.Address) (func(), error) { return func() {}, nil }
	soon := make(chan time.Time)
	close(soon)
	s := submit.New(l, "test", key, lock, func(time.Duration) <-chan time.Time { return soon })
	msg := tx.MsgSend{From: s.Address(), To: mman.Address{1}, Amount: 1}
	ctx, cancel := context.WithCancel(t.Context())
	noted, ended := make(chan submit.Handed, 8), make(chan error, 1)
	go func() {
		_, err := s.SubmitNoted(ctx, func(h submit.Handed) error { noted <- h; return nil }, msg)
		ended <- err
	}()
	l.ahead <- struct{}{} // the first one is refused, and signed again
	sent, err := tx.Decode(<-l.taken)
	require.NoError(t, err)
	require.Len(t, noted, 2)
	cancel()
	require.ErrorIs(t, <-ended, mman.ErrCanceled)
	<-noted
	require.Equal(t, submit.Handed{Hash: sent.Hash(), Sequence: sent.Sequence}, <-noted)

	l = ledger{balance: mman.MAN, taken: make(chan []byte, 1)}
	s = submit.New(l, "test", key, lock, func(time.Duration) <-chan time.Time { return nil })
	_, err = s.SubmitNoted(t.Context(), func(submit.Handed) error { return mman.ErrDiskFull }, msg)
	require.ErrorIs(t, err, mman.ErrDiskFull)
	require.Empty(t, l.taken)
}

// TestHandedOverAgain: a transaction that a node took and lost is handed over
// again, with the same bytes.
func TestHandedOverAgain(t *testing.T) {
	t.Parallel()
	l := ledger{balance: mman.MAN, taken: make(chan []byte, 2)}
	key, err := sig.Generate(sig.Ed25519, rand.Reader)
	require.NoError(t, err)
	lock := func(context.Context, mman.Address) (func(), error) { return func() {}, nil }
	soon := make(chan time.Time)
	close(soon)
	s := submit.New(l, "test", key, lock, func(time.Duration) <-chan time.Time { return soon })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.Submit(ctx, tx.MsgSend{From: s.Address(), To: mman.Address{1}, Amount: 1})
		ended <- err
	}()
	first := <-l.taken
	require.Equal(t, first, <-l.taken)
	cancel()
	for {
		select {
		case <-l.taken:
		case err := <-ended:
			require.ErrorIs(t, err, mman.ErrCanceled)
			return
		}
	}
}

// TestSequenceInUse: while the account's node has a transaction in no block yet, which
// the ledger does not count, the next one waits for it, but not for ever.
func TestSequenceInUse(t *testing.T) {
	t.Parallel()
	key, err := sig.Generate(sig.Ed25519, rand.Reader)
	require.NoError(t, err)
	lock := func(context.Context, mman.Address) (func(), error) { return func() {}, nil }
	soon := make(chan time.Time)
	close(soon)
	l := ledger{balance: mman.MAN, taken: make(chan []byte), ahead: make(chan struct{})}
	s := submit.New(l, "test", key, lock, func(time.Duration) <-chan time.Time { return soon })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	send := func() {
		_, err := s.Submit(ctx, tx.MsgSend{From: s.Address(), To: mman.Address{1}, Amount: 1})
		ended <- err
	}
	go send()
	for range 20 {
		l.ahead <- struct{}{}
	}
	<-l.taken
	cancel()
	require.ErrorIs(t, <-ended, mman.ErrCanceled)

	ctx = t.Context()
	close(l.ahead)
	go send()
	require.ErrorIs(t, <-ended, mman.ErrSequence)
}

// TestLimit: where the state decides how much a transaction does, the ledger is asked
// for its gas, and no more is reserved than a transaction may.
func TestLimit(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ says, want uint64 }{
		"a quarter more":           {1_000_000, 1_250_000},
		"not more than is allowed": {19_000_000, 20_000_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := ledger{balance: 1000 * mman.MAN, gas: test.says, taken: make(chan []byte, 1)}
			s := newSubmitter(t, l)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := s.Submit(ctx, tx.MsgSettle{Sender: s.Address(), Close: []mman.LeaseID{{1}}})
				ended <- err
			}()
			sent, err := tx.Decode(<-l.taken)
			require.NoError(t, err)
			require.Equal(t, test.want, sent.GasLimit)
			cancel()
			require.ErrorIs(t, <-ended, mman.ErrCanceled)
		})
	}
}
