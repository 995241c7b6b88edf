package state_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	ics23 "github.com/cosmos/ics23/go"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
)

// naiveRoot is the tree's definition, written as it reads.
func naiveRoot(pairs map[string]string) mman.Hash {
	leaves := make(map[mman.Hash]mman.Hash, len(pairs))
	for k, v := range pairs {
		path, value := mman.Sum256([]byte(k)), mman.Sum256([]byte(v))
		leaves[path] = mman.Sum256([]byte{0}, path[:], value[:])
	}
	var root func(paths []mman.Hash, depth int) mman.Hash
	root = func(paths []mman.Hash, depth int) mman.Hash {
		switch len(paths) {
		case 0:
			return mman.Hash{}
		case 1:
			return leaves[paths[0]]
		}
		var halves [2][]mman.Hash
		for _, p := range paths {
			b := p[depth/8] >> (7 - depth%8) & 1
			halves[b] = append(halves[b], p)
		}
		l, r := root(halves[0], depth+1), root(halves[1], depth+1)
		return mman.Sum256([]byte{1}, l[:], r[:])
	}
	return root(slices.Collect(maps.Keys(leaves)), 0)
}

// model is the same state as a plain map of flat keys.
type model map[string]string

func (m model) iterate(store, prefix, from string, limit int) []state.Pair {
	var out []state.Pair
	for _, k := range slices.Sorted(maps.Keys(m)) {
		key, ok := strings.CutPrefix(k, store+"/")
		if ok && strings.HasPrefix(key, prefix) && key >= from && len(out) < limit {
			out = append(out, state.Pair{Key: []byte(key), Value: []byte(m[k])})
		}
	}
	return out
}

// mutate makes n random writes to both.
func mutate(t *testing.T, rng *rand.Rand, o *state.Overlay, m model, n int) {
	t.Helper()
	for range n {
		store := []string{"bank", "market"}[rng.IntN(2)]
		key := fmt.Appendf(nil, "%c%03d", 'a'+rune(rng.IntN(3)), rng.IntN(150))
		if rng.IntN(3) == 0 {
			require.NoError(t, o.Delete(store, key))
			delete(m, store+"/"+string(key))
			continue
		}
		value := strconv.Itoa(rng.IntN(20) + 1)
		require.NoError(t, o.Set(store, key, []byte(value)))
		m[store+"/"+string(key)] = value
	}
}

func requireSame(t *testing.T, rng *rand.Rand, r state.Reader, m model) {
	t.Helper()
	for range 20 {
		store := []string{"bank", "market"}[rng.IntN(2)]
		prefix := []string{"", "a", "b", "c0", "zz"}[rng.IntN(5)]
		from := ""
		if rng.IntN(2) == 0 {
			from = fmt.Sprintf("%c%03d", 'a'+rune(rng.IntN(3)), rng.IntN(150))
		}
		limit := 1 + rng.IntN(40)
		got, err := r.Iterate(store, []byte(prefix), []byte(from), limit)
		require.NoError(t, err)
		require.Equal(t, m.iterate(store, prefix, from, limit), got, "store %s prefix %q from %q limit %d", store, prefix, from, limit)

		key := fmt.Sprintf("%c%03d", 'a'+rune(rng.IntN(3)), rng.IntN(150))
		value, ok, err := r.Get(store, []byte(key))
		require.NoError(t, err)
		want, has := m[store+"/"+key]
		require.Equal(t, has, ok)
		require.Equal(t, want, string(value))
	}
}

func TestStoreAgainstModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	db := state.NewMemory()
	s, err := state.Open(db)
	require.NoError(t, err)
	m := model{}
	roots := map[uint64]mman.Hash{}
	models := map[uint64]model{}
	for height := uint64(1); height <= 60; height++ {
		block, after := s.Begin(), maps.Clone(m)
		for range 1 + rng.IntN(5) {
			tx, inTx := block.Nest(), maps.Clone(after)
			mutate(t, rng, tx, inTx, rng.IntN(12))
			if rng.IntN(2) == 0 { // a message within the transaction
				msg, inMsg := tx.Nest(), maps.Clone(inTx)
				mutate(t, rng, msg, inMsg, 3)
				requireSame(t, rng, msg, inMsg)
				if rng.IntN(2) == 0 {
					require.NoError(t, msg.Commit())
					inTx = inMsg
				}
			}
			requireSame(t, rng, tx, inTx)
			if rng.IntN(4) != 0 { // else the transaction fails
				require.NoError(t, tx.Commit())
				after = inTx
			}
		}
		requireSame(t, rng, block, after)
		requireSame(t, rng, s, m)

		dropped, err := s.Stage(block) // ProcessProposal stages and drops
		require.NoError(t, err)
		staged, err := s.Stage(block)
		require.NoError(t, err)
		require.Equal(t, naiveRoot(after), staged.Root())
		require.Equal(t, dropped.Root(), staged.Root())
		require.Equal(t, naiveRoot(m), s.Root(), "staging changed the base")
		require.NoError(t, s.Commit(staged, height, []byte{byte(height)}))
		m = after
		roots[height], models[height] = s.Root(), maps.Clone(m)

		if rng.IntN(5) == 0 {
			s, err = state.Open(db)
			require.NoError(t, err)
		}
		require.Equal(t, height, s.Height())
		require.Equal(t, roots[height], s.Root())
		require.Equal(t, []byte{byte(height)}, s.Latest().Data())
		requireSame(t, rng, s, m)
		for back := range uint64(state.KeepHeights) {
			old, err := s.Snapshot(height - min(back, height-1))
			if err != nil && back > 1 {
				require.ErrorIs(t, err, mman.ErrNotFound) // reopened in between
				continue
			}
			require.NoError(t, err)
			require.Equal(t, roots[old.Height()], old.Root())
			requireSame(t, rng, old, models[old.Height()])
		}
		_, err = s.Snapshot(height + 1)
		require.ErrorIs(t, err, mman.ErrNotFound)
		if height > state.KeepHeights {
			_, err = s.Snapshot(height - state.KeepHeights)
			require.ErrorIs(t, err, mman.ErrNotFound)
		}
	}
}

func TestRootIgnoresOrderAndNoOps(t *testing.T) {
	t.Parallel()
	commit := func(s *state.Store, height uint64, write func(o *state.Overlay)) {
		o := s.Begin()
		write(o)
		staged, err := s.Stage(o)
		require.NoError(t, err)
		require.NoError(t, s.Commit(staged, height, nil))
	}
	var roots []mman.Hash
	for _, order := range [][]int{{0, 1, 2, 3, 4}, {4, 2, 0, 3, 1}} {
		s, err := state.Open(state.NewMemory())
		require.NoError(t, err)
		for i, n := range order {
			commit(s, uint64(i+1), func(o *state.Overlay) {
				require.NoError(t, o.Set("bank", fmt.Appendf(nil, "k%d", n), []byte("v")))
			})
		}
		roots = append(roots, s.Root())
		commit(s, 6, func(*state.Overlay) {})
		require.Equal(t, roots[0], s.Root(), "an empty block")
		commit(s, 7, func(o *state.Overlay) {
			require.NoError(t, o.Set("bank", []byte("k1"), []byte("v")))
			require.NoError(t, o.Delete("bank", []byte("missing")))
			require.NoError(t, o.Set("bank", []byte("new"), []byte("v")))
			require.NoError(t, o.Delete("bank", []byte("new")))
		})
		require.Equal(t, roots[0], s.Root(), "writes without effect")
		commit(s, 8, func(o *state.Overlay) {
			for _, n := range order {
				require.NoError(t, o.Delete("bank", fmt.Appendf(nil, "k%d", n)))
			}
		})
		require.True(t, s.Root().IsZero(), "the empty tree")
	}
	require.Equal(t, roots[0], roots[1])
}

