package tx

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

// The type URLs of public keys.
const (
	typeSecp256k1 = "/cosmos.crypto.secp256k1.PubKey"
	typeEd25519   = "/cosmos.crypto.ed25519.PubKey"
)

// Tx is a decoded transaction, or one that Build made and that is not signed
// yet. It is read-only.
type Tx struct {
	Messages      []Any         // 1 to MaxMessages, not decoded: see Msgs
	Memo          string        // UTF-8, at most MaxMemoBytes
	TimeoutHeight uint64        // the last height at which it may be in a block; 0 for none
	Signer        sig.PublicKey // the one signer
	Sequence      uint64        // the signer's count of transactions before this one
	Fee           mman.Amount   // offered, 0 for none
	GasLimit      uint64        // in gas
	Signature     []byte        // 64 bytes; nil while it is not signed

	raw, body, authInfo []byte
	address             mman.Address // the signer's
}

// Decode reads a transaction of at most MaxTxBytes. It fails with ErrTxDecode
// when the bytes are not the one encoding of a transaction. It decodes no
// message and verifies no signature. The result shares memory with raw.
func Decode(raw []byte) (*Tx, error) {
	if len(raw) > MaxTxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", mman.ErrTxDecode, len(raw), MaxTxBytes)
	}
	r := &reader{what: "TxRaw", rest: raw}
	t := &Tx{raw: raw}
	t.body = r.required(1, MaxTxBytes)
	t.authInfo = r.required(2, MaxTxBytes)
	t.Signature = r.fixed(3, sig.SignatureSize)
	return t.open(r, false)
}

// DecodeDraft reads what a wallet sends to Simulate: a transaction whose
// signature, fee and sign mode may be empty. It is as strict as Decode in
// everything else.
func DecodeDraft(raw []byte) (*Tx, error) {
	if len(raw) > MaxTxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", mman.ErrTxDecode, len(raw), MaxTxBytes)
	}
	r := &reader{what: "TxRaw", rest: raw}
	t := &Tx{raw: raw}
	t.body = r.required(1, MaxTxBytes)
	t.authInfo = r.required(2, MaxTxBytes)
	if r.has(3, protowire.BytesType) {
		t.Signature = r.element(3, sig.SignatureSize)
	}
	return t.open(r, true)
}

// open decodes what is inside of an envelope that r has read; draft allows what
// DecodeDraft does.
func (t *Tx) open(r *reader, draft bool) (*Tx, error) {
	if err := r.end(); err != nil {
		return nil, err
	}
	if err := t.decodeBody(); err != nil {
		return nil, err
	}
	if err := t.decodeAuthInfo(draft); err != nil {
		return nil, err
	}
	t.address = t.Signer.Address()
	return t, nil
}

func (t *Tx) decodeBody() error {
	r := &reader{what: "TxBody", rest: t.body}
	for r.has(1, protowire.BytesType) {
		sub := r.element(1, MaxTxBytes)
		if len(t.Messages) == MaxMessages {
			r.fail(1, "more than %d messages", MaxMessages)
		}
		if r.err != nil {
			return r.err
		}
		m, err := decodeAny(sub, MaxTxBytes)
		if err != nil {
			return err
		}
		t.Messages = append(t.Messages, m)
	}
	if len(t.Messages) == 0 {
		r.fail(1, "there is no message")
	}
	t.Memo = r.text(2, MaxMemoBytes)
	t.TimeoutHeight = r.uint64(3)
	if t.TimeoutHeight > maxHeight {
		r.fail(3, "no height is as large as %d", t.TimeoutHeight)
	}
	return r.end()
}

func decodeAny(b []byte, limit int) (Any, error) {
	r := &reader{what: "Any", rest: b}
	a := Any{TypeURL: r.text(1, MaxTypeURLBytes)}
	if a.TypeURL == "" {
		r.fail(1, "the type URL is missing")
	}
	a.Value = r.bytes(2, limit)
	return a, r.end()
}

