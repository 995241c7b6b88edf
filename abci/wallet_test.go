package abci_test

import (
	"testing"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
)

func bytesField(num protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
}

func (f *fixture) wallet(t *testing.T, path string, data []byte) *types.ResponseQuery {
	t.Helper()
	answer, err := f.App.Query(t.Context(), &types.RequestQuery{Path: path, Data: data})
	require.NoError(t, err)
	return answer
}

func TestWalletQueries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do(f.cleo, send(f.cleo, f.dora.Actor, 5)...)
	cleo := bytesField(1, []byte(f.cleo.Address.String()))
	nobody := bytesField(1, []byte(abcitest.NewActor(t, "nobody").Address.String()))

	answer := f.wallet(t, tx.PathAccount, cleo)
	account, ok, err := f.App.View().Account(f.cleo.Address)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, tx.EncodeAccountAnswer(f.cleo.Address, f.cleo.Key.Public(), account.Number, 1), answer.Value)
	require.Equal(t, int64(1), answer.Height)
	answer = f.wallet(t, tx.PathAccount, nobody)
	require.Equal(t, uint32(mman.ErrNotFound.Code), answer.Code)
	require.Contains(t, answer.Log, "rpc error: code = NotFound")

	uman := bytesField(2, []byte("uman"))
	answer = f.wallet(t, tx.PathBalance, append(cleo, uman...))
	require.Equal(t, tx.EncodeBalanceAnswer("uman", account.Balance), answer.Value)
	answer = f.wallet(t, tx.PathBalance, append(nobody, uman...))
	require.Equal(t, tx.EncodeBalanceAnswer("uman", 0), answer.Value)
	answer = f.wallet(t, tx.PathAllBalances, cleo)
	require.Equal(t, tx.EncodeBalancesAnswer(account.Balance), answer.Value)
	answer = f.wallet(t, tx.PathAllBalances, nobody)
	require.Zero(t, answer.Code)
	require.Empty(t, answer.Value)

	for _, path := range []string{tx.PathAccount, tx.PathBalance, tx.PathAllBalances, tx.PathSimulate} {
		for _, data := range [][]byte{nil, {0xff}, make([]byte, 70<<10), bytesField(1, []byte("man1")), bytesField(2, []byte{1})} {
			require.NotZero(t, f.wallet(t, path, data).Code, "%s %.10x", path, data)
		}
	}
	require.NotZero(t, f.wallet(t, tx.PathBalance, append(cleo, bytesField(2, []byte("uatom"))...)).Code)
	require.NotZero(t, f.wallet(t, "/cosmos.gov.v1beta1.Query/Proposals", nil).Code)
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(1)
	simulate := func(raw []byte) *types.ResponseQuery { return f.wallet(t, tx.PathSimulate, bytesField(2, raw)) }
	before := f.Root()
	raw := abcitest.Unsent(f.Chain).Sign(f.cleo, send(f.cleo, f.dora.Actor, 5))
	gas, err := tx.Gas(f.Doc.Params.Gas, f.cleo.Key.Type(), send(f.cleo, f.dora.Actor, 5), len(raw))
	require.NoError(t, err)
	answer := simulate(raw)
	require.Zero(t, answer.Code, answer.Log)
	signed, err := tx.Decode(raw)
	require.NoError(t, err)
	table := f.Doc.Params.Gas
	gas += 2*table.Read + 2*table.Write // two accounts
	require.Equal(t, tx.EncodeSimulateAnswer(signed.GasLimit, gas, tx.ResultData([]string{tx.TypeSend})), answer.Value)
	said, err := tx.DecodeSimulateAnswer(answer.Value)
	require.NoError(t, err)
	require.Equal(t, gas, said)
	f.Pass(1)
	require.Equal(t, before, f.Root(), "it changes nothing")

	// What the state costs is paid for: with exactly that gas it goes, with less the
	// fee is lost and nothing is sent.
	limited := func(limit uint64) *types.ExecTxResult {
		b := f.Block(f.Sign(f.cleo, send(f.cleo, f.dora.Actor, 5), func(d *tx.Draft) { d.GasLimit = limit }))
		require.NotNil(t, b.Results[0])
		return b.Results[0]
	}
	exact := limited(gas)
	require.Zero(t, exact.Code, exact.Log)
	require.Equal(t, int64(gas), exact.GasUsed)
	dora := f.Balance(f.dora.Actor)
	short := limited(gas - 1)
	require.Equal(t, uint32(mman.ErrOutOfGas.Code), short.Code)
	require.Contains(t, short.Log, "simulating")
	require.Equal(t, int64(gas-1), short.GasUsed)
	require.Equal(t, dora, f.Balance(f.dora.Actor))
	nobodyYet := abcitest.NewActor(t, "new")
	f.Fail(mman.ErrFunds, f.cleo, send(f.cleo, nobodyYet, 5000*mman.MAN)...)
	made := f.Do(f.cleo, send(f.cleo, nobodyYet, 5)...)
	require.GreaterOrEqual(t, made.GasUsed-exact.GasUsed, int64(table.Read+2*table.Write), "an account that is new costs its number")

	answer = simulate(abcitest.Unsent(f.Chain).Sign(f.cleo, send(f.cleo, f.dora.Actor, 5000*mman.MAN)))
	require.Equal(t, uint32(mman.ErrFunds.Code), answer.Code, answer.Log)
	nobody := abcitest.NewActor(t, "nobody")
	answer = simulate(abcitest.Unsent(f.Chain).Sign(nobody, send(nobody, f.cleo, 5)))
	require.Equal(t, uint32(mman.ErrNotFound.Code), answer.Code, answer.Log)
}

func TestMultiSend(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(1)
	m := tx.MsgMultiSend{From: f.cleo.Address}
	for range 300 {
		m.Outputs = append(m.Outputs, tx.Output{To: f.dora.Address, Amount: 2}, tx.Output{To: f.paul.Address, Amount: 1})
	}
	dora, paul, cleo := f.Balance(f.dora.Actor), f.Balance(f.paul.Actor), f.Balance(f.cleo)
	result := f.Do(f.cleo, m)
	fee, ok := abcitest.Attribute(result.Events, "tx", "fee")
	require.True(t, ok)
	paid, err := mman.ParseAmount(fee)
	require.NoError(t, err)
	require.Equal(t, dora+600, f.Balance(f.dora.Actor))
	require.Equal(t, paul+300, f.Balance(f.paul.Actor))
	require.Equal(t, cleo-900-paid, f.Balance(f.cleo))
	spent, ok := abcitest.Attribute(result.Events, "coin_spent", "amount")
	require.True(t, ok)
	require.Equal(t, "900uman", spent)

	f.Fail(mman.ErrFunds, f.cleo, tx.MsgMultiSend{From: f.cleo.Address, Outputs: []tx.Output{{To: f.dora.Address, Amount: 1}, {To: f.paul.Address, Amount: 5000 * mman.MAN}}})
	f.Fail(mman.ErrInvalid, f.cleo, tx.MsgMultiSend{From: f.cleo.Address, Outputs: []tx.Output{{To: f.dora.Address, Amount: 1}, {Amount: 1}}})
	require.Equal(t, dora+600, f.Balance(f.dora.Actor), "all or nothing")
	f.Replay(nil)
}