func TestProofs(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2, 3, 17, 400} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			s, err := state.Open(state.NewMemory())
			require.NoError(t, err)
			_, err = s.Latest().Prove("bank", []byte("k"))
			require.ErrorIs(t, err, mman.ErrNotFound)
			o := s.Begin()
			for i := range size {
				require.NoError(t, o.Set("bank", fmt.Appendf(nil, "k%d", i), fmt.Appendf(nil, "v%d", i)))
			}
			staged, err := s.Stage(o)
			require.NoError(t, err)
			require.NoError(t, s.Commit(staged, 1, nil))
			root := s.Root()
			for i := range size + 50 {
				key := fmt.Appendf(nil, "k%d", i)
				flat := append([]byte("bank/"), key...)
				proof, err := s.Latest().Prove("bank", key)
				require.NoError(t, err)
				said, err := proof.Marshal()
				require.NoError(t, err)
				require.ErrorIs(t, state.Verify(root, "bank", key, []byte("other"), said), mman.ErrProof)
				require.ErrorIs(t, state.Verify(sha256.Sum256(root[:]), "bank", key, nil, said), mman.ErrProof)
				require.ErrorIs(t, state.Verify(root, "bank", key, nil, said[:len(said)/2]), mman.ErrProof)
				require.ErrorIs(t, state.Verify(root, "bank", key, nil, make([]byte, 1<<20)), mman.ErrProof)
				if i >= size {
					require.NoError(t, state.Verify(root, "bank", key, nil, said))
					require.True(t, ics23.VerifyNonMembership(ics23.SmtSpec, root[:], proof, flat))
					require.False(t, ics23.VerifyNonMembership(ics23.SmtSpec, root[:], proof, []byte("bank/k0")))
					require.False(t, ics23.VerifyMembership(ics23.SmtSpec, root[:], proof, flat, []byte("v")))
					continue
				}
				value := fmt.Appendf(nil, "v%d", i)
				require.NoError(t, state.Verify(root, "bank", key, value, said))
				require.ErrorIs(t, state.Verify(root, "bank", key, nil, said), mman.ErrProof)
				require.True(t, ics23.VerifyMembership(ics23.SmtSpec, root[:], proof, flat, value))
				require.False(t, ics23.VerifyMembership(ics23.SmtSpec, root[:], proof, flat, []byte("other")))
				require.False(t, ics23.VerifyMembership(ics23.SmtSpec, root[:], proof, []byte("bank/other"), value))
				require.False(t, ics23.VerifyNonMembership(ics23.SmtSpec, root[:], proof, flat))
				wrong := sha256.Sum256(root[:])
				require.False(t, ics23.VerifyMembership(ics23.SmtSpec, wrong[:], proof, flat, value))
				if ops := proof.GetExist().Path; len(ops) > 0 {
					op := ops[i%len(ops)]
					if len(op.Suffix) > 0 {
						op.Suffix[i%32] ^= 1
					} else {
						op.Prefix[1+i%32] ^= 1
					}
					require.False(t, ics23.VerifyMembership(ics23.SmtSpec, root[:], proof, flat, value))
				}
			}
		})
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	s, err := state.Open(state.NewMemory())
	require.NoError(t, err)
	o := s.Begin()
	long := bytes.Repeat([]byte{1}, state.MaxKey+1)
	for name, tt := range map[string]struct {
		do   func() error
		want error
	}{
		"empty value":    {func() error { return o.Set("bank", []byte("k"), nil) }, mman.ErrInvalid},
		"long value":     {func() error { return o.Set("bank", []byte("k"), make([]byte, state.MaxValue+1)) }, mman.ErrTooLarge},
		"empty key":      {func() error { return o.Set("bank", nil, []byte("v")) }, mman.ErrInvalid},
		"long key":       {func() error { return o.Delete("bank", long) }, mman.ErrInvalid},
		"slash in store": {func() error { return o.Set("bank/a", []byte("k"), []byte("v")) }, mman.ErrInvalid},
		"empty store":    {func() error { _, _, err := o.Get("", []byte("k")); return err }, mman.ErrInvalid},
		"long store":     {func() error { _, err := s.Iterate("abcdefghijklmnopq", nil, nil, 1); return err }, mman.ErrInvalid},
		"no limit":       {func() error { _, err := o.Iterate("bank", nil, nil, 0); return err }, mman.ErrInvalid},
		"large limit":    {func() error { _, err := s.Iterate("bank", nil, nil, state.MaxPage+1); return err }, mman.ErrInvalid},
		"commit of root": {func() error { return o.Commit() }, mman.ErrInvalid},
		"stage of child": {func() error { _, err := s.Stage(o.Nest()); return err }, mman.ErrInvalid},
	} {
		require.ErrorIs(t, tt.do(), tt.want, name)
	}
	staged, err := s.Stage(o)
	require.NoError(t, err)
	require.ErrorIs(t, s.Commit(staged, 0, nil), mman.ErrInvalid)
	require.ErrorIs(t, s.Commit(staged, 1, make([]byte, state.MaxMarkerData+1)), mman.ErrTooLarge)
	require.NoError(t, s.Commit(staged, 10, nil))
	require.ErrorIs(t, s.Commit(staged, 11, nil), mman.ErrInvalid, "staged on another height")
	_, err = s.Stage(o)
	require.ErrorIs(t, err, mman.ErrInvalid)
	staged, err = s.Stage(s.Begin())
	require.NoError(t, err)
	require.ErrorIs(t, s.Commit(staged, 12, nil), mman.ErrInvalid, "a gap")
}

