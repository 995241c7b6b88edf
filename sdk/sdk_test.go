package sdk_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

const chainID = p2ptest.NetworkID

// node signs as the provider's node.
type node int

func (n node) id() mman.PeerID { return mman.PeerID(p2ptest.Key(int(n))[ed25519.SeedSize:]) }

func (n node) Sign(purpose mman.SignContext, chain string, payload []byte) []byte {
	digest := mman.SignDigest(purpose, chain, payload)
	return ed25519.Sign(p2ptest.Key(int(n)), digest[:])
}

const holder node = 1

func newLease(t *testing.T, id byte) (*sdk.LeaseBook, *sdk.OwnLease, sig.PrivateKey) {
	t.Helper()
	book := sdk.OpenLeaseBook(filepath.Join(t.TempDir(), "leases"))
	key, err := book.NewKey()
	require.NoError(t, err)
	own, err := book.Add(sdk.OwnLease{ChainID: chainID, Lease: aLease(id, key)})
	require.NoError(t, err)
	return book, own, key
}

func aLease(id byte, key sig.PrivateKey) market.Lease {
	return market.Lease{
		Version: 1, ID: mman.LeaseID{id}, Consumer: mman.Address{1}, LeaseKey: mman.LeaseKey(key.Public().Bytes()),
		Legs: []market.Leg{
			{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: mman.SumCID(mman.CodecRaw, []byte("m")), Offer: mman.SumCID(mman.CodecRaw, []byte("o")), Peer: holder.id(), Provider: mman.Address{2}},
			{Role: market.RoleCompute, Facet: resources.FacetWasm, Peer: holder.id(), Provider: mman.Address{2}, Price: price.Price{Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1, UMan: 1}}}},
		},
		Cap: 10_000, Limits: resources.DefaultLimits(), Opened: 1, Expires: 1000 + uint64(id), CloseAt: 2000, State: market.LeaseOpen,
	}
}

func TestLeaseBook(t *testing.T) {
	t.Parallel()
	book, own, key := newLease(t, 1)
	_, err := book.Add(sdk.OwnLease{ChainID: chainID, Lease: aLease(2, key)})
	require.NoError(t, err)
	all, err := book.All()
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, mman.LeaseID{2}, all[0].Lease.ID, "the one that expires last comes first")
	got, err := book.Key(all[1])
	require.NoError(t, err)
	require.Equal(t, key.Public(), got.Public())
	_, err = book.Get(mman.LeaseID{9})
	require.ErrorIs(t, err, mman.ErrNotFound)

	// A crash before the lease was written leaves a folder; one while it was
	// written leaves the old file beside an unfinished one.
	require.NoError(t, os.Mkdir(filepath.Join(filepath.Dir(own.Dir()), mman.LeaseID{3}.String()), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(own.Dir(), "lease.new"), []byte("half"), 0o600))
	all, err = book.All()
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.NoError(t, own.Forget())
	all, err = book.All()
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.NoError(t, os.WriteFile(filepath.Join(all[0].Dir(), "lease"), []byte("x"), 0o600))
	_, err = book.All()
	require.ErrorIs(t, err, mman.ErrCorrupt)
	all, err = sdk.OpenLeaseBook(filepath.Join(t.TempDir(), "none")).All()
	require.NoError(t, err)
	require.Empty(t, all)
}

func TestLanes(t *testing.T) {
	t.Parallel()
	_, own, _ := newLease(t, 1)
	paid, err := own.Paid()
	require.NoError(t, err)
	require.Zero(t, paid)
	var lanes []*sdk.Lane
	for n := range uint64(market.MaxLanes) {
		l, err := own.TakeLane()
		require.NoError(t, err)
		require.Equal(t, n, l.Number())
		require.NoError(t, l.Advance(mman.Amount(n)))
		lanes = append(lanes, l)
	}
	_, err = own.TakeLane()
	require.ErrorIs(t, err, mman.ErrBusy)
	paid, err = own.Paid()
	require.NoError(t, err)
	require.Equal(t, mman.Amount(120), paid)
	require.NoError(t, lanes[7].Close())
	require.NoError(t, lanes[7].Close())
	again, err := own.TakeLane()
	require.NoError(t, err)
	require.Equal(t, uint64(7), again.Number())
	_, seven, _, _ := again.Signed()
	require.Equal(t, mman.Amount(7), seven)
	require.NoError(t, again.Advance(100))
	require.NoError(t, again.Close())

	// A write that was cut off leaves the state before it.
	path := filepath.Join(own.Dir(), "lanes")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	const slot = 2 << 10
	whole := bytes.Clone(b)
	b[(2*7)*slot+50] ^= 1 // the second save is in the even slot
	require.NoError(t, os.WriteFile(path, b, 0o600))
	again, err = own.TakeLane()
	require.NoError(t, err)
	_, seven, _, _ = again.Signed()
	require.Equal(t, mman.Amount(7), seven)
	require.NoError(t, again.Close())
	whole[(2*7)*slot+50] ^= 1
	whole[(2*7+1)*slot+50] ^= 1
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	_, err = own.TakeLane()
	require.ErrorIs(t, err, mman.ErrCorrupt)
	for _, l := range lanes {
		require.NoError(t, l.Close())
	}
}

