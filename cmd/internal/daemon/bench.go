package daemon

import (
	"github.com/spf13/cobra"

	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/internal/bench"
)

func (p *program) bench() *cobra.Command {
	var o bench.RequestOptions
	request := &cobra.Command{
		Use: "request", Short: "Measure requests: on a new lease, on an open one, and how many a second", Args: console.Args(0, 0, ""),
		Long: `bench request runs a validator that lends compute as one process and is the
consumer itself. Every run is beside the same module run locally in the same
minute; every receipt is signed, verified and persisted on both sides, and settled
on the chain at the end.`,
		Example: "  mman-node bench request -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := bench.Request(cmd.Context(), o)
			if err != nil {
				return err
			}
			if p.asJSON() {
				return console.JSON(p.streams.Out, report)
			}
			p.printf("%s", report)
			return nil
		},
	}
	request.Flags().IntVar(&o.Leases, "leases", 30, "new leases to time")
	request.Flags().IntVar(&o.Runs, "runs", 2000, "runs on an open lease to time, and again to count by the second")
	request.Flags().IntVar(&o.Sessions, "sessions", 4, "sessions at one time when counting by the second")
	cmd := &cobra.Command{Use: "bench", Short: "Measure what this machine reaches", Example: "  mman-node bench request -o json"}
	return console.Group(cmd, request, p.benchMatch())
}

func (p *program) benchMatch() *cobra.Command {
	o := bench.MatchOptions{}
	cmd := &cobra.Command{
		Use: "match", Short: "Measure matching: requests over thousands and millions of offers", Args: console.Args(0, 0, ""),
		Long: `bench match puts offers of one class on a ledger without consensus, closes and
opens its database, and makes requests whose offer stands at rank 1000 of the
prices behind offers that deny, at each number of offers in --offers. A million
offers take some minutes to set up and about 5 GiB of memory.`,
		Example: "  mman-node bench match -o json\n  mman-node bench match --offers 1000,100000",
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := bench.Match(cmd.Context(), o)
			if err != nil {
				return err
			}
			if p.asJSON() {
				return console.JSON(p.streams.Out, report)
			}
			p.printf("%s", report)
			return nil
		},
	}
	cmd.Flags().IntSliceVar(&o.Offers, "offers", []int{1000, 100_000, 1_000_000}, "numbers of open offers, ascending")
	cmd.Flags().IntVar(&o.Requests, "requests", 256, "requests that are made at once")
	cmd.Flags().IntVar(&o.Receipts, "receipts", 20_000, "receipts to verify")
	return cmd
}
