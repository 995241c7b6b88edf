package client

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/decision"
)

// maxListed is how much a list shows unless --limit says otherwise, mostListed
// the most that it may say.
const (
	maxListed  = 100
	mostListed = 10_000
)

func (a *app) lease() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "lease", Short: "List, show and close leases; what policies decided while they ran",
		Example: "  mman lease list\n  mman lease close 4f0c…",
	}, a.leaseList(), a.leaseShow(), a.leaseDecisions(), a.leaseClose())
}

// leaseAnswer is a lease as the ledger has it, with what this home signed.
type leaseAnswer struct {
	market.Lease

	// Signed is what this home's receipts authorised, settled or not; absent
	// when the lease was not opened from here.
	Signed *mman.Amount `json:"signed_uman,omitempty"`
}

func (a *app) leaseList() *cobra.Command {
	limit, all := maxListed, false
	cmd := &cobra.Command{
		Use: "list [ADDR]", Short: "List the leases in which an account takes part",
		Example: "  mman lease list --all",
		Args:    console.Args(0, 1, "ADDR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkLimit(limit); err != nil {
				return err
			}
			address, err := a.whose(args)
			if err != nil {
				return err
			}
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			leases, err := c.Chain().Leases(cmd.Context(), address, limit)
			if err != nil {
				return err
			}
			answer := struct {
				Leases []market.Lease `json:"leases"`
			}{[]market.Lease{}}
			var rows [][]string
			for _, l := range leases {
				if l.State == market.LeaseClosed && !all {
					continue
				}
				answer.Leases = append(answer.Leases, l)
				rows = append(rows, []string{l.ID.String(), string(l.State), l.Compute().Provider.String(), l.Cap.String(), l.Paid.String(), strconv.FormatUint(l.Expires, 10)})
			}
			if len(rows) == 0 {
				return a.answer(answer, "No lease of "+address.String()+" is open; --all shows closed ones.")
			}
			return a.answer(answer, table([]string{"LEASE", "STATE", "PROVIDER", "CAP", "SETTLED", "EXPIRES"}, rows)...)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", limit, "how many to look at")
	cmd.Flags().BoolVar(&all, "all", false, "closed ones too")
	return cmd
}

func checkLimit(n int) error {
	if n < 1 || n > mostListed {
		return console.Wrong("--limit %d is not between 1 and %d", n, mostListed)
	}
	return nil
}

// parseID reads the id of a lease or a request.
func parseID[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](word string) (id T, err error) {
	if err := P(&id).UnmarshalText([]byte(word)); err != nil {
		return id, console.Wrong("%w", err)
	}
	return id, nil
}

func (a *app) leaseShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a lease",
		Example: "  mman lease show 4f0c… -o json",
		Args:    console.Args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID[mman.LeaseID](args[0])
			if err != nil {
				return err
			}
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			l, err := c.Chain().Lease(cmd.Context(), id)
			if err != nil {
				return err
			}
			answer := leaseAnswer{Lease: l}
			own, err := c.Leases().Get(id)
			if err == nil {
				var paid mman.Amount
				if paid, err = own.Paid(); err == nil {
					answer.Signed = &paid
				}
			}
			if err != nil && !errors.Is(err, mman.ErrNotFound) {
				return err
			}
			lines := facts("lease", id.String(), "state", string(l.State), "consumer", l.Consumer.String(),
				"cap", l.Cap.String(), "settled", l.Paid.String(), "burned", l.Burned.String(), "refunded", l.Refunded.String(),
				"signed here", signed(answer.Signed), "expires", fmt.Sprintf("at height %d", l.Expires), "closes", fmt.Sprintf("at height %d", l.CloseAt))
			for i, leg := range l.Legs {
				lines = append(lines, fmt.Sprintf("leg %d: %s", i, console.Clean(legLine(leg))))
			}
			return a.answer(answer, lines...)
		},
	}
}

func signed(a *mman.Amount) string {
	if a == nil {
		return ""
	}
	return a.String()
}

func legLine(leg market.Leg) string {
	if leg.Supplied {
		return fmt.Sprintf("%s %s, brought by the consumer", leg.Role, leg.Resource)
	}
	return fmt.Sprintf("%s %s from %s, %s", leg.Role, leg.Resource, leg.Provider, leg.Price.String())
}

