package daemon

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources/wasm"
)

const verbCompile = "compile-wasm"

// compile is what compileApart starts.
func (p *program) compile() *cobra.Command {
	return &cobra.Command{
		Use: verbCompile + " FOLDER", Hidden: true, Args: console.Args(1, 1, "FOLDER"),
		Short:   "Compile a metered WASM module from standard input into a folder",
		Example: "  mman-node " + verbCompile + " FOLDER < metered.wasm",
		RunE: func(cmd *cobra.Command, args []string) error {
			return wasm.CompileInto(cmd.Context(), args[0], p.streams.In)
		},
	}
}

// compileApart returns what compiles a module in a process of this program's, which
// gets nothing of this one but the module; nil if the program cannot be found.
func compileApart() func(ctx context.Context, folder string, module []byte) error {
	program, err := os.Executable()
	if err != nil {
		return nil
	}
	return func(ctx context.Context, folder string, module []byte) error {
		cmd := exec.CommandContext(ctx, program, verbCompile, folder) //nolint:gosec // this program itself
		cmd.Stdin, cmd.Env = bytes.NewReader(module), []string{"GOGC=200"}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: the compiler's process: %w: %.500s", mman.ErrModule, err, out)
		}
		return nil
	}
}
