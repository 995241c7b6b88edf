package tx

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

// The paths of abci_query that wallets of the ecosystem ask.
const (
	PathAccount     = "/cosmos.auth.v1beta1.Query/Account"
	PathBalance     = "/cosmos.bank.v1beta1.Query/Balance"
	PathAllBalances = "/cosmos.bank.v1beta1.Query/AllBalances"
	PathSimulate    = "/cosmos.tx.v1beta1.Service/Simulate"
)

const (
	typeBaseAccount = "/cosmos.auth.v1beta1.BaseAccount"
	// maxQueryBytes bounds a question about an account.
	maxQueryBytes = 1024
	// draftSlack is how many bytes signature, fee, gas limit and sign mode add
	// at most to a draft that has none of them.
	draftSlack = 112
)

// lastField returns the last value of a field of bytes, nil when it is absent,
// as protobuf reads a message: a question is no consensus, so what else is in
// it is skipped.
func lastField(b []byte, num protowire.Number) ([]byte, error) {
	var out []byte
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeField(b)
		if size < 0 {
			return nil, fmt.Errorf("%w: the question is no protobuf message", mman.ErrInvalid)
		}
		if n == num && typ == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(b)
			out, _ = protowire.ConsumeBytes(b[tag:])
		}
		b = b[size:]
	}
	return out, nil
}

// DecodeAddressQuery reads the address in a question for an account or its
// balances; mman.ErrInvalid.
func DecodeAddressQuery(b []byte) (mman.Address, error) {
	if len(b) > maxQueryBytes {
		return mman.Address{}, fmt.Errorf("%w: a question of %d bytes, at most %d are allowed", mman.ErrTooLarge, len(b), maxQueryBytes)
	}
	text, err := lastField(b, 1)
	if err != nil {
		return mman.Address{}, err
	}
	return mman.ParseAddress(string(text))
}

// DecodeBalanceQuery reads a question for the balance in one denomination;
// mman.ErrInvalid.
func DecodeBalanceQuery(b []byte) (address mman.Address, denom string, err error) {
	if address, err = DecodeAddressQuery(b); err != nil {
		return address, "", err
	}
	text, err := lastField(b, 2)
	return address, string(text), err
}

// DecodeSimulateQuery reads the transaction's bytes in a question for its gas;
// mman.ErrInvalid.
func DecodeSimulateQuery(b []byte) ([]byte, error) {
	if limit := MaxTxBytes + maxQueryBytes; len(b) > limit {
		return nil, fmt.Errorf("%w: a question of %d bytes, at most %d are allowed", mman.ErrTooLarge, len(b), limit)
	}
	return lastField(b, 2)
}

// EncodeSimulateQuery returns the question for the gas of a transaction.
func EncodeSimulateQuery(raw []byte) []byte { return appendBytes(nil, 2, raw) }

// DecodeSimulateAnswer reads the gas that a transaction needs out of an answer to
// PathSimulate; mman.ErrInvalid.
func DecodeSimulateAnswer(b []byte) (gas uint64, err error) {
	info, err := lastField(b, 1)
	if err != nil {
		return 0, err
	}
	for len(info) > 0 {
		num, typ, size := protowire.ConsumeField(info)
		if size < 0 {
			break
		}
		if num == 2 && typ == protowire.VarintType {
			_, _, tag := protowire.ConsumeTag(info)
			gas, _ = protowire.ConsumeVarint(info[tag:])
		}
		info = info[size:]
	}
	if gas == 0 {
		return 0, fmt.Errorf("%w: the answer names no gas", mman.ErrInvalid)
	}
	return gas, nil
}

// EncodeAccountAnswer returns the answer to PathAccount: a BaseAccount. A zero
// key is left out.
func EncodeAccountAnswer(a mman.Address, key sig.PublicKey, number, sequence uint64) []byte {
	b := appendText(nil, 1, a.String())
	if !key.IsZero() {
		b = appendElement(b, 2, encodePublicKey(key))
	}
	b = appendUint64(appendUint64(b, 3, number), 4, sequence)
	return appendElement(nil, 1, encodeAny(Any{typeBaseAccount, b}))
}

// EncodeBalanceAnswer returns the answer to PathBalance. Also nothing is an
// amount there.
func EncodeBalanceAnswer(denom string, amount mman.Amount) []byte {
	coin := appendText(nil, 1, denom)
	return appendElement(nil, 1, appendText(coin, 2, strconv.FormatUint(uint64(amount), 10)))
}

// EncodeBalancesAnswer returns the answer to PathAllBalances: one coin, or none
// when the account holds nothing.
func EncodeBalancesAnswer(amount mman.Amount) []byte { return appendCoin(nil, 1, amount) }

// EncodeSimulateAnswer returns the answer to PathSimulate: the gas that the
// signed transaction needs, and the data of its result.
func EncodeSimulateAnswer(wanted, used uint64, data []byte) []byte {
	b := appendElement(nil, 1, appendUint64(appendUint64(nil, 1, wanted), 2, used))
	return appendElement(b, 2, appendBytes(nil, 1, data))
}

// DraftSize returns how many bytes a draft has at most once it has a fee and a
// signature.
func DraftSize(t *Tx) int {
	if len(t.Signature) == sig.SignatureSize {
		return len(t.raw)
	}
	return len(t.raw) + draftSlack
}
