package daemon

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/node/light"
	"github.com/limboid/massive-man/sdk/chain"
)

// week is how old a header may be that others are verified from.
const week = 7 * 24 * time.Hour

func (p *program) light() *cobra.Command {
	var cfg light.Config
	var trust string
	var watch bool
	cmd := &cobra.Command{
		Use: "light RPC...", Short: "Answer RPC on this machine with what is proved", Args: console.Args(1, mostBootstrap, "RPC..."),
		Long: `light is a proxy for who trusts no node. It believes one block, follows the
signatures of the validators from there, and answers CometBFT's RPC on loopback:
what the first RPC says is checked against the headers before it is passed on, and
the headers against the other RPCs. /store/<store>/key is proved, present or absent,
and so is what /mman/<noun>/<id> and wallets ask. Lists cannot be proved and are
refused, or with --unproved passed on and marked so.

The newest block of a node of your own is printed by
"mman-node status -o json" as "trust".`,
		Example: "  mman-node light http://one:26657 http://two:26657 --trust 81200:5f3c…\n  mman --node http://127.0.0.1:8888 account man1…",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := parseTrust(trust)
			if err != nil {
				return err
			}
			for _, rpc := range args {
				c, err := chain.New(rpc)
				if err != nil {
					return err
				}
				s.Servers = append(s.Servers, c.URL())
				c.Close()
			}
			cfg.Trust, cfg.Now, cfg.After, cfg.Logger = s, time.Now, time.After, p.logger()
			ctx, stop := context.WithCancel(cmd.Context())
			defer stop()
			if watch {
				go func() {
					_, _ = io.Copy(io.Discard, p.streams.In) // its end is all that matters
					stop()
				}()
			}
			proxy, err := light.New(ctx, cfg)
			if err != nil {
				return err
			}
			p.printf("light proxy is ready: rpc http://%s, from block %s on\n", proxy.Addr(), trust)
			return proxy.Run(ctx)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&trust, "trust", "", "HEIGHT:HASH of the block to believe (required)")
	flags.StringVar(&cfg.Listen, strings.TrimPrefix(light.FlagListen, "--"), "127.0.0.1:8888", "loopback address to answer on")
	flags.DurationVar(&cfg.Period, "trust-period", week, "how old the trusted block may be; less than unbonding takes")
	flags.BoolVar(&cfg.Unproved, "unproved", false, "pass on what cannot be proved, marked in \"info\"")
	flags.BoolVar(&watch, strings.TrimPrefix(localnet.FlagWatch, "--"), false, "end when standard input ends")
	flags.Lookup(strings.TrimPrefix(localnet.FlagWatch, "--")).Hidden = true
	return cmd
}
