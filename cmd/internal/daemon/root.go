package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/client"
	"github.com/limboid/massive-man/cmd/internal/console"
)

// program is what all verbs share.
type program struct {
	streams console.Streams
	json    string // -o
	verbose bool
}

// Main runs the verb that args name, without the program's own name, and
// returns the exit code.
func Main(ctx context.Context, args []string, streams console.Streams) int {
	if len(args) > 0 && args[0] == clientVerb {
		return client.Main(ctx, args[1:], streams)
	}
	p := &program{streams: streams}
	root := p.start("mman-node", "Run a node of Massive MAN") //nolint:contextcheck // verbs take theirs from the command
	root.Long = `mman-node runs one node: it keeps the ledger, joins the peer-to-peer network
and, with --provide, lends this machine's resources.

Without a verb it starts with the home in ~/.mman-node, which it makes when it
is new: a local network with this node as its only validator.`
	root.Example = "  mman-node demo\n  mman-node devnet --home /tmp/net\n  mman-node --provide"
	root.PersistentFlags().StringVarP(&p.json, "output", "o", "text", "text or json")
	root.PersistentFlags().BoolVarP(&p.verbose, "verbose", "v", false, "log what developers want to know")
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 && !cmd.Flags().Changed(flagProvide) {
			return console.UnknownVerb(cmd, args[0])
		}
		return nil
	}
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return p.checkOutput() }
	root.AddCommand(p.start("start", "Run a node (the same as no verb)"), p.init(), p.join(), p.export(), p.light(), p.demo(), p.devnet(), p.status(), p.drain(), p.bench(), p.version(), p.compile()) //nolint:contextcheck // as above
	return console.Run(ctx, root, streams, args, p.asJSON)
}

func (p *program) asJSON() bool { return p.json == "json" }

func (p *program) checkOutput() error {
	if p.json != "text" && p.json != "json" {
		return console.Wrong("-o %.40q: use text or json", p.json)
	}
	return nil
}

func (p *program) logger() *slog.Logger {
	level := slog.LevelInfo
	if p.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(p.streams.Err, &slog.HandlerOptions{Level: level}))
}

// printf writes to standard output.
func (p *program) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.streams.Out, format, args...) // nowhere else to say it
}

// defaultHome returns ~/.mman-node.
func (p *program) defaultHome() (string, error) {
	if home := p.streams.Env("MMAN_HOME"); home != "" {
		return home, nil
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("%w: no home directory: name one with --home", mman.ErrHome)
	}
	return filepath.Join(dir, ".mman-node"), nil
}

// homeFlag adds --home, whose empty value means the default.
func homeFlag(cmd *cobra.Command, home *string) {
	cmd.Flags().StringVar(home, "home", "", "the node's folder (MMAN_HOME, default ~/.mman-node)")
}

func (p *program) resolveHome(home *string) error {
	if *home == "" {
		var err error
		if *home, err = p.defaultHome(); err != nil {
			return err
		}
	}
	abs, err := filepath.Abs(*home)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	*home = abs
	return nil
}

// clientVerb is the hidden verb under which this binary is mman.
const clientVerb = "client"
