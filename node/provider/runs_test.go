package provider_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/resources"
)

// chat is a conversation that goes on until it is told to end, or ended.
type chat struct {
	c     *consumer
	leave chan struct{} // closed to end it
	over  chan ended
}

// ended is how a conversation ended.
type ended struct {
	last market.Signed
	err  error
}

// chats begins one that is paid 1500 uman ahead. The executor is the lender's own from
// then on.
func (l *lender) chats(t *testing.T, id byte) *chat {
	t.Helper()
	begun := make(chan struct{})
	ch := &chat{c: l.consumer(t, l.lease(id), 0), leave: make(chan struct{}), over: make(chan ended, 1)}
	l.executor.Play = func(ctx context.Context, _ resources.Task, streams resources.IO) (resources.Result, error) {
		u := resources.Usage{CallCount: 1}
		if err := streams.Credit.Await(ctx, u); err != nil {
			return resources.Result{Usage: u}, err
		}
		close(begun)
		select {
		case <-ch.leave:
			return resources.Result{Usage: u}, nil
		case <-ctx.Done():
			return resources.Result{Usage: u}, context.Cause(ctx)
		}
	}
	require.NoError(t, ch.c.open())
	go func() {
		last, err := ch.c.talk(t.Context(), func(s market.Signed) { _ = ch.c.ahead(s, 1500) }) // what is not paid does not begin
		ch.over <- ended{last, err}
	}()
	select {
	case <-begun:
	case <-time.After(time.Minute):
		require.Fail(t, "the conversation does not begin")
	}
	return ch
}

// running waits until so many runs go on.
func (l *lender) running(t *testing.T, n int) []provider.RunInfo {
	t.Helper()
	var now []provider.RunInfo
	l.eventually(t, "runs that go on", func() bool {
		now, _ = l.Runs()
		return len(now) == n
	})
	return now
}

// TestDrain: offers leave the ledger, nothing new begins, what runs may end by itself,
// and what was paid is settled.
func TestDrain(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	_, err := l.Publish(t.Context(), listing(t, resources.KindCompute, "compute", false, nil))
	require.NoError(t, err)
	ch := l.chats(t, 1)
	now := l.running(t, 1)
	require.Equal(t, "conversation", now[0].Form)
	require.Equal(t, mman.Address{1}, now[0].Consumer)
	require.Equal(t, mman.Amount(1500), now[0].Paid)
	other := l.consumer(t, l.lease(2), 0)
	require.NoError(t, other.open())
	l.chain.take()

	drained := make(chan error, 1)
	go func() { drained <- l.Drain(t.Context(), time.Hour) }()
	var sent []tx.Msg
	l.eventually(t, "its offers leave the ledger", func() bool {
		sent = append(sent, l.chain.take()...)
		return len(sent) > 0
	})
	require.Equal(t, []string{tx.MsgWithdrawOffer{}.TypeURL()}, kinds(sent))
	require.ErrorIs(t, l.consumer(t, l.lease(3), 0).open(), mman.ErrStopped, "no session begins")
	_, err = other.request()
	require.ErrorIs(t, err, mman.ErrStopped, "and no run in one that has begun")
	select {
	case err := <-drained:
		require.Fail(t, "a conversation goes on", "%v", err)
	default:
	}
	close(ch.leave)
	require.NoError(t, (<-ch.over).err)
	require.NoError(t, <-drained)
	require.Equal(t, mman.Amount(1500), settled(t, l.chain.take())["1/0"], "what was paid is settled")
	require.Empty(t, l.running(t, 0))
}

// TestDrainEnds: when the notice is over what still runs is ended, and says why.
func TestDrainEnds(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	require.ErrorIs(t, l.Drain(t.Context(), -time.Second), mman.ErrInvalid)
	require.ErrorIs(t, l.Drain(t.Context(), 25*time.Hour), mman.ErrInvalid)
	ch := l.chats(t, 1)
	l.running(t, 1)
	require.NoError(t, l.Drain(t.Context(), 0))
	end := <-ch.over
	require.NoError(t, end.err)
	st, _ := ch.c.statement(end.last)
	require.Equal(t, mman.ErrStopped.Code, st.Result.Code, "it is stated and owed as far as it came")
	require.Equal(t, mman.Amount(1500), settled(t, l.chain.take())["1/0"])
}

// TestLostRuns: what a crash ended in the middle is closed with a record, which later
// processes still have, and only the latest.
func TestLostRuns(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	ch := l.chats(t, 1)
	l.running(t, 1)
	l.restart(t) // as after a crash: the run did not end
	close(ch.leave)
	<-ch.over // nothing is written any more
	for range 2 {
		now, lost := l.Runs()
		require.Empty(t, now)
		require.Len(t, lost, 1)
		require.Equal(t, mman.LeaseID{1}, lost[0].Lease)
		require.Equal(t, "conversation", lost[0].Form)
		require.EqualValues(t, 1, lost[0].Run)
		require.Equal(t, mman.Amount(1500), lost[0].Paid)
		l.restart(t)
	}
	// One that ended leaves none.
	done := l.chats(t, 2)
	close(done.leave)
	require.NoError(t, (<-done.over).err)
	l.restart(t)
	_, lost := l.Runs()
	require.Len(t, lost, 1)
}
