package stake

import (
	"fmt"
	"math"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
)

// Execute runs a message of staking.
func (m Module) Execute(ctx *block.Context, msg tx.Msg) error {
	switch msg := msg.(type) {
	case tx.MsgDelegate:
		return m.delegate(ctx, msg)
	case tx.MsgUndelegate:
		return m.leave(ctx, msg.Delegator, msg.Validator, mman.Address{}, msg.Amount)
	case tx.MsgRedelegate:
		return m.redelegate(ctx, msg)
	case tx.MsgCreateValidator:
		return m.create(ctx, msg)
	case tx.MsgEditValidator:
		return edit(ctx, msg)
	case tx.MsgUnjail:
		return unjail(ctx, msg)
	default:
		return fmt.Errorf("%w: staking does not execute %s", mman.ErrUnknownMsg, msg.TypeURL())
	}
}

func (m Module) delegate(ctx *block.Context, msg tx.MsgDelegate) error {
	v, err := must(ctx.State, msg.Validator)
	if err != nil {
		return err
	}
	if err := m.bank.Stake(ctx, msg.Delegator, msg.Amount); err != nil {
		return err
	}
	if err := bond(ctx.State, msg.Validator, &v, msg.Delegator, msg.Amount); err != nil {
		return err
	}
	ctx.Emit("delegate", "validator", msg.Validator.ValidatorString(), "delegator", msg.Delegator.String(), "amount", block.Coins(msg.Amount))
	return put(ctx.State, msg.Validator, v)
}

// bond adds staked tokens to the validator's active pool for the delegator. The
// caller writes the record.
func bond(w state.Writer, operator mman.Address, v *Validator, delegator mman.Address, amount mman.Amount) error {
	if v.Tombstoned {
		return fmt.Errorf("%w: validator %s signed two blocks of one height and never comes back", mman.ErrDenied, operator.ValidatorString())
	}
	shares, err := v.Active.Deposit(amount)
	if err != nil {
		return err
	}
	return hold(w, operator, delegator, shares, 0)
}

func (m Module) redelegate(ctx *block.Context, msg tx.MsgRedelegate) error {
	if msg.From == msg.To {
		return fmt.Errorf("%w: from %s to itself", mman.ErrInvalid, msg.From.ValidatorString())
	}
	v, err := must(ctx.State, msg.To)
	if err != nil {
		return err
	}
	if v.Tombstoned {
		return fmt.Errorf("%w: validator %s signed two blocks of one height and never comes back", mman.ErrDenied, msg.To.ValidatorString())
	}
	return m.leave(ctx, msg.Delegator, msg.From, msg.To, msg.Amount)
}

// leave moves stake to the debonding pool and queues its end.
func (m Module) leave(ctx *block.Context, delegator, operator, to mman.Address, amount mman.Amount) error {
	v, err := must(ctx.State, operator)
	if err != nil {
		return err
	}
	d, ok, err := delegations().Get(ctx.State, pair(operator, delegator))
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: %s has no stake with %s", mman.ErrFunds, delegator, operator.ValidatorString())
	}
	worth, err := v.Active.Value(d.Shares)
	if err != nil {
		return err
	}
	if amount > worth {
		return fmt.Errorf("%w: the stake of %s with %s is %s, not %s", mman.ErrFunds, delegator, operator.ValidatorString(), worth, amount)
	}
	shares := d.Shares
	if amount < worth {
		if shares, err = v.Active.Price(amount); err != nil {
			return err
		}
		shares = min(shares, d.Shares)
	}
	if amount, err = v.Active.Withdraw(shares); err != nil {
		return err
	}
	if err := hold(ctx.State, operator, delegator, 0, shares); err != nil {
		return err
	}
	leaving, err := v.Debonding.Deposit(amount)
	if err != nil {
		return err
	}
	e := exit{height: ctx.Height + ctx.Params.UnbondingBlocks, delegator: delegator, operator: operator, to: to}
	if err := queue(ctx, e, leaving); err != nil {
		return err
	}
	name, pairs := "unbond", []string{
		"validator", operator.ValidatorString(), "delegator", delegator.String(), "amount", block.Coins(amount),
		"completion_height", strconv.FormatUint(e.height, 10),
	}
	if !to.IsZero() {
		name, pairs = "redelegate", append(pairs, "destination_validator", to.ValidatorString())
	}
	ctx.Emit(name, pairs...)
	return put(ctx.State, operator, v)
}

// queue adds shares of the debonding pool to an exit.
func queue(ctx *block.Context, e exit, shares uint64) error {
	u, _, err := unbondings().Get(ctx.State, e.key())
	if err != nil {
		return err
	}
	sum, err := mman.Amount(u.Shares).Add(mman.Amount(shares))
	if err != nil {
		return err
	}
	seconds := int64(min(ctx.Params.UnbondingSeconds, math.MaxInt32))
	if err := unbondingsByAccount().Add(ctx.State, e.accountKey()); err != nil {
		return err
	}
	return unbondings().Set(ctx.State, e.key(), Unbonding{Shares: uint64(sum), Time: ctx.Time + seconds})
}