// decisionsAnswer is what a provider's policies decided on a lane.
type decisionsAnswer struct {
	Lease   mman.LeaseID     `json:"lease"`
	Lane    uint64           `json:"lane"`
	Head    decision.Head    `json:"head"`
	First   uint64           `json:"first"`
	Entries []decision.Entry `json:"entries"`
	Again   int              `json:"decided_again"`
}

func (a *app) leaseDecisions() *cobra.Command {
	var lane uint64
	one := int64(-1)
	cmd := &cobra.Command{
		Use: "decisions ID", Short: "Show and verify what the provider's policies decided while an own lease ran",
		Long: `Show and verify what the provider's policies decided while an own lease ran.

The provider keeps each decision in a log whose Merkle root is in every Statement.
This fetches the log, hashes it to the root that this home signed for last, and
decides again what it can. With --entry it fetches one entry and the proof that
it is in the log.`,
		Example: "  mman lease decisions 4f0c…\n  mman lease decisions 4f0c… --entry 3 -o json",
		Args:    console.Args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID[mman.LeaseID](args[0])
			if err != nil {
				return err
			}
			if lane >= market.MaxLanes {
				return console.Wrong("--lane %d is not between 0 and %d", lane, market.MaxLanes-1)
			}
			var index *uint64
			if one >= 0 {
				n := uint64(one)
				index = &n
			}
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			d, err := c.Decisions(cmd.Context(), id, lane, index)
			if err != nil {
				return err
			}
			answer := decisionsAnswer{id, lane, d.Head, d.First, append([]decision.Entry{}, d.Entries...), d.Again}
			if d.Head.Size == 0 {
				return a.answer(answer, fmt.Sprintf("Nothing was signed for on lane %d of lease %s.", lane, id))
			}
			var rows [][]string
			for i, e := range d.Entries {
				rows = append(rows, []string{strconv.FormatUint(d.First+uint64(i), 10), strconv.FormatUint(e.Run, 10), string(e.Event), strconv.FormatUint(e.Leg, 10), string(e.Effect), e.Rule, strconv.FormatUint(e.Height, 10)})
			}
			lines := table([]string{"ENTRY", "RUN", "EVENT", "LEG", "ANSWER", "RULE", "HEIGHT"}, rows)
			lines = append(lines, fmt.Sprintf("The log of %d entries has the root %s, which the provider signed; %d of %d shown were decided again here, alike.", d.Head.Size, d.Head.Root, d.Again, len(d.Entries)))
			return a.answer(answer, lines...)
		},
	}
	cmd.Flags().Uint64Var(&lane, "lane", lane, "which lane of the lease, 0 to 15")
	cmd.Flags().Int64Var(&one, "entry", one, "only this entry, with its proof; -1 for all")
	return cmd
}

// closeAnswer says whether a lease is closed, or when it will be.
type closeAnswer struct {
	Lease  mman.LeaseID `json:"lease"`
	Closed bool         `json:"closed"`
	// CloseAt is the height at which the rest of the escrow comes back when the
	// provider did not agree, 0 when it already has.
	CloseAt uint64 `json:"close_at"`
}

func (a *app) leaseClose() *cobra.Command {
	return &cobra.Command{
		Use: "close ID", Short: "Settle and close a lease; the rest of its escrow comes back",
		Long: `Settle and close a lease; the rest of its escrow comes back.

The provider settles what was signed and agrees, so that the rest comes back at
once. When it cannot be reached the lease is closed without it, and the rest
comes back after the time that the provider has to settle.`,
		Example: "  mman lease close 4f0c…",
		Args:    console.Args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID[mman.LeaseID](args[0])
			if err != nil {
				return err
			}
			return a.closeLease(cmd.Context(), id)
		},
	}
}

func (a *app) closeLease(ctx context.Context, id mman.LeaseID) error {
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // the result is in already
	l, err := c.Chain().Lease(ctx, id)
	if err != nil {
		return err
	}
	if l.State == market.LeaseClosed {
		return a.answer(closeAnswer{id, true, 0}, "lease "+id.String()+" is closed already")
	}
	waits, err := c.CloseLease(ctx, id)
	if err != nil {
		return err
	}
	line := "lease " + id.String() + " is settled and closed"
	if waits > 0 {
		line = fmt.Sprintf("lease %s closes at height %d: until then its providers can settle", id, waits)
	}
	return a.answer(closeAnswer{id, waits == 0, waits}, line)
}
