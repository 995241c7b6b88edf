package p2p

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
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
	identityPEM = "PRIVATE KEY"
	// identityMax bounds what is read of an identity file: a PKCS #8 ed25519
	// key in PEM has about 120 bytes.
	identityMax = 4096
)

// LoadOrCreateIdentity reads the node key at path, PKCS #8 in PEM, or makes
// one with permissions 0600. A file that others may read is refused with
// mman.ErrKeyfile, and so is one that holds no ed25519 key: a node key is
// never replaced by itself, because leases and bonds are bound to it.
func LoadOrCreateIdentity(path string) (ed25519.PrivateKey, error) {
	key, err := loadIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	_, key, err = ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("%w: make a node key: %w", mman.ErrKeyfile, err)
	}
	if err := saveIdentity(path, key); err != nil {
		return nil, fmt.Errorf("%w: save the node key %s: %w", mman.ErrKeyfile, path, err)
	}
	return key, nil
}

func loadIdentity(path string) (_ ed25519.PrivateKey, err error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("%w: node key: %w", mman.ErrKeyfile, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: node key %s: %w", mman.ErrKeyfile, path, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%w: node key %s: others may read it (mode %04o), run: chmod 600 %s", mman.ErrKeyfile, path, mode, path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, identityMax+1))
	if err != nil {
		return nil, fmt.Errorf("%w: node key %s: %w", mman.ErrKeyfile, path, err)
	}
	block, rest := pem.Decode(raw)
	if len(raw) > identityMax || block == nil || block.Type != identityPEM || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("%w: node key %s: it is not one PEM block of type %s", mman.ErrKeyfile, path, identityPEM)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: node key %s: %w", mman.ErrKeyfile, path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: node key %s: it holds a %T, only ed25519 is used here", mman.ErrKeyfile, path, parsed)
	}
	return key, nil
}

// saveIdentity writes beside the target and renames, so that a crash leaves
// the whole key or none.
func saveIdentity(path string, key ed25519.PrivateKey) (err error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".node-key-*") // 0600 by definition
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: identityPEM, Bytes: der}))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Verify reports whether signature is the node key's of peer under the
// domain-separated digest of payload.
func Verify(peer mman.PeerID, purpose mman.SignContext, chainID string, payload, signature []byte) bool {
	digest := mman.SignDigest(purpose, chainID, payload)
	return sig.VerifyEd25519(peer, digest[:], signature)
}