func (t *Tx) decodeAuthInfo(draft bool) error {
	r := &reader{what: "AuthInfo", rest: t.authInfo}
	signer := r.message(1, maxSignerInfo)
	if r.has(1, protowire.BytesType) {
		r.fail(1, "exactly one signer is supported")
	}
	var fee []byte
	if !draft || r.has(2, protowire.BytesType) {
		fee = r.message(2, maxFeeBytes)
	}
	if err := r.end(); err != nil {
		return err
	}
	if err := t.decodeSignerInfo(signer, draft); err != nil {
		return err
	}
	return t.decodeFee(fee)
}

func (t *Tx) decodeSignerInfo(b []byte, draft bool) error {
	r := &reader{what: "SignerInfo", rest: b}
	key := r.message(1, maxSignerInfo)
	mode := r.message(2, maxModeInfoBytes)
	t.Sequence = r.uint64(3)
	if err := r.end(); err != nil {
		return err
	}
	if string(mode) != string(modeDirect()) && (!draft || string(mode) != string(modeUnspecified())) {
		return fmt.Errorf("%w: SignerInfo, field 2: only SIGN_MODE_DIRECT is supported", mman.ErrTxDecode)
	}
	var err error
	t.Signer, err = decodePublicKey(key)
	return err
}

// modeDirect returns ModeInfo{single{SIGN_MODE_DIRECT}}.
func modeDirect() []byte {
	return appendElement(nil, 1, appendUint64(nil, 1, signModeDirect))
}

// modeUnspecified returns ModeInfo{single{SIGN_MODE_UNSPECIFIED}}.
func modeUnspecified() []byte { return appendElement(nil, 1, nil) }

func decodePublicKey(b []byte) (sig.PublicKey, error) {
	a, err := decodeAny(b, maxPublicKey)
	if err != nil {
		return sig.PublicKey{}, err
	}
	var typ sig.KeyType
	switch a.TypeURL {
	case typeEd25519:
		typ = sig.Ed25519
	case typeSecp256k1:
		typ = sig.Secp256k1
	default:
		return sig.PublicKey{}, fmt.Errorf("%w: public key %q: use %s or %s", mman.ErrTxDecode, a.TypeURL, typeEd25519, typeSecp256k1)
	}
	r := &reader{what: a.TypeURL, rest: a.Value}
	raw := r.required(1, maxPublicKey)
	if err := r.end(); err != nil {
		return sig.PublicKey{}, err
	}
	key, err := sig.NewPublicKey(typ, raw)
	if err != nil {
		return sig.PublicKey{}, fmt.Errorf("%w: %w", mman.ErrTxDecode, err)
	}
	return key, nil
}

func (t *Tx) decodeFee(b []byte) error {
	r := &reader{what: "Fee", rest: b}
	if r.has(1, protowire.BytesType) {
		t.Fee = r.coin(1)
	}
	t.GasLimit = r.uint64(2)
	if r.has(3, protowire.BytesType) || r.has(4, protowire.BytesType) {
		r.fail(3, "a payer or granter of fees is not supported, the signer pays")
	}
	return r.end()
}

// Raw returns the transaction's bytes, nil while it is not signed. The caller
// must not change them.
func (t *Tx) Raw() []byte { return t.raw }

// Address returns the signer's account.
func (t *Tx) Address() mman.Address { return t.address }

// Hash returns SHA-256 of the transaction's bytes, its name in CometBFT. It
// computes it anew each time.
func (t *Tx) Hash() mman.Hash { return mman.Sum256(t.raw) }

// Msgs decodes the messages. It fails with ErrUnknownMsg or ErrTxDecode for a
// message that does not decode, and with ErrDenied for one that another account
// than the signer's must sign.
func (t *Tx) Msgs() ([]Msg, error) {
	signer := t.address
	msgs := make([]Msg, 0, len(t.Messages))
	for i, a := range t.Messages {
		m, err := DecodeMsg(a.TypeURL, a.Value)
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		if m.Signer() != signer {
			return nil, fmt.Errorf("%w: message %d, %s: %s must sign it, but %s signed", mman.ErrDenied, i, a.TypeURL, m.Signer(), signer)
		}
		msgs = append(msgs, m)
	}
	return msgs, nil
}

// SignBytes returns what the signer signs: the SignDoc with these bytes. The
// chain's id and the account's number keep a signature from being used again
// elsewhere.
func (t *Tx) SignBytes(chainID string, accountNumber uint64) []byte {
	return SignBytes(t.body, t.authInfo, chainID, accountNumber)
}

