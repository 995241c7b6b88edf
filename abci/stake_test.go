package abci_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/stake"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
)

// staking is a chain with short epochs, two validators with 10 MAN each, and
// others.
type staking struct {
	*abcitest.Chain
	t                *testing.T
	alice, bob       abcitest.Actor // validators
	carol, dave, eve abcitest.Actor
}

func stakingGenesis(t *testing.T, validators int, actors ...abcitest.Actor) genesis.Document {
	t.Helper()
	doc := abcitest.Genesis(t, 1000*mman.MAN, actors...)
	p := &doc.Params
	p.EpochBlocks, p.EvidenceMaxBlocks, p.EvidenceMaxSeconds = 10, 15, 20
	p.UnbondingBlocks, p.UnbondingSeconds = 40, 45
	p.LivenessEpochs, p.MaxMissedBlocks, p.JailBlocks, p.MaxValidators = 3, 15, 12, 3
	p.BaseFeeMicro, p.BaseFeeFloorMicro = 1000, 1000
	doc.Validators = nil
	for _, a := range actors[:validators] {
		doc.Validators = append(doc.Validators, genesis.Validator{Operator: a.Address, Name: a.Name, ConsensusKey: votes(t, a).Public().Bytes(), BeaconKey: abcitest.BeaconKey(t, votes(t, a)), Power: 10})
	}
	require.NoError(t, doc.Validate())
	return doc
}

func newStaking(t *testing.T, validators int) *staking {
	t.Helper()
	s := &staking{t: t}
	actors := make([]abcitest.Actor, 5)
	for i, at := range []*abcitest.Actor{&s.alice, &s.bob, &s.carol, &s.dave, &s.eve} {
		actors[i] = abcitest.NewActor(t, []string{"alice", "bob", "carol", "dave", "eve"}[i])
		*at = actors[i]
	}
	s.Chain = abcitest.New(t, stakingGenesis(t, validators, actors...))
	s.Pass(1)
	return s
}

func votes(tb testing.TB, a abcitest.Actor) sig.PrivateKey {
	tb.Helper()
	return abcitest.Votes(tb, a)
}

func (s *staking) create(a abcitest.Actor, amount mman.Amount, commission uint64) tx.Msg {
	s.Learn(votes(s.t, a))
	return tx.MsgCreateValidator{Operator: a.Address, Name: a.Name, CommissionPPM: commission, Stake: amount}.SignKey(votes(s.t, a), chainID)
}

func (s *staking) validator(a abcitest.Actor) stake.ValidatorAnswer {
	s.t.Helper()
	var v stake.ValidatorAnswer
	code, log := s.Query("/mman/validators/"+a.Address.ValidatorString(), &v)
	require.Zero(s.t, code, log)
	return v
}

func (s *staking) delegation(by, to abcitest.Actor) mman.Amount {
	s.t.Helper()
	var page block.Page[stake.DelegationAnswer]
	code, log := s.Query("/mman/delegations?account="+by.Address.String(), &page)
	require.Zero(s.t, code, log)
	for _, d := range page.Items {
		if d.Validator == to.Address.ValidatorString() {
			return d.Amount
		}
	}
	return 0
}

func (s *staking) unbondings(by abcitest.Actor) []stake.UnbondingAnswer {
	s.t.Helper()
	var page block.Page[stake.UnbondingAnswer]
	code, log := s.Query("/mman/unbondings?account="+by.Address.String(), &page)
	require.Zero(s.t, code, log)
	return page.Items
}

func (s *staking) power(a abcitest.Actor) int64 {
	return s.Powers()[string(votes(s.t, a).Public().Bytes())]
}

// epoch decides blocks until an epoch has ended.
func (s *staking) epoch() {
	s.t.Helper()
	s.Pass(s.Doc.Params.EpochBlocks - s.Height()%s.Doc.Params.EpochBlocks)
}

func (s *staking) supply() (b struct {
	Burned, Staked, Pools mman.Amount
},
) {
	s.t.Helper()
	code, log := s.Query("/mman/supply", &b)
	require.Zero(s.t, code, log)
	return b
}

