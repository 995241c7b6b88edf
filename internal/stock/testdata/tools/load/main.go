// The program load is CometBFT's load tool with a client of ours: each of its
// connections sends signed transfers of one account, whose keys it makes from
// LOAD_SEED in the same way as the test that funded them.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/informalsystems/tm-load-test/pkg/loadtest"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
)

// factory gives each connection the next account.
type factory struct {
	chain         string
	seed          string
	first, number uint64 // account numbers follow one another
	gas           uint64
	fee           mman.Amount
	next          atomic.Uint64
}

// sender signs one account's transfers.
type sender struct {
	factory  *factory
	key      sig.PrivateKey
	account  uint64
	sequence uint64
}

func main() {
	f, err := read()
	if err == nil {
		err = loadtest.RegisterClientFactory("mman", f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	loadtest.Run(&loadtest.CLIConfig{AppName: "load", AppShortDesc: "Send signed transfers", DefaultClientFactory: "mman"})
}

func read() (*factory, error) {
	f := &factory{chain: os.Getenv("LOAD_CHAIN"), seed: os.Getenv("LOAD_SEED")}
	var errs []error
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(os.Getenv(name), 10, 64)
		errs = append(errs, err)
		return n
	}
	f.first, f.number, f.gas, f.fee = number("LOAD_FIRST"), number("LOAD_ACCOUNTS"), number("LOAD_GAS"), mman.Amount(number("LOAD_FEE"))
	return f, errors.Join(errs...)
}

// ValidateConfig implements loadtest.ClientFactory.
func (f *factory) ValidateConfig(loadtest.Config) error { return nil }

// NewClient implements loadtest.ClientFactory.
func (f *factory) NewClient(loadtest.Config) (loadtest.Client, error) {
	i := f.next.Add(1) - 1
	if i >= f.number {
		return nil, fmt.Errorf("there are only %d accounts", f.number)
	}
	seed := mman.Sum256([]byte(f.seed), binary.BigEndian.AppendUint64(nil, i))
	key, err := sig.FromSeed(sig.Ed25519, seed[:])
	if err != nil {
		return nil, err
	}
	return &sender{factory: f, key: key, account: f.first + i}, nil
}

// GenerateTx implements loadtest.Client.
func (s *sender) GenerateTx() ([]byte, error) {
	from := s.key.Public().Address()
	signed, err := tx.Sign(s.key, s.factory.chain, s.account, tx.Draft{
		Msgs: []tx.Msg{tx.MsgSend{From: from, To: from, Amount: 1}}, Sequence: s.sequence, GasLimit: s.factory.gas, Fee: s.factory.fee,
	})
	if err != nil {
		return nil, err
	}
	s.sequence++
	return signed.Raw(), nil
}
