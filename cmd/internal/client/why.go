package client

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market/match"
)

// whyAnswer is how a request stands and the latest decision on it.
type whyAnswer struct {
	Request mman.RequestID `json:"request"`
	State   match.Outcome  `json:"state"`
	Lease   *mman.LeaseID  `json:"lease,omitempty"`
	// Explain is all sentences in one, Sentences are them one by one.
	Explain   string          `json:"explain"`
	Sentences []string        `json:"sentences"`
	Decision  *match.Decision `json:"decision,omitempty"`
	// Replayed is how many offers were decided upon again, with --replay.
	Replayed *int `json:"replayed,omitempty"`
}

func (a *app) why() *cobra.Command {
	replay := false
	cmd := &cobra.Command{
		Use: "why ID", Short: "Say why a request was matched or not, rule by rule",
		Long: `Say why a request was matched or not, rule by rule.

With --replay the offers that the ledger looked at are fetched by their CIDs and
decided upon again here; the result must equal the ledger's record byte for byte,
or mman exits 1.`,
		Example: "  mman why 4f0c…  (the request's id, 40 hex digits)\n  mman why --replay 4f0c…",
		Args:    console.Args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var id mman.RequestID
			if err := id.UnmarshalText([]byte(args[0])); err != nil {
				return console.Wrong("%w", err)
			}
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			r, err := c.Chain().Request(cmd.Context(), id)
			if err != nil {
				return err
			}
			w := whyAnswer{Request: r.ID, State: r.State, Lease: r.Lease, Decision: r.Decision}
			if w.Sentences, err = c.Why(cmd.Context(), r); err != nil {
				return err
			}
			w.Explain = strings.Join(w.Sentences, " ")
			lines := []string{"Request " + id.String() + " is " + string(r.State) + "."}
			for _, s := range w.Sentences {
				lines = append(lines, console.Clean(s))
			}
			if replay {
				n, err := c.Replay(cmd.Context(), r)
				if err != nil {
					return err
				}
				w.Replayed = &n
				lines = append(lines, fmt.Sprintf("Decided again here upon %d offers: the record is the same, byte for byte.", n))
			}
			return a.answer(w, lines...)
		},
	}
	cmd.Flags().BoolVar(&replay, "replay", false, "fetch the offers, decide again and compare")
	return cmd
}