func TestSetCopiesAndPagesStay(t *testing.T) {
	t.Parallel()
	s, err := state.Open(state.NewMemory())
	require.NoError(t, err)
	o := s.Begin()
	value := []byte("before")
	require.NoError(t, o.Set("bank", []byte("k"), value))
	copy(value, "AFTER!")
	page, err := o.Iterate("bank", nil, nil, 10)
	require.NoError(t, err)
	require.NoError(t, o.Delete("bank", []byte("k")))
	require.Equal(t, []state.Pair{{Key: []byte("k"), Value: []byte("before")}}, page)
}

// lossy loses one pair of its newest block, as a power cut may.
type lossy struct {
	*state.Memory
	from uint64
	key  string
}

func (d *lossy) Iterate(height uint64, prefix string, fn func(key, value []byte) error) error {
	return d.Memory.Iterate(height, prefix, func(key, value []byte) error {
		if height >= d.from && string(key) == d.key {
			return nil
		}
		return fn(key, value)
	})
}

func TestOpenReturnsToWholeHeight(t *testing.T) {
	t.Parallel()
	db := &lossy{Memory: state.NewMemory(), from: 100, key: "bank/k4"}
	s, err := state.Open(db)
	require.NoError(t, err)
	write := func(height uint64) {
		o := s.Begin()
		require.NoError(t, o.Set("bank", fmt.Appendf(nil, "k%d", height), []byte("v")))
		staged, err := s.Stage(o)
		require.NoError(t, err)
		require.NoError(t, s.Commit(staged, height, nil))
	}
	for height := uint64(1); height <= 5; height++ {
		write(height)
	}
	whole := s.Root()
	db.from = 4
	s, err = state.Open(db)
	require.NoError(t, err)
	require.Equal(t, uint64(3), s.Height())
	db.from = 100
	write(4)
	write(5)
	require.Equal(t, whole, s.Root(), "replayed")

	db.key, db.from = "bank/k1", 1
	_, err = state.Open(db)
	require.ErrorIs(t, err, mman.ErrCorrupt)
}

// forgetful has lost what undoes its newest block.
type forgetful struct{ *state.Memory }

func (d forgetful) Undo(height uint64) ([]state.Change, error) {
	undo, err := d.Memory.Undo(height)
	return undo[:len(undo)-1], err
}

