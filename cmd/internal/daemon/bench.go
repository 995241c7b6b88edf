package daemon

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/internal/bench"
)

func (p *program) bench() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure what this machine reaches", Example: "  mman-node bench request -o json"}
	return console.Group(cmd, p.benchRequest(), p.benchWASM(), p.benchMatch(), p.benchChain(), p.benchContent(), p.benchREPL(), p.benchEnv(), p.benchHold(), p.benchFetch(), p.benchStorage())
}

// show prints a report, and then what is wrong with its figures.
func (p *program) show(report *bench.Report, err error) error {
	if report == nil {
		return err
	}
	if !p.asJSON() {
		p.printf("%s", report)
		return err
	}
	if failed := console.JSON(p.streams.Out, report); failed != nil || err == nil {
		return failed
	}
	return console.Said(err)
}

// progress says on a terminal what is being done, one line after another; nil where
// nobody looks.
func (p *program) progress() func(string) {
	if !console.Terminal(p.streams.Err) {
		return nil
	}
	return func(doing string) { _, _ = fmt.Fprintln(p.streams.Err, doing) } // a figure is worth more than its progress
}

func (p *program) benchRequest() *cobra.Command {
	var o bench.RequestOptions
	request := &cobra.Command{
		Use: "request", Short: "Measure requests: on a new lease, on an open one, and how many a second", Args: console.Args(0, 0, ""),
		Long: `bench request runs a validator that lends compute as one process and is the
consumer itself. Every run is beside the same module run locally in the same
minute; every receipt is signed, verified and persisted on both sides, and settled
on the chain at the end. What memory the node has without mapped files is told for
each quarter of --steady more runs; it does not grow with their number.`,
		Example: "  mman-node bench request -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = p.progress()
			return p.show(bench.Request(cmd.Context(), o))
		},
	}
	request.Flags().IntVar(&o.Leases, "leases", 30, "new leases to time")
	request.Flags().IntVar(&o.Runs, "runs", 2000, "runs on an open lease to time, and again to count by the second")
	request.Flags().IntVar(&o.Sessions, "sessions", 4, "sessions at one time when counting by the second")
	request.Flags().IntVar(&o.Steady, "steady", 20_000, "runs after that over the sessions, while the node's memory is watched")
	return request
}

func (p *program) benchMatch() *cobra.Command {
	o := bench.MatchOptions{}
	cmd := &cobra.Command{
		Use: "match", Short: "Measure matching: requests over thousands and millions of offers", Args: console.Args(0, 0, ""),
		Long: `bench match puts offers of one class on a ledger without consensus, closes and
opens its database, and makes requests whose offer stands at rank 1000 of the
prices behind offers that deny, at each number of offers in --offers. A million
offers take some minutes to set up and 5 GiB of memory; with more it goes faster.`,
		Example: "  mman-node bench match -o json\n  mman-node bench match --offers 1000,100000",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = p.progress()
			return p.show(bench.Match(cmd.Context(), o))
		},
	}
	cmd.Flags().IntSliceVar(&o.Offers, "offers", []int{1000, 100_000, 1_000_000}, "numbers of open offers, ascending")
	cmd.Flags().IntVar(&o.Requests, "requests", 256, "requests that are made at once")
	cmd.Flags().IntVar(&o.Receipts, "receipts", 20_000, "receipts to verify")
	return cmd
}

func (p *program) benchStorage() *cobra.Command {
	var o bench.StorageOptions
	cmd := &cobra.Command{
		Use: "storage", Short: "Measure storage leases: what proofs, empty blocks and losses cost the ledger", Args: console.Args(0, 0, ""),
		Long: `bench storage puts so many storage leases on a ledger without consensus and lets an
epoch of a public network pass: all providers but one of a hundred prove what they
have, in signed transactions of 32 proofs, and what is not proved is lost and given to
others. A hundred thousand leases of two replicas take some four minutes of processor
time and 2 GiB of memory. Figures are beside those of the first number of --leases.`,
		Example: "  mman-node bench storage -o json\n  mman-node bench storage --leases 1000,10000 --replicas 2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = p.progress()
			return p.show(bench.Storage(cmd.Context(), o))
		},
	}
	cmd.Flags().IntSliceVar(&o.Leases, "leases", []int{1000, 100_000}, "numbers of live leases, ascending")
	cmd.Flags().IntVar(&o.Replicas, "replicas", 3, "replicas of each lease, 2 to 8")
	cmd.Flags().Uint64Var(&o.Bytes, "bytes", 1<<30, "bytes of each replica")
	return cmd
}

