package market_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

func lease(escrow mman.Amount) market.Lease {
	return market.Lease{
		Version: 1, ID: mman.LeaseID{1}, Cap: escrow, State: market.LeaseOpen, Expires: 100, CloseAt: 200,
		Consumer: mman.Address{9},
		Legs: []market.Leg{
			{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Supplied: true},
			{Role: market.RoleData, Facet: resources.FacetFile, Provider: mman.Address{1}, Price: price.Price{PerLease: 70, Share: 2500}},
			{Role: market.RoleData, Facet: resources.FacetFile, Provider: mman.Address{2}, Price: price.Price{PerLease: 30, Share: 3}},
			{
				Role: market.RoleCompute, Facet: resources.FacetWasm, Provider: mman.Address{3},
				Price: price.Price{PerLease: 100, Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1000, UMan: 10}}},
			},
		},
	}
}

func receipt(l market.Lease, lane, seq uint64, paid mman.Amount) market.Receipt {
	return market.Receipt{Version: 1, Statement: mman.SumCID(mman.CodecDagCBOR, nil), Lease: l.ID, Lane: lane, Seq: seq, Paid: paid}
}

func TestLegs(t *testing.T) {
	t.Parallel()
	l := lease(1000)
	require.True(t, l.Algorithm().Supplied)
	require.Len(t, l.Data(), 2)
	require.Equal(t, mman.Address{3}, l.Compute().Provider)
	require.True(t, l.Involves(mman.Address{9}))
	require.True(t, l.Involves(mman.Address{2}))
	require.False(t, l.Involves(mman.Address{4}))
	require.False(t, l.Involves(mman.Address{}), "a supplied leg has no provider")
}

func TestGross(t *testing.T) {
	t.Parallel()
	l := lease(100_000)
	for _, tc := range []struct {
		lane, wall uint64
		want       mman.Amount
	}{
		{0, 0, 200},
		{1, 0, 0},
		{1, 1, 1 + 1 + 1}, // each part is rounded up
		{1, 100_000, 1000 + 250 + 1},
		{0, 100_000, 200 + 1000 + 250 + 1},
	} {
		got, err := l.Gross(tc.lane, resources.Usage{WallMs: tc.wall})
		require.NoError(t, err)
		require.Equal(t, tc.want, got, "%+v", tc)
	}
	_, err := l.Gross(0, resources.Usage{WallMs: 1<<64 - 1})
	require.ErrorIs(t, err, mman.ErrOverflow)
}

func TestSettle(t *testing.T) {
	t.Parallel()
	l := lease(100)
	step := func(lane, seq uint64, paid, want mman.Amount) {
		t.Helper()
		before := l
		after, delta, err := l.Settle(receipt(l, lane, seq, paid))
		require.NoError(t, err)
		require.Equal(t, want, delta)
		require.Equal(t, before.Paid+delta, after.Paid)
		l = after
	}
	step(0, 1, 10, 10)
	step(0, 1, 10, 0)  // again
	step(0, 1, 12, 2)  // equal numbers: the higher amount counts
	step(0, 5, 11, 0)  // a lower amount never takes back
	step(3, 1, 50, 50) // another lane adds
	step(1, 1, 38, 38) // to the last uman
	require.Equal(t, []market.LanePaid{{0, 5, 12}, {1, 1, 38}, {3, 1, 50}}, l.Lanes)
	require.Equal(t, market.LanePaid{Lane: 7}, l.LanePaid(7))
	require.Zero(t, l.Escrow())
	same, delta, err := l.Settle(receipt(l, 2, 1, 1))
	require.ErrorIs(t, err, mman.ErrCapExceeded)
	require.Zero(t, delta)
	require.Equal(t, l, same)
	foreign := receipt(l, 0, 9, 1)
	foreign.Lease = mman.LeaseID{2}
	_, _, err = l.Settle(foreign)
	require.ErrorIs(t, err, mman.ErrReceipt)
	closed, refund, err := l.Close()
	require.NoError(t, err)
	require.Zero(t, refund)
	_, _, err = closed.Settle(receipt(l, 0, 10, 12))
	require.ErrorIs(t, err, mman.ErrLeaseState)
}

