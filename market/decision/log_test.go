package decision_test

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/decision"
	"github.com/limboid/massive-man/market/policy"
)

// list is a log in memory.
type list struct {
	leaves []mman.Hash
	blocks []mman.Hash
}

func (l list) Leaf(i uint64) (mman.Hash, error)  { return l.leaves[i], nil }
func (l list) Block(i uint64) (mman.Hash, error) { return l.blocks[i], nil }

// root is the definition of RFC 6962, word for word.
func root(leaves []mman.Hash) mman.Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	left, right := root(leaves[:k]), root(leaves[k:])
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

func grow(t *testing.T, n uint64) (decision.Log, list) {
	t.Helper()
	var log decision.Log
	var all list
	for i := range n {
		leaf := decision.Leaf(binary.BigEndian.AppendUint64(nil, i))
		next, block, err := log.Append(leaf)
		require.NoError(t, err)
		log = next
		require.True(t, log.Valid())
		all.leaves = append(all.leaves, leaf)
		require.Equal(t, (i+1)%decision.BlockEntries == 0, block != nil)
		if block != nil {
			all.blocks = append(all.blocks, *block)
		}
	}
	return log, all
}

// TestLog: the root is that of the definition at each size, and every entry can
// be proved and nothing else.
func TestLog(t *testing.T) {
	t.Parallel()
	require.Equal(t, decision.Head{}, decision.Log{}.Head())
	for _, size := range []uint64{1, 2, 3, 4, 5, 7, 8, 9, 31, 255, 256, 257, 511, 600, 1024, 1300} {
		log, all := grow(t, size)
		head := log.Head()
		require.Equal(t, decision.Head{Size: size, Root: root(all.leaves)}, head)
		for index := uint64(0); index < size; index += 1 + size/50 {
			path, err := decision.Prove(all, index, size)
			require.NoError(t, err)
			require.NoError(t, decision.Verify(head, index, all.leaves[index], path), "%d of %d", index, size)
			other := mman.Hash{1}
			require.ErrorIs(t, decision.Verify(head, index, other, path), mman.ErrContent)
			require.ErrorIs(t, decision.Verify(head, index+1, all.leaves[index], path), mman.ErrContent)
			require.ErrorIs(t, decision.Verify(head, index, all.leaves[index], append(path, other)), mman.ErrContent)
			if len(path) > 0 {
				require.ErrorIs(t, decision.Verify(head, index, all.leaves[index], path[1:]), mman.ErrContent)
			}
		}
		_, err := decision.Prove(all, size, size)
		require.ErrorIs(t, err, mman.ErrNotFound)
	}
}

// TestEarlierHeads: what was signed earlier can be proved later.
func TestEarlierHeads(t *testing.T) {
	t.Parallel()
	_, all := grow(t, 1000)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	for range 200 {
		size := 1 + rng.Uint64N(1000)
		index := rng.Uint64N(size)
		path, err := decision.Prove(all, index, size)
		require.NoError(t, err)
		require.NoError(t, decision.Verify(decision.Head{Size: size, Root: root(all.leaves[:size])}, index, all.leaves[index], path))
	}
}

func TestFollows(t *testing.T) {
	t.Parallel()
	three, four := decision.Head{Size: 3, Root: mman.Hash{3}}, decision.Head{Size: 4, Root: mman.Hash{4}}
	require.True(t, four.Follows(three))
	require.True(t, three.Follows(three))
	require.False(t, three.Follows(four))
	require.False(t, decision.Head{Size: 3, Root: mman.Hash{4}}.Follows(three))
	require.False(t, decision.Head{Size: decision.MaxEntries + 1}.Follows(three))
}

func TestFull(t *testing.T) {
	t.Parallel()
	_, _, err := decision.Log{Size: decision.MaxEntries, Peaks: []mman.Hash{{1}}}.Append(mman.Hash{})
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

// TestEntry: an entry names all that the decision depended on, so that anybody
// can decide again, and another one is found out.
func TestEntry(t *testing.T) {
	t.Parallel()
	p := policy.Policy{Default: policy.Allow, Rules: []policy.Rule{
		{ID: "small", Effect: policy.Deny, Phase: policy.PhaseRun, When: "run.output_bytes > 100"},
	}}
	facts := policy.Context{Phase: policy.PhaseRun, Consumer: mman.Address{7}, Request: &policy.Request{Purpose: "research"}}
	decide := func(out uint64) decision.Entry {
		run, chain := policy.Run{Calls: 1, OutputBytes: out}, policy.Chain{Height: 5, Time: 6}
		c := facts
		c.Run, c.Chain = &run, &chain
		about := decision.Entry{Lease: mman.LeaseID{1}, Run: 1, Event: decision.Output, Leg: 2, Offer: mman.SumCID(mman.CodecRaw, nil)}
		return decision.New(about, facts.Digest(), run, chain, p.Decide(c))
	}
	allowed, denied := decide(100), decide(101)
	require.Equal(t, policy.Allow, allowed.Effect)
	require.Equal(t, "small", denied.Rule)
	for _, e := range []decision.Entry{allowed, denied} {
		b, err := e.Encode()
		require.NoError(t, err)
		got, err := decision.Decode(b)
		require.NoError(t, err)
		require.Equal(t, e, got)
		require.NoError(t, got.Check(facts, &p))
	}
	for name, lie := range map[string]func(*decision.Entry){
		"effect":  func(e *decision.Entry) { e.Effect = policy.Allow },
		"rule":    func(e *decision.Entry) { e.Rule = "other" },
		"counts":  func(e *decision.Entry) { e.Counts.OutputBytes = 1 },
		"height":  func(e *decision.Entry) { e.Height++ },
		"context": func(e *decision.Entry) { e.Context[0]++ },
	} {
		e := denied
		lie(&e)
		require.ErrorIs(t, e.Check(facts, &p), mman.ErrContent, name)
	}
	other := facts
	other.Consumer = mman.Address{8}
	require.ErrorIs(t, denied.Check(other, nil), mman.ErrContent, "another consumer")
	_, err := decision.Decode([]byte{0xa0})
	require.Error(t, err)
}

// FuzzVerify: no path makes it panic, nor proves what is not there.
func FuzzVerify(f *testing.F) {
	f.Add(uint64(5), uint64(2), []byte("path"))
	f.Fuzz(func(t *testing.T, size, index uint64, raw []byte) {
		var path []mman.Hash
		for len(raw) >= 32 {
			path, raw = append(path, mman.Hash(raw[:32])), raw[32:]
		}
		if decision.Verify(decision.Head{Size: size, Root: mman.Hash{1}}, index, mman.Hash{2}, path) == nil {
			t.Fatal("a made-up root is proved")
		}
	})
}