func (p *program) benchWASM() *cobra.Command {
	var o bench.WASMOptions
	cmd := &cobra.Command{
		Use: "wasm", Short: "Measure WebAssembly: what metering costs, starts, runs and stops", Args: console.Args(0, 0, ""),
		Long: `bench wasm runs eight programs metered, as they were written, and compiled for this
processor, in turns on one thread, and compares their processor time. Then it
measures the executor: a first and a second start, how many trivial runs a second,
and how long after its deadline a guest stops that computes in silence.

It takes about seven minutes; with --guest-time 50ms --pairs 3 some seconds.`,
		Example: "  mman-node bench wasm -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Compile = compileApart()
			return p.show(bench.WASM(cmd.Context(), o))
		},
	}
	cmd.Flags().DurationVar(&o.GuestTime, "guest-time", time.Second, "how long each form of a program runs in each comparison, 1ms to 1m")
	cmd.Flags().IntVar(&o.Pairs, "pairs", 7, "comparisons of each program, of which the median counts, 1 to 99")
	cmd.Flags().IntVar(&o.Runs, "runs", 5000, "trivial runs to count, and a tenth of them to stop, 1 to 1000000")
	return cmd
}

func (p *program) benchChain() *cobra.Command {
	var o bench.ChainOptions
	cmd := &cobra.Command{
		Use: "chain", Short: "Measure the ledger: signed transfers a second, and how long one takes", Args: console.Args(0, 0, ""),
		Long: `bench chain runs one and four validators in this process over real sockets and
floods them with signed transfers, in turns with a reference application that
verifies the same signatures and keeps no state. With --crowd it measures a ledger
with so many accounts more.`,
		Example: "  mman-node bench chain -o json\n  mman-node bench chain --crowd 0 --rounds 1",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = func(line string) { _, _ = fmt.Fprintln(p.streams.Err, line) } // figures matter more
			report, err := bench.Chain(cmd.Context(), o)
			if errors.Is(err, bench.ErrOptions) {
				return console.Wrong("%w", err)
			}
			return p.show(report, err)
		},
	}
	cmd.Flags().IntVar(&o.Accounts, "accounts", 10_000, "accounts that send, 100 to 60000")
	cmd.Flags().IntVar(&o.Crowd, "crowd", 1_000_000, "accounts more that send and receive, in a run of its own; 0 for none")
	cmd.Flags().IntVar(&o.Transfers, "transfers", 40_000, "transfers in each run")
	cmd.Flags().IntVar(&o.Rounds, "rounds", 3, "runs of each setting, of which the median counts")
	return cmd
}

func (p *program) benchREPL() *cobra.Command {
	var o bench.REPLOptions
	cmd := &cobra.Command{
		Use: "repl", Short: "Measure conversations: round trips, first prompts, many at once, a cut", Args: console.Args(0, 0, ""),
		Long: `bench repl runs a validator that lends a shell in containers as one process and is
the consumer itself. Round trips and starts are in turns with the engine's own, with
nothing between. Then many conversations live at once, and one goes on without a
network for a while.`,
		Example: "  mman-node bench repl --engine unix:///var/run/docker.sock -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.show(bench.REPL(cmd.Context(), o))
		},
	}
	cmd.Flags().StringVar(&o.Engine, "engine", "unix:///var/run/docker.sock", "container engine")
	cmd.Flags().StringVar(&o.Shell, "shell", "/bin/busybox", "static program that is a shell when called with sh")
	cmd.Flags().IntVar(&o.Trips, "trips", 500, "lines to time")
	cmd.Flags().IntVar(&o.Starts, "starts", 10, "first prompts of each kind to time")
	cmd.Flags().IntVar(&o.Sessions, "sessions", 50, "conversations at once, 1 to 64")
	cmd.Flags().DurationVar(&o.Cut, "cut", 30*time.Second, "how long the consumer is off the network; 0 for not at all, up to 1m")
	return cmd
}

func (p *program) benchEnv() *cobra.Command {
	var o bench.EnvOptions
	cmd := &cobra.Command{
		Use: "env", Short: "Measure environments: steps a second, in batches, each paid", Args: console.Args(0, 0, ""),
		Long: `bench env runs a validator that lends compute by the step as one process and is the
consumer itself. CartPole-v1 is stepped there in batches of different sizes, in turns
with the same module in the same executor here.`,
		Example: "  mman-node bench env -o json\n  mman-node bench env --batches 1,256 --calls 1000",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = p.progress()
			return p.show(bench.Env(cmd.Context(), o))
		},
	}
	cmd.Flags().IntSliceVar(&o.Batches, "batches", []int{1, 64, 1024}, "environments that are stepped at once")
	cmd.Flags().IntVar(&o.Calls, "calls", 300, "how often a batch is stepped in a round")
	cmd.Flags().IntVar(&o.Rounds, "rounds", 5, "rounds of each size, of which the median counts")
	return cmd
}
