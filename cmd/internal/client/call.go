package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/endpoint/call"
	"github.com/limboid/massive-man/sdk"
	"github.com/limboid/massive-man/sdk/gateway"
)

// What a call may use unless flags say otherwise.
const (
	callWall   = 10 * time.Minute
	callBytes  = 256 << 20
	callsAhead = 8
	callListen = "127.0.0.1:0"
)

// tokenVariable is where a token of one's own is read from.
const tokenVariable = "MMAN_ENDPOINT_TOKEN"

// door is what the flags of request call say beside the terms.
type door struct {
	listen   string
	parallel int
	meter    bool
	command  []string
}

func (a *app) requestCall() *cobra.Command {
	std := sdk.DefaultWanted()
	w := work{max: money(std.Cap), limits: std.Limits, wall: callWall, discover: discoverIndex}
	w.limits.InputBytes, w.limits.OutputBytes = callBytes, callBytes
	d := door{listen: callListen, parallel: callsAhead}
	cmd := &cobra.Command{
		Use: "call ENDPOINT [flags] [-- COMMAND…]", Short: "Reach an API or a site at an address of this machine, and pay for each call",
		Long: `Reach an API or a site at an address of this machine, and pay for each call.

ENDPOINT is the CID of a resource of kind endpoint. A loopback address is opened that
speaks the endpoint's own API, so that unmodified programs work. It asks for a token,
which a client of OpenAI takes as its API key; MMAN_ENDPOINT_TOKEN sets one of your
own, and a browser brings it once as ?mman_token=. With a COMMAND that runs with
OPENAI_BASE_URL and OPENAI_API_KEY set, and the address closes when it ends;
otherwise it stays open until Ctrl-C.

Each call is a run of the lease: it is paid a window ahead, 2 % of --max, and what was
not used comes back at its end. When the lease cannot pay any more, calls are answered
with 402. Tokens are those that the answer's usage tells, where that is possible.`,
		Example: `  mman request call baf…
  mman request call baf… --max 0.5MAN -- node chat.mjs
  mman request call baf… -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			own := args
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				own, d.command = args[:n], args[n:]
			}
			return console.Args(1, 1, "ENDPOINT")(cmd, own)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			if d.parallel < 1 || d.parallel > market.MaxLanes {
				return console.Wrong("--parallel %d: a lease allows 1 to %d calls at once", d.parallel, market.MaxLanes)
			}
			return a.call(cmd.Context(), id, w, d)
		},
	}
	f := cmd.Flags()
	w.lease(f)
	w.reuse(f)
	f.DurationVar(&w.wall, "wall", w.wall, "the longest that a call may take")
	f.Var((*size)(&w.limits.InputBytes), "input-limit", "the most that a call may send")
	f.Var((*size)(&w.limits.OutputBytes), "output-limit", "the most that a call may be answered")
	f.StringVar(&w.discover, "discover", w.discover, "find offers in the chain's index, or through the dht")
	f.StringVar(&d.listen, "listen", d.listen, "address of this machine to listen on; port 0 takes a free one")
	f.IntVar(&d.parallel, "parallel", d.parallel, "how many calls go on at once, at most 16")
	f.BoolVar(&d.meter, "meter", false, "show on standard error what each call cost")
	return cmd
}

// doorAnswer is what scripts read of request call: at the start, and with a command at
// the end, when the sums are known.
type doorAnswer struct {
	URL      string       `json:"url"`
	Token    string       `json:"token,omitempty"`
	API      string       `json:"api"`
	Lease    mman.LeaseID `json:"lease"`
	Provider mman.Address `json:"provider"`
	// The rest is there at the end of a command.
	Calls    uint64           `json:"calls,omitempty"`
	Usage    *resources.Usage `json:"usage,omitempty"`
	Paid     mman.Amount      `json:"paid_uman,omitempty"`
	ExitCode int              `json:"exit_code,omitempty"`
}

// tally adds up calls.
type tally struct {
	mu    sync.Mutex
	calls uint64
	usage resources.Usage
	paid  mman.Amount
}

func (t *tally) add(c gateway.Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls++
	if sum, err := t.usage.Add(c.Usage); err == nil {
		t.usage = sum
	}
	if sum, err := t.paid.Add(c.Paid); err == nil {
		t.paid = sum
	}
}

// call does the whole of request call.
func (a *app) call(ctx context.Context, id mman.CID, w work, d door) (err error) {
	wanted, err := w.endpoint(id)
	if err != nil {
		return err
	}
	token, err := doorToken()
	if err != nil {
		return err
	}
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	_, lease, err := a.engage(ctx, c, wanted)
	if err != nil {
		return err
	}
	api, err := speaks(ctx, c, lease)
	if err != nil {
		return err
	}
	calls, err := c.Calls(lease, d.parallel)
	if err != nil {
		return err
	}
	defer func() {
		bye, stop := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer stop()
		err = errors.Join(err, a.leave(bye, c, calls, lease, w.settle))
	}()
	var sum tally
	g, err := gateway.New(ctx, gateway.Config{
		Listen: d.listen, Token: token, API: api, Run: calls.Do, Now: a.now,
		Done: func(one gateway.Call) {
			sum.add(one)
			if d.meter {
				a.shown(one)
			}
		},
	})
	if err != nil {
		return err
	}
	answer := doorAnswer{URL: "http://" + g.Addr(), Token: token, API: api, Lease: lease.Lease.ID, Provider: lease.Lease.Compute().Provider}
	life, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- g.Run(life) }()
	if len(d.command) == 0 {
		if err := a.opened(answer); err != nil {
			return err
		}
		err = <-served
		a.note("%d calls, paid %s", sum.calls, sum.paid)
		return err
	}
	failed := a.inside(ctx, d.command, answer)
	stop()
	if err := <-served; err != nil {
		return err
	}
	a.note("%d calls, paid %s", sum.calls, sum.paid)
	if a.output == formatJSON {
		answer.Token, answer.Calls, answer.Usage, answer.Paid = "", sum.calls, &sum.usage, sum.paid
		if exit, ok := errors.AsType[*exec.ExitError](failed); ok {
			answer.ExitCode = exit.ExitCode()
		}
		if err := console.JSON(a.streams.Out, answer); err != nil {
			return err
		}
		if failed != nil {
			return console.Said(failed)
		}
	}
	return failed
}

// speaks says what API the leased offer names.
func speaks(ctx context.Context, c *sdk.Client, lease *sdk.Lease) (string, error) {
	r, err := c.Chain().Offer(ctx, c.ChainID(), lease.Lease.Compute().Offer)
	if errors.Is(err, mman.ErrNotFound) || errors.Is(err, mman.ErrOfferGone) {
		return "http", nil // it was withdrawn since
	}
	if err != nil {
		return "", err
	}
	for _, at := range r.Offer.Attributes {
		if at.Key == "api" && at.Value == call.OpenAI {
			return call.OpenAI, nil
		}
	}
	return "http", nil
}

// doorToken is the caller's own token, or a new one.
func doorToken() (string, error) {
	if own := os.Getenv(tokenVariable); own != "" {
		if len(own) < 16 || strings.ContainsFunc(own, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`";\,`, r) }) {
			return "", console.Wrong("%s: at least 16 printable characters without spaces, quotes, commas, semicolons and backslashes are needed", tokenVariable)
		}
		return own, nil
	}
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	return "mman-" + hex.EncodeToString(b[:]), nil
}

