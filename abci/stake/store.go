package stake

import (
	"bytes"
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/internal/sig"
)

// Validator is a validator's record.
type Validator struct {
	Name string `cbor:"name" json:"name"`
	// Key is the ed25519 key that signs votes, in base64 as in CometBFT's files.
	Key []byte `cbor:"key" json:"consensus_key"`
	// Beacon is the key of the randomness in the blocks that it proposes.
	Beacon []byte `cbor:"beacon" json:"beacon_key"`
	// CommissionPPM is the operator's part of the rewards, in millionths.
	CommissionPPM uint64 `cbor:"commission_ppm" json:"commission_ppm"`
	// CommissionEpoch is the epoch in which it last rose.
	CommissionEpoch uint64 `cbor:"commission_epoch" json:"-"`
	Active          Pool   `cbor:"active"           json:"active"`
	Debonding       Pool   `cbor:"debonding"        json:"debonding"`
	// Power is what consensus was last told, 0 for one that does not sign.
	Power uint64 `cbor:"power" json:"power"`
	// Jailed keeps it out of elections until it sends MsgUnjail, at JailedUntil
	// or later; a tombstoned one never comes back.
	Jailed      bool   `cbor:"jailed"       json:"jailed"`
	JailedUntil uint64 `cbor:"jailed_until" json:"jailed_until"`
	Tombstoned  bool   `cbor:"tombstoned"   json:"tombstoned"`
}

// empty reports whether nobody has stake with the validator, so that its record
// may go.
func (v Validator) empty() bool {
	return v.Active.Shares == 0 && v.Debonding.Shares == 0 && !v.Tombstoned
}

// Delegation is what one account holds of a validator's active pool.
type Delegation struct {
	Shares uint64 `cbor:"shares"`
}

// Unbonding is what one account holds of a validator's debonding pool.
type Unbonding struct {
	Shares uint64 `cbor:"shares"`
	// Time is when it ends at the earliest, in seconds since 1970.
	Time int64 `cbor:"time"`
}

// absence is how many blocks a validator missed in one epoch.
type absence struct {
	Epoch  uint64 `cbor:"epoch"`
	Missed uint64 `cbor:"missed"`
}

// Bounds of the records in bytes.
const (
	validatorMaxBytes  = 512
	delegationMaxBytes = 64
	unbondingMaxBytes  = 64
	absencesMaxBytes   = 48 << 10
)

func validators() state.Table[Validator] {
	return state.NewTable[Validator](state.StakeValidators, validatorMaxBytes)
}

func delegations() state.Table[Delegation] {
	return state.NewTable[Delegation](state.StakeDelegations, delegationMaxBytes)
}

func unbondings() state.Table[Unbonding] {
	return state.NewTable[Unbonding](state.StakeUnbonding, unbondingMaxBytes)
}

func absences() state.Table[[]absence] {
	return state.NewTable[[]absence](state.StakeMissed, absencesMaxBytes)
}

func byAccount() state.Index { return state.NewIndex(state.StakeDelegationsByAccount) }

func unbondingsByAccount() state.Index { return state.NewIndex(state.StakeUnbondingByAccount) }

// count is the number of validators.
func count() state.Counter { return state.NewCounter(state.StakeTotals, "validators") }

func pair(a, b mman.Address) []byte { return append(a[:len(a):len(a)], b[:]...) }

// Lookup returns a validator's record; ok is false when there is none.
func Lookup(r state.Reader, operator mman.Address) (v Validator, ok bool, err error) {
	return validators().Get(r, operator[:])
}

// must returns the validator that a message names; mman.ErrNotFound.
func must(r state.Reader, operator mman.Address) (Validator, error) {
	v, ok, err := Lookup(r, operator)
	if err == nil && !ok {
		err = block.NotFound("validator", operator.ValidatorString())
	}
	return v, err
}

// known returns a validator that the state itself names.
func known(r state.Reader, operator mman.Address) (Validator, error) {
	v, ok, err := Lookup(r, operator)
	if err == nil && !ok {
		err = fmt.Errorf("%w: validator %s is named and missing", mman.ErrCorrupt, operator.ValidatorString())
	}
	return v, err
}

func put(w state.Writer, operator mman.Address, v Validator) error {
	return validators().Set(w, operator[:], v)
}

