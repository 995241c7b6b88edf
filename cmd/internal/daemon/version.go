package daemon

import (
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/limboid/massive-man/cmd/internal/console"
)

func (p *program) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which version this is", Args: console.Args(0, 0, ""),
		Example: "  mman-node version -o json",
		RunE: func(*cobra.Command, []string) error {
			v := "unknown"
			goVersion := ""
			if info, ok := debug.ReadBuildInfo(); ok {
				v, goVersion = info.Main.Version, info.GoVersion
			}
			if p.asJSON() {
				return console.JSON(p.streams.Out, map[string]string{"version": v, "go": goVersion})
			}
			p.printf("mman-node %s, %s\n", v, goVersion)
			return nil
		},
	}
}
