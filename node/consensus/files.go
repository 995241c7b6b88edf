package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

// What stands below <home>/consensus.
const (
	folder             = "consensus"
	validatorKeyFile   = "priv_validator_key.json"
	validatorStateFile = "priv_validator_state.json"
	nodeKeyFile        = "node_key.json"
	addressBookFile    = "addrbook.json"
	walFile            = "wal/wal"

	keyFileBytes = 64 << 10
)

// Identity is who a home is in consensus.
type Identity struct {
	// ConsensusKey is the public half of the ed25519 key that signs votes, as a
	// genesis.Validator names it.
	ConsensusKey []byte
	// BeaconKey is the public half of the key that proves the randomness of the
	// blocks that this home proposes.
	BeaconKey []byte
	// PeerID is the id before the @ in other nodes' list of peers.
	PeerID string
}

// Init makes the keys of a home that has none and returns who it is. Existing
// keys stay. mman.ErrHome when a file is missing, readable by others or does
// not read.
func Init(home string) (Identity, error) {
	dir := filepath.Join(home, folder)
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(walFile)), 0o700); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if err := makeValidator(filepath.Join(dir, validatorKeyFile), filepath.Join(dir, validatorStateFile)); err != nil {
		return Identity{}, err
	}
	if _, err := p2p.LoadOrGenNodeKey(filepath.Join(dir, nodeKeyFile)); err != nil {
		return Identity{}, fmt.Errorf("%w: %s: %w", mman.ErrHome, filepath.Join(dir, nodeKeyFile), err)
	}
	return LoadIdentity(home)
}

// makeValidator writes a new key unless there is one. The record comes first: a
// crash between the two leaves a record of nothing, never a key without one.
func makeValidator(key, state string) (err error) {
	if _, err := os.Stat(key); !errors.Is(err, fs.ErrNotExist) {
		return nil // loading judges it
	}
	if signed, err := readSigned(state); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return err
		}
		if signed.Height > 0 {
			return fmt.Errorf("%w: %s is missing, but %s says that it signed height %d: bring the key back, or use another home",
				mman.ErrHome, key, state, signed.Height)
		}
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: write %s: %v", mman.ErrHome, key, r)
		}
	}()
	pv := privval.GenFilePV(key, state)
	pv.LastSignState.Save()
	pv.Key.Save()
	return nil
}

// LoadIdentity returns who a home is; mman.ErrHome when it has no keys, or its
// files are readable by others or do not read.
func LoadIdentity(home string) (Identity, error) {
	k, err := loadKeys(home)
	if err != nil {
		return Identity{}, err
	}
	return k.identity(), nil
}

type keys struct {
	validator *privval.FilePV
	node      *p2p.NodeKey
	beacon    sig.VRFKey
}

func (k keys) identity() Identity {
	beacon := k.beacon.Public()
	return Identity{k.validator.Key.PubKey.Bytes(), beacon[:], string(k.node.ID())}
}

// BeaconKey returns the key that proves the randomness of the blocks that a home
// proposes, which its consensus key gives; mman.ErrHome as LoadIdentity.
func BeaconKey(home string) (sig.VRFKey, error) {
	k, err := loadKeys(home)
	return k.beacon, err
}

func deriveBeacon(key crypto.PrivKey) (sig.VRFKey, error) {
	own, err := sig.FromSeed(sig.Ed25519, key.Bytes()[:sig.SecretSize])
	if err != nil {
		return sig.VRFKey{}, err
	}
	return sig.DeriveVRF(own)
}

// loadKeys reads all three files. It checks them first, because CometBFT's own
// loader ends the process when one does not read.
func loadKeys(home string) (keys, error) {
	dir := filepath.Join(home, folder)
	keyPath, statePath, nodePath := filepath.Join(dir, validatorKeyFile), filepath.Join(dir, validatorStateFile), filepath.Join(dir, nodeKeyFile)
	var key privval.FilePVKey
	if err := readSecret(keyPath, &key); err != nil {
		return keys{}, err
	}
	if _, ok := key.PrivKey.(ed25519.PrivKey); !ok {
		return keys{}, fmt.Errorf("%w: %s holds no ed25519 key: bring the right file back", mman.ErrHome, keyPath)
	}
	if _, err := readSigned(statePath); errors.Is(err, fs.ErrNotExist) {
		return keys{}, fmt.Errorf("%w: %s is missing: without it this validator could sign a height twice and lose its stake; bring it back, or remove %s as well to become a new validator",
			mman.ErrHome, statePath, keyPath)
	} else if err != nil {
		return keys{}, err
	}
	var node p2p.NodeKey
	if err := readSecret(nodePath, &node); err != nil {
		return keys{}, err
	}
	if _, ok := node.PrivKey.(ed25519.PrivKey); !ok {
		return keys{}, fmt.Errorf("%w: %s holds no ed25519 key: remove it to become a new peer", mman.ErrHome, nodePath)
	}
	beacon, err := deriveBeacon(key.PrivKey)
	return keys{privval.LoadFilePV(keyPath, statePath), &node, beacon}, err
}

func readSigned(path string) (privval.FilePVLastSignState, error) {
	var signed privval.FilePVLastSignState
	err := readSecret(path, &signed)
	return signed, err
}

// readSecret decodes a file that only its owner may read.
func readSecret(path string, into any) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	case !info.Mode().IsRegular() || info.Size() > keyFileBytes:
		return fmt.Errorf("%w: %s is not a file of at most %d bytes", mman.ErrHome, path, keyFileBytes)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%w: %s may be read by others (mode %o): chmod 600 it", mman.ErrHome, path, info.Mode().Perm())
	}
	b, err := os.ReadFile(path) //nolint:gosec // a path of the operator's own home
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if err := cmtjson.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w: %s does not read (%w): bring back a copy", mman.ErrHome, path, err)
	}
	return nil
}
