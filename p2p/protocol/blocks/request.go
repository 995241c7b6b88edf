package blocks

import (
	"crypto/ed25519"
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

// Protocol is the name of the protocol.
const Protocol = "/mman/blocks/1"

const (
	kindRequest wire.Kind = 1
	kindHeader  wire.Kind = 2
	kindBlock   wire.Kind = 3
	kindWant    wire.Kind = 4
	kindMissing wire.Kind = 5
)

const (
	// SaltSize is the length of a salt in bytes.
	SaltSize = 32
	// NonceSize is the length of a nonce in bytes.
	NonceSize = 16
	// maxRequest bounds the frame of a request and of a want.
	maxRequest = 1024
	// maxWanted is how many blocks one want may name.
	maxWanted = 1024
)

// Name returns the public name of private content, SHA-256(salt ‖ CID): with
// it nobody can confirm a guess of the content.
func Name(salt [SaltSize]byte, root mman.CID) mman.Hash { return mman.Sum256(salt[:], root.Bytes()) }

// Request asks for one file: within a lease by its CID or by its public name, or
// for public content by its CID alone.
type Request struct {
	// Lease is the lease that gives the right; zero for public content.
	Lease mman.LeaseID `cbor:"lease"`
	// Asker is the peer that asks; it must be the one that is connected.
	Asker mman.PeerID `cbor:"asker"`
	// Root is what is asked for, or zero when Name is given.
	Root mman.CID `cbor:"root,omitzero"`
	// Name is the public name of what is asked for, or zero when Root is given.
	Name mman.Hash `cbor:"name,omitzero"`
	// Nonce makes each request its own. Random.
	Nonce [NonceSize]byte `cbor:"nonce"`
	// Signature is the lease key's or the node key's, see Sign; none for public
	// content.
	Signature []byte `cbor:"signature,omitempty"`
}

// Public asks for public content, which needs no right.
func Public(asker mman.PeerID, root mman.CID) Request { return Request{Asker: asker, Root: root} }

// IsPublic reports whether the request asks for public content.
func (r Request) IsPublic() bool { return r.Lease == mman.LeaseID{} && len(r.Signature) == 0 }

// Payload returns the bytes that are signed: the request without signature.
func (r Request) Payload() ([]byte, error) {
	r.Signature = nil
	return dagcbor.Marshal(r)
}

// Sign returns the request with the signature of a lease key over
// mman.SignDigest(mman.SignBlocks, chainID, payload). A node key signs with
// p2p.Host.Sign over Payload instead.
func (r Request) Sign(chainID string, key ed25519.PrivateKey) (Request, error) {
	payload, err := r.Payload()
	if err != nil {
		return r, err
	}
	digest := mman.SignDigest(mman.SignBlocks, chainID, payload)
	r.Signature = ed25519.Sign(key, digest[:])
	return r, nil
}

// Verify reports whether the signature is key's.
func (r Request) Verify(chainID string, key ed25519.PublicKey) bool {
	payload, err := r.Payload()
	if err != nil || len(key) != ed25519.PublicKeySize {
		return false
	}
	digest := mman.SignDigest(mman.SignBlocks, chainID, payload)
	return sig.VerifyEd25519([sig.Ed25519Size]byte(key), digest[:], r.Signature)
}

// Validate reports whether the request is well formed, as mman.ErrInvalid. It
// does not verify the signature.
func (r Request) Validate() error {
	switch {
	case r.Root.IsZero() == r.Name.IsZero():
		return fmt.Errorf("%w: a blocks request names either a root or a public name", mman.ErrInvalid)
	case r.IsPublic() && !r.Root.IsZero():
		return nil
	case len(r.Signature) != ed25519.SignatureSize:
		return fmt.Errorf("%w: a blocks request with a signature of %d bytes, ed25519 has %d", mman.ErrInvalid, len(r.Signature), ed25519.SignatureSize)
	}
	return nil
}

// header begins an answer.
type header struct {
	Root mman.CID `cbor:"root"`
	Salt []byte   `cbor:"salt"`
	Size uint64   `cbor:"size"`
}

// want asks for some children of one node of the file, in their order.
type want struct {
	// Path leads from the root to the node: the number of a child at each level.
	Path []uint32 `cbor:"path"`
	// From and To are the children, To not included.
	From uint32 `cbor:"from"`
	To   uint32 `cbor:"to"`
}

func (w want) validate() error {
	if len(w.Path) > content.MaxDepth || w.From >= w.To || w.To-w.From > maxWanted {
		return fmt.Errorf("%w: a want for the children %d to %d of a node at level %d", mman.ErrProtocol, w.From, w.To, len(w.Path))
	}
	return nil
}
