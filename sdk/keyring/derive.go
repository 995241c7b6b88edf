package keyring

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/cosmos/go-bip39"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

const (
	// Hardened is added to a path element to derive from the private half
	// alone (BIP-32 writes it as ').
	Hardened uint32 = 1 << 31

	entropyBytes     = 32 // 24 words
	maxMnemonicBytes = 512
	coinType         = 118 // SLIP-0044: Cosmos, so that its wallets find the account
)

// NewMnemonic returns 24 words made from the randomness of r, which is
// crypto/rand's Reader outside tests.
func NewMnemonic(r io.Reader) (string, error) {
	var entropy [entropyBytes]byte
	if _, err := io.ReadFull(r, entropy[:]); err != nil {
		return "", fmt.Errorf("%w: make a mnemonic: read randomness: %w", mman.ErrInternal, err)
	}
	words, err := bip39.NewMnemonic(entropy[:])
	if err != nil {
		return "", fmt.Errorf("%w: make a mnemonic: %w", mman.ErrInternal, err)
	}
	return words, nil
}

// ParseMnemonic returns a mnemonic of 12, 15, 18, 21 or 24 English words in its
// one form, lower case and single spaces; ErrInvalid when a word or the
// checksum is wrong. The error holds no word.
func ParseMnemonic(s string) (string, error) {
	if len(s) > maxMnemonicBytes {
		return "", fmt.Errorf("%w: mnemonic of %d bytes: 24 words have at most %d", mman.ErrInvalid, len(s), maxMnemonicBytes)
	}
	list := strings.Fields(strings.ToLower(s))
	switch len(list) {
	case 12, 15, 18, 21, 24:
	default:
		return "", fmt.Errorf("%w: mnemonic of %d words: it has 12, 15, 18, 21 or 24", mman.ErrInvalid, len(list))
	}
	for i, w := range list {
		if _, ok := bip39.ReverseWordMap[w]; !ok {
			return "", fmt.Errorf("%w: mnemonic: word %d is not in the BIP-39 list, look for a typing error", mman.ErrInvalid, i+1)
		}
	}
	words := strings.Join(list, " ")
	if _, err := bip39.MnemonicToByteArray(words); err != nil {
		return "", fmt.Errorf("%w: mnemonic: its checksum is wrong, look for a wrong word or a wrong order", mman.ErrInvalid)
	}
	return words, nil
}

// Derive returns account index of a mnemonic, index below 2³¹: ed25519 at
// m/44'/118'/0'/0'/index', secp256k1 at m/44'/118'/0'/0/index. There is no
// BIP-39 passphrase.
func Derive(mnemonic string, t sig.KeyType, index uint32) (sig.PrivateKey, error) {
	words, err := ParseMnemonic(mnemonic)
	if err != nil {
		return sig.PrivateKey{}, err
	}
	if index >= Hardened {
		return sig.PrivateKey{}, fmt.Errorf("%w: account index %d: it is below %d", mman.ErrInvalid, index, Hardened)
	}
	path := []uint32{44 | Hardened, coinType | Hardened, Hardened, 0, index}
	if t == sig.Ed25519 {
		path[3] |= Hardened
		path[4] |= Hardened
	}
	return DerivePath(t, bip39.NewSeed(words, ""), path...)
}

// DerivePath returns the key at a path below a seed of 16 to 64 bytes, by
// BIP-32 for secp256k1 and by SLIP-0010 for ed25519, all of whose elements must
// be Hardened. About one in 2¹²⁷ paths has no secp256k1 key: ErrInvalid, use the
// next index.
func DerivePath(t sig.KeyType, seed []byte, path ...uint32) (sig.PrivateKey, error) {
	if len(seed) < 16 || len(seed) > 64 {
		return sig.PrivateKey{}, fmt.Errorf("%w: seed of %d bytes: it has 16 to 64", mman.ErrInvalid, len(seed))
	}
	var n node
	switch t {
	case sig.Ed25519:
		n = split(hmacSHA512([]byte("ed25519 seed"), seed))
	case sig.Secp256k1:
		n = split(hmacSHA512([]byte("Bitcoin seed"), seed))
	default:
		return sig.PrivateKey{}, fmt.Errorf("%w: %s cannot be derived", mman.ErrInvalid, t)
	}
	for _, i := range path {
		var err error
		if t == sig.Ed25519 {
			n, err = n.childEd25519(i)
		} else {
			n, err = n.childSecp256k1(i)
		}
		if err != nil {
			return sig.PrivateKey{}, err
		}
	}
	return sig.FromSeed(t, n.key[:])
}

// node is an extended private key of BIP-32 and SLIP-0010.
type node struct{ key, chain [32]byte }

func hmacSHA512(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha512.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func split(sum []byte) node { return node{[32]byte(sum[:32]), [32]byte(sum[32:])} }

func (n node) hardened(i uint32) []byte {
	return hmacSHA512(n.chain[:], []byte{0}, n.key[:], binary.BigEndian.AppendUint32(nil, i))
}

func (n node) childEd25519(i uint32) (node, error) {
	if i < Hardened {
		return node{}, fmt.Errorf("%w: path element %d: ed25519 has hardened ones only", mman.ErrInvalid, i)
	}
	return split(n.hardened(i)), nil
}

func (n node) childSecp256k1(i uint32) (node, error) {
	var parent, tweak secp256k1.ModNScalar
	if parent.SetBytes(&n.key) != 0 || parent.IsZero() {
		return node{}, fmt.Errorf("%w: this seed has no secp256k1 key", mman.ErrInvalid)
	}
	var child node
	if i >= Hardened {
		child = split(n.hardened(i))
	} else {
		pub := secp256k1.NewPrivateKey(&parent).PubKey().SerializeCompressed()
		child = split(hmacSHA512(n.chain[:], pub, binary.BigEndian.AppendUint32(nil, i)))
	}
	if tweak.SetBytes(&child.key) != 0 || tweak.Add(&parent).IsZero() {
		return node{}, fmt.Errorf("%w: path element %d has no secp256k1 key, use the next", mman.ErrInvalid, i)
	}
	child.key = tweak.Bytes()
	return child, nil
}