func TestStakingLifecycle(t *testing.T) {
	t.Parallel()
	s := newStaking(t, 2)
	require.Equal(t, 10*mman.MAN, s.validator(s.alice).Own)
	require.Equal(t, 20*mman.MAN, s.supply().Staked)

	// A validator is made, and elected at the end of the epoch.
	require.Contains(t, s.Fail(mman.ErrInvalid, s.carol, s.create(s.carol, mman.MAN-1, 0)), "of its own")
	s.Fail(mman.ErrFunds, s.carol, s.create(s.carol, 5000*mman.MAN, 0))
	stolen, ok := s.create(s.carol, 5*mman.MAN, 0).(tx.MsgCreateValidator)
	require.True(t, ok)
	stolen.Operator = s.dave.Address
	s.Fail(mman.ErrBadSignature, s.dave, stolen)
	s.Do(s.carol, s.create(s.carol, 5*mman.MAN, 100_000))
	s.Fail(mman.ErrExists, s.carol, s.create(s.carol, 5*mman.MAN, 0))
	taken := tx.MsgCreateValidator{Operator: s.dave.Address, Name: "x", Stake: 5 * mman.MAN}.SignKey(votes(t, s.carol), chainID)
	s.Fail(mman.ErrExists, s.dave, taken)
	require.Zero(t, s.power(s.carol))
	s.epoch()
	require.Equal(t, int64(5), s.power(s.carol))
	require.Equal(t, uint64(5), s.validator(s.carol).Power)

	// Delegation counts from the next election on, and earns the fees.
	s.Do(s.dave, tx.MsgDelegate{Delegator: s.dave.Address, Validator: s.carol.Address, Amount: 15 * mman.MAN})
	require.Equal(t, 15*mman.MAN, s.delegation(s.dave, s.carol))
	s.Fail(mman.ErrNotFound, s.dave, tx.MsgDelegate{Delegator: s.dave.Address, Validator: s.eve.Address, Amount: mman.MAN})
	s.Fail(mman.ErrFunds, s.dave, tx.MsgDelegate{Delegator: s.dave.Address, Validator: s.carol.Address, Amount: 5000 * mman.MAN})
	s.epoch()
	require.Equal(t, int64(20), s.power(s.carol))
	before := s.delegation(s.dave, s.carol)
	own := s.validator(s.carol).Own
	s.Do(s.eve, send(s.eve, s.dave, 5)...)
	s.Block(s.Sign(s.eve, send(s.eve, s.dave, 5), func(d *tx.Draft) { d.GasLimit, d.Fee = 20_000_000, mman.MAN }))
	pool := s.supply().Pools
	require.Greater(t, pool, mman.Amount(10_000))
	s.epoch()
	require.Less(t, s.supply().Pools, mman.Amount(10), "the fees are shared out")
	earned, mine := s.delegation(s.dave, s.carol)-before, s.validator(s.carol).Own-own
	require.Positive(t, earned)
	require.Greater(t, mine, earned/3, "a third as much stake, and the commission")

	// Stake leaves slowly, and what is not there cannot leave.
	s.Fail(mman.ErrFunds, s.eve, tx.MsgUndelegate{Delegator: s.eve.Address, Validator: s.carol.Address, Amount: 1})
	s.Fail(mman.ErrFunds, s.dave, tx.MsgUndelegate{Delegator: s.dave.Address, Validator: s.carol.Address, Amount: 16 * mman.MAN})
	s.Do(s.dave, tx.MsgUndelegate{Delegator: s.dave.Address, Validator: s.carol.Address, Amount: 5 * mman.MAN})
	s.Do(s.dave, tx.MsgRedelegate{Delegator: s.dave.Address, From: s.carol.Address, To: s.alice.Address, Amount: 4 * mman.MAN})
	s.Fail(mman.ErrInvalid, s.dave, tx.MsgRedelegate{Delegator: s.dave.Address, From: s.carol.Address, To: s.carol.Address, Amount: 1})
	leaving := s.unbondings(s.dave)
	require.Len(t, leaving, 2)
	require.Equal(t, s.alice.Address.ValidatorString(), leaving[1].To)
	balance := s.Balance(s.dave)
	s.Pass(42)
	require.Equal(t, balance, s.Balance(s.dave))
	s.Pass(2)
	require.InDelta(t, float64(balance+5*mman.MAN), float64(s.Balance(s.dave)), 2)
	require.Empty(t, s.unbondings(s.dave))
	require.InDelta(t, float64(4*mman.MAN), float64(s.delegation(s.dave, s.alice)), 2)

	// Commission rises slowly.
	edit := tx.MsgEditValidator{Operator: s.carol.Address, Name: "Carol's", CommissionPPM: 151_000}
	s.Fail(mman.ErrDenied, s.carol, edit)
	edit.CommissionPPM = 150_000
	s.Do(s.carol, edit)
	edit.CommissionPPM = 160_000
	s.Fail(mman.ErrDenied, s.carol, edit)
	edit.CommissionPPM = 0
	s.Do(s.carol, edit)
	require.Equal(t, "Carol's", s.validator(s.carol).Name)
	s.Fail(mman.ErrNotFound, s.eve, tx.MsgEditValidator{Operator: s.eve.Address, Name: "x"})

	// Only so many are elected, and one without stake is forgotten.
	s.Do(s.eve, s.create(s.eve, 100*mman.MAN, 0))
	s.epoch()
	require.Len(t, s.Powers(), 3)
	require.Equal(t, int64(100), s.power(s.eve))
	require.Zero(t, s.power(s.bob), "the least stake")
	all := s.validator(s.bob).Own
	s.Do(s.bob, tx.MsgUndelegate{Delegator: s.bob.Address, Validator: s.bob.Address, Amount: all})
	s.Pass(46)
	code, _ := s.Query("/mman/validators/"+s.bob.Address.ValidatorString(), nil)
	require.Equal(t, mman.ErrNotFound.Code, code)
	s.Do(s.bob, s.create(s.bob, 2*mman.MAN, 0))

	s.epoch()
	root := s.Root()
	s.Pass(3)
	require.Equal(t, root, s.Root(), "quiet blocks change nothing")
	s.Replay(func(h uint64) (restart, drop bool) { return h%3 == 0, h%2 == 0 })
}

