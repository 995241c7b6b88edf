package keyring

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

const (
	fileVersion = 1

	encryptionNone     = "none"
	encryptionArgon2id = "argon2id+xchacha20poly1305"

	saltBytes     = 16
	checksumBytes = 8
)

// KDF is the cost of deriving a key from a passphrase with argon2id (RFC 9106).
type KDF struct {
	Time      uint32 `json:"time"`       // passes, 1 to 16
	MemoryKiB uint32 `json:"memory_kib"` // 8 KiB for each thread to 1 GiB
	Threads   uint8  `json:"threads"`    // lanes, 1 to 16
}

// DefaultKDF returns RFC 9106's second recommendation: 3 passes over 64 MiB in
// 4 lanes, about a tenth of a second.
func DefaultKDF() KDF { return KDF{Time: 3, MemoryKiB: 64 << 10, Threads: 4} }

// Validate returns ErrInvalid when a figure is out of its range. Key files with
// such figures are refused, so that a foreign file cannot exhaust the machine.
func (k KDF) Validate() error {
	const maxTime, maxThreads, maxMemoryKiB = 16, 16, 1 << 20
	if k.Time < 1 || k.Time > maxTime || k.Threads < 1 || k.Threads > maxThreads ||
		k.MemoryKiB < 8*uint32(k.Threads) || k.MemoryKiB > maxMemoryKiB {
		return fmt.Errorf("%w: argon2id with time %d, memory %d KiB, threads %d: use 1 to %d, 8 for each thread to %d, 1 to %d",
			mman.ErrInvalid, k.Time, k.MemoryKiB, k.Threads, maxTime, maxMemoryKiB, maxThreads)
	}
	return nil
}

// keyFile is the JSON form of a key at rest. Secret is the 32-byte secret, or
// its ciphertext; the other fields are authenticated with it.
type keyFile struct {
	Version    int           `json:"version"`
	PublicKey  sig.PublicKey `json:"public_key"`
	Address    mman.Address  `json:"address"`
	Encryption string        `json:"encryption"`
	KDF        *KDF          `json:"kdf,omitempty"`
	Salt       hexBytes      `json:"salt,omitempty"`
	Nonce      hexBytes      `json:"nonce,omitempty"`
	Secret     hexBytes      `json:"secret"`
	Checksum   hexBytes      `json:"checksum"` // tells a damaged file from a wrong passphrase
}

// hexBytes is bytes in lower-case hex digits in JSON.
type hexBytes []byte

// MarshalText returns the hex digits.
func (b hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

// UnmarshalText reads the hex digits.
func (b *hexBytes) UnmarshalText(text []byte) error {
	got, err := hex.DecodeString(string(text))
	*b = got
	return err
}

// header returns what the cipher authenticates beside the secret.
func (f *keyFile) header() []byte {
	kdf := KDF{}
	if f.KDF != nil {
		kdf = *f.KDF
	}
	return fmt.Appendf(nil, "mman/keyfile/%d\n%s\n%s\n%d %d %d %x\n", f.Version, f.PublicKey, f.Encryption, kdf.Time, kdf.MemoryKiB, kdf.Threads, []byte(f.Salt))
}

func (f *keyFile) checksum() []byte {
	sum := sha256.Sum256(fmt.Appendf(f.header(), "%s\n%x\n%x\n", f.Address, []byte(f.Nonce), []byte(f.Secret)))
	return sum[:checksumBytes]
}

func (f *keyFile) encrypted() bool { return f.Encryption != encryptionNone }

// plainFile returns the unencrypted key file of key.
func plainFile(key sig.PrivateKey) *keyFile {
	f := newFile(key, encryptionNone)
	f.Secret = key.Bytes()
	f.Checksum = f.checksum()
	return f
}

func newFile(key sig.PrivateKey, encryption string) *keyFile {
	return &keyFile{Version: fileVersion, PublicKey: key.Public(), Address: key.Public().Address(), Encryption: encryption}
}

// sealedFile returns the key file of key under a passphrase.
func sealedFile(key sig.PrivateKey, passphrase []byte, kdf KDF, random io.Reader) (*keyFile, error) {
	if err := kdf.Validate(); err != nil {
		return nil, err
	}
	f := newFile(key, encryptionArgon2id)
	f.KDF = &kdf
	f.Salt, f.Nonce = make(hexBytes, saltBytes), make(hexBytes, chacha20poly1305.NonceSizeX)
	for _, b := range []hexBytes{f.Salt, f.Nonce} {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, fmt.Errorf("%w: read randomness: %w", mman.ErrInternal, err)
		}
	}
	aead, err := chacha20poly1305.NewX(f.cipherKey(passphrase))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	f.Secret = aead.Seal(nil, f.Nonce, key.Bytes(), f.header())
	f.Checksum = f.checksum()
	return f, nil
}

func (f *keyFile) cipherKey(passphrase []byte) []byte {
	return argon2.IDKey(passphrase, f.Salt, f.KDF.Time, f.KDF.MemoryKiB, f.KDF.Threads, chacha20poly1305.KeySize)
}

func (f *keyFile) encode() ([]byte, error) {
	b, err := json.MarshalIndent(f, "", "  ") //nolint:gosec // this is the one place where a secret goes to its file
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	return append(b, '\n'), nil
}

// parseFile reads a key file and checks all but the secret. Its errors carry no
// sentinel: callers name the file.
func parseFile(data []byte) (*keyFile, error) {
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFileBytes)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	f := &keyFile{}
	if err := d.Decode(f); err != nil {
		return nil, fmt.Errorf("it is damaged or no key file: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it is damaged: something follows the key")
	}
	if f.Version != fileVersion {
		return nil, fmt.Errorf("its version is %d, this program knows %d: use the program that wrote it", f.Version, fileVersion)
	}
	if !bytes.Equal(f.Checksum, f.checksum()) || f.PublicKey.IsZero() || f.Address != f.PublicKey.Address() {
		return nil, errors.New("it is damaged, restore it from a backup or import the mnemonic again")
	}
	return f, f.checkEncryption()
}

func (f *keyFile) checkEncryption() error {
	switch f.Encryption {
	case encryptionNone:
		if f.KDF != nil || len(f.Salt)+len(f.Nonce) > 0 || len(f.Secret) != sig.SecretSize {
			return errors.New("it is not well formed")
		}
		return nil
	case encryptionArgon2id:
		if f.KDF == nil || len(f.Salt) != saltBytes || len(f.Nonce) != chacha20poly1305.NonceSizeX ||
			len(f.Secret) != sig.SecretSize+chacha20poly1305.Overhead {
			return errors.New("it is not well formed")
		}
		return f.KDF.Validate()
	default:
		return fmt.Errorf("its encryption %.40q is not known: use the program that wrote it", f.Encryption)
	}
}

// open returns the key; passphrase is not looked at when the file is not
// encrypted.
func (f *keyFile) open(passphrase []byte) (sig.PrivateKey, error) {
	secret := []byte(f.Secret)
	if f.encrypted() {
		aead, err := chacha20poly1305.NewX(f.cipherKey(passphrase))
		if err != nil {
			return sig.PrivateKey{}, err
		}
		if secret, err = aead.Open(nil, f.Nonce, f.Secret, f.header()); err != nil {
			return sig.PrivateKey{}, errors.New("the passphrase is wrong")
		}
	}
	key, err := sig.FromSeed(f.PublicKey.Type(), secret)
	if err != nil || key.Public() != f.PublicKey {
		return sig.PrivateKey{}, errors.New("its secret is not that of its public key")
	}
	return key, nil
}
