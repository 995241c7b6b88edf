package stake

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
)

// EndBlock has nothing due: Elect does it.
func (Module) EndBlock(*block.Context) error { return nil }

// Elect punishes what was proven, counts who signed, lets stake go whose
// time has come, and at the end of an epoch shares out fees, jails the absent
// and elects.
func (m Module) Elect(ctx *block.Context, c *block.Consensus) error {
	for _, e := range c.Misbehavior {
		if err := m.punish(ctx, c.Proposer, e); err != nil {
			return err
		}
	}
	t, err := decodeTally(c.Aside)
	if err != nil {
		return err
	}
	if t, err = t.count(c.Votes); err != nil {
		return err
	}
	if err := m.mature(ctx); err != nil {
		return err
	}
	if !epochEnds(ctx) {
		c.Aside, err = t.encode()
		return err
	}
	c.Aside = nil
	if err := m.reward(ctx, t); err != nil {
		return err
	}
	if err := m.judge(ctx, t); err != nil {
		return err
	}
	c.Updates, err = elect(ctx)
	return err
}

// punish slashes and tombstones the validator that evidence names, once, and
// pays who reported it.
func (m Module) punish(ctx *block.Context, proposer block.ConsensusAddress, e block.Misbehavior) error {
	operator, ok, err := byKey(ctx.State, e.Validator)
	if err != nil || !ok {
		return err // its stake is gone, and so is its record
	}
	v, err := known(ctx.State, operator)
	if err != nil || v.Tombstoned {
		return err
	}
	v.Tombstoned, v.Jailed = true, true
	cut, err := slash(&v, ctx.Params.SlashDoublePPM)
	if err != nil {
		return err
	}
	reward, err := report(ctx, proposer, operator, cut)
	if err != nil {
		return err
	}
	return m.slashed(ctx, operator, v, cut-reward, "double_sign")
}

// report gives its part of what was slashed to the stake of the validator whose
// block proves the fault. The culprit earns nothing by accusing itself.
func report(ctx *block.Context, proposer block.ConsensusAddress, culprit mman.Address, cut mman.Amount) (mman.Amount, error) {
	operator, ok, err := byKey(ctx.State, proposer)
	if err != nil || !ok || operator == culprit {
		return 0, err
	}
	v, err := known(ctx.State, operator)
	if err != nil || v.Tombstoned || v.Active.Shares == 0 {
		return 0, err
	}
	part, err := cut.MulDivFloor(ctx.Params.ReporterPPM, million)
	if err != nil || part == 0 {
		return 0, err
	}
	if v.Active.Tokens, err = v.Active.Tokens.Add(part); err != nil {
		return 0, err
	}
	ctx.Emit("report", "validator", operator.ValidatorString(), "culprit", culprit.ValidatorString(), "amount", block.Coins(part))
	return part, put(ctx.State, operator, v)
}

// slash takes a part of both pools of the validator.
func slash(v *Validator, ppm uint64) (mman.Amount, error) {
	active, err := v.Active.Slash(ppm)
	if err != nil {
		return 0, err
	}
	leaving, err := v.Debonding.Slash(ppm)
	if err != nil {
		return 0, err
	}
	return active.Add(leaving)
}

// slashed burns what was taken and writes the record.
func (m Module) slashed(ctx *block.Context, operator mman.Address, v Validator, burned mman.Amount, reason string) error {
	if err := m.bank.BurnStake(ctx, burned); err != nil {
		return err
	}
	ctx.Emit("slash", "validator", operator.ValidatorString(), "reason", reason, "burned", block.Coins(burned), "jailed", strconv.FormatBool(v.Jailed))
	return put(ctx.State, operator, v)
}

// mature ends unbondings whose height and time have come, the earliest first.
func (m Module) mature(ctx *block.Context) error {
	rows, err := unbondings().Page(ctx.State, nil, nil, maxDue)
	if err != nil {
		return err
	}
	for _, row := range rows {
		e, err := parseExit(row.Key)
		if err != nil {
			return err
		}
		// Times ascend with heights, so what follows is not due either.
		if e.height > ctx.Height || row.Value.Time > ctx.Time {
			return nil
		}
		if err := m.release(ctx, e, row.Value); err != nil {
			return fmt.Errorf("unbonding of %s: %w", e.delegator, err)
		}
	}
	return nil
}

