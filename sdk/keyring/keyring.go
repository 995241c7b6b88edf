package keyring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

const (
	maxName       = 32
	maxPassphrase = 1 << 10
	maxKeys       = 10_000
	keySuffix     = ".json"
	lockSuffix    = ".lock"
)

// Config says where and how a Keyring keeps keys.
type Config struct {
	// Dir is the folder, made with mode 0700 when the first key is added.
	Dir string
	// Unencrypted writes keys without a passphrase. Default false. Only for
	// networks whose money is worth nothing: whoever reads the file owns them.
	Unencrypted bool
	// KDF is the cost of new key files. The zero value is DefaultKDF.
	KDF KDF
	// Rand is the source of salts and nonces. Default crypto/rand's Reader.
	Rand io.Reader
}

// Passphrase returns the passphrase of the key called name, for example by
// asking the person at the terminal. It is called at most once for an operation
// and only for an encrypted key. Nil stands for "there is nobody to ask".
type Passphrase func(name string) ([]byte, error)

// Info is what everybody may know of a key.
type Info struct {
	Name      string        `json:"name"`
	Address   mman.Address  `json:"address"`
	Type      sig.KeyType   `json:"type"`
	PublicKey sig.PublicKey `json:"public_key"`
	Encrypted bool          `json:"encrypted"`
}

// Keyring is a folder of account keys, each in the file <name>.json. It holds
// nothing open and nothing in memory, and may be used concurrently.
type Keyring struct{ cfg Config }

// Open returns the keyring of a folder, which need not exist yet. It touches no
// file; ErrInvalid for a configuration that cannot be.
func Open(cfg Config) (*Keyring, error) {
	if cfg.Dir == "" {
		return nil, fmt.Errorf("%w: keyring: the folder is not named", mman.ErrInvalid)
	}
	if cfg.KDF == (KDF{}) {
		cfg.KDF = DefaultKDF()
	}
	if err := cfg.KDF.Validate(); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	return &Keyring{cfg}, nil
}

// New stores account index of a mnemonic under name, 1 to 32 of a-z, 0-9, _ and
// -. ErrInvalid for a bad name or mnemonic, ErrExists when the name is taken,
// ErrKeyfile when the file cannot be written.
func (k *Keyring) New(name string, t sig.KeyType, mnemonic string, index uint32, ask Passphrase) (Info, error) {
	key, err := Derive(mnemonic, t, index)
	if err != nil {
		return Info{}, err
	}
	return k.Import(name, key, ask)
}

// Import stores a key under name; errors as for New.
func (k *Keyring) Import(name string, key sig.PrivateKey, ask Passphrase) (Info, error) {
	if err := checkName("key", name, maxName); err != nil {
		return Info{}, err
	}
	if key.IsZero() {
		return Info{}, fmt.Errorf("%w: key %s: there is no key to store", mman.ErrInvalid, name)
	}
	dir, err := openFolder(k.cfg.Dir, true)
	if err != nil {
		return Info{}, err
	}
	defer dir.close()
	// Asked before the passphrase, so that nobody types one in vain; add asks
	// again under the lock.
	if _, err := dir.root.Lstat(name + keySuffix); err == nil {
		return Info{}, k.taken(name)
	}
	f, err := k.seal(name, key, ask)
	if err != nil {
		return Info{}, err
	}
	data, err := f.encode()
	if err != nil {
		return Info{}, err
	}
	if err := dir.add(name+keySuffix, data); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return Info{}, k.taken(name)
		}
		return Info{}, fmt.Errorf("%w: write key %s in %s: %w", mman.ErrKeyfile, name, k.cfg.Dir, err)
	}
	return f.info(name), nil
}

func (k *Keyring) taken(name string) error {
	return fmt.Errorf("%w: key %s in %s: choose another name", mman.ErrExists, name, k.cfg.Dir)
}

func (k *Keyring) seal(name string, key sig.PrivateKey, ask Passphrase) (*keyFile, error) {
	if k.cfg.Unencrypted {
		return plainFile(key), nil
	}
	passphrase, err := askFor(name, ask)
	if err != nil {
		return nil, err
	}
	f, err := sealedFile(key, passphrase, k.cfg.KDF, k.cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("encrypt key %s: %w", name, err)
	}
	return f, nil
}

func askFor(name string, ask Passphrase) ([]byte, error) {
	if ask == nil {
		return nil, fmt.Errorf("%w: key %s needs a passphrase and there is nobody to ask", mman.ErrKeyfile, name)
	}
	p, err := ask(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: passphrase of key %s: %w", mman.ErrKeyfile, name, err)
	case len(p) == 0:
		return nil, fmt.Errorf("%w: key %s: the passphrase is empty", mman.ErrKeyfile, name)
	case len(p) > maxPassphrase:
		return nil, fmt.Errorf("%w: key %s: the passphrase has %d bytes, at most %d are allowed", mman.ErrKeyfile, name, len(p), maxPassphrase)
	}
	return p, nil
}

func (f *keyFile) info(name string) Info {
	return Info{Name: name, Address: f.Address, Type: f.PublicKey.Type(), PublicKey: f.PublicKey, Encrypted: f.encrypted()}
}

