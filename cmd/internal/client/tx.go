package client

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/sdk/chain"
)

// txAnswer is a transaction that is in a block.
type txAnswer struct {
	Tx      mman.Hash        `json:"tx"`
	Height  uint64           `json:"height"`
	OK      bool             `json:"ok"`
	Error   *console.Problem `json:"failed,omitempty"`
	Signer  mman.Address     `json:"signer"`
	Fee     mman.Amount      `json:"fee_uman"`
	GasUsed uint64           `json:"gas_used"`
	Msgs    []string         `json:"msgs"`
	Memo    string           `json:"memo,omitempty"`
	Events  []chain.Event    `json:"events"`
}

func (a *app) tx() *cobra.Command {
	return &cobra.Command{
		Use: "tx HASH", Short: "Show a transaction that is in a block",
		Example: "  mman tx 8f3a… -o json",
		Args:    console.Args(1, 1, "HASH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var hash mman.Hash
			if err := hash.UnmarshalText([]byte(strings.ToLower(strings.TrimPrefix(args[0], "0x")))); err != nil {
				return console.Wrong("%w", err)
			}
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			r, err := c.Chain().Tx(cmd.Context(), hash)
			if err != nil {
				return err
			}
			t, err := describe(r)
			if err != nil {
				return err
			}
			outcome := "done"
			if t.Error != nil {
				outcome = "failed: " + t.Error.Text
			}
			return a.answer(t, facts("transaction", t.Tx.String(), "outcome", outcome, "height", strconv.FormatUint(t.Height, 10),
				"signer", t.Signer.String(), "messages", strings.Join(t.Msgs, ", "), "fee", t.Fee.String(), "memo", t.Memo)...)
		},
	}
}

// describe reads the transaction that the node hands out, which must be the one
// that was asked for.
func describe(r chain.TxResult) (txAnswer, error) {
	t, err := tx.Decode(r.Raw)
	if err != nil {
		return txAnswer{}, err
	}
	if t.Hash() != r.Hash {
		return txAnswer{}, fmt.Errorf("%w: the node answers with transaction %s for %s; use another with --node", mman.ErrContent, t.Hash(), r.Hash)
	}
	msgs, err := t.Msgs()
	if err != nil {
		return txAnswer{}, err
	}
	answer := txAnswer{
		Tx: r.Hash, Height: r.Height, OK: r.Err == nil, Signer: t.Signer.Address(), Fee: r.Fee, GasUsed: r.GasUsed,
		Memo: t.Memo, Events: append([]chain.Event{}, r.Events...),
	}
	if r.Err != nil {
		answer.Error = console.NewProblem(r.Err)
	}
	for _, m := range msgs {
		answer.Msgs = append(answer.Msgs, m.TypeURL())
	}
	return answer, nil
}