// TestLaneOfAnotherProcess: a lane that a process holds is not given to
// another, and is free when the process dies.
func TestLaneOfAnotherProcess(t *testing.T) {
	const env = "MMAN_TEST_LEASES"
	if dir := os.Getenv(env); dir != "" {
		own, err := sdk.OpenLeaseBook(dir).Get(mman.LeaseID{1})
		require.NoError(t, err)
		lane, err := own.TakeLane()
		require.NoError(t, err)
		require.NoError(t, lane.Advance(40))
		_, err = os.Stdout.WriteString("held\n")
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, os.Stdin) // until killed
		require.NoError(t, err)
		return
	}
	_, own, _ := newLease(t, 1)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLaneOfAnotherProcess$")
	cmd.Env = append(os.Environ(), env+"="+filepath.Dir(own.Dir()))
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line := make([]byte, 5)
	_, err = io.ReadFull(stdout, line)
	require.NoError(t, err)
	lane, err := own.TakeLane()
	require.NoError(t, err)
	require.Equal(t, uint64(1), lane.Number())
	paid, err := own.Paid()
	require.NoError(t, err)
	require.Equal(t, mman.Amount(40), paid, "its money counts")
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	_ = stdin.Close() // Wait has closed it
	freed, err := own.TakeLane()
	require.NoError(t, err)
	require.Equal(t, uint64(0), freed.Number())
	require.NoError(t, errors.Join(lane.Close(), freed.Close()))
}

// factors are what the price of aLease is made of.
func factors() price.Factors {
	return price.Factors{Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1, UMan: 1}}}
}

func statement(t *testing.T, by node, change func(*market.Statement)) market.Signed {
	t.Helper()
	st := market.Statement{Version: 1, Lease: mman.LeaseID{1}, Seq: 1, Usage: resources.Usage{WallMs: 100, CallCount: 1}, Gross: 100, Factors: factors(), Result: &market.RunResult{Run: 1}}
	change(&st)
	s, _, err := market.SignStatement(chainID, st, by)
	require.NoError(t, err)
	return s
}

