package bank

import (
	"bytes"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
)

// An account's record is read and written three times in each transfer, so it has
// a writer and a reader of its own, which know the form: a map of three or four
// pairs, shorter keys first.
const (
	threePairs   = "\xa3"
	fourPairs    = "\xa4\x63key"
	keyHead      = "\x58\x21\x01" // 33 bytes of which the first says ed25519
	numberField  = "\x66number"
	balanceField = "\x67balance"
	sequenceName = "\x68sequence"
)

// encode returns the encoding that dagcbor.Marshal gives.
func (a Account) encode() ([]byte, error) {
	b := make([]byte, 0, accountMaxBytes)
	if a.Key.IsZero() {
		b = append(b, threePairs...)
	} else {
		key, err := a.Key.MarshalCBOR()
		if err != nil {
			return nil, err
		}
		b = append(append(b, fourPairs...), key...)
	}
	b = dagcbor.AppendUint(append(b, numberField...), a.Number)
	b = dagcbor.AppendUint(append(b, balanceField...), uint64(a.Balance))
	return dagcbor.AppendUint(append(b, sequenceName...), a.Sequence), nil
}

// readAccount reads what encode wrote, unless the key is of another scheme than
// ed25519; ok is false for anything else.
func readAccount(b []byte) (a Account, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte(threePairs))
	if !ok {
		if rest, ok = bytes.CutPrefix(b, []byte(fourPairs+keyHead)); !ok || len(rest) < sig.Ed25519Size {
			return Account{}, false
		}
		a.Key, rest = sig.Ed25519Key([sig.Ed25519Size]byte(rest)), rest[sig.Ed25519Size:]
	}
	var balance uint64
	if a.Number, rest, ok = readField(rest, numberField); !ok {
		return Account{}, false
	}
	if balance, rest, ok = readField(rest, balanceField); !ok {
		return Account{}, false
	}
	a.Balance = mman.Amount(balance)
	if a.Sequence, rest, ok = readField(rest, sequenceName); !ok || len(rest) > 0 {
		return Account{}, false
	}
	return a, true
}

func readField(b []byte, name string) (n uint64, rest []byte, ok bool) {
	if len(b) < len(name) || string(b[:len(name)]) != name {
		return 0, nil, false
	}
	return dagcbor.ReadUint(b[len(name):])
}
