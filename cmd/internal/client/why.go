package client

import (
	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market/match"
)

// whyAnswer is how a request stands and the latest decision on it.
type whyAnswer struct {
	Request  mman.RequestID  `json:"request"`
	State    match.Outcome   `json:"state"`
	Lease    *mman.LeaseID   `json:"lease,omitempty"`
	Explain  string          `json:"explain"`
	Decision *match.Decision `json:"decision,omitempty"`
}

func (a *app) why() *cobra.Command {
	return &cobra.Command{
		Use: "why ID", Short: "Say why a request was matched or not, rule by rule",
		Example: "  mman why 4f0c…  (the request's id, 40 hex digits)",
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
			w := whyAnswer{r.ID, r.State, r.Lease, "no block has looked at it yet", r.Decision}
			if r.Decision == nil {
				return a.answer(w, "Request "+id.String()+" is "+string(r.State)+": "+w.Explain+".")
			}
			w.Explain = r.Decision.Explain()
			lines := []string{console.Clean("Request " + id.String() + " is " + string(r.State) + ": " + w.Explain + ".")}
			return a.answer(w, lines...)
		},
	}
}