func (m Module) release(ctx *block.Context, e exit, u Unbonding) error {
	if err := unbondings().Delete(ctx.State, e.key()); err != nil {
		return err
	}
	if err := unbondingsByAccount().Remove(ctx.State, e.accountKey()); err != nil {
		return err
	}
	v, err := known(ctx.State, e.operator)
	if err != nil {
		return err
	}
	amount, err := v.Debonding.Withdraw(u.Shares)
	if err != nil {
		return err
	}
	if err := put(ctx.State, e.operator, v); err != nil {
		return err
	}
	if err := forget(ctx.State, e.operator, v); err != nil {
		return err
	}
	moved, err := move(ctx, e, amount)
	if err != nil {
		return err
	}
	name := "complete_redelegation"
	if !moved {
		name = "complete_unbonding"
		if err := m.bank.Unstake(ctx, e.delegator, amount); err != nil {
			return err
		}
	}
	ctx.Emit(name, "validator", e.operator.ValidatorString(), "delegator", e.delegator.String(), "amount", block.Coins(amount))
	return nil
}

// move gives the stake of a redelegation to its new validator; moved is false
// when that one is gone or cannot take it, and then the account gets it.
func move(ctx *block.Context, e exit, amount mman.Amount) (moved bool, err error) {
	if e.to.IsZero() || amount == 0 {
		return false, nil
	}
	v, ok, err := Lookup(ctx.State, e.to)
	if err != nil || !ok {
		return false, err
	}
	err = bond(ctx.State, e.to, &v, e.delegator, amount)
	if errors.Is(err, mman.ErrDenied) || errors.Is(err, mman.ErrInvalid) || errors.Is(err, mman.ErrOverflow) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, put(ctx.State, e.to, v)
}

// reward adds the fees to the active pools of those who signed, by power and
// blocks. What rounding leaves waits for the next epoch.
func (m Module) reward(ctx *block.Context, t tally) error {
	fees, err := m.bank.Fees(ctx.State)
	if err != nil {
		return err
	}
	points := t.points()
	if fees == 0 || points == 0 {
		return nil
	}
	for _, s := range t {
		part, err := fees.MulDivFloor(s.Points, points)
		if err != nil {
			return err
		}
		operator, ok, err := byKey(ctx.State, s.Validator)
		if err != nil {
			return err
		}
		if !ok || part == 0 {
			continue
		}
		if err := m.earn(ctx, operator, part); err != nil {
			return err
		}
	}
	return nil
}

func (m Module) earn(ctx *block.Context, operator mman.Address, amount mman.Amount) error {
	v, err := known(ctx.State, operator)
	if err != nil || v.Active.Shares == 0 {
		return err // nobody is there to earn it
	}
	commission, err := amount.MulDivFloor(v.CommissionPPM, million)
	if err != nil {
		return err
	}
	if v.Active.Tokens, err = v.Active.Tokens.Add(amount - commission); err != nil {
		return err
	}
	shares, err := v.Active.Award(commission)
	if err != nil {
		return err
	}
	if shares > 0 { // what is less than a share all delegators have
		if err := hold(ctx.State, operator, operator, shares, 0); err != nil {
			return err
		}
	}
	if err := m.bank.Reward(ctx, amount); err != nil {
		return err
	}
	ctx.Emit("rewards", "validator", operator.ValidatorString(), "amount", block.Coins(amount), "commission", block.Coins(commission))
	return put(ctx.State, operator, v)
}

// judge writes down who missed how many blocks of the epoch, and slashes and
// jails those who missed too many of the window.
func (m Module) judge(ctx *block.Context, t tally) error {
	missed := map[mman.Address]uint64{}
	for _, s := range t {
		operator, ok, err := byKey(ctx.State, s.Validator)
		if err != nil {
			return err
		}
		if ok && s.Missed > 0 {
			missed[operator] = s.Missed
		}
	}
	// Those who were absent before are judged anew, because the window moves.
	if err := absences().Each(ctx.State, nil, func(key []byte, _ []absence) error {
		operator := mman.Address(key)
		if _, ok := missed[operator]; !ok {
			missed[operator] = 0
		}
		return nil
	}); err != nil {
		return err
	}
	operators := make([]mman.Address, 0, len(missed))
	for operator := range missed {
		operators = append(operators, operator)
	}
	slices.SortFunc(operators, func(a, b mman.Address) int { return slices.Compare(a[:], b[:]) })
	for _, operator := range operators {
		if err := m.absent(ctx, operator, missed[operator]); err != nil {
			return err
		}
	}
	return nil
}

