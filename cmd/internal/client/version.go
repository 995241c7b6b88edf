package client

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/limboid/massive-man/cmd/internal/console"
)

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show which version this is",
		Example: "  mman version -o json",
		Args:    console.Args(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			b := console.Version("mman")
			return a.answer(b, fmt.Sprintf("%s %s %s %s", b.Program, b.Version, b.Commit, b.Go))
		},
	}
}
