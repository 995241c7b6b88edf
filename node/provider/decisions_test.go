package provider_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/decision"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/p2p/protocol/decisions"
)

// log fetches a lane's log as the consumer, and returns its entries and head.
func (c *consumer) log() ([]decision.Entry, decision.Head) {
	c.tb.Helper()
	var entries []decision.Entry
	var log decision.Log
	for {
		a, err := c.ask(decisions.Query{From: log.Size, Count: 7})
		require.NoError(c.tb, err)
		if len(a.Entries) == 0 {
			require.Equal(c.tb, a.Size, log.Size)
			return entries, log.Head()
		}
		for _, b := range a.Entries {
			e, err := decision.Decode(b)
			require.NoError(c.tb, err)
			entries = append(entries, e)
			log, _, err = log.Append(decision.Leaf(b))
			require.NoError(c.tb, err)
		}
	}
}

func (c *consumer) ask(q decisions.Query) (decisions.Answer, error) {
	c.tb.Helper()
	q.Lease, q.Lane = c.lease.ID, c.lane
	q, err := q.Sign(chainID, signer{c.l.leaseKey})
	require.NoError(c.tb, err)
	return c.l.Decisions(c.tb.Context(), q, mman.PeerID{1})
}

// TestDecisionsAreLogged: what policies decide on runs and on output is in the
// log whose root the statements have, across restarts; refusals too.
func TestDecisionsAreLogged(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	l.cfg.Now = func() time.Time { return time.Unix(5000, 0) }
	l.restart(t)
	rules := []policy.Rule{denyWhen("run.output_bytes > 20")}
	c := l.consumer(t, l.underPolicy(rules...), 0)
	var heads []decision.Head
	for range 2 {
		l.executor.Play = prints("abcdefgh")
		require.NoError(t, c.open())
		heads = append(heads, c.pay().Decisions)
		c.work.Close()
		l.restart(t)
	}
	l.executor.Play = prints("abcdefgh")
	require.NoError(t, c.open())
	o := &out{}
	_, err := c.requestTo(o)
	require.ErrorIs(t, err, mman.ErrPolicy)
	require.Equal(t, 4, o.Len())
	entries, head := c.log()
	type line struct {
		run, pieces, out uint64
		event            decision.Event
		effect           policy.Effect
		rule             string
	}
	var got []line
	facts := match.Facts(c.lease, c.lease.Legs[1])
	p := policy.Policy{Default: policy.Allow, Rules: rules}
	for _, e := range entries {
		got = append(got, line{e.Run, e.Pieces, e.Counts.OutputBytes, e.Event, e.Effect, e.Rule})
		require.NoError(t, e.Check(facts, &p))
		require.EqualValues(t, 1, e.Leg)
	}
	require.Equal(t, []line{
		{1, 1, 0, decision.Start, policy.Allow, "default"},
		{1, 2, 8, decision.Output, policy.Allow, "default"},
		{2, 1, 8, decision.Start, policy.Allow, "default"},
		{2, 2, 16, decision.Output, policy.Allow, "default"},
		{3, 1, 16, decision.Start, policy.Allow, "default"},
		{3, 1, 20, decision.Output, policy.Allow, "default"},
		{3, 1, 24, decision.Output, policy.Deny, "limit"},
	}, got)
	require.Equal(t, []uint64{2, 4}, []uint64{heads[0].Size, heads[1].Size})
	require.EqualValues(t, 7, head.Size)
	for i := range uint64(4) { // each is proved under what was signed then
		a, err := c.ask(decisions.Query{Size: heads[1].Size, From: i, Count: 1, Prove: true})
		require.NoError(t, err)
		require.NoError(t, decision.Verify(heads[1], i, decision.Leaf(a.Entries[0]), a.Path))
	}
	for name, q := range map[string]decisions.Query{
		"more than there are": {Size: 8, Count: 1},
		"another lane's":      {Lane: 1, Size: 1, Count: 1},
	} {
		c.lane = q.Lane
		_, err := c.ask(q)
		require.ErrorIs(t, err, mman.ErrNotFound, name)
	}
	q, err := decisions.Query{Lease: c.lease.ID, Count: 1}.Sign(chainID, signer{accountKey(t, "a stranger")})
	require.NoError(t, err)
	_, err = l.Decisions(t.Context(), q, mman.PeerID{1})
	require.ErrorIs(t, err, mman.ErrNotYourLease)
}

// TestDecisionsOfARefusedRun: a refusal is on disk though no statement follows.
func TestDecisionsOfARefusedRun(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	c := l.consumer(t, l.underPolicy(denyWhen("run.calls > 0")), 0)
	l.chain.change(func() { // it is asked at each run, not when the session opens
		for id, o := range l.chain.offers {
			o.Policy.Rules[0].When = "run.calls > 1"
			l.chain.offers[id] = o
		}
	})
	require.NoError(t, c.open())
	c.pay()
	_, err := c.request()
	require.ErrorIs(t, err, mman.ErrPolicy)
	l.restart(t)
	entries, _ := c.log()
	require.Equal(t, "limit", entries[len(entries)-1].Rule)
	require.Equal(t, policy.Deny, entries[len(entries)-1].Effect)
}

// TestLogsAreBounded: the log counts among what a lease may store.
func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	l.cfg.LeaseBytes = 3000
	l.restart(t)
	c := l.consumer(t, l.underPolicy(), 0)
	require.NoError(t, c.open())
	paid := 0
	for range 40 {
		s, err := c.request()
		if err != nil {
			require.ErrorIs(t, err, mman.ErrTooLarge)
			break
		}
		require.NoError(t, c.work.Receipt(t.Context(), c.sign(s)))
		paid++
	}
	require.Less(t, paid, 40)
	require.Positive(t, paid)
}
