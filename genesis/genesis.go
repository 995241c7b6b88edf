package genesis

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

// Network is the kind of a network.
type Network string

// The kinds: one machine or one LAN, a public network whose coins are worth
// nothing, and one whose coins are.
const (
	Local  Network = "local"
	Test   Network = "test"
	Public Network = "public"
)

// Bounds of a document.
const (
	// MaxBytes bounds the JSON form: with the state of a chain that goes on,
	// some hundred thousand accounts.
	MaxBytes = 64 << 20
	// MaxAccounts bounds the accounts.
	MaxAccounts = 65_536
	// MaxValidators bounds the validators.
	MaxValidators = 128
	// MaxPower bounds the sum of the validators' power (CometBFT's own bound
	// is 2⁶³/8).
	MaxPower = 1 << 50

	maxChainID   = 50
	maxNameBytes = 64
	chainPrefix  = "mman-"
)

// Document is a chain's first state.
type Document struct {
	// ChainID is mman- and 1 to 40 of a-z, 0-9 and -.
	ChainID string `json:"chain_id"`
	// Network says which column of defaults applied and how strict a node is.
	Network Network `json:"network"`
	// InitialHeight is the height of the first block: 1, or the one after State's.
	InitialHeight uint64      `json:"initial_height"`
	Params        Params      `json:"params"`
	Accounts      []Account   `json:"accounts"`
	Validators    []Validator `json:"validators"`
	// Upgrades are the heights from which on other rules count.
	Upgrades []Upgrade `json:"upgrades,omitempty"`
	// State, when set, is what a chain that goes on had at its last height. It
	// takes the place of the accounts.
	State *State `json:"state,omitempty"`
}

// Account is an account that holds coins from the start.
type Account struct {
	Address mman.Address `json:"address"`
	Balance mman.Amount  `json:"balance_uman"`
}

// Validator signs blocks from the start.
type Validator struct {
	// Operator is the account that answers for it.
	Operator mman.Address `json:"operator"`
	// Name is a short title, at most 64 bytes of printable ASCII.
	Name string `json:"name"`
	// ConsensusKey is the ed25519 key that signs votes, in base64 as in
	// CometBFT's files.
	ConsensusKey []byte `json:"consensus_key"`
	// BeaconKey proves the randomness of the blocks that it proposes: 32 bytes,
	// in base64.
	BeaconKey []byte `json:"beacon_key"`
	// Power is its share of the votes. Its operator starts with the stake that
	// buys them, power × params.power_unit, beside what its account holds.
	Power uint64 `json:"power"`
}