func TestPayer(t *testing.T) {
	t.Parallel()
	cost := func(ms uint64) func(*market.Statement) {
		return func(s *market.Statement) { s.Usage.WallMs, s.Gross = ms, mman.Amount(ms) }
	}
	for name, tc := range map[string]struct {
		want   error
		quiet  bool // no receipt, and no error
		by     node
		change func(*market.Statement)
	}{
		"fair":                      {change: func(*market.Statement) {}},
		"as long as it took":        {change: cost(5001)},
		"longer than it took":       {want: mman.ErrReceipt, change: cost(5002)},
		"more output than came":     {want: mman.ErrReceipt, change: func(s *market.Statement) { s.Usage.OutBytes = 21 }},
		"more input than was given": {want: mman.ErrReceipt, change: func(s *market.Statement) { s.Usage.InBytes = 11 }},
		"two calls":                 {want: mman.ErrReceipt, change: func(s *market.Statement) { s.Usage.CallCount = 2 }},
		"not metered":               {want: mman.ErrReceipt, change: func(s *market.Statement) { s.Usage.Fuel = 1 }},
		"price too high":            {want: mman.ErrReceipt, change: func(s *market.Statement) { s.Gross++ }},
		"other factors":             {want: mman.ErrReceipt, change: func(s *market.Statement) { s.Factors.Fixed = 1 }},
		"price too low":             {want: mman.ErrReceipt, change: func(s *market.Statement) { s.Gross-- }},
		"other lease":               {want: mman.ErrReceipt, change: func(s *market.Statement) { s.Lease[0]++ }},
		"other lane":                {want: mman.ErrReceipt, change: func(s *market.Statement) { s.Lane++ }},
		"other node":                {want: mman.ErrBadSignature, by: 2, change: func(*market.Statement) {}},
		"progress":                  {change: func(s *market.Statement) { cost(2000)(s); s.Result = nil }},
		"above progress":            {quiet: true, change: func(s *market.Statement) { cost(2001)(s); s.Result = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, own, key := newLease(t, 1)
			lane, err := own.TakeLane()
			require.NoError(t, err)
			by := tc.by
			if by == 0 {
				by = holder
			}
			st := statement(t, by, tc.change)
			p := lane.NewPayer(key, holder.id(), 5*time.Second, 10, 20)
			r, ok, err := p.Acknowledge(st)
			require.ErrorIs(t, err, tc.want)
			require.Equal(t, tc.want == nil && !tc.quiet, ok)
			require.NoError(t, lane.Close())
			again, err := own.TakeLane()
			require.NoError(t, err)
			seq, paid, _, receipt := again.Signed()
			if !ok {
				require.Zero(t, seq)
				require.Zero(t, paid)
				return
			}
			require.Equal(t, &r, receipt, "it was on disk before it was given away")
			got, err := market.OpenReceipt(chainID, r, own.Lease.LeaseKey)
			require.NoError(t, err)
			require.Equal(t, paid, got.Paid)
			_, _, err = again.NewPayer(key, holder.id(), time.Hour, 10, 20).Acknowledge(st)
			require.ErrorIs(t, err, mman.ErrReceipt, "a statement is signed once")
			require.NoError(t, again.Close())
		})
	}
}

func TestLanesShareTheCap(t *testing.T) {
	t.Parallel()
	_, own, key := newLease(t, 1)
	first, err := own.TakeLane()
	require.NoError(t, err)
	require.NoError(t, first.Advance(9_000))
	second, err := own.TakeLane()
	require.NoError(t, err)
	at := func(ms uint64) func(*market.Statement) {
		return func(s *market.Statement) {
			s.Lane, s.Usage.WallMs, s.Gross = 1, ms, mman.Amount(ms)
		}
	}
	p := second.NewPayer(key, holder.id(), time.Hour, 0, 0)
	_, _, err = p.Acknowledge(statement(t, holder, at(1001)))
	require.ErrorIs(t, err, mman.ErrReceipt)
	_, ok, err := p.Acknowledge(statement(t, holder, at(1000)))
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, errors.Join(first.Close(), second.Close()))
}

// liar is a provider that says the output it likes.
type liar struct {
	own    *sdk.OwnLease
	result market.RunResult
	writes int
	got    chan market.Signed
}

func (l *liar) Open(_ context.Context, h session.Hello) (session.Work, session.Accept, error) {
	a, err := session.Accept{Lease: h.Lease, Lane: h.Lane, Nonce: h.Nonce}.Sign(chainID, holder)
	return l, a, err
}
func (*liar) Missing(context.Context, session.Run) ([]mman.CID, error)  { return nil, nil }
func (*liar) Supply(context.Context, mman.CID, uint64, io.Reader) error { return nil }
func (l *liar) Receipt(_ context.Context, r market.Signed) error        { l.got <- r; return nil }
func (*liar) Settle(context.Context) (mman.Hash, error)                 { return mman.Hash{}, nil }
func (*liar) Close()                                                    {}
func (*liar) Resume(context.Context, session.Hello) (session.Accept, error) {
	return session.Accept{}, mman.ErrNotFound
}

func (l *liar) Run(_ context.Context, run session.Run, _ resources.Input, out session.Output) (market.Signed, error) {
	for range l.writes {
		if err := out.Stdout([]byte("out")); err != nil {
			return market.Signed{}, err
		}
	}
	work, err := run.Work(l.own.Lease.ID)
	if err != nil {
		return market.Signed{}, err
	}
	l.result.Run = run.Number
	s, _, err := market.SignStatement(chainID, market.Statement{Version: 1, Lease: l.own.Lease.ID, Seq: 1, Usage: resources.Usage{WallMs: 1, CallCount: 1}, Gross: 1, Factors: factors(), Work: work, Result: &l.result}, holder)
	return s, err
}

