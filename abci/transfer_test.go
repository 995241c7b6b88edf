package abci_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
)

func TestTransfer(t *testing.T) {
	t.Parallel()
	alice, bob, carol := abcitest.NewActor(t, "alice"), abcitest.NewActor(t, "bob"), abcitest.NewWallet(t, "carol")
	c := abcitest.New(t, abcitest.Genesis(t, 100*mman.MAN, alice, bob))
	result := c.Do(alice, tx.MsgSend{From: alice.Address, To: carol.Address, Amount: 10 * mman.MAN})
	require.Equal(t, 10*mman.MAN, c.Balance(carol))
	fee, ok := abcitest.Attribute(result.Events, "tx", "fee")
	require.True(t, ok)
	paid, err := mman.ParseAmount(fee)
	require.NoError(t, err)
	require.Equal(t, 90*mman.MAN-paid, c.Balance(alice))
	to, ok := abcitest.Attribute(result.Events, "transfer", "recipient")
	require.True(t, ok)
	require.Equal(t, carol.Address.String(), to)
	require.NotEmpty(t, result.Data)

	c.Do(carol, tx.MsgSend{From: carol.Address, To: bob.Address, Amount: mman.MAN})
	require.Equal(t, 101*mman.MAN, c.Balance(bob))
	c.Fail(mman.ErrFunds, carol, tx.MsgSend{From: carol.Address, To: bob.Address, Amount: 50 * mman.MAN})

	root := c.Root()
	c.Pass(3)
	require.Equal(t, root, c.Root(), "a quiet block changes nothing")
	c.Restart()
	c.Do(bob, tx.MsgSend{From: bob.Address, To: alice.Address, Amount: mman.MAN})
	c.Replay(nil)
}
