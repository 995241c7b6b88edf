package abci

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
)

func isWalletPath(path string) bool {
	switch path {
	case tx.PathAccount, tx.PathBalance, tx.PathAllBalances, tx.PathSimulate:
		return true
	default:
		return false
	}
}

// askWallet answers what wallets of the ecosystem ask, in their protobuf.
func (a *Application) askWallet(s state.Reader, at uint64, path string, data []byte) ([]byte, error) {
	switch path {
	case tx.PathSimulate:
		return a.simulate(s, at+1, data)
	case tx.PathBalance:
		address, denom, err := tx.DecodeBalanceQuery(data)
		if err != nil {
			return nil, err
		}
		if denom != mman.Denom {
			return nil, fmt.Errorf("%w: denomination %.64q: use %q", mman.ErrInvalid, denom, mman.Denom)
		}
		account, _, err := bank.Lookup(s, address)
		return tx.EncodeBalanceAnswer(denom, account.Balance), err
	default:
	}
	address, err := tx.DecodeAddressQuery(data)
	if err != nil {
		return nil, err
	}
	account, ok, err := bank.Lookup(s, address)
	switch {
	case err != nil:
		return nil, err
	case path == tx.PathAllBalances:
		return tx.EncodeBalancesAnswer(account.Balance), nil
	case !ok:
		return nil, bank.Unknown(address)
	}
	return tx.EncodeAccountAnswer(address, account.Key, account.Number, account.Sequence), nil
}

// simulate runs a draft's messages in a block of that height above s, drops what they wrote,
// and answers the gas that the signed transaction needs as the state is. Neither
// signature, fee nor sequence are looked at. It uses modules of its own, whose caches
// no block uses.
func (a *Application) simulate(s state.Reader, height uint64, data []byte) ([]byte, error) {
	raw, err := tx.DecodeSimulateQuery(data)
	if err != nil {
		return nil, err
	}
	t, err := tx.DecodeDraft(raw)
	if err != nil {
		return nil, err
	}
	msgs, err := t.Msgs()
	if err != nil {
		return nil, err
	}
	g, err := a.gate(s, height)
	if err != nil {
		return nil, err
	}
	gas, err := tx.Gas(g.params.Gas, t.Signer.Type(), msgs, tx.DraftSize(t))
	if err != nil {
		return nil, err
	}
	if gas > g.params.MaxGasPerTx {
		return nil, fmt.Errorf("%w: %d gas are needed, at most %d are allowed: split the transaction", mman.ErrOutOfGas, gas, g.params.MaxGasPerTx)
	}
	signer := t.Address()
	_, ok, err := bank.Lookup(s, signer)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, bank.Unknown(signer)
	}
	own, err := newRoutes(newModules())
	if err != nil {
		return nil, err
	}
	e := &execution{
		routes: own, gate: g, state: state.NewOverlay(s),
		header: block.Header{ChainID: g.chainID, Height: height},
	}
	wanted := t.GasLimit
	t.GasLimit = g.params.MaxGasPerTx
	_, used, err := e.messages(opened{Tx: t, hash: t.Hash(), msgs: msgs, gas: gas}, signer.String(), nil)
	if err != nil {
		return nil, err
	}
	return tx.EncodeSimulateAnswer(wanted, used, resultData(msgs)), nil
}
