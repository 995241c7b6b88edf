package keyring

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

const (
	maxLeaseName = 64
	leaseSuffix  = ".key"
)

// NewLeaseKey makes the ed25519 key of a lease from the randomness of r and
// saves it in dir as LeaseKeyName before it returns, so that no request can name
// a key that a crash would lose.
func NewLeaseKey(dir string, r io.Reader) (sig.PrivateKey, error) {
	key, err := sig.Generate(sig.Ed25519, r)
	if err != nil {
		return sig.PrivateKey{}, err
	}
	if err := SaveLeaseKey(dir, LeaseKeyName(key.Public()), key); err != nil {
		return sig.PrivateKey{}, err
	}
	return key, nil
}

// LeaseKeyName returns the name under which NewLeaseKey saves the key with this
// public half: its 64 hex digits. The public half is in the request and in the
// lease, so the key is found again from either.
func LeaseKeyName(pub sig.PublicKey) string { return hex.EncodeToString(pub.Bytes()) }

// SaveLeaseKey writes a key, not encrypted, to the file <name>.key of mode 0600
// in dir, which is made with mode 0700. The name is 1 to 64 of a-z, 0-9, _ and
// -. Saving the same key again is no error; ErrExists when the name holds
// another key, ErrKeyfile when it cannot be written.
func SaveLeaseKey(dir, name string, key sig.PrivateKey) error {
	if err := checkName("lease key", name, maxLeaseName); err != nil {
		return err
	}
	if key.IsZero() {
		return fmt.Errorf("%w: lease key %s: there is no key to store", mman.ErrInvalid, name)
	}
	data, err := plainFile(key).encode()
	if err != nil {
		return err
	}
	f, err := openFolder(dir, true)
	if err != nil {
		return err
	}
	defer f.close()
	err = f.add(name+leaseSuffix, data)
	if errors.Is(err, fs.ErrExist) {
		old, err := LoadLeaseKey(dir, name)
		if err != nil {
			return err
		}
		if old.Public() != key.Public() {
			return fmt.Errorf("%w: lease key %s in %s is another key", mman.ErrExists, name, dir)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: write lease key %s in %s: %w", mman.ErrKeyfile, name, dir, err)
	}
	return nil
}

// LoadLeaseKey reads the key that was saved under name; ErrNotFound when there
// is none, ErrKeyfile when the file is damaged or others may read it.
func LoadLeaseKey(dir, name string) (sig.PrivateKey, error) {
	if err := checkName("lease key", name, maxLeaseName); err != nil {
		return sig.PrivateKey{}, err
	}
	f, err := openFolder(dir, false)
	if err != nil {
		return sig.PrivateKey{}, err
	}
	defer f.close()
	data, err := f.read(name + leaseSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return sig.PrivateKey{}, fmt.Errorf("%w: lease key %s in %s", mman.ErrNotFound, name, dir)
	}
	if err != nil {
		return sig.PrivateKey{}, fmt.Errorf("%w: lease key %s in %s: %w", mman.ErrKeyfile, name, dir, err)
	}
	file, err := parseFile(data)
	if err != nil {
		return sig.PrivateKey{}, fmt.Errorf("%w: lease key %s in %s: %w", mman.ErrKeyfile, name, dir, err)
	}
	if file.encrypted() {
		return sig.PrivateKey{}, fmt.Errorf("%w: lease key %s in %s is encrypted, lease keys are not", mman.ErrKeyfile, name, dir)
	}
	key, err := file.open(nil)
	if err != nil {
		return sig.PrivateKey{}, fmt.Errorf("%w: lease key %s in %s: %w", mman.ErrKeyfile, name, dir, err)
	}
	return key, nil
}

// WriteMnemonic writes a mnemonic to a new file of mode 0600; ErrExists when
// there is a file already, ErrKeyfile when it cannot be written.
func WriteMnemonic(path, mnemonic string) error {
	file, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: mnemonic file %s: name a file that does not exist", mman.ErrExists, path)
	}
	if err != nil {
		return fmt.Errorf("%w: mnemonic file: %w", mman.ErrKeyfile, err)
	}
	_, err = io.WriteString(file, mnemonic+"\n")
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("%w: mnemonic file %s: %w", mman.ErrKeyfile, path, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// ReadMnemonic reads a mnemonic from a file, which may have more spaces and
// capitals; ErrNotFound, ErrKeyfile or ErrInvalid.
func ReadMnemonic(path string) (string, error) {
	file, err := os.Open(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: mnemonic file %s", mman.ErrNotFound, path)
	}
	if err != nil {
		return "", fmt.Errorf("%w: mnemonic file: %w", mman.ErrKeyfile, err)
	}
	defer func() { _ = file.Close() }() // only read from
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes))
	if err != nil {
		return "", fmt.Errorf("%w: mnemonic file %s: %w", mman.ErrKeyfile, path, err)
	}
	words, err := ParseMnemonic(string(data))
	if err != nil {
		return "", fmt.Errorf("mnemonic file %s: %w", path, err)
	}
	return words, nil
}