// TestOpenServesTheNewestAlone: a store that has its newest height whole, and not the one
// below it, opens, and serves the newest only until the next block.
func TestOpenServesTheNewestAlone(t *testing.T) {
	t.Parallel()
	memory := state.NewMemory()
	s, err := state.Open(memory)
	require.NoError(t, err)
	write := func(height uint64) {
		o := s.Begin()
		require.NoError(t, o.Set("bank", []byte("k"), fmt.Appendf(nil, "%d", height)))
		staged, err := s.Stage(o)
		require.NoError(t, err)
		require.NoError(t, s.Commit(staged, height, nil))
	}
	for height := uint64(1); height <= 3; height++ {
		write(height)
	}
	root := s.Root()
	for name, tc := range map[string]struct {
		db    state.DB
		below bool
	}{"whole": {memory, true}, "damaged": {forgetful{memory}, false}} {
		opened, err := state.Open(tc.db)
		require.NoError(t, err, name)
		require.Equal(t, root, opened.Root(), name)
		older, err := opened.Snapshot(2)
		if tc.below {
			require.NoError(t, err, name)
			require.Equal(t, uint64(2), older.Height(), name)
		} else {
			require.ErrorIs(t, err, mman.ErrNotFound, name)
			s = opened
		}
	}
	write(4)
	_, err = s.Snapshot(3)
	require.NoError(t, err, "it goes on")
}

func TestWalkIsTheState(t *testing.T) {
	t.Parallel()
	build := func(write func(o *state.Overlay)) *state.Snapshot {
		s, err := state.Open(state.NewMemory())
		require.NoError(t, err)
		o := s.Begin()
		write(o)
		staged, err := s.Stage(o)
		require.NoError(t, err)
		require.NoError(t, s.Commit(staged, 7, nil))
		return s.Latest()
	}
	one := build(func(o *state.Overlay) {
		for i := range 50 {
			require.NoError(t, o.Set([]string{"bank", "gov"}[i%2], fmt.Appendf(nil, "k/%d", i), []byte("v")))
		}
	})
	restored := func(t *testing.T) (*state.Store, *state.Restore) {
		t.Helper()
		s, err := state.Open(state.NewMemory())
		require.NoError(t, err)
		r, err := s.Restore()
		require.NoError(t, err)
		one.Walk("", func(flat string, value []byte) bool {
			require.NoError(t, r.Add(flat, value))
			return true
		})
		return s, r
	}
	two, r := restored(t)
	require.ErrorIs(t, r.Commit(7, mman.Hash{1}), mman.ErrContent)
	require.Zero(t, two.Height())
	require.NoError(t, r.Commit(7, one.Root()))
	require.Equal(t, one.Root(), two.Root())
	require.Equal(t, 50, two.Latest().Len())
	_, err := two.Restore()
	require.ErrorIs(t, err, mman.ErrExists)

	_, r = restored(t)
	require.ErrorIs(t, r.Add("gov/k/9", []byte("v")), mman.ErrInvalid, "twice")
	require.ErrorIs(t, r.Add("zzz", []byte("v")), mman.ErrInvalid, "no store")
	require.ErrorIs(t, r.Add("zzz/", []byte("v")), mman.ErrInvalid, "no key")
	require.ErrorIs(t, r.Add("zzz/k", nil), mman.ErrInvalid, "no value")
	require.ErrorIs(t, r.Add("zzz/k", make([]byte, state.MaxValue+1)), mman.ErrTooLarge)
}

func TestPrefixes(t *testing.T) {
	t.Parallel()
	all := []state.Prefix{
		state.BankAccounts, state.BankNumbers, state.BankTotals, state.BankFee, state.MarketOffers,
		state.MarketOffersByFacet, state.MarketOffersByResource, state.MarketOffersByProvider, state.MarketOffersByExpiry, state.MarketArrivals,
		state.MarketRequests, state.MarketRequestQueue, state.MarketRequestsByWake, state.MarketRequestsByDeadline, state.MarketRequestsByAccount,
		state.MarketLeases, state.MarketLeasesByAccount, state.MarketLeasesByExpiry, state.MarketDecisions, state.MarketNodes,
		state.MarketNodesByAccount, state.MarketGrants, state.MarketGrantsByGrantee, state.MarketGrantsByExpiry, state.MarketParents,
		state.MarketUsage, state.MarketUsageByConsumer, state.MarketUsageByDay, state.MarketTotals, state.RFPRecords,
		state.RFPByDue, state.RFPByState, state.RFPByAccount, state.StorageOffers, state.StorageOffersByPrice,
		state.StorageLeases, state.StorageLeasesByAccount, state.StorageLeasesByContent, state.StorageReplicasByProvider, state.StorageDue,
		state.StorageDrawn, state.StorageRetrievals, state.StorageTotals, state.StakeValidators, state.StakeValidatorsByKey,
		state.StakeDelegations, state.StakeDelegationsByAccount, state.StakeUnbonding, state.StakeUnbondingByAccount, state.StakeMissed,
		state.StakeTotals, state.ParamsValues, state.RewardEpochs, state.RewardPoints, state.GovProposals,
		state.GovVotes, state.GovQueue, state.LeagueLeagues, state.LeagueMatches, state.BeaconValues,
		state.BeaconLatest, state.BeaconDue,
	}
	for i, p := range all {
		require.Regexp(t, `^[a-z]{1,16}/[a-z]$`, string(p))
		require.Equal(t, string(p)+"x", p.Store()+"/"+string(p.Key([]byte("x"))))
		require.NotContains(t, all[i+1:], p)
	}
}