func TestDoubleSigning(t *testing.T) {
	t.Parallel()
	s := newStaking(t, 2)
	s.Do(s.dave, tx.MsgDelegate{Delegator: s.dave.Address, Validator: s.bob.Address, Amount: 30 * mman.MAN})
	s.Do(s.dave, tx.MsgUndelegate{Delegator: s.dave.Address, Validator: s.bob.Address, Amount: 20 * mman.MAN})
	s.Do(s.eve, tx.MsgDelegate{Delegator: s.eve.Address, Validator: s.bob.Address, Amount: mman.MAN})
	burned := s.supply().Burned
	s.Accuse(votes(t, s.bob).Public().Bytes())
	s.Accuse(votes(t, s.bob).Public().Bytes())
	s.Accuse(votes(t, s.eve).Public().Bytes()) // nobody knows that key
	s.Turn(votes(t, s.bob).Public().Bytes())   // the culprit reports itself
	alice := s.validator(s.alice).Active.Tokens
	s.Pass(1)
	s.Turn(nil)
	require.Equal(t, alice, s.validator(s.alice).Active.Tokens)
	v := s.validator(s.bob)
	require.True(t, v.Tombstoned)
	require.Equal(t, 41*mman.MAN*5/100, s.supply().Burned-burned, "active and leaving stake, once")
	require.Equal(t, 19*mman.MAN, s.unbondings(s.dave)[0].Amount)
	require.Equal(t, 95*mman.MAN/10, s.delegation(s.dave, s.bob))
	s.Accuse(votes(t, s.bob).Public().Bytes())
	s.epoch()
	require.Equal(t, 41*mman.MAN*5/100, s.supply().Burned-burned)
	require.Zero(t, s.power(s.bob))
	require.Equal(t, int64(10), s.power(s.alice))
	s.Fail(mman.ErrDenied, s.bob, tx.MsgUnjail{Operator: s.bob.Address})
	s.Fail(mman.ErrDenied, s.eve, tx.MsgDelegate{Delegator: s.eve.Address, Validator: s.bob.Address, Amount: mman.MAN})
	s.Fail(mman.ErrDenied, s.dave, tx.MsgRedelegate{Delegator: s.dave.Address, From: s.alice.Address, To: s.bob.Address, Amount: 1})
	s.Do(s.eve, tx.MsgUndelegate{Delegator: s.eve.Address, Validator: s.bob.Address, Amount: s.delegation(s.eve, s.bob)})
	// The key stays dead when all stake is gone.
	s.Do(s.bob, tx.MsgUndelegate{Delegator: s.bob.Address, Validator: s.bob.Address, Amount: s.validator(s.bob).Own})
	s.Do(s.dave, tx.MsgUndelegate{Delegator: s.dave.Address, Validator: s.bob.Address, Amount: s.delegation(s.dave, s.bob)})
	s.Pass(60)
	require.Zero(t, s.validator(s.bob).Active.Shares)
	require.Zero(t, s.validator(s.bob).Debonding.Shares)
	s.Fail(mman.ErrExists, s.bob, s.create(s.bob, 10*mman.MAN, 0))

	// The last validator stays in office, whatever it did.
	s.Accuse(votes(t, s.alice).Public().Bytes())
	s.epoch()
	require.True(t, s.validator(s.alice).Tombstoned)
	require.Equal(t, int64(10), s.power(s.alice))
	require.Len(t, s.Powers(), 1)
	s.Do(s.carol, s.create(s.carol, 3*mman.MAN, 0))
	s.epoch()
	require.Equal(t, map[string]int64{string(votes(t, s.carol).Public().Bytes()): 3}, s.Powers())
	s.Replay(func(h uint64) (restart, drop bool) { return h%4 == 0, h%3 == 0 })
}