// TestLyingProvider: what is not the signed output is not paid for.
func TestLyingProvider(t *testing.T) {
	t.Parallel()
	id := mman.SumCID(mman.CodecRaw, []byte("out"))
	for name, tc := range map[string]struct {
		want   error
		result market.RunResult
		writes int
		limit  uint64
	}{
		"honest":      {nil, market.RunResult{Output: id, OutputBytes: 3}, 1, 1 << 20},
		"wrong cid":   {mman.ErrContent, market.RunResult{Output: mman.SumCID(mman.CodecRaw, []byte("tuo")), OutputBytes: 3}, 1, 1 << 20},
		"wrong size":  {mman.ErrContent, market.RunResult{Output: id, OutputBytes: 4}, 1, 1 << 20},
		"wrong bytes": {mman.ErrContent, market.RunResult{Output: id, OutputBytes: 3}, 2, 1 << 20},
		"no bytes":    {mman.ErrContent, market.RunResult{Output: id, OutputBytes: 3}, 0, 1 << 20},
		"no end":      {mman.ErrOutput, market.RunResult{Output: id, OutputBytes: 3}, 10_000, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, own, key := newLease(t, 1)
			lane, err := own.TakeLane()
			require.NoError(t, err)
			hosts := p2ptest.New(t, 2)
			p2ptest.Connect(t, hosts[0], hosts[1])
			l := &liar{own: own, result: tc.result, writes: tc.writes, got: make(chan market.Signed, 8)}
			served := make(chan error, 1)
			hosts[1].Handle(t.Context(), session.Protocol, func(ctx context.Context, stream p2p.Stream) {
				served <- (&session.Server{Provider: l, Idle: time.Minute}).Serve(ctx, stream)
			})
			conn, err := session.Dial(t.Context(), hosts[0], session.Opening{ChainID: chainID, Lease: own.Lease.ID, Provider: hosts[1].ID()}, signer{key})
			require.NoError(t, err)
			s := sdk.NewSession(conn, own, lane, key, hosts[1].ID(), time.Now)
			limits := own.Lease.Limits
			limits.OutputBytes = tc.limit
			var stdout bytes.Buffer
			got, err := s.Run(t.Context(), sdk.Work{Limits: limits, Stdout: &stdout})
			require.ErrorIs(t, err, tc.want)
			_, paid, run, _ := lane.Signed()
			require.Equal(t, uint64(1), run)
			if tc.want != nil {
				require.Zero(t, paid)
				require.Error(t, <-served)
				require.Empty(t, l.got)
				return
			}
			require.Equal(t, "out", stdout.String())
			require.Equal(t, mman.Amount(1), paid)
			require.Equal(t, mman.Sum256([]byte("out")), got.SHA256)
			<-l.got
			// nil sinks drop the output
			require.NoError(t, s.Close(t.Context()))
			require.NoError(t, <-served)
		})
	}
}

type signer struct{ key sig.PrivateKey }

func (s signer) Sign(purpose mman.SignContext, chain string, payload []byte) []byte {
	digest := mman.SignDigest(purpose, chain, payload)
	return s.key.Sign(digest[:])
}

func TestNotServed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		codes []mman.Code
		want  error
	}{
		"nothing offered":           {nil, mman.ErrResourceGone},
		"others":                    {[]mman.Code{mman.ErrOfferGone.Code}, mman.ErrResourceGone},
		"price":                     {[]mman.Code{mman.ErrPrice.Code}, mman.ErrPrice},
		"capacity":                  {[]mman.Code{mman.ErrCapacity.Code}, mman.ErrCapacity},
		"the policy tells the most": {[]mman.Code{mman.ErrPrice.Code, mman.ErrPolicy.Code, mman.ErrCapacity.Code}, mman.ErrPolicy},
	} {
		e := &sdk.NotServedError{Request: mman.RequestID{1}, Decision: match.Decision{Outcome: match.Queued}}
		for _, c := range tc.codes {
			e.Decision.Rejections = append(e.Decision.Rejections, match.Rejection{Code: c})
		}
		require.ErrorIs(t, e, tc.want, name)
		require.Contains(t, e.Error(), mman.RequestID{1}.String())
		require.NotContains(t, e.Error(), "\n")
	}
}