// byKey returns the operator of a consensus address.
func byKey(r state.Reader, a block.ConsensusAddress) (operator mman.Address, ok bool, err error) {
	b, ok, err := r.Get(state.StakeValidatorsByKey.Store(), state.StakeValidatorsByKey.Key(a[:]))
	if err != nil || !ok {
		return operator, false, err
	}
	if len(b) != len(operator) {
		return operator, false, fmt.Errorf("%w: validator by key %x: %x", mman.ErrCorrupt, a, b)
	}
	return mman.Address(b), true, nil
}

// BeaconKey returns the key with which the validator of that consensus address
// proves the randomness of its blocks; ok is false when nobody has the address.
func BeaconKey(r state.Reader, a block.ConsensusAddress) (key [sig.Ed25519Size]byte, ok bool, err error) {
	operator, ok, err := byKey(r, a)
	if err != nil || !ok {
		return key, false, err
	}
	v, err := known(r, operator)
	if err == nil && len(v.Beacon) != len(key) {
		err = fmt.Errorf("%w: validator %s has a beacon key of %d bytes", mman.ErrCorrupt, operator, len(v.Beacon))
	}
	if err != nil {
		return key, false, err
	}
	return [sig.Ed25519Size]byte(v.Beacon), true, nil
}

// add writes a new validator and what leads to it.
func add(w state.Writer, operator mman.Address, v Validator) error {
	n, err := count().Get(w)
	if err != nil {
		return err
	}
	if err := count().Set(w, n+1); err != nil {
		return err
	}
	a := block.NewConsensusAddress(v.Key)
	if err := w.Set(state.StakeValidatorsByKey.Store(), state.StakeValidatorsByKey.Key(a[:]), operator[:]); err != nil {
		return err
	}
	return put(w, operator, v)
}

// forget removes a validator that has neither stake nor power. A tombstoned one
// stays, so that its key stays dead.
func forget(w state.Writer, operator mman.Address, v Validator) error {
	if !v.empty() || v.Power != 0 {
		return nil
	}
	n, err := count().Get(w)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%w: the last of no validators is removed", mman.ErrInvariant)
	}
	if err := count().Set(w, n-1); err != nil {
		return err
	}
	a := block.NewConsensusAddress(v.Key)
	if err := w.Delete(state.StakeValidatorsByKey.Store(), state.StakeValidatorsByKey.Key(a[:])); err != nil {
		return err
	}
	if err := absences().Delete(w, operator[:]); err != nil {
		return err
	}
	return validators().Delete(w, operator[:])
}

// hold changes what a delegator holds of a validator's active pool by giving
// and taking shares.
func hold(w state.Writer, operator, delegator mman.Address, give, take uint64) error {
	key := pair(operator, delegator)
	d, _, err := delegations().Get(w, key)
	if err != nil {
		return err
	}
	sum, err := mman.Amount(d.Shares).Add(mman.Amount(give))
	if err != nil {
		return err
	}
	left, err := sum.Sub(mman.Amount(take))
	if err != nil {
		return fmt.Errorf("%w: delegation of %s: %w", mman.ErrInvariant, delegator, err)
	}
	if left == 0 {
		if err := byAccount().Remove(w, pair(delegator, operator)); err != nil {
			return err
		}
		return delegations().Delete(w, key)
	}
	if err := byAccount().Add(w, pair(delegator, operator)); err != nil {
		return err
	}
	return delegations().Set(w, key, Delegation{Shares: uint64(left)})
}

// exit names an unbonding.
type exit struct {
	height              uint64
	delegator, operator mman.Address
	// to is the operator who gets the stake, zero for the account itself.
	to mman.Address
}

func (e exit) key() []byte {
	return bytes.Join([][]byte{state.Uint64Key(e.height), e.delegator[:], e.operator[:], e.to[:]}, nil)
}

func (e exit) accountKey() []byte {
	return bytes.Join([][]byte{e.delegator[:], state.Uint64Key(e.height), e.operator[:], e.to[:]}, nil)
}

func parseExit(key []byte) (exit, error) {
	height, rest, err := state.ParseUint64Key(key)
	if err != nil || len(rest) != 3*mman.AddressSize {
		return exit{}, fmt.Errorf("%w: unbonding %x", mman.ErrCorrupt, key)
	}
	const n = mman.AddressSize
	return exit{height, mman.Address(rest[:n]), mman.Address(rest[n : 2*n]), mman.Address(rest[2*n:])}, nil
}
