package genesis

import (
	"bytes"
	"fmt"

	mman "github.com/limboid/massive-man"
)

// State is the whole state of a chain that ended and goes on under the same id:
// accounts with their sequences, stake, unbondings, offers, requests and leases.
// What a signature or an id says of the chain stays true.
type State struct {
	// Height is the last block's: the chain goes on with the one after it.
	Height uint64 `json:"height"`
	// Time is that block's, in seconds since 1970; the first block has it again.
	// 0 when it is not known.
	Time int64 `json:"time"`
	// Aside is what the chain counts outside of its tree, in base64.
	Aside []byte `json:"aside,omitempty"`
	// Pairs are the keys and values, in ascending order of keys.
	Pairs []Pair `json:"pairs"`
}

// Pair is one key, with its store's name and a slash before it, and its value,
// both in base64.
type Pair struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

// Upgrade says that the chain has new rules from a height on.
type Upgrade struct {
	// Height is the first block under the new rules.
	Height uint64 `cbor:"height" json:"height" yaml:"height"`
	// Version numbers the rules, as headers show it; the first rules have 1.
	Version uint64 `cbor:"version" json:"version" yaml:"version"`
}

// MaxUpgrades bounds a list of upgrades.
const MaxUpgrades = 64

// ValidUpgrades checks a list of upgrades: heights and versions ascend, from
// above 1 on; mman.ErrGenesis.
func ValidUpgrades(list []Upgrade) error {
	if len(list) > MaxUpgrades {
		return fmt.Errorf("%w: %d upgrades, at most %d are allowed", mman.ErrGenesis, len(list), MaxUpgrades)
	}
	last := Upgrade{Height: 1, Version: 1}
	for i, u := range list {
		if u.Height <= last.Height || u.Version <= last.Version || u.Height > 1<<62 {
			return fmt.Errorf("%w: upgrades[%d]: version %d at height %d: both are above those before, %d at %d", mman.ErrGenesis, i, u.Version, u.Height, last.Version, last.Height)
		}
		last = u
	}
	return nil
}

// validState checks the state of a chain that goes on, as far as it can be
// checked without knowing what the pairs mean.
func (d Document) validState() error {
	s := d.State
	switch {
	case s == nil && d.InitialHeight != 1:
		return fmt.Errorf("%w: initial_height %d: a new chain starts at 1", mman.ErrGenesis, d.InitialHeight)
	case s == nil:
		return nil
	case s.Height >= 1<<62 || d.InitialHeight != s.Height+1:
		return fmt.Errorf("%w: initial_height %d: a chain whose last height was %d goes on with the next", mman.ErrGenesis, d.InitialHeight, s.Height)
	case s.Time < 0:
		return fmt.Errorf("%w: state.time %d is before 1970", mman.ErrGenesis, s.Time)
	case len(d.Accounts) > 0:
		return fmt.Errorf("%w: %d accounts beside the state of a chain, which has its own", mman.ErrGenesis, len(d.Accounts))
	case len(s.Pairs) == 0:
		return fmt.Errorf("%w: the state has no pairs", mman.ErrGenesis)
	}
	for i, p := range s.Pairs {
		if len(p.Key) == 0 || len(p.Value) == 0 {
			return fmt.Errorf("%w: state.pairs[%d]: a key or a value is empty", mman.ErrGenesis, i)
		}
		if i > 0 && bytes.Compare(s.Pairs[i-1].Key, p.Key) >= 0 {
			return fmt.Errorf("%w: state.pairs[%d]: key %.40x is not above the one before it", mman.ErrGenesis, i, p.Key)
		}
	}
	return nil
}
