package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
	"github.com/limboid/massive-man/sdk"
	"github.com/limboid/massive-man/sdk/keyring"
)

const (
	defaultNode = "http://127.0.0.1:26657"
	// What a home holds.
	keyFolder   = "keys"
	leaseFolder = "leases"
	runFile     = "run.json"
	// nodeHome is the home of mman-node in the user's own folder.
	nodeHome = ".mman-node"
	// maxRunFile bounds run.json.
	maxRunFile = 1 << 20
)

// running is what a node writes into its home while it runs.
type running struct {
	RPC   string   `json:"rpc"`
	API   string   `json:"api"`
	Peers []string `json:"peers"`
	Token string   `json:"token"`
}

// readRunning reads the run.json of the node beside this home: in it, else in
// the home that mman-node takes when none is named. ErrUnreachable when no node
// runs there.
func (a *app) readRunning() (running, error) {
	homes := []string{a.home}
	if user := a.streams.Env("HOME"); user != "" {
		homes = append(homes, filepath.Join(user, nodeHome))
	}
	for _, home := range homes {
		r, err := readRunning(filepath.Join(home, runFile))
		if !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
	}
	return running{}, fmt.Errorf("%w: no node runs from home %s: start one with mman-node --provide, or name its home with --home", mman.ErrUnreachable, a.home)
}

func readRunning(path string) (r running, err error) {
	f, err := os.Open(path) //nolint:gosec // the user's own home
	if err != nil {
		return r, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := json.NewDecoder(io.LimitReader(f, maxRunFile)).Decode(&r); err != nil {
		return r, fmt.Errorf("%w: %s: %w", mman.ErrCorrupt, path, err)
	}
	return r, nil
}

// keyring opens the home's keys.
func (a *app) keyring(unencrypted bool) (*keyring.Keyring, error) {
	return keyring.Open(keyring.Config{Dir: filepath.Join(a.home, keyFolder), Unencrypted: unencrypted})
}

// passphrase asks for the passphrases of existing keys.
func (a *app) passphrase(ctx context.Context) keyring.Passphrase {
	return func(name string) ([]byte, error) {
		return console.Asker{Streams: a.streams, File: a.passphraseFile}.Ask(ctx, name)
	}
}

// own returns the key that acts: the one of --from, else the only one.
func (a *app) own(ring *keyring.Keyring) (keyring.Info, error) {
	if a.from != "" {
		info, err := ring.Info(a.from)
		if errors.Is(err, mman.ErrNotFound) {
			return keyring.Info{}, fmt.Errorf("%w: there is no key %.40q in %s: see mman keys list", mman.ErrNotFound, a.from, a.home)
		}
		return info, err
	}
	all, err := ring.List()
	if err != nil {
		return keyring.Info{}, err
	}
	switch len(all) {
	case 0:
		return keyring.Info{}, fmt.Errorf("%w: there is no key in %s yet: make one with mman keys new NAME", mman.ErrNotFound, a.home)
	case 1:
		return all[0], nil
	}
	names := make([]string, len(all))
	for i, k := range all {
		names[i] = k.Name
	}
	return keyring.Info{}, console.Wrong("which account? there are several keys: name one of %s with --from", strings.Join(names, ", "))
}

// party reads an address, or the name of an own key.
func (a *app) party(word string) (mman.Address, error) {
	address, err := mman.ParseAddress(word)
	if err == nil {
		return address, nil
	}
	if !strings.HasPrefix(word, mman.AccountHRP+"1") {
		ring, rerr := a.keyring(false)
		if rerr != nil {
			return mman.Address{}, rerr
		}
		if info, ierr := ring.Info(word); ierr == nil {
			return info.Address, nil
		}
	}
	return mman.Address{}, console.Wrong("%.80q is neither an address nor the name of an own key: %w", word, err)
}

// reader connects without a key: it can look, not sign.
func (a *app) reader(ctx context.Context) (*sdk.Client, error) {
	return a.connect(ctx, sdk.Config{})
}

// signer connects with the key that acts.
func (a *app) signer(ctx context.Context) (*sdk.Client, error) {
	ring, err := a.keyring(false)
	if err != nil {
		return nil, err
	}
	info, err := a.own(ring)
	if err != nil {
		return nil, err
	}
	key, err := ring.Get(info.Name, a.passphrase(ctx))
	if err != nil {
		return nil, err
	}
	return a.connect(ctx, sdk.Config{Key: key, Lock: ring.Lock})
}

// shelf holds the interpreters of this home.
func (a *app) shelf() *interpreter.Shelf {
	return interpreter.NewShelf(filepath.Join(a.home, interpreter.Folder))
}

func (a *app) connect(ctx context.Context, cfg sdk.Config) (*sdk.Client, error) {
	cfg.Node, cfg.Peers = a.node, a.peers
	if cfg.Node == "" {
		own, err := a.readRunning()
		switch {
		case err == nil && own.RPC != "":
			cfg.Node = own.RPC
			if len(cfg.Peers) == 0 {
				cfg.Peers = own.Peers
			}
		case err == nil || errors.Is(err, mman.ErrUnreachable):
			cfg.Node = defaultNode
		default:
			return nil, err
		}
	}
	cfg.Interpreter = a.shelf().Open
	cfg.Leases, cfg.Now, cfg.After = filepath.Join(a.home, leaseFolder), a.now, a.after
	if a.verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(a.streams.Err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return sdk.Connect(ctx, cfg)
}