// absent moves the window of one validator.
func (m Module) absent(ctx *block.Context, operator mman.Address, missed uint64) error {
	window, _, err := absences().Get(ctx.State, operator[:])
	if err != nil {
		return err
	}
	now := epoch(ctx)
	kept := make([]absence, 0, len(window)+1)
	sum := missed
	for _, a := range window {
		if a.Epoch+ctx.Params.LivenessEpochs > now {
			kept, sum = append(kept, a), sum+a.Missed
		}
	}
	if missed > 0 {
		kept = append(kept, absence{now, missed})
	}
	v, err := known(ctx.State, operator)
	if err != nil {
		return err
	}
	if sum > ctx.Params.MaxMissedBlocks && !v.Jailed {
		v.Jailed, v.JailedUntil = true, ctx.Height+ctx.Params.JailBlocks
		cut, err := slash(&v, ctx.Params.SlashDowntimePPM)
		if err != nil {
			return err
		}
		if err := m.slashed(ctx, operator, v, cut, "downtime"); err != nil {
			return err
		}
		kept = nil
	}
	if len(kept) == 0 {
		return absences().Delete(ctx.State, operator[:])
	}
	return absences().Set(ctx.State, operator[:], kept)
}

// candidate is a validator that may be elected.
type candidate struct {
	operator mman.Address
	record   Validator
	power    uint64
}

// elect gives power to the validators with the most active stake and takes it
// from the others, and returns the changes. When nobody can be elected, all stays as it is: a chain
// without validators would be dead.
func elect(ctx *block.Context) (updates []block.Update, err error) {
	var all []candidate
	if err := validators().Each(ctx.State, nil, func(key []byte, v Validator) error {
		c := candidate{operator: mman.Address(key), record: v}
		// One that lost its power in this epoch may still propose a block, which
		// needs its keys: it is forgotten an epoch later.
		if v.Power == 0 && v.empty() {
			return forget(ctx.State, c.operator, v)
		}
		var err error
		c.power, err = eligible(ctx, c.operator, v)
		all = append(all, c)
		return err
	}); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.power, a.power), slices.Compare(a.operator[:], b.operator[:]))
	})
	if len(all) == 0 || all[0].power == 0 {
		ctx.Emit("election_failed", "candidates", strconv.Itoa(len(all)))
		return nil, nil
	}
	for i, c := range all {
		if uint64(i) >= ctx.Params.MaxValidators {
			c.power = 0
		}
		if c.power == c.record.Power {
			continue
		}
		c.record.Power = c.power
		updates = append(updates, block.Update{Key: c.record.Key, Power: c.power})
		ctx.Emit("power", "validator", c.operator.ValidatorString(), "power", strconv.FormatUint(c.power, 10))
		if err := put(ctx.State, c.operator, c.record); err != nil {
			return nil, err
		}
	}
	return updates, nil
}

// eligible returns the power that a validator's stake buys, 0 when it may not
// sign.
func eligible(ctx *block.Context, operator mman.Address, v Validator) (uint64, error) {
	if v.Jailed || v.Tombstoned {
		return 0, nil
	}
	own, err := selfStake(ctx.State, operator, v)
	if err != nil || uint64(own) < ctx.Params.MinSelfStake {
		return 0, err
	}
	return uint64(v.Active.Tokens) / max(ctx.Params.PowerUnit, 1), nil
}

func selfStake(r state.Reader, operator mman.Address, v Validator) (mman.Amount, error) {
	d, _, err := delegations().Get(r, pair(operator, operator))
	if err != nil {
		return 0, err
	}
	return v.Active.Value(d.Shares)
}
