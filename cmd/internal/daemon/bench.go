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
	return console.Group(cmd, request)
}