type record struct {
	Name string `cbor:"name"`
	N    uint64 `cbor:"n"`
}

func TestTable(t *testing.T) {
	t.Parallel()
	s, err := state.Open(state.NewMemory())
	require.NoError(t, err)
	o := s.Begin()
	table := state.NewTable[record](state.MarketOffers, 64)
	_, ok, err := table.Get(o, []byte("k"))
	require.NoError(t, err)
	require.False(t, ok)
	for i := range uint64(10) {
		require.NoError(t, table.Set(o, state.Uint64Key(i), record{"r", i}))
	}
	require.ErrorIs(t, table.Set(o, []byte("k"), record{strings.Repeat("r", 64), 1}), mman.ErrTooLarge)
	require.NoError(t, table.Delete(o, state.Uint64Key(4)))
	_, ok, err = table.Get(o, state.Uint64Key(4))
	require.NoError(t, err)
	require.False(t, ok)
	got, ok, err := table.Get(o, state.Uint64Key(5))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, record{"r", 5}, got)
	rows, err := table.Page(o, nil, state.Uint64Key(2), 3)
	require.NoError(t, err)
	require.Equal(t, []state.Row[record]{
		{state.Uint64Key(3), record{"r", 3}},
		{state.Uint64Key(5), record{"r", 5}},
		{state.Uint64Key(6), record{"r", 6}},
	}, rows)
	require.NoError(t, o.Set("market", state.MarketOffers.Key([]byte("bad")), []byte{0xff}))
	_, _, err = table.Get(o, []byte("bad"))
	require.ErrorIs(t, err, mman.ErrCorrupt)
}

func TestIndexAndCounter(t *testing.T) {
	t.Parallel()
	s, err := state.Open(state.NewMemory())
	require.NoError(t, err)
	o := s.Begin()
	queue := state.NewIndex(state.MarketLeasesByExpiry)
	for _, h := range []uint64{300, 2, 256, 255} {
		require.NoError(t, queue.Add(o, append(state.Uint64Key(h), "id"...)))
	}
	due, err := queue.Due(o, 256, 10)
	require.NoError(t, err)
	var heights []uint64
	for _, key := range due {
		h, rest, err := state.ParseUint64Key(key)
		require.NoError(t, err)
		require.Equal(t, "id", string(rest))
		heights = append(heights, h)
		require.NoError(t, queue.Remove(o, key))
	}
	require.Equal(t, []uint64{2, 255, 256}, heights)
	has, err := queue.Has(o, append(state.Uint64Key(300), "id"...))
	require.NoError(t, err)
	require.True(t, has)
	due, err = queue.Due(o, 299, 10)
	require.NoError(t, err)
	require.Empty(t, due)

	counter := state.NewCounter(state.BankTotals, "numbers")
	for _, n := range []uint64{0, 7, 0} {
		require.NoError(t, counter.Set(o, n))
		got, err := counter.Get(o)
		require.NoError(t, err)
		require.Equal(t, n, got)
	}
	require.Equal(t, []byte("\x03abcx"), append(state.AppendString(nil, "abc"), 'x'))
}