func TestDowntime(t *testing.T) {
	t.Parallel()
	s := newStaking(t, 2)
	bob := votes(t, s.bob).Public().Bytes()
	s.epoch()
	root := s.Root()
	s.epoch()
	require.Equal(t, root, s.Root(), "a quiet epoch changes nothing")
	s.Absent(bob, true)
	there, away := s.validator(s.alice).Active.Tokens, s.validator(s.bob).Active.Tokens
	s.Block(s.Sign(s.eve, send(s.eve, s.dave, 5), func(d *tx.Draft) { d.GasLimit, d.Fee = 20_000_000, mman.MAN }))
	fees := s.supply().Pools
	require.Positive(t, fees)
	s.epoch()
	require.Equal(t, there+fees, s.validator(s.alice).Active.Tokens, "all fees are those of who signed")
	require.Equal(t, away, s.validator(s.bob).Active.Tokens, "nothing of them is")
	require.False(t, s.validator(s.bob).Jailed, "ten of thirty blocks")
	s.epoch()
	v := s.validator(s.bob)
	require.True(t, v.Jailed, "twenty of thirty blocks")
	require.Equal(t, 10*mman.MAN-10*mman.MAN/10_000, v.Active.Tokens)
	require.Zero(t, s.power(s.bob))
	require.Equal(t, s.Height()+12, v.JailedUntil)
	s.Fail(mman.ErrDenied, s.bob, tx.MsgUnjail{Operator: s.bob.Address})
	s.Fail(mman.ErrInvalid, s.alice, tx.MsgUnjail{Operator: s.alice.Address})
	s.Absent(bob, false)
	s.Pass(12)
	s.Do(s.bob, tx.MsgUnjail{Operator: s.bob.Address})
	s.epoch()
	require.Equal(t, int64(9), s.power(s.bob), "not quite ten MAN are left")
	// A few missed blocks are forgotten with the window.
	s.Absent(bob, true)
	s.epoch()
	s.Absent(bob, false)
	for range 4 {
		s.epoch()
	}
	require.False(t, s.validator(s.bob).Jailed)
	require.Equal(t, int64(9), s.power(s.bob))
	s.Replay(func(h uint64) (restart, drop bool) { return h%5 == 0, h%2 == 0 })
}

