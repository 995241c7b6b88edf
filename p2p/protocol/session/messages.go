package session

import (
	"errors"
	"fmt"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/protocol/wire"
	"github.com/limboid/massive-man/resources"
)

// Protocol is the name under which the session protocol is spoken.
const Protocol = "/mman/session/1"

// The kinds of frames. Stdout, Stderr, Chunk, Input and Aside have raw
// bodies.
const (
	kindHello     wire.Kind = 1
	kindAccept    wire.Kind = 2
	kindRun       wire.Kind = 3
	kindNeed      wire.Kind = 4
	kindBlob      wire.Kind = 5
	kindChunk     wire.Kind = 6
	kindStdout    wire.Kind = 7
	kindStderr    wire.Kind = 8
	kindStatement wire.Kind = 9
	kindReceipt   wire.Kind = 10
	kindFailed    wire.Kind = 11
	kindCancel    wire.Kind = 12
	kindClose     wire.Kind = 13
	kindClosed    wire.Kind = 14
	kindInput     wire.Kind = 15
	kindInputEnd  wire.Kind = 16
	kindTaken     wire.Kind = 17
	kindGot       wire.Kind = 18
	kindResumed   wire.Kind = 19
	kindAside     wire.Kind = 20
)

const (
	// InlineMax is the size up to which standard input travels in the Run
	// frame itself.
	InlineMax = 64 << 10
	// InputWindow is how much input of an interactive run may be on its way to
	// the guest; the consumer sends more when the guest has taken some.
	InputWindow = 64 << 10
	// MaxIdleMs bounds the time that an interactive run may wait for input: an
	// hour.
	MaxIdleMs = 3_600_000
	// chunkSize is the size of raw frames.
	chunkSize = 64 << 10
	maxFrame  = 256 << 10
)

func wireConfig() wire.Config {
	return wire.Config{MaxRead: maxFrame, FrameTimeout: 30 * time.Second}
}

// Hello presents a lease. The lease key signs everything but the signature.
type Hello struct {
	Lease mman.LeaseID `cbor:"lease"`
	// Consumer and Provider are the peers at the two ends of the stream.
	Consumer mman.PeerID `cbor:"consumer"`
	Provider mman.PeerID `cbor:"provider"`
	Nonce    mman.Hash   `cbor:"nonce"`
	Lane     uint64      `cbor:"lane"`
	// Last is the latest receipt that the consumer signed on the lane.
	Last *market.Signed `cbor:"last,omitempty"`
	// Resume goes on with the interactive run of a session whose stream broke.
	Resume    *Resume `cbor:"resume,omitempty"`
	Signature []byte  `cbor:"signature"`
}

// Resume says where a consumer lost an interactive run.
type Resume struct {
	Run uint64 `cbor:"run"`
	// Got is the number of the run's frames that came.
	Got uint64 `cbor:"got"`
}

func (h Hello) payload() ([]byte, error) {
	h.Signature = nil
	return dagcbor.Marshal(h)
}

// Verify checks that the lease key signed the hello for this chain.
func (h Hello) Verify(chainID string, key mman.LeaseKey) error {
	b, err := h.payload()
	if err != nil {
		return err
	}
	digest := mman.SignDigest(mman.SignHandshake, chainID, b)
	if !sig.VerifyEd25519(key, digest[:], h.Signature) {
		return fmt.Errorf("lease %s: %w: the handshake is not signed by the lease key", h.Lease, mman.ErrBadSignature)
	}
	return nil
}

// Accept is the provider's signed consent to serve the lease on the lane.
type Accept struct {
	Lease mman.LeaseID `cbor:"lease"`
	Lane  uint64       `cbor:"lane"`
	Nonce mman.Hash    `cbor:"nonce"` // of the hello
	// Issued is the number of the latest Statement on the lane.
	Issued    uint64 `cbor:"issued"`
	Signature []byte `cbor:"signature"`
}

func (a Accept) payload() ([]byte, error) {
	a.Signature = nil
	return dagcbor.Marshal(a)
}

// Sign signs the accept with the provider's node key.
func (a Accept) Sign(chainID string, node market.Signer) (Accept, error) {
	b, err := a.payload()
	if err != nil {
		return Accept{}, err
	}
	a.Signature = node.Sign(mman.SignAccept, chainID, b)
	return a, nil
}

// Verify checks that the provider's node key signed the accept for this chain.
func (a Accept) Verify(chainID string, peer mman.PeerID) error {
	b, err := a.payload()
	if err != nil {
		return err
	}
	digest := mman.SignDigest(mman.SignAccept, chainID, b)
	if !sig.VerifyEd25519(peer, digest[:], a.Signature) {
		return fmt.Errorf("lease %s: %w: the accept is not signed by %s", a.Lease, mman.ErrBadSignature, peer)
	}
	return nil
}

