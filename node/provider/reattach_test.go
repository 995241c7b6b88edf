package provider_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// echo is a guest that gives back what it is given, for a uman each byte.
func echo(ctx context.Context, _ resources.Task, streams resources.IO) (resources.Result, error) {
	u := resources.Usage{CallCount: 1}
	p := make([]byte, 64)
	for {
		if !streams.Credit.Covers(u) {
			if err := streams.Credit.Await(ctx, u); err != nil {
				return resources.Result{Usage: u}, errors.Join(mman.ErrCanceled, err)
			}
		}
		n, err := streams.Stdin.Read(ctx, p)
		if errors.Is(err, io.EOF) {
			return resources.Result{Usage: u}, nil
		}
		if err != nil {
			return resources.Result{Usage: u}, err
		}
		u.InBytes += uint64(n)
		u.WallMs += uint64(n)
		if _, err := streams.Stdout.Write(p[:n]); err != nil {
			return resources.Result{Usage: u}, err
		}
		u.OutBytes += uint64(n)
	}
}

// aheadPayer pays 1010 uman ahead and takes back what was not used.
type aheadPayer struct {
	c   *consumer
	top *mman.Amount
}

func (p aheadPayer) Acknowledge(s market.Signed) (market.Signed, bool, error) {
	st, _ := p.c.statement(s)
	r := p.c.sign(s, func(r *market.Receipt) {
		if st.Result != nil {
			r.Paid, r.Returned = *p.top, *p.top-st.Gross
			return
		}
		r.Paid += 1010
		*p.top = max(*p.top, r.Paid)
	})
	return r, true, nil
}

// TestReattach: the money of a conversation survives that its connections are
// cut, as its bytes do: every receipt counts once, none is asked for twice.
func TestReattach(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	l.executor.Play = echo
	host := p2ptest.Start(t, 1)
	p2ptest.Connect(t, host, l.host)
	server := &session.Server{Provider: l, Idle: time.Minute, Linger: 20 * time.Second}
	l.host.Handle(t.Context(), session.Protocol, func(ctx context.Context, s p2p.Stream) { _ = server.Serve(ctx, s) })
	lease := l.lease(1)
	c := l.consumer(t, lease, 0)
	conn, err := session.Dial(t.Context(), host, session.Opening{ChainID: chainID, Lease: lease.ID, Provider: l.host.ID(), Linger: 20 * time.Second}, signer{l.leaseKey})
	require.NoError(t, err)
	in, typed := io.Pipe()
	out, written := io.Pipe()
	answers := bufio.NewReader(out)
	lost := make(chan error, 16)
	var top mman.Amount
	type end struct {
		last market.Signed
		err  error
	}
	done := make(chan end, 1)
	source := func(mman.CID) (io.ReadCloser, uint64, error) {
		return io.NopCloser(bytes.NewReader(module)), uint64(len(module)), nil
	}
	go func() {
		last, err := conn.Run(t.Context(), session.Run{Number: 1, Limits: lease.Limits, Interactive: true}, source, aheadPayer{c, &top}, session.Sinks{
			Stdin: in, Stdout: written, Stderr: io.Discard, Lost: func(err error) { lost <- err },
		})
		_ = written.CloseWithError(err) // nobody waits for more
		done <- end{last, err}
	}()
	say := func(line string) {
		t.Helper()
		_, err := io.WriteString(typed, line+"\n")
		require.NoError(t, err)
		got, err := answers.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, line+"\n", got)
	}
	for range 5 {
		say("before the cut")
		require.NoError(t, host.Disconnect(l.host.ID()))
		require.Error(t, <-lost)
		say("and after it")
		require.NoError(t, <-lost)
	}
	require.NoError(t, typed.Close())
	got := <-done
	require.NoError(t, got.err)
	st, _ := c.statement(got.last)
	require.EqualValues(t, 5*28, st.Usage.OutBytes)
	require.Equal(t, mman.Amount(1000+5*28), st.Gross)
	_, err = conn.Close(t.Context(), true)
	require.NoError(t, err)
	require.Equal(t, top, settled(t, l.chain.take())["1/0"])
}