func TestStakingQueries(t *testing.T) {
	t.Parallel()
	s := newStaking(t, 2)
	s.Do(s.dave, tx.MsgDelegate{Delegator: s.dave.Address, Validator: s.bob.Address, Amount: 30 * mman.MAN})
	var page block.Page[stake.ValidatorAnswer]
	code, log := s.Query("/mman/validators?limit=1", &page)
	require.Zero(t, code, log)
	require.Len(t, page.Items, 1)
	first := page.Items[0].Validator
	code, log = s.Query("/mman/validators?limit=1&after="+page.Next, &page)
	require.Zero(t, code, log)
	require.Len(t, page.Items, 1)
	require.NotEqual(t, first, page.Items[0].Validator)
	require.Empty(t, page.Next)
	var held block.Page[stake.DelegationAnswer]
	code, log = s.Query("/mman/delegations?validator="+s.bob.Address.ValidatorString(), &held)
	require.Zero(t, code, log)
	require.Len(t, held.Items, 2)
	for _, path := range []string{
		"/mman/validators/man1", "/mman/validators/" + s.eve.Address.String(), "/mman/validators/a/b", "/mman/validators?limit=0",
		"/mman/validators?x=1", "/mman/validators?after=zz", "/mman/delegations", "/mman/delegations?account=x", "/mman/delegations?validator=x",
		"/mman/delegations/x", "/mman/unbondings", "/mman/unbondings?account=x", "/mman/unbondings?validator=x",
		"/mman/delegations?account=" + s.bob.Address.String() + "&validator=" + s.bob.Address.String(),
	} {
		code, log := s.Query(path, nil)
		require.NotZero(t, code, path)
		require.NotEmpty(t, log)
	}
}

// TestManyUnbondingsOfOneHeight: more stake may leave at one height than a block lets
// go; what is left follows in the next one.
func TestManyUnbondingsOfOneHeight(t *testing.T) {
	t.Parallel()
	const many, most = 300, 256 // most is what a block lets go
	s := newStaking(t, 2)
	actors := make([]abcitest.Actor, many)
	var outputs []tx.Output
	for i := range actors {
		actors[i] = abcitest.NewActor(t, fmt.Sprint("delegator ", i))
		outputs = append(outputs, tx.Output{To: actors[i].Address, Amount: 3 * mman.MAN})
	}
	for part := range slices.Chunk(outputs, 50) {
		s.Do(s.eve, tx.MsgMultiSend{From: s.eve.Address, Outputs: part})
	}
	all := func(msg func(mman.Address) tx.Msg) {
		t.Helper()
		var raws [][]byte
		for _, a := range actors {
			raws = append(raws, s.Sign(a, []tx.Msg{msg(a.Address)}))
		}
		for _, r := range s.Block(raws...).Results {
			require.NotNil(t, r)
			require.Zero(t, r.Code, r.Log)
		}
	}
	all(func(a mman.Address) tx.Msg {
		return tx.MsgDelegate{Delegator: a, Validator: s.bob.Address, Amount: mman.MAN}
	})
	all(func(a mman.Address) tx.Msg {
		return tx.MsgUndelegate{Delegator: a, Validator: s.bob.Address, Amount: mman.MAN}
	})
	out := []int{}
	for range 60 {
		left := 0
		for _, e := range s.Pass(1) {
			if e.Type == "complete_unbonding" {
				left++
			}
		}
		if left > 0 {
			out = append(out, left)
		}
	}
	require.Equal(t, []int{most, many - most}, out, "in two blocks")
	require.Zero(t, s.validator(s.bob).Debonding.Shares)
	for _, a := range actors {
		require.Empty(t, s.unbondings(a))
	}
}

