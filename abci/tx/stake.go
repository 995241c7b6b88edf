package tx

import (
	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

// The type URLs of staking. Wallets of the ecosystem write the first three.
const (
	TypeDelegate        = "/cosmos.staking.v1beta1.MsgDelegate"
	TypeUndelegate      = "/cosmos.staking.v1beta1.MsgUndelegate"
	TypeRedelegate      = "/cosmos.staking.v1beta1.MsgBeginRedelegate"
	TypeCreateValidator = "/mman.stake.v1.MsgCreateValidator"
	TypeEditValidator   = "/mman.stake.v1.MsgEditValidator"
	TypeUnjail          = "/mman.stake.v1.MsgUnjail"
)

// MaxNameBytes bounds a validator's name, which is printable ASCII.
const MaxNameBytes = 64

// million is the whole in millionths.
const million = 1_000_000

// MsgDelegate gives a validator stake.
type MsgDelegate struct {
	Delegator mman.Address
	Validator mman.Address // the operator, manvaloper1… on the wire
	Amount    mman.Amount  // positive
}

// MsgUndelegate asks for stake back: it debonds first.
type MsgUndelegate struct {
	Delegator mman.Address
	Validator mman.Address
	Amount    mman.Amount // positive
}

// MsgRedelegate moves stake to another validator: it debonds with the first one
// and goes to the second afterwards.
type MsgRedelegate struct {
	Delegator mman.Address
	From, To  mman.Address // operators
	Amount    mman.Amount  // positive
}

// MsgCreateValidator makes the operator's account a validator.
type MsgCreateValidator struct {
	Operator      mman.Address
	Name          string // 1 to MaxNameBytes
	ConsensusKey  [sig.Ed25519Size]byte
	CommissionPPM uint64      // of the rewards, in millionths
	Stake         mman.Amount // of the operator itself, positive
	KeySignature  []byte      // 64 bytes: the consensus key over the message without it, context mman.SignValidator
	// BeaconKey proves the randomness of the blocks that the validator proposes:
	// the public half of sig.DeriveVRF of the consensus key, or of another.
	BeaconKey [sig.Ed25519Size]byte
}

// MsgEditValidator changes a validator's name and commission.
type MsgEditValidator struct {
	Operator      mman.Address
	Name          string
	CommissionPPM uint64
}

// MsgUnjail lets a validator that was offline come back.
type MsgUnjail struct{ Operator mman.Address }

// TypeURL returns TypeDelegate.
func (MsgDelegate) TypeURL() string { return TypeDelegate }

// TypeURL returns TypeUndelegate.
func (MsgUndelegate) TypeURL() string { return TypeUndelegate }

// TypeURL returns TypeRedelegate.
func (MsgRedelegate) TypeURL() string { return TypeRedelegate }

// TypeURL returns TypeCreateValidator.
func (MsgCreateValidator) TypeURL() string { return TypeCreateValidator }

// TypeURL returns TypeEditValidator.
func (MsgEditValidator) TypeURL() string { return TypeEditValidator }

// TypeURL returns TypeUnjail.
func (MsgUnjail) TypeURL() string { return TypeUnjail }

// Signer returns the delegator.
func (m MsgDelegate) Signer() mman.Address { return m.Delegator }

// Signer returns the delegator.
func (m MsgUndelegate) Signer() mman.Address { return m.Delegator }

// Signer returns the delegator.
func (m MsgRedelegate) Signer() mman.Address { return m.Delegator }

// Signer returns the operator.
func (m MsgCreateValidator) Signer() mman.Address { return m.Operator }

// Signer returns the operator.
func (m MsgEditValidator) Signer() mman.Address { return m.Operator }

// Signer returns the operator.
func (m MsgUnjail) Signer() mman.Address { return m.Operator }

func (m MsgCreateValidator) keyDigest(chainID string) mman.Hash {
	m.KeySignature = nil
	return mman.SignDigest(mman.SignValidator, chainID, m.encode())
}

// SignKey returns m with the signature of its consensus key, which proves that
// the operator holds it; it sets ConsensusKey, and BeaconKey to the one that the
// consensus key gives. The key is an ed25519 key.
func (m MsgCreateValidator) SignKey(key sig.PrivateKey, chainID string) MsgCreateValidator {
	m.ConsensusKey = [sig.Ed25519Size]byte(key.Public().Bytes())
	if vrf, err := sig.DeriveVRF(key); err == nil {
		m.BeaconKey = vrf.Public()
	}
	digest := m.keyDigest(chainID)
	m.KeySignature = key.Sign(digest[:])
	return m
}

// VerifyKey reports whether the consensus key signed the message for this
// chain.
func (m MsgCreateValidator) VerifyKey(chainID string) bool {
	digest := m.keyDigest(chainID)
	return sig.VerifyEd25519(m.ConsensusKey, digest[:], m.KeySignature)
}

// decodeStaking reads a message of staking; ok is false for another type.
func decodeStaking(typeURL string, r *reader) (m Msg, ok bool) {
	switch typeURL {
	case TypeDelegate:
		m = MsgDelegate{Delegator: r.address(1), Validator: r.operator(2), Amount: r.coin(3)}
	case TypeUndelegate:
		m = MsgUndelegate{Delegator: r.address(1), Validator: r.operator(2), Amount: r.coin(3)}
	case TypeRedelegate:
		m = MsgRedelegate{Delegator: r.address(1), From: r.operator(2), To: r.operator(3), Amount: r.coin(4)}
	case TypeCreateValidator:
		m = MsgCreateValidator{
			Operator: r.address(1), Name: r.name(2), ConsensusKey: [sig.Ed25519Size]byte(r.fixed(3, sig.Ed25519Size)),
			CommissionPPM: r.commission(4), Stake: r.coin(5), KeySignature: r.fixed(6, sig.SignatureSize),
			BeaconKey: [sig.Ed25519Size]byte(r.fixed(7, sig.Ed25519Size)),
		}
	case TypeEditValidator:
		m = MsgEditValidator{Operator: r.address(1), Name: r.name(2), CommissionPPM: r.commission(3)}
	case TypeUnjail:
		m = MsgUnjail{Operator: r.address(1)}
	default:
		return nil, false
	}
	return m, true
}

func (m MsgDelegate) encode() []byte { return encodeStake(m.Delegator, m.Amount, m.Validator) }

func (m MsgUndelegate) encode() []byte { return encodeStake(m.Delegator, m.Amount, m.Validator) }

func (m MsgRedelegate) encode() []byte { return encodeStake(m.Delegator, m.Amount, m.From, m.To) }

func encodeStake(delegator mman.Address, amount mman.Amount, operators ...mman.Address) []byte {
	b := appendText(nil, 1, delegator.String())
	num := protowire.Number(2)
	for _, o := range operators {
		b = appendText(b, num, o.ValidatorString())
		num++
	}
	return appendCoin(b, num, amount)
}

func (m MsgCreateValidator) encode() []byte {
	b := appendText(nil, 1, m.Operator.String())
	b = appendText(b, 2, m.Name)
	b = appendBytes(b, 3, m.ConsensusKey[:])
	b = appendUint64(b, 4, m.CommissionPPM)
	b = appendCoin(b, 5, m.Stake)
	b = appendBytes(b, 6, m.KeySignature)
	return appendBytes(b, 7, m.BeaconKey[:])
}

func (m MsgEditValidator) encode() []byte {
	b := appendText(nil, 1, m.Operator.String())
	b = appendText(b, 2, m.Name)
	return appendUint64(b, 3, m.CommissionPPM)
}

func (m MsgUnjail) encode() []byte { return appendText(nil, 1, m.Operator.String()) }