// Decode reads a document strictly and validates it: unknown and doubled keys,
// numbers out of range and anything after the document are refused with
// mman.ErrGenesis.
func Decode(b []byte) (Document, error) {
	if len(b) > MaxBytes {
		return Document{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", mman.ErrGenesis, len(b), MaxBytes)
	}
	if err := checkKeys(b); err != nil {
		return Document{}, fmt.Errorf("%w: %w", mman.ErrGenesis, err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var d Document
	if err := dec.Decode(&d); err != nil {
		return Document{}, fmt.Errorf("%w: %w", mman.ErrGenesis, err)
	}
	return d, d.Validate()
}

// checkKeys refuses a key that stands twice in one object, which encoding/json
// would let the last one win, and whatever follows the value.
func checkKeys(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := walk(dec, "", 0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document")
	}
	return nil
}

func walk(dec *json.Decoder, path string, depth int) error {
	const maxDepth = 8
	if depth > maxDepth {
		return fmt.Errorf("%s is nested too deeply", path)
	}
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		at := path
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name := strings.ToLower(fmt.Sprint(key)) // encoding/json matches keys without case
			if at = path + "." + name; seen[name] {
				return fmt.Errorf("the key %.64q stands twice", strings.TrimPrefix(at, "."))
			}
			seen[name] = true
		}
		if err := walk(dec, at, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// Validate reports the first rule that the document breaks, in one sentence
// that wraps mman.ErrGenesis.
func (d Document) Validate() error {
	if err := ValidChainID(d.ChainID); err != nil {
		return err
	}
	if d.Network != Local && d.Network != Test && d.Network != Public {
		return fmt.Errorf("%w: network %.32q: use local, test or public", mman.ErrGenesis, d.Network)
	}
	if err := d.validState(); err != nil {
		return err
	}
	if err := ValidUpgrades(d.Upgrades); err != nil {
		return err
	}
	if err := d.Params.Validate(); err != nil {
		return err
	}
	if err := d.validValidators(); err != nil {
		return err
	}
	if d.State != nil {
		return nil // the application counts its money
	}
	_, err := d.Supply()
	return err
}

// ValidChainID checks a chain's id: mman- and 1 to 40 of a-z, 0-9 and -;
// mman.ErrGenesis.
func ValidChainID(id string) error {
	rest, ok := strings.CutPrefix(id, chainPrefix)
	bad := !ok || rest == "" || len(rest) > 40 || len(id) > maxChainID
	for _, c := range []byte(rest) {
		bad = bad || (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
	}
	if bad {
		return fmt.Errorf("%w: chain_id %.64q: write mman- and 1 to 40 of a-z, 0-9 and -", mman.ErrGenesis, id)
	}
	return nil
}

// Supply checks the accounts and returns all money of the first state, at most
// mman.MaxSupply: the sum of the balances and the validators' stake.
func (d Document) Supply() (mman.Amount, error) {
	sum, err := d.Balances()
	if err != nil {
		return 0, err
	}
	for i, v := range d.Validators {
		stake, err := d.Stake(v)
		if err == nil {
			sum, err = sum.Add(stake)
		}
		if err != nil || sum > mman.MaxSupply {
			return 0, fmt.Errorf("%w: validators[%d]: with the stake of power %d the supply is above 2^53-1 uman", mman.ErrGenesis, i, v.Power)
		}
	}
	return sum, nil
}

// Stake returns what backs a validator's power.
func (d Document) Stake(v Validator) (mman.Amount, error) {
	return mman.Amount(v.Power).MulDivFloor(d.Params.PowerUnit, 1)
}

// Balances checks the accounts and returns the sum of what they hold.
func (d Document) Balances() (mman.Amount, error) {
	if len(d.Accounts) == 0 || len(d.Accounts) > MaxAccounts {
		return 0, fmt.Errorf("%w: %d accounts: 1 to %d are allowed", mman.ErrGenesis, len(d.Accounts), MaxAccounts)
	}
	seen := make(map[mman.Address]bool, len(d.Accounts))
	var sum mman.Amount
	for i, a := range d.Accounts {
		switch {
		case a.Address.IsZero():
			return 0, fmt.Errorf("%w: accounts[%d]: it names no address", mman.ErrGenesis, i)
		case seen[a.Address]:
			return 0, fmt.Errorf("%w: accounts[%d]: %s stands twice", mman.ErrGenesis, i, a.Address)
		case a.Balance > mman.MaxSupply || sum+a.Balance > mman.MaxSupply:
			return 0, fmt.Errorf("%w: accounts[%d]: with %d uman the supply is above 2^53-1 uman", mman.ErrGenesis, i, uint64(a.Balance))
		}
		seen[a.Address] = true
		sum += a.Balance // both at most 2⁵³−1
	}
	if sum == 0 {
		return 0, fmt.Errorf("%w: the accounts hold no coins, so nobody could pay a fee", mman.ErrGenesis)
	}
	return sum, nil
}

func (d Document) validValidators() error {
	if len(d.Validators) == 0 || len(d.Validators) > MaxValidators {
		return fmt.Errorf("%w: %d validators: 1 to %d are allowed", mman.ErrGenesis, len(d.Validators), MaxValidators)
	}
	keys, operators := map[string]bool{}, map[mman.Address]bool{}
	var power uint64
	for i, v := range d.Validators {
		switch {
		case v.Operator.IsZero():
			return fmt.Errorf("%w: validators[%d]: it names no operator", mman.ErrGenesis, i)
		case operators[v.Operator]:
			return fmt.Errorf("%w: validators[%d]: operator %s stands twice", mman.ErrGenesis, i, v.Operator)
		case len(v.ConsensusKey) != sig.Ed25519Size:
			return fmt.Errorf("%w: validators[%d]: consensus_key has %d bytes, an ed25519 key has %d", mman.ErrGenesis, i, len(v.ConsensusKey), sig.Ed25519Size)
		case len(v.BeaconKey) != sig.Ed25519Size || !sig.ValidVRFKey([sig.Ed25519Size]byte(v.BeaconKey)):
			return fmt.Errorf("%w: validators[%d]: beacon_key %.80x: it is a point of %d bytes, as mman-node init writes it", mman.ErrGenesis, i, v.BeaconKey, sig.Ed25519Size)
		case keys[string(v.ConsensusKey)]:
			return fmt.Errorf("%w: validators[%d]: its consensus_key stands twice", mman.ErrGenesis, i)
		case v.Power == 0 || v.Power > MaxPower || power+v.Power > MaxPower:
			return fmt.Errorf("%w: validators[%d]: power %d: at least 1, and all together at most %d", mman.ErrGenesis, i, v.Power, uint64(MaxPower))
		}
		if err := validName(v.Name); err != nil {
			return fmt.Errorf("%w: validators[%d]: %w", mman.ErrGenesis, i, err)
		}
		keys[string(v.ConsensusKey)], operators[v.Operator] = true, true
		power += v.Power
	}
	return nil
}

func validName(name string) error {
	bad := name == "" || len(name) > maxNameBytes
	for _, c := range []byte(name) {
		bad = bad || c < ' ' || c > '~'
	}
	if bad {
		return fmt.Errorf("name %.80q: 1 to %d printable ASCII characters are needed", name, maxNameBytes)
	}
	return nil
}

// Canonical returns the document with accounts and validators sorted by
// address. It shares nothing with d but the consensus keys.
func (d Document) Canonical() Document {
	d.Accounts, d.Validators = slices.Clone(d.Accounts), slices.Clone(d.Validators)
	slices.SortFunc(d.Accounts, func(a, b Account) int { return bytes.Compare(a.Address[:], b.Address[:]) })
	slices.SortFunc(d.Validators, func(a, b Validator) int {
		return cmp.Or(bytes.Compare(a.Operator[:], b.Operator[:]), bytes.Compare(a.ConsensusKey, b.ConsensusKey))
	})
	return d
}

// Encode validates the document and returns its canonical JSON: sorted, two
// spaces of indent, a newline at the end.
func (d Document) Encode() ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(d.Canonical(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: encode: %w", mman.ErrGenesis, err)
	}
	return append(b, '\n'), nil
}

// Hash returns SHA-256 of the canonical JSON without white space, so that it
// does not depend on how a file is indented.
func (d Document) Hash() (mman.Hash, error) {
	if err := d.Validate(); err != nil {
		return mman.Hash{}, err
	}
	b, err := json.Marshal(d.Canonical())
	if err != nil {
		return mman.Hash{}, fmt.Errorf("%w: encode: %w", mman.ErrGenesis, err)
	}
	return mman.Sum256(b), nil
}
