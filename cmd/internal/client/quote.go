package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/sdk"
)

func (a *app) quote() *cobra.Command {
	std := sdk.DefaultWanted()
	w := work{
		discover: discoverIndex, max: money(std.Cap), limits: std.Limits,
		wall: time.Duration(std.Limits.WallMs) * time.Millisecond, //nolint:gosec // a minute
	}
	cmd := &cobra.Command{
		Use: "quote ALGORITHM [flags]", Short: "Say what a request would cost and who would serve it",
		Long: `Say what a request would cost and who would serve it. No key is needed and
nothing is signed: the offers of the chain's index are decided upon here, as the
ledger would. With an own key, or --from, what is shared with that account counts.

It exits 3 when nobody would serve the request, and names the smallest single
change after which somebody would.`,
		Example: "  mman quote wordcount.wasm\n  mman quote baf… --data baf… --max 0.5MAN -o json",
		Args:    console.Args(1, 1, "ALGORITHM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted, err := w.wanted(args[0])
			if err != nil {
				return err
			}
			consumer, err := a.perhaps()
			if err != nil {
				return err
			}
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			q, err := c.Quote(cmd.Context(), wanted, consumer)
			if err != nil {
				return err
			}
			lines := []string{fmt.Sprintf("It costs at most %s, which is held in escrow.", q.Cap)}
			if q.Eligible > 0 {
				lines = append(lines, fmt.Sprintf("A run at its limits costs %s to %s, %s of that before it begins; %d offers of compute would do.", q.From, q.To, q.Fixed, q.Eligible))
				for _, p := range q.Payments {
					if !p.Royalty.IsZero() {
						lines = append(lines, fmt.Sprintf("Of %s, %s is a royalty to %s for %s.", q.From, p.Amount, p.To, p.Royalty))
					}
				}
			} else {
				lines = append(lines, "Nobody would serve it now.")
			}
			for _, s := range q.Blockers {
				lines = append(lines, console.Clean(s))
			}
			if q.Change != "" {
				lines = append(lines, console.Clean("With one change somebody would: "+q.Change))
			}
			if err := a.answer(q, lines...); err != nil || q.Eligible > 0 {
				return err
			}
			return console.Said(fmt.Errorf("%w: nobody would serve the request", mman.ErrPolicy))
		},
	}
	w.terms(cmd.Flags())
	return cmd
}

// perhaps returns the account that acts, zero when there is none.
func (a *app) perhaps() (mman.Address, error) {
	ring, err := a.keyring(false)
	if err != nil {
		return mman.Address{}, err
	}
	info, err := a.own(ring)
	if a.from == "" && (errors.Is(err, mman.ErrNotFound) || err != nil && info.Address.IsZero()) {
		return mman.Address{}, nil
	}
	return info.Address, err
}