// List returns the keys, sorted by name; none when the folder does not exist.
// One file that cannot be read is ErrKeyfile and names it.
func (k *Keyring) List() ([]Info, error) {
	dir, err := openFolder(k.cfg.Dir, false)
	if err != nil {
		if errors.Is(err, mman.ErrNotFound) {
			return nil, nil
		}
		return nil, err
	}
	defer dir.close()
	top, err := dir.root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("%w: list %s: %w", mman.ErrKeyfile, k.cfg.Dir, err)
	}
	defer func() { _ = top.Close() }() // only read from
	entries, err := top.ReadDir(maxKeys)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: list %s: %w", mman.ErrKeyfile, k.cfg.Dir, err)
	}
	var infos []Info
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), keySuffix)
		if !ok || checkName("key", name, maxName) != nil {
			continue // locks, unfinished files, what others put there
		}
		f, err := k.load(dir, name)
		if err != nil {
			return nil, err
		}
		infos = append(infos, f.info(name))
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

func (k *Keyring) load(dir *folder, name string) (*keyFile, error) {
	data, err := dir.read(name + keySuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, k.missing(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: key %s in %s: %w", mman.ErrKeyfile, name, k.cfg.Dir, err)
	}
	f, err := parseFile(data)
	if err != nil {
		return nil, fmt.Errorf("%w: key %s in %s: %w", mman.ErrKeyfile, name, k.cfg.Dir, err)
	}
	return f, nil
}

func (k *Keyring) missing(name string) error {
	return fmt.Errorf("%w: key %s in %s: `mman keys list` shows the keys", mman.ErrNotFound, name, k.cfg.Dir)
}

func (k *Keyring) find(name string) (*keyFile, error) {
	if err := checkName("key", name, maxName); err != nil {
		return nil, err
	}
	dir, err := openFolder(k.cfg.Dir, false)
	if err != nil {
		if errors.Is(err, mman.ErrNotFound) {
			return nil, k.missing(name)
		}
		return nil, err
	}
	defer dir.close()
	return k.load(dir, name)
}

// Info returns what everybody may know of a key, without a passphrase;
// ErrNotFound or ErrKeyfile when it cannot be read.
func (k *Keyring) Info(name string) (Info, error) {
	f, err := k.find(name)
	if err != nil {
		return Info{}, err
	}
	return f.info(name), nil
}

// Get returns the key called name; ErrNotFound when there is none, ErrKeyfile
// when the passphrase is wrong, the file damaged, or others may read it.
func (k *Keyring) Get(name string, ask Passphrase) (sig.PrivateKey, error) {
	f, err := k.find(name)
	if err != nil {
		return sig.PrivateKey{}, err
	}
	return openFile(f, name, ask)
}

func openFile(f *keyFile, name string, ask Passphrase) (sig.PrivateKey, error) {
	var passphrase []byte
	if f.encrypted() {
		var err error
		if passphrase, err = askFor(name, ask); err != nil {
			return sig.PrivateKey{}, err
		}
	}
	key, err := f.open(passphrase)
	if err != nil {
		return sig.PrivateKey{}, fmt.Errorf("%w: key %s: %w", mman.ErrKeyfile, name, err)
	}
	return key, nil
}

// Export returns the key file called name, for a backup or another home. It
// stays encrypted as it is, and is known to open with the passphrase. Errors as
// for Get.
func (k *Keyring) Export(name string, ask Passphrase) ([]byte, error) {
	f, err := k.find(name)
	if err != nil {
		return nil, err
	}
	if _, err := openFile(f, name, ask); err != nil {
		return nil, err
	}
	return f.encode()
}

// ImportFile stores an exported key file under name, again under this keyring's
// own encryption, with the same passphrase. ErrKeyfile when the file cannot be
// opened, else as for New.
func (k *Keyring) ImportFile(name string, data []byte, ask Passphrase) (Info, error) {
	f, err := parseFile(data)
	if err != nil {
		return Info{}, fmt.Errorf("%w: the file to import as %.40q: %w", mman.ErrKeyfile, name, err)
	}
	once := ask
	if ask != nil && f.encrypted() {
		passphrase, err := askFor(name, ask)
		if err != nil {
			return Info{}, err
		}
		once = func(string) ([]byte, error) { return passphrase, nil }
	}
	key, err := openFile(f, name, once)
	if err != nil {
		return Info{}, err
	}
	return k.Import(name, key, once)
}

// Lock waits until the caller alone, among all processes that use this folder,
// submits transactions for the account, and returns how to give it up, which is
// called once. It fails with ErrOtherHolder when ctx ends first. A process that
// dies gives up what it held.
func (k *Keyring) Lock(ctx context.Context, account mman.Address) (unlock func(), err error) {
	dir, err := openFolder(k.cfg.Dir, true)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		dir.close()
		return nil, fmt.Errorf("%w: account %s: %w", mman.ErrOtherHolder, account, err)
	}
	type result struct {
		unlock func()
		err    error
	}
	got := make(chan result, 1) // written once by the goroutine, never closed
	go func() {
		unlock, err := dir.lock(account.String() + lockSuffix)
		dir.close()
		got <- result{unlock, err}
	}()
	select {
	case r := <-got:
		if r.err != nil {
			return nil, fmt.Errorf("%w: lock account %s in %s: %w", mman.ErrKeyfile, account, k.cfg.Dir, r.err)
		}
		return r.unlock, nil
	case <-ctx.Done():
		go func() { // the wait in the kernel has no end but the lock: give it back at once
			if r := <-got; r.err == nil {
				r.unlock()
			}
		}()
		return nil, fmt.Errorf("%w: account %s: another process is submitting for it: %w", mman.ErrOtherHolder, account, ctx.Err())
	}
}