// TestSettleOrder: within the cap the order and the repetition of receipts do
// not matter, and no call changes the lease that it was made on.
func TestSettleOrder(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 500 {
		start := lease(16 * 100)
		receipts := make([]market.Receipt, 1+rng.IntN(12))
		for i := range receipts {
			receipts[i] = receipt(start, rng.Uint64N(market.MaxLanes), 1+rng.Uint64N(5), mman.Amount(rng.Uint64N(100)))
		}
		var first market.Lease
		for trial := range 4 {
			l := start
			for range 2 {
				rng.Shuffle(len(receipts), func(i, j int) { receipts[i], receipts[j] = receipts[j], receipts[i] })
				for _, r := range receipts {
					after, _, err := l.Settle(r)
					require.NoError(t, err)
					l = after
				}
			}
			if trial == 0 {
				first = l
			}
			require.Equal(t, first, l)
		}
		require.Equal(t, lease(16*100), start)
		var sum mman.Amount
		for _, lane := range first.Lanes {
			sum += lane.Paid
		}
		require.Equal(t, first.Paid, sum)
	}
}

func TestClosing(t *testing.T) {
	t.Parallel()
	l := lease(100)
	paid, _, err := l.Settle(receipt(l, 0, 1, 40))
	require.NoError(t, err)
	closing, err := paid.BeginClose(50, 20)
	require.NoError(t, err)
	require.Equal(t, market.LeaseClosing, closing.State)
	require.Equal(t, uint64(70), closing.CloseAt)
	late, err := paid.BeginClose(190, 20)
	require.NoError(t, err)
	require.Equal(t, uint64(200), late.CloseAt, "never later than without closing")
	_, err = closing.BeginClose(51, 20)
	require.ErrorIs(t, err, mman.ErrLeaseState)
	more, delta, err := closing.Settle(receipt(l, 0, 2, 45))
	require.NoError(t, err)
	require.Equal(t, mman.Amount(5), delta)
	closed, refund, err := more.Close()
	require.NoError(t, err)
	require.Equal(t, mman.Amount(55), refund)
	require.Equal(t, closed.Cap, closed.Paid+closed.Refunded)
	require.Zero(t, closed.Escrow())
	_, _, err = closed.Close()
	require.ErrorIs(t, err, mman.ErrLeaseState)
	_, err = closed.BeginClose(51, 20)
	require.ErrorIs(t, err, mman.ErrLeaseState)
}

func TestAcknowledge(t *testing.T) {
	t.Parallel()
	l := lease(10_000)
	id := mman.SumCID(mman.CodecDagCBOR, []byte("statement"))
	statement := func(change func(s *market.Statement)) market.Statement {
		s := market.Statement{Version: 1, Lease: l.ID, Lane: 0, Seq: 2, Usage: resources.Usage{WallMs: 100_000}, Gross: 1451}
		f, err := l.Factors(0)
		require.NoError(t, err)
		s.Factors = f
		change(&s)
		return s
	}
	owed := market.Owed{Seq: 1, Paid: 300, Usage: resources.Usage{WallMs: 8000}, Most: resources.Usage{WallMs: 700_000}}
	result := &market.RunResult{}
	for _, tc := range []struct {
		name   string
		change func(s *market.Statement)
		owed   func(o *market.Owed)
		want   mman.Amount // 0: not signed
		err    error
	}{
		{"within progress", func(*market.Statement) {}, nil, 1451, nil},
		{"no less than signed before", func(*market.Statement) {}, func(o *market.Owed) { o.Paid = 1500 }, 1500, nil},
		{"above progress without a result", func(s *market.Statement) { s.Usage.WallMs, s.Gross = 200_000, 2000+200+501 }, nil, 0, nil},
		{"above progress with the result", func(s *market.Statement) {
			s.Usage.WallMs, s.Gross, s.Result = 200_000, 2000+200+501, result
		}, nil, 2701, nil},
		{"above the cap", func(s *market.Statement) { s.Usage.WallMs, s.Gross, s.Result = 700_000, 7000+200+1750+3, result }, func(o *market.Owed) { o.OtherLanes = 2000 }, 0, mman.ErrReceipt},
		{"other lanes took it all", func(s *market.Statement) { s.Result = result }, func(o *market.Owed) { o.OtherLanes = 20_000 }, 0, mman.ErrReceipt},
		{"another lease", func(s *market.Statement) { s.Lease = mman.LeaseID{7} }, nil, 0, mman.ErrReceipt},
		{"an old number", func(s *market.Statement) { s.Seq = 1 }, nil, 0, mman.ErrReceipt},
		{"usage that shrank", func(s *market.Statement) { s.Usage.WallMs = 1000 }, nil, 0, mman.ErrReceipt},
		{"usage beyond what was seen", func(s *market.Statement) { s.Usage.WallMs = 700_001 }, nil, 0, mman.ErrReceipt},
		{"another unit", func(s *market.Statement) { s.Usage.Fuel = 1 }, nil, 0, mman.ErrReceipt},
		{"other factors", func(s *market.Statement) { s.Factors.Fixed++ }, nil, 0, mman.ErrReceipt},
		{"one uman too much", func(s *market.Statement) { s.Gross++ }, nil, 0, mman.ErrReceipt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := owed
			if tc.owed != nil {
				tc.owed(&o)
			}
			s := statement(tc.change)
			r, ok, err := l.Acknowledge(s, id, o)
			if tc.err != nil {
				require.ErrorIs(t, err, tc.err)
				require.False(t, ok)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want > 0, ok)
			if ok {
				require.Equal(t, tc.want, r.Paid)
				require.Equal(t, id, r.Statement)
				require.Equal(t, s.Seq, r.Seq)
				require.Equal(t, s.Result != nil, r.Final)
				require.LessOrEqual(t, r.Paid, l.Cap)
			}
		})
	}
}