// Run asks for one run of the lease's algorithm over its data.
type Run struct {
	// Number counts the runs of a lane; it only grows.
	Number uint64   `cbor:"number" json:"number"`
	Args   []string `cbor:"args"   json:"args"`
	// Stdin is the content on standard input; Inline holds its bytes when they
	// are few.
	Stdin      mman.CID         `cbor:"stdin,omitzero" json:"stdin,omitzero"`
	StdinBytes uint64           `cbor:"stdin_bytes"    json:"stdin_bytes"`
	Inline     []byte           `cbor:"inline"         json:"-"`
	Seed       mman.Hash        `cbor:"seed"           json:"seed"`
	Limits     resources.Limits `cbor:"limits"         json:"limits"`
	// Interactive runs get their input while they run. IdleMs is how long one
	// may wait for it, at most MaxIdleMs; 0 leaves it to the provider.
	Interactive bool   `cbor:"interactive,omitempty" json:"interactive,omitempty"`
	IdleMs      uint64 `cbor:"idle_ms,omitempty"     json:"idle_ms,omitempty"`
	// Framed says that the input carries records; see resources.Records. Terminal is
	// the screen of a framed run, nil for none.
	Framed   bool                `cbor:"framed,omitempty"   json:"framed,omitempty"`
	Terminal *resources.Terminal `cbor:"terminal,omitempty" json:"terminal,omitempty"`
	// Service makes an interactive run a hosted one.
	Service *resources.Service `cbor:"service,omitempty" json:"service,omitempty"`
}

// Validate bounds what a stranger may ask for.
func (r Run) Validate() error {
	if r.Number == 0 {
		return fmt.Errorf("run: %w: runs are numbered from 1", mman.ErrInvalid)
	}
	if err := resources.ValidArgs(r.Args); err != nil {
		return fmt.Errorf("run %d: %w", r.Number, err)
	}
	if len(r.Inline) > InlineMax || (len(r.Inline) > 0 && uint64(len(r.Inline)) != r.StdinBytes) {
		return fmt.Errorf("run %d: %w: %d bytes of inline input where %d are announced and at most %d travel inline", r.Number, mman.ErrInvalid, len(r.Inline), r.StdinBytes, InlineMax)
	}
	if r.Stdin.IsZero() && (r.StdinBytes > 0 || len(r.Inline) > 0) {
		return fmt.Errorf("run %d: %w: input without a cid", r.Number, mman.ErrInvalid)
	}
	if r.Interactive && !r.Stdin.IsZero() {
		return fmt.Errorf("run %d: %w: the input of an interactive run comes while it runs, this one names content %s", r.Number, mman.ErrInvalid, r.Stdin)
	}
	if r.IdleMs > MaxIdleMs || (!r.Interactive && r.IdleMs > 0) {
		return fmt.Errorf("run %d: %w: idle time of %d ms: interactive runs may wait for input for at most %d ms, others wait for none", r.Number, mman.ErrInvalid, r.IdleMs, uint64(MaxIdleMs))
	}
	if err := errors.Join(r.validateForm(), r.Limits.Validate()); err != nil {
		return fmt.Errorf("run %d: %w", r.Number, err)
	}
	return nil
}

// validateForm bounds what only some interactive runs have: a terminal, or a service.
func (r Run) validateForm() error {
	switch {
	case r.Framed && !r.Interactive || r.Terminal != nil && !r.Framed:
		return fmt.Errorf("%w: records are of interactive runs, and a terminal needs them", mman.ErrInvalid)
	case r.Service != nil && (!r.Interactive || r.Framed):
		return fmt.Errorf("%w: a hosted run is an interactive one without records", mman.ErrInvalid)
	case r.Terminal != nil:
		return r.Terminal.Validate()
	case r.Service != nil:
		return r.Service.Validate()
	}
	return nil
}

// Work returns the digest that Statements carry: of the lease and of everything
// that determines the run's result, but not of its number.
func (r Run) Work(lease mman.LeaseID) (mman.Hash, error) {
	r.Number, r.Inline = 0, nil
	b, err := dagcbor.Marshal(r)
	if err != nil {
		return mman.Hash{}, err
	}
	return mman.Sum256(lease[:], b), nil
}

// need lists contents that the provider lacks for the run.
type need struct {
	Contents []mman.CID `cbor:"contents"`
}

// blob announces a content; its bytes follow in chunks.
type blob struct {
	Content mman.CID `cbor:"content"`
	Bytes   uint64   `cbor:"bytes"`
}

// failed says why a run was not carried out. Nothing is owed for it.
type failed struct {
	Run   uint64     `cbor:"run"`
	Code  mman.Code  `cbor:"code"`
	Retry mman.Retry `cbor:"retry"`
	Text  string     `cbor:"text"`
}

// maxText bounds the sentence that says why a run failed, in bytes.
const maxText = 512

func failure(run Run, err error) failed {
	text := err.Error()
	text = strings.ToValidUTF8(text[:min(len(text), maxText)], "")
	return failed{run.Number, mman.CodeOf(err), mman.RetryOf(err), text}
}

// validate checks that the provider speaks of this run, in bounds.
func (f failed) validate(run Run) error {
	if f.Run != run.Number || f.Code == 0 || f.Retry > mman.RetryElsewhere || len(f.Text) > maxText {
		return fmt.Errorf("%w: failure of run %d with code %d, retry %d and %d bytes of text", mman.ErrProtocol, f.Run, f.Code, f.Retry, len(f.Text))
	}
	return nil
}

// taken says how much of an interactive run's input the guest has read.
type taken struct {
	Bytes uint64 `cbor:"bytes"`
}

// got says how many frames of an interactive run came.
type got struct {
	Frames uint64 `cbor:"frames"`
}

// resumed says how much of the input came before the stream broke.
type resumed struct {
	Received uint64 `cbor:"received"`
}

type cancel struct {
	Run uint64 `cbor:"run"`
}

// closing ends a session; Settle asks the provider to end the lease too.
type closing struct {
	Settle bool `cbor:"settle"`
}

// Closed is the provider's last word.
type Closed struct {
	// TxHash is the transaction that settles and ends the lease, when that was
	// asked for.
	TxHash mman.Hash `cbor:"tx_hash"`
}