// SignBytes returns the encoding of the SignDoc of a TxBody and an AuthInfo.
func SignBytes(body, authInfo []byte, chainID string, accountNumber uint64) []byte {
	b := make([]byte, 0, len(body)+len(authInfo)+len(chainID)+32)
	b = appendBytes(b, 1, body)
	b = appendBytes(b, 2, authInfo)
	b = appendText(b, 3, chainID)
	return appendUint64(b, 4, accountNumber)
}

// Verify checks the signature; ErrBadSignature when it is not the signer's for
// this chain and account number. It does not check the sequence.
func (t *Tx) Verify(chainID string, accountNumber uint64) error {
	if !t.Signer.Verify(t.SignBytes(chainID, accountNumber), t.Signature) {
		return fmt.Errorf("%w: %s, sequence %d: expected chain id %q and account number %d", mman.ErrBadSignature, t.Signer.Address(), t.Sequence, chainID, accountNumber)
	}
	return nil
}

// Draft is what a client decides about a transaction.
type Draft struct {
	Msgs          []Msg       // 1 to MaxMessages, all signed by the same account
	Memo          string      // at most MaxMemoBytes
	TimeoutHeight uint64      // the last height at which it may be in a block; 0 for none
	Sequence      uint64      // the account's count of transactions before this one
	Fee           mman.Amount // in uman; 0 offers none
	GasLimit      uint64      // in gas
}

// Build returns the transaction that signer will sign. It fails like Decode and
// Msgs when the draft breaks a rule, so what it returns is accepted by every
// node's decoder.
func Build(signer sig.PublicKey, d Draft) (*Tx, error) {
	body := []byte(nil)
	for _, m := range d.Msgs {
		body = appendElement(body, 1, encodeAny(EncodeMsg(m)))
	}
	body = appendText(body, 2, d.Memo)
	body = appendUint64(body, 3, d.TimeoutHeight)

	fee := appendUint64(appendCoin(nil, 1, d.Fee), 2, d.GasLimit)
	authInfo := appendElement(nil, 1, encodeSignerInfo(signer, d.Sequence))
	authInfo = appendElement(authInfo, 2, fee)

	// Decoding with a signature of the right size checks every rule once, in
	// one place.
	t, err := Decode(assemble(body, authInfo, make([]byte, sig.SignatureSize)))
	if err != nil {
		return nil, fmt.Errorf("build a transaction: %w", err)
	}
	if _, err := t.Msgs(); err != nil {
		return nil, fmt.Errorf("build a transaction: %w", err)
	}
	t.raw, t.Signature = nil, nil
	return t, nil
}

func encodeAny(a Any) []byte { return appendBytes(appendText(nil, 1, a.TypeURL), 2, a.Value) }

func encodePublicKey(k sig.PublicKey) []byte {
	typeURL := typeEd25519
	if k.Type() == sig.Secp256k1 {
		typeURL = typeSecp256k1
	}
	return encodeAny(Any{typeURL, appendBytes(nil, 1, k.Bytes())})
}

func encodeSignerInfo(signer sig.PublicKey, sequence uint64) []byte {
	b := appendElement(nil, 1, encodePublicKey(signer))
	b = appendElement(b, 2, modeDirect())
	return appendUint64(b, 3, sequence)
}

func assemble(body, authInfo, signature []byte) []byte {
	return appendBytes(appendBytes(appendBytes(nil, 1, body), 2, authInfo), 3, signature)
}

// WithSignature returns the transaction with this signature over its sign
// bytes, made by a wallet or another device. It fails like Decode; it does not
// verify.
func (t *Tx) WithSignature(signature []byte) (*Tx, error) {
	return Decode(assemble(t.body, t.authInfo, slices.Clone(signature)))
}

// Sign builds the draft and signs it for this chain and account.
func Sign(key sig.PrivateKey, chainID string, accountNumber uint64, d Draft) (*Tx, error) {
	if key.IsZero() {
		return nil, fmt.Errorf("%w: sign a transaction: there is no key", mman.ErrInvalid)
	}
	t, err := Build(key.Public(), d)
	if err != nil {
		return nil, err
	}
	return t.WithSignature(key.Sign(t.SignBytes(chainID, accountNumber)))
}
