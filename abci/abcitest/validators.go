package abcitest

import (
	"bytes"
	"slices"

	"github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
)

// seat is a validator's place in consensus.
type seat struct {
	key   []byte
	power int64
}

// found seats the validators of the genesis.
func (c *Chain) found() {
	var first []seat
	for _, v := range c.Doc.Canonical().Validators {
		first = append(first, seat{v.ConsensusKey, int64(v.Power)})
	}
	slices.SortFunc(first, func(a, b seat) int { return bytes.Compare(a.key, b.key) })
	c.sets = [][]seat{first, first}
}

// elect does what CometBFT does with updates: they count two heights later, and
// it halts at a key that stands twice, at the removal of one that it does not
// know and at an empty set.
func (c *Chain) elect(updates []types.ValidatorUpdate) {
	c.tb.Helper()
	next := slices.Clone(c.sets[len(c.sets)-1])
	seen := map[string]bool{}
	for _, u := range updates {
		key := u.PubKey.GetEd25519()
		require.Len(c.tb, key, 32)
		require.False(c.tb, seen[string(key)], "a validator is updated twice")
		seen[string(key)] = true
		require.GreaterOrEqual(c.tb, u.Power, int64(0))
		i, ok := slices.BinarySearchFunc(next, key, func(s seat, k []byte) int { return bytes.Compare(s.key, k) })
		switch {
		case u.Power == 0:
			require.True(c.tb, ok, "an unknown validator is removed")
			next = slices.Delete(next, i, i+1)
		case ok:
			next[i].power = u.Power
		default:
			next = slices.Insert(next, i, seat{key, u.Power})
		}
	}
	require.NotEmpty(c.tb, next, "nobody is left")
	c.sets = append(c.sets, next)
}

// Turn lets only the validator with the consensus key propose from now on; nil
// lets all take turns again.
func (c *Chain) Turn(key []byte) { c.turn = key }

// proposer is the consensus key of who proposes the next block: the validators
// of its height take turns. One whose key is not known is passed over.
func (c *Chain) proposer() []byte {
	if c.turn != nil {
		return c.turn
	}
	set := c.sets[len(c.records)]
	for i := range set {
		s := set[(len(c.records)+i)%len(set)]
		if _, ok := c.keys[string(s.key)]; ok {
			return s.key
		}
	}
	return set[len(c.records)%len(set)].key
}

func (c *Chain) proposerAddress() []byte {
	address := block.NewConsensusAddress(c.proposer())
	return address[:]
}

// commit is the last commit: all validators of the last height sign it but the
// absent.
func (c *Chain) commit() types.CommitInfo {
	if len(c.records) == 0 {
		return types.CommitInfo{}
	}
	var info types.CommitInfo
	for _, s := range c.sets[len(c.records)-1] {
		address := block.NewConsensusAddress(s.key)
		vote := types.VoteInfo{Validator: types.Validator{Address: address[:], Power: s.power}, BlockIdFlag: cmtproto.BlockIDFlagCommit}
		if c.absent[mman.Address(address)] {
			vote.BlockIdFlag = cmtproto.BlockIDFlagAbsent
		}
		info.Votes = append(info.Votes, vote)
	}
	return info
}

// Absent says whether the validator with the consensus key signs from now on.
func (c *Chain) Absent(key []byte, absent bool) {
	c.absent[mman.Address(block.NewConsensusAddress(key))] = absent
}

// Accuse puts evidence of double signing into the next block.
func (c *Chain) Accuse(key []byte) {
	address := block.NewConsensusAddress(key)
	c.guilty = append(c.guilty, types.Misbehavior{
		Type: types.MisbehaviorType_DUPLICATE_VOTE, Validator: types.Validator{Address: address[:], Power: 1}, Height: int64(c.Height()),
	})
}

// Powers returns the validators by consensus key once all updates count.
func (c *Chain) Powers() map[string]int64 {
	out := map[string]int64{}
	for _, s := range c.sets[len(c.sets)-1] {
		out[string(s.key)] = s.power
	}
	return out
}