// TestAudit: a bill is computed again by who has the lease, and nothing else than
// what both signed and agreed on passes.
func TestAudit(t *testing.T) {
	t.Parallel()
	const chain = "mman-local-audit"
	node, payer := key(t, 1), key(t, 2)
	l := lease(100_000)
	l.LeaseKey = mman.LeaseKey(payer.Public().Bytes())
	l.Legs[3].Peer = mman.PeerID(node.Public().Bytes())
	factors, err := l.Factors(0)
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		change  func(*market.Statement)
		receipt func(*market.Receipt)
		other   bool // the payer signs the statement
		refused error
	}{
		"as agreed":                     {},
		"another price for the usage":   {change: func(s *market.Statement) { s.Gross++ }, refused: mman.ErrReceipt},
		"factors that were not agreed":  {change: func(s *market.Statement) { s.Factors.Fixed, s.Gross = 201, s.Gross+1 }, refused: mman.ErrReceipt},
		"lane 0's factors on another":   {change: func(s *market.Statement) { s.Lane = 1 }, receipt: func(r *market.Receipt) { r.Lane = 1 }, refused: mman.ErrReceipt},
		"of another lease":              {change: func(s *market.Statement) { s.Lease[0]++ }, refused: mman.ErrReceipt},
		"receipt for another statement": {receipt: func(r *market.Receipt) { r.Statement = mman.SumCID(mman.CodecRaw, nil) }, refused: mman.ErrReceipt},
		"receipt with another number":   {receipt: func(r *market.Receipt) { r.Seq++ }, refused: mman.ErrReceipt},
		"signed by the payer alone":     {other: true, refused: mman.ErrBadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := market.Statement{Version: 1, Lease: l.ID, Seq: 1, Usage: resources.Usage{WallMs: 100_000}, Gross: 1451, Factors: factors}
			if tc.change != nil {
				tc.change(&st)
			}
			by := node
			if tc.other {
				by = payer
			}
			statement, id, err := market.SignStatement(chain, st, signer{by})
			require.NoError(t, err)
			r := market.Receipt{Version: 1, Statement: id, Lease: l.ID, Seq: 1, Paid: st.Gross}
			if tc.receipt != nil {
				tc.receipt(&r)
			}
			signed, err := market.SignReceipt(chain, r, signer{payer})
			require.NoError(t, err)
			gotStatement, gotReceipt, err := l.Audit(chain, statement, signed)
			if tc.refused != nil {
				require.ErrorIs(t, err, tc.refused)
				return
			}
			require.NoError(t, err)
			require.Equal(t, st, gotStatement)
			require.Equal(t, r, gotReceipt)
			_, _, err = l.Audit("mman-local-other", statement, signed)
			require.ErrorIs(t, err, mman.ErrBadSignature)
		})
	}
}
