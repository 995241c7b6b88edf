package provider_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
)

// underPolicy puts a lease on the chain whose compute was offered with the rules.
func (l *lender) underPolicy(rules ...policy.Rule) market.Lease {
	offer := mman.SumCID(mman.CodecDagCBOR, []byte("offer"))
	lease := l.lease(1, func(lease *market.Lease) {
		lease.Legs[1].Offer = offer
		for i := range rules {
			lease.Legs[1].Rules.Left |= 1 << i // the chain could not know
		}
	})
	l.chain.change(func() {
		l.chain.offers[offer] = market.Offer{Policy: policy.Policy{Default: policy.Allow, Rules: rules}}
	})
	return lease
}

func denyWhen(when string) policy.Rule {
	return policy.Rule{ID: "limit", Effect: policy.Deny, Phase: policy.PhaseRun, When: when}
}

// prints is a guest that writes the text in pieces of 4 bytes.
func prints(text string) func(context.Context, resources.Task, resources.IO) (resources.Result, error) {
	return func(_ context.Context, _ resources.Task, streams resources.IO) (resources.Result, error) {
		u := resources.Usage{CallCount: 1, WallMs: 5}
		for len(text) > 0 {
			n := min(4, len(text))
			if _, err := io.WriteString(streams.Stdout, text[:n]); err != nil {
				return resources.Result{Usage: u}, err
			}
			u.OutBytes += uint64(n)
			text = text[n:]
		}
		return resources.Result{Usage: u}, nil
	}
}

// TestRunPhaseRules: the rules that only a run can decide are asked before each
// run and at each piece of output, over all runs and lanes of the lease, and also
// after a restart.
func TestRunPhaseRules(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		when string
		runs int // that are carried out
	}{
		"nothing denied": {"run.calls > 100", 4},
		"calls":          {"run.calls > 2", 2},
		"wall time":      {"run.wall_ms >= 10", 2},
		"height":         {"chain.height >= 1000 && run.calls > 0", 4},
		"the time":       {"chain.time >= 5000 && run.calls > 0", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLender(t, 0)
			l.cfg.Now = func() time.Time { return time.Unix(5000, 0) }
			l.restart(t)
			l.executor.Play = prints("abc")
			c := l.consumer(t, l.underPolicy(denyWhen(tc.when)), 0)
			done := 0
			for i := range 4 {
				c.lane = uint64(i % 2)
				c.run, c.last = uint64(i), nil
				err := c.open()
				if err == nil {
					var s market.Signed
					if s, err = c.request(); err == nil {
						require.NoError(t, c.work.Receipt(t.Context(), c.sign(s)))
						done++
					}
					c.work.Close()
				}
				if err != nil {
					require.ErrorIs(t, err, mman.ErrPolicy)
					require.Contains(t, err.Error(), `"limit"`)
				}
				l.restart(t)
			}
			require.Equal(t, tc.runs, done)
		})
	}
}

// TestOutputIsHeldBack: output stops at the piece that a rule denies, nothing is
// owed for the run, and what got out counts for the next.
func TestOutputIsHeldBack(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	l.executor.Play = prints(strings.Repeat("x", 40))
	c := l.consumer(t, l.underPolicy(denyWhen("run.output_bytes > 10")), 0)
	require.NoError(t, c.open())
	o := &out{}
	_, err := c.requestTo(o)
	require.ErrorIs(t, err, mman.ErrPolicy)
	require.Equal(t, 8, o.Len())
	o = &out{}
	_, err = c.requestTo(o)
	require.ErrorIs(t, err, mman.ErrPolicy)
	require.Zero(t, o.Len(), "8 bytes are out already")
	l.executor.Play = prints("yz")
	s, err := c.request()
	require.NoError(t, err, "two more are within it")
	st, _ := c.statement(s)
	require.EqualValues(t, 1, st.Usage.CallCount, "the denied runs cost nothing")
}

// TestForgottenTerms: without the terms of its offer a lease with open questions
// is refused, and one that was decided whole is served.
func TestForgottenTerms(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	lease := l.underPolicy(denyWhen("run.calls > 100"))
	l.chain.change(func() { clear(l.chain.offers) })
	require.ErrorIs(t, l.consumer(t, lease, 0).open(), mman.ErrNotFound)
	lease.Legs[1].Rules.Left = 0
	l.chain.change(func() { l.chain.leases[lease.ID] = lease })
	require.NoError(t, l.consumer(t, lease, 0).open())
}
