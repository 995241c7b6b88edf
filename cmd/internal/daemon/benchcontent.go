package daemon

import (
	"github.com/spf13/cobra"

	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/internal/bench"
)

func (p *program) benchContent() *cobra.Command {
	var o bench.ContentOptions
	cmd := &cobra.Command{
		Use: "content", Short: "Measure content: adding, finding, and moving a file between two processes", Args: console.Args(0, 0, ""),
		Long: `bench content adds a file of random bytes and many small ones, and moves the file
from one process to another over TCP and over QUIC: in bulk, by Bitswap through a
DagReader, with our settings and with its own, and as a raw stream. The receiver hashes what it
gets, stores it in a database on disk and syncs it within the time. It needs four times
the size of the file on the disk of --dir.

Where there is an ipfs in the PATH, or --kubo names one, a stock kubo fetches such a file
from another one for comparison; build one with
go -C internal/ipfs/kubo build -o /tmp/ipfs github.com/ipfs/kubo/cmd/ipfs

With --memory the file moves once, in bulk over TCP, and the memory of both processes
is told for each quarter of it; that needs twice its size. It fails when a side took
more than 1.25 times as much in the last quarter as in the first.`,
		Example: "  mman-node bench content -o json\n  mman-node bench content --size 67108864 --files 1000\n  mman-node bench content --size 10737418240 --memory",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.show(bench.Content(cmd.Context(), o))
		},
	}
	cmd.Flags().Uint64Var(&o.Bytes, "size", 1<<30, "bytes of the file, at least 1 MiB")
	cmd.Flags().StringVar(&o.Kubo, "kubo", "", "program ipfs to compare with (default the PATH's, if there is one)")
	cmd.Flags().IntVar(&o.Files, "files", 10_000, "files of 4 KiB to add")
	cmd.Flags().IntVar(&o.Finds, "finds", 50, "announcements to time")
	cmd.Flags().IntVar(&o.Rounds, "rounds", 3, "times that the file moves each way, of which the median counts")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "folder for files and databases, which are removed (default the system's for temporary files)")
	cmd.Flags().BoolVar(&o.Memory, "memory", false, "move the file once and tell the memory of both sides only")
	return cmd
}

// benchHold is the process of bench content that has the file.
func (p *program) benchHold() *cobra.Command {
	var o bench.ContentOptions
	cmd := &cobra.Command{
		Use: bench.VerbHold, Hidden: true, Args: console.Args(0, 0, ""), Short: "Hold a file for bench content",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.Hold(cmd.Context(), o, p.streams.In, p.streams.Out)
		},
	}
	cmd.Flags().Uint64Var(&o.Bytes, "size", 1<<30, "bytes of the file")
	cmd.Flags().IntVar(&o.Files, "files", 10_000, "files of 4 KiB to add")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "folder of the database")
	cmd.Flags().BoolVar(&o.Memory, "memory", false, "add the file only")
	return cmd
}

// benchFetch is the process of bench content that fetches the file.
func (p *program) benchFetch() *cobra.Command {
	var o bench.FetchOptions
	cmd := &cobra.Command{
		Use: bench.VerbFetch, Hidden: true, Args: console.Args(0, 0, ""), Short: "Fetch a file for bench content",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.Fetch(cmd.Context(), o, p.streams.Out)
		},
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "", "folder of the database")
	cmd.Flags().StringVar(&o.From, "from", "", "the holder's address")
	cmd.Flags().StringVar(&o.Root, "root", "", "the file's CID")
	cmd.Flags().StringVar(&o.How, "how", "", "bulk, bitswap, fetch, stock or raw")
	cmd.Flags().Uint64Var(&o.Bytes, "size", 1<<30, "bytes of the file")
	cmd.Flags().IntVar(&o.Sender, "sender", 0, "process of the holder")
	return cmd
}