// opened tells where the endpoint is reached.
func (a *app) opened(d doorAnswer) error {
	lines := []string{"open at " + d.URL + ", lease " + d.Lease.String()}
	if d.API == call.OpenAI {
		lines = append(lines, "OPENAI_BASE_URL="+d.URL+"/v1", "OPENAI_API_KEY="+d.Token)
	} else {
		lines = append(lines, "in a browser: "+d.URL+"/?"+gateway.TokenParam+"="+d.Token, "token "+d.Token)
	}
	return a.answer(d, append(lines, "Ctrl-C closes it.")...)
}

// inside runs the command with the endpoint in its environment.
func (a *app) inside(ctx context.Context, command []string, d doorAnswer) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // what the caller typed
	cmd.Env = append(os.Environ(), "OPENAI_BASE_URL="+d.URL+"/v1", "OPENAI_API_KEY="+d.Token, "MMAN_ENDPOINT_URL="+d.URL, tokenVariable+"="+d.Token)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.streams.In, a.streams.Out, a.streams.Err
	if a.output == formatJSON {
		cmd.Stdout = a.streams.Err // standard output is for facts
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = farewell
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return fmt.Errorf("%w: %s: %w", mman.ErrGuestExit, command[0], exit)
	default:
		return fmt.Errorf("%w: %s: %w", mman.ErrNotFound, command[0], err)
	}
}

// shown is a line for one call.
func (a *app) shown(c gateway.Call) {
	tokens := ""
	if c.Usage.Tokens > 0 {
		tokens = fmt.Sprintf(", %d tokens", c.Usage.Tokens)
		if !c.Told {
			tokens += " as counted"
		}
	}
	line := fmt.Sprintf("%s %s: %d%s, %s", c.Method, c.Path, c.Status, tokens, c.Paid)
	if c.Err != nil {
		line += ": " + c.Err.Error()
	}
	_, _ = fmt.Fprintln(a.streams.Err, "mman: "+console.Clean(line)) // only a courtesy
}

// leave ends the calls, and the lease when that is asked for.
func (a *app) leave(ctx context.Context, c *sdk.Client, calls *sdk.Calls, lease *sdk.Lease, settle bool) error {
	if err := calls.Close(ctx); err != nil && a.verbose {
		_, _ = fmt.Fprintf(a.streams.Err, "a session did not end cleanly: %v\n", err) // every call is paid
	}
	if !settle {
		return nil
	}
	if _, err := c.CloseLease(ctx, lease.Lease.ID); err != nil {
		return fmt.Errorf("all calls are paid, but the lease is still open; try: mman lease close %s: %w", lease.Lease.ID, err)
	}
	return nil
}