// TestReporter: who proves double signing gets a twentieth of what it costs, and
// no more.
func TestReporter(t *testing.T) {
	t.Parallel()
	s := newStaking(t, 2)
	s.Do(s.dave, tx.MsgDelegate{Delegator: s.dave.Address, Validator: s.bob.Address, Amount: 30 * mman.MAN})
	burned, staked := s.supply().Burned, s.supply().Staked
	s.Accuse(votes(t, s.bob).Public().Bytes())
	s.Turn(votes(t, s.alice).Public().Bytes())
	events := s.Pass(1)
	const cut = 2 * mman.MAN // 5 % of 40 MAN
	require.Equal(t, 10*mman.MAN+cut/20, s.validator(s.alice).Active.Tokens)
	require.Equal(t, cut-cut/20, s.supply().Burned-burned)
	require.Equal(t, cut-cut/20, staked-s.supply().Staked)
	paid, ok := abcitest.Attribute(events, "report", "amount")
	require.True(t, ok)
	require.Equal(t, block.Coins(cut/20), paid)
	s.Replay(nil)
}

// TestStakingWorkload does random things, with every invariant checked after
// every block, and replays the blocks.
func TestStakingWorkload(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	var actors []abcitest.Actor
	for i := range 9 {
		actors = append(actors, abcitest.NewActor(t, fmt.Sprint("staker", i)))
	}
	s := &staking{t: t, Chain: abcitest.New(t, stakingGenesis(t, 3, actors...))}
	s.Pass(1)
	done := map[string]int{}
	for s.Height() < 400 {
		var raws [][]byte
		var names []string
		for range rng.IntN(5) {
			a := actors[rng.IntN(len(actors))]
			m := s.random(rng, a, actors)
			raws, names = append(raws, s.Sign(a, []tx.Msg{m})), append(names, m.TypeURL())
		}
		if rng.IntN(40) == 0 {
			s.Accuse(votes(t, actors[rng.IntN(len(actors))]).Public().Bytes())
		}
		if rng.IntN(4) == 0 {
			s.Absent(votes(t, actors[rng.IntN(len(actors))]).Public().Bytes(), rng.IntN(2) == 0)
		}
		b := s.Block(raws...)
		for i, r := range b.Results {
			if r != nil && r.Code == 0 {
				done[names[i]]++
			}
		}
		for _, e := range b.Events {
			done[e.Type]++
		}
		if rng.IntN(30) == 0 {
			s.Restart()
		}
	}
	t.Log(done)
	for _, what := range []string{tx.TypeDelegate, tx.TypeUndelegate, tx.TypeCreateValidator, "power", "complete_unbonding", "rewards"} {
		require.Positive(t, done[what], "%s: the workload does what it is for", what)
	}
	again := rand.New(rand.NewPCG(seed, 4))
	s.Replay(func(uint64) (restart, drop bool) { return again.IntN(5) == 0, again.IntN(3) == 0 })
}

func (s *staking) random(rng *rand.Rand, a abcitest.Actor, actors []abcitest.Actor) tx.Msg {
	other, third := actors[rng.IntN(len(actors))].Address, actors[rng.IntN(len(actors))].Address
	amount := 1 + mman.Amount(rng.Uint64N(uint64(20*mman.MAN)))
	switch rng.IntN(12) {
	case 0:
		return s.create(a, amount, rng.Uint64N(300_000))
	case 1:
		return tx.MsgEditValidator{Operator: a.Address, Name: "again", CommissionPPM: rng.Uint64N(200_000)}
	case 2:
		return tx.MsgUnjail{Operator: a.Address}
	case 3, 4, 5:
		return tx.MsgUndelegate{Delegator: a.Address, Validator: other, Amount: amount / (1 + mman.Amount(rng.Uint64N(9)))}
	case 6:
		return tx.MsgUndelegate{Delegator: a.Address, Validator: other, Amount: max(s.delegated(a, other), 1)}
	case 7, 8:
		return tx.MsgRedelegate{Delegator: a.Address, From: other, To: third, Amount: amount}
	default:
		return tx.MsgDelegate{Delegator: a.Address, Validator: other, Amount: amount}
	}
}

func (s *staking) delegated(by abcitest.Actor, to mman.Address) mman.Amount {
	return s.delegation(by, abcitest.Actor{Address: to})
}