func (m Module) create(ctx *block.Context, msg tx.MsgCreateValidator) error {
	if _, ok, err := Lookup(ctx.State, msg.Operator); err != nil || ok {
		return orExists(err, "validator", msg.Operator.ValidatorString())
	}
	a := block.NewConsensusAddress(msg.ConsensusKey[:])
	if _, ok, err := byKey(ctx.State, a); err != nil || ok {
		return orExists(err, "a validator with the consensus key", fmt.Sprintf("%x", msg.ConsensusKey))
	}
	n, err := count().Get(ctx.State)
	switch {
	case err != nil:
		return err
	case n >= ctx.Params.MaxCandidates:
		return fmt.Errorf("%w: there are %d validators, at most %d are allowed: wait until one gives up", mman.ErrCapacity, n, ctx.Params.MaxCandidates)
	case uint64(msg.Stake) < ctx.Params.MinSelfStake:
		return fmt.Errorf("%w: a stake of %s, a validator needs %s of its own", mman.ErrInvalid, msg.Stake, mman.Amount(ctx.Params.MinSelfStake))
	case !sig.ValidVRFKey(msg.BeaconKey):
		return fmt.Errorf("%w: the beacon key %x is no point that can prove anything", mman.ErrInvalid, msg.BeaconKey)
	case !msg.VerifyKey(ctx.ChainID):
		return fmt.Errorf("%w: the consensus key %x did not sign the message for chain %q", mman.ErrBadSignature, msg.ConsensusKey, ctx.ChainID)
	}
	if err := m.bank.Stake(ctx, msg.Operator, msg.Stake); err != nil {
		return err
	}
	v := Validator{Name: msg.Name, Key: msg.ConsensusKey[:], Beacon: msg.BeaconKey[:], CommissionPPM: msg.CommissionPPM, CommissionEpoch: epoch(ctx)}
	if err := bond(ctx.State, msg.Operator, &v, msg.Operator, msg.Stake); err != nil {
		return err
	}
	ctx.Emit("create_validator", "validator", msg.Operator.ValidatorString(), "amount", block.Coins(msg.Stake))
	return add(ctx.State, msg.Operator, v)
}

func orExists(err error, what, name string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s %s", mman.ErrExists, what, name)
}

func edit(ctx *block.Context, msg tx.MsgEditValidator) error {
	v, err := must(ctx.State, msg.Operator)
	if err != nil {
		return err
	}
	if rise := msg.CommissionPPM; rise > v.CommissionPPM {
		switch rise -= v.CommissionPPM; {
		case v.CommissionEpoch == epoch(ctx):
			return fmt.Errorf("%w: the commission rose in this epoch already, wait for the next", mman.ErrDenied)
		case rise > maxCommissionStep:
			return fmt.Errorf("%w: the commission may rise by %d millionths in an epoch, not by %d", mman.ErrDenied, maxCommissionStep, rise)
		}
		v.CommissionEpoch = epoch(ctx)
	}
	v.Name, v.CommissionPPM = msg.Name, msg.CommissionPPM
	ctx.Emit("edit_validator", "validator", msg.Operator.ValidatorString(), "commission_ppm", strconv.FormatUint(msg.CommissionPPM, 10))
	return put(ctx.State, msg.Operator, v)
}

func unjail(ctx *block.Context, msg tx.MsgUnjail) error {
	v, err := must(ctx.State, msg.Operator)
	switch {
	case err != nil:
		return err
	case v.Tombstoned:
		return fmt.Errorf("%w: validator %s signed two blocks of one height and never comes back", mman.ErrDenied, msg.Operator.ValidatorString())
	case !v.Jailed:
		return fmt.Errorf("%w: validator %s is not jailed", mman.ErrInvalid, msg.Operator.ValidatorString())
	case ctx.Height < v.JailedUntil:
		return fmt.Errorf("%w: validator %s is jailed until height %d, this is %d", mman.ErrDenied, msg.Operator.ValidatorString(), v.JailedUntil, ctx.Height)
	}
	v.Jailed, v.JailedUntil = false, 0
	ctx.Emit("unjail", "validator", msg.Operator.ValidatorString())
	return put(ctx.State, msg.Operator, v)
}

// epoch numbers the epochs from 0. The last block of an epoch is the one whose
// height its length divides.
func epoch(ctx *block.Context) uint64 { return (ctx.Height - 1) / max(ctx.Params.EpochBlocks, 1) }

func epochEnds(ctx *block.Context) bool { return ctx.Height%max(ctx.Params.EpochBlocks, 1) == 0 }
