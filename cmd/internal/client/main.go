package client

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
)

// Main runs the verb that args name, without the program's own name, and
// returns the exit code. It may be called more than once and concurrently.
func Main(ctx context.Context, args []string, streams console.Streams) int {
	a := &app{streams: streams, now: time.Now, after: time.After, stop: func() {}}
	defer func() { a.stop() }()
	return console.Run(ctx, a.root(), streams, args, func() bool { return a.output == formatJSON }) //nolint:contextcheck // verbs take theirs from the command
}

// The answers' formats.
const (
	formatText = "text"
	formatJSON = "json"
)

// app is one run of the program: its flags and its surroundings.
type app struct {
	streams console.Streams
	now     func() time.Time
	after   func(time.Duration) <-chan time.Time
	stop    context.CancelFunc // of --timeout

	home           string
	node           string
	peers          []string
	from           string
	output         string
	passphraseFile string
	verbose        bool
	timeout        time.Duration
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "mman",
		Short: "Lease algorithms, data and compute from their holders",
		Long: `mman finds what others offer, leases it, runs it and pays for it.

It needs no daemon. Keys, leases and config.yaml are in its home (--home,
MMAN_HOME, default ~/.mman). A flag takes its value from the command line, else
from MMAN_<NAME>, else from config.yaml, else its default.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by a policy or not
affordable, 4 not found or not reachable.`,
		Example: `  mman keys new me
  mman account
  mman search word count
  mman request run wordcount.wasm --input book.txt`,
		PersistentPreRunE: a.prepare,
	}
	f := root.PersistentFlags()
	f.StringVar(&a.home, "home", "", "folder of keys, leases and config.yaml (default ~/.mman)")
	f.StringVar(&a.node, "node", "", "RPC of any node (default the own one, else "+defaultNode+")")
	f.StringArrayVar(&a.peers, "peer", nil, "multiaddr at which to enter the peer-to-peer network; repeatable (default: asked from the chain)")
	f.StringVar(&a.from, "from", "", "key of the account that acts (default the only key)")
	f.StringVarP(&a.output, "output", "o", formatText, "text or json")
	f.StringVar(&a.passphraseFile, "passphrase-file", "", "file with the key's passphrase (default MMAN_PASSPHRASE, else a prompt)")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log to standard error")
	f.DurationVar(&a.timeout, "timeout", 0, "give up after this long, for example 30s (default: never)")
	return console.Group(root,
		a.keys(), a.account(), a.send(), a.stake(), a.search(), a.request(), a.image(), a.giveVerb(), a.takeVerb(), a.get(), a.car(), a.quote(), a.lease(), a.receipt(), a.rfp(), a.resource(), a.access(), a.offer(), a.push(), a.pull(), a.share(), a.unshare(), a.policy(),
		a.tx(), a.status(), a.why(), a.replay(), a.version())
}

// prepare gives the flags their values before any verb runs.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	var err error
	if a.home, err = console.Home(a.home, a.streams); err != nil {
		return err
	}
	program := console.Program{
		Flags:   []string{"node", "peer", "from", "output", "passphrase-file", "verbose", "timeout"},
		Aliases: map[string]string{"account": "from"},
		Others:  []string{"rpc", "p2p", "peers", "listen", "bootstrap", "api", "moniker", "no_index", "settle_blocks", "keep_blocks", "sync", "upgrades"},
	}
	if err := console.Configure(cmd, a.home, a.streams, program); err != nil {
		return err
	}
	if a.output != formatText && a.output != formatJSON {
		return console.Wrong("output format %.40q is not known: use -o text or -o json", a.output)
	}
	if a.timeout < 0 {
		return console.Wrong("--timeout %s is negative: use for example 30s", a.timeout)
	}
	if a.timeout > 0 {
		late := fmt.Errorf("%w after %s: raise --timeout or leave it out", mman.ErrTimeout, a.timeout)
		ctx, stop := context.WithTimeoutCause(cmd.Context(), a.timeout, late)
		a.stop = stop
		cmd.SetContext(ctx)
	}
	return nil
}
