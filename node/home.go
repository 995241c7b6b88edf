package node

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/node/consensus"
	"github.com/limboid/massive-man/sdk/keyring"
)

// Files of a node's home.
const (
	fileGenesis  = "genesis.json"
	fileIdentity = "identity"
	fileRun      = "run.json"
	folderKeys   = "keys"
	folderStore  = "store"
	folderCache  = "cache"
	// Replicas of others, kept within storage leases.
	folderReplicas = "replicas"
	// folderContainers holds what containers mount, while they run.
	folderContainers = "containers"
)

// OpenKeyring returns the keyring of a home.
func OpenKeyring(home string, plain bool) (*keyring.Keyring, error) {
	return keyring.Open(keyring.Config{Dir: filepath.Join(home, folderKeys), Unencrypted: plain, Rand: rand.Reader})
}

// Prepare makes the keys of a new home: the account under name, not encrypted,
// and the validator's. It returns what a genesis needs to know of the node; on
// a home that has keys it returns what is there.
func Prepare(home, name string) (mman.Address, consensus.Identity, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return mman.Address{}, consensus.Identity{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	id, err := consensus.Init(home)
	if err != nil {
		return mman.Address{}, consensus.Identity{}, err
	}
	address, err := PlainKey(home, name)
	return address, id, err
}

// PlainKey returns the address of the key called name, which it makes, not
// encrypted, when the home has none of that name.
func PlainKey(home, name string) (mman.Address, error) {
	ring, err := OpenKeyring(home, true)
	if err != nil {
		return mman.Address{}, err
	}
	info, err := ring.Info(name)
	if err == nil {
		return info.Address, nil
	}
	if !errors.Is(err, mman.ErrNotFound) {
		return mman.Address{}, err
	}
	words, err := keyring.NewMnemonic(rand.Reader)
	if err != nil {
		return mman.Address{}, err
	}
	info, err = ring.New(name, sig.Ed25519, words, 0, nil)
	return info.Address, err
}

// WriteGenesis puts the chain's first state into a home, which must not have
// another one.
func WriteGenesis(home string, doc genesis.Document) error {
	b, err := doc.Encode()
	if err != nil {
		return err
	}
	path := filepath.Join(home, fileGenesis)
	if old, err := os.ReadFile(path); err == nil { //nolint:gosec // the operator's home
		if string(old) == string(b) {
			return nil
		}
		return fmt.Errorf("%w: %s belongs to another network; use an empty --home", mman.ErrHome, path)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return nil
}

// ReadGenesis returns the chain's first state; mman.ErrNotFound for a home that
// was never initialised.
func ReadGenesis(home string) (genesis.Document, error) {
	b, err := os.ReadFile(filepath.Join(home, fileGenesis)) //nolint:gosec // the operator's home
	if errors.Is(err, fs.ErrNotExist) {
		return genesis.Document{}, fmt.Errorf("%w: %s has no genesis: initialise it with mman-node init", mman.ErrNotFound, home)
	}
	if err != nil {
		return genesis.Document{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	doc, err := genesis.Decode(b)
	if err != nil {
		return doc, fmt.Errorf("%w: put that of the network into %s again: any of its nodes has it", err, filepath.Join(home, fileGenesis))
	}
	return doc, nil
}

// NewLocalChainID returns the id of a new local network.
func NewLocalChainID() (string, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	return "mman-local-" + hex.EncodeToString(b[:]), nil
}

// Running is what a running node tells programs beside it, in <home>/run.json.
type Running struct {
	RPC     string   `json:"rpc"`
	API     string   `json:"api"`
	Peers   []string `json:"peers"`
	P2P     string   `json:"p2p,omitempty"`
	ChainID string   `json:"chain_id"`
	// Token is asked for by whatever changes something on the API.
	Token string `json:"token,omitempty"`
	PIDs  []int  `json:"pids"`
}

// Write puts r into <home>/run.json, readable by the user alone.
func (r Running) Write(home string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	path := filepath.Join(home, fileRun)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return nil
}

// ReadRunning returns what runs in a home, or mman.ErrNotFound.
func ReadRunning(home string) (Running, error) {
	b, err := os.ReadFile(filepath.Join(home, fileRun)) //nolint:gosec // the operator's home
	if errors.Is(err, fs.ErrNotExist) {
		return Running{}, fmt.Errorf("%w: nothing runs in %s", mman.ErrNotFound, home)
	}
	if err != nil {
		return Running{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	var r Running
	if err := json.Unmarshal(b, &r); err != nil {
		return Running{}, fmt.Errorf("%w: %s: %w", mman.ErrCorrupt, fileRun, err)
	}
	return r, nil
}

// forgetRunning removes <home>/run.json.
func forgetRunning(home string) error {
	err := os.Remove(filepath.Join(home, fileRun))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
