package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

func (a *app) request() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "request", Short: "Ask for work and pay for it",
		Example: "  mman request run wordcount.wasm --input book.txt",
	}, append([]*cobra.Command{a.requestRun(), a.requestREPL(), a.requestCall(), a.requestData(), a.requestHost(), a.requestEnv(), a.requestRFP()}, a.storageVerbs()...)...)
}

// work is what the flags of request run say.
type work struct {
	data     []string
	input    string
	args     []string
	seed     seed
	max      money
	limits   resources.Limits
	wall     time.Duration
	blocks   uint64
	patience uint64
	looks    uint64
	wait     bool
	fresh    bool
	settle   bool
	discover string
	purpose  string
	network  bool
	where    string
	wheres   []string // of data
	accept   []string
	sandbox  string
	out      string
}

const (
	discoverIndex = "index"
	discoverDHT   = "dht"
	// farewell is how long a session may take to end after the work is over or
	// was canceled.
	farewell = 5 * time.Second
)

func (a *app) requestRun() *cobra.Command {
	std := sdk.DefaultWanted()
	w := work{max: money(std.Cap), limits: std.Limits, wall: time.Duration(std.Limits.WallMs) * time.Millisecond} //nolint:gosec // a minute
	cmd := &cobra.Command{
		Use: "run ALGORITHM [flags] [-- ARG…]", Short: "Run an algorithm on data where it is, and pay for it",
		Long: `Run an algorithm on data where it is, and pay for it.

ALGORITHM and --data are CIDs of resources that others offer, or files here. --data is
also a folder here, the CID of a file or folder that anybody gives, or a storage lease
of your own: these are fetched into the folder data of this home and supplied from there,
which go to the provider of the compute for this lease only. A file is a WASM
module, or a script: JavaScript in .js or .mjs, Python in .py. The algorithm sees
the i-th --data as /data/i, and --input on standard input.

An own open lease on the same terms is used again. The output is verified, then
written to standard output or --out; with -o json standard output holds facts
only, and the output goes to --out or nowhere. The facts' burned_uman is the part
of paid_uman that the ledger burns when the provider settles, at the rate in
force now, rounded up.

--seed feeds every source of randomness that the algorithm has: 64 hex digits
are taken as they are, a decimal number stands for the SHA-256 of its digits.
Without it the seed is all zeros: the same work gives the same output.

An algorithm that ends with an exit code other than 0 is a failed run: what it
used is paid, its standard error is shown, and mman exits 1.`,
		Example: `  mman request run wordcount.wasm --input book.txt
  mman request run baf… --data baf… --max 0.5MAN --out result.csv -o json
  mman request run stats.wasm --data people.csv -- --column age
  mman request run top.js --input book.txt`,
		Args: func(cmd *cobra.Command, args []string) error {
			own := args
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				own, w.args = args[:n], append(w.args, args[n:]...)
			}
			return console.Args(1, 1, "ALGORITHM")(cmd, own)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.run(cmd.Context(), args[0], w) },
	}
	f := cmd.Flags()
	w.flags(f)
	f.StringVar(&w.input, "input", "", "file for the algorithm's standard input, - for this program's own")
	f.StringVar(&w.out, "out", "", "file for the output, replaced only by a whole one (default standard output)")
	return cmd
}

// flags declares what all requests have; w holds the defaults.
func (w *work) flags(f *pflag.FlagSet) {
	w.terms(f)
	w.reuse(f)
	f.StringArrayVar(&w.args, "arg", nil, "argument of the algorithm; repeatable, or put them after --")
	f.Var(&w.seed, "seed", "randomness: a decimal number or 64 hex digits")
	f.BoolVar(&w.wait, "wait", false, "stay in the queue until --patience ends when nothing fits yet")
	f.StringVar(&w.discover, "discover", discoverIndex, "find offers in the chain's index, or through the dht")
}

// terms declares what is asked for, which a request and a quote share.
func (w *work) terms(f *pflag.FlagSet) {
	w.lease(f)
	f.StringArrayVar(&w.data, "data", nil, "data that the algorithm sees: a CID, a file, a folder or a storage lease; repeatable")
	f.DurationVar(&w.wall, "wall", w.wall, "the longest that a run may take")
	f.Var((*size)(&w.limits.MemoryBytes), "memory", "the most memory that a run may use")
	f.Uint64Var(&w.limits.Fuel, "fuel", w.limits.Fuel, "the most fuel that a run may use, in metered operators")
	f.Var((*size)(&w.limits.InputBytes), "input-limit", "the most that a run may read")
	f.Var((*size)(&w.limits.OutputBytes), "output-limit", "the most that a run may write")
	f.Uint64Var(&w.looks, "looks", 0, "how many offers the ledger may look at beyond "+strconv.Itoa(tx.IncludedLooks)+"; each costs a little gas")
	f.StringVar(&w.where, "where", "", "condition on the compute offer, for example offer.region.startsWith(\"eu\")")
	f.StringArrayVar(&w.wheres, "data-where", nil, "condition on the offer of a dataset that may be any, after those of --data; repeatable")
	f.StringVar(&w.sandbox, "sandbox", "", "what a container must run in: gvisor, or runc for the engine's own (default any)")
	f.BoolVar(&w.network, "network", false, "the work cannot do without a network; policies refuse it today")
}

// lease declares the terms of any lease.
func (w *work) lease(f *pflag.FlagSet) {
	std := sdk.DefaultWanted()
	f.Var(&w.max, "max", "the most that the lease may cost, for example 0.5MAN; held in escrow")
	f.Uint64Var(&w.blocks, "blocks", std.Blocks, "how many blocks the lease lasts")
	f.Uint64Var(&w.patience, "patience", std.Patience, "within how many blocks the request must be matched")
	f.StringVar(&w.purpose, "purpose", "", "what for, as policies may ask, for example research; a claim")
	f.StringArrayVar(&w.accept, "accept", nil, "obligation that you take on, for example no_training or delete_after=24h; repeatable")
}

// reuse declares what becomes of leases before and after a request.
func (w *work) reuse(f *pflag.FlagSet) {
	f.BoolVar(&w.fresh, "new-lease", false, "make a new lease even if an own open one would do")
	f.BoolVar(&w.settle, "close", false, "settle and close the lease at the end")
}

// endpoint checks what was typed for a lease of an endpoint, before anything is signed.
func (w *work) endpoint(id mman.CID) (sdk.Wanted, error) {
	return w.complete(sdk.Wanted{Cap: mman.Amount(w.max), Blocks: w.blocks, Patience: w.patience, Fresh: w.fresh, Endpoint: id})
}

// wanted checks what was typed, before anything is signed.
func (w *work) wanted(algorithm string) (sdk.Wanted, error) {
	d := sdk.Wanted{Cap: mman.Amount(w.max), Blocks: w.blocks, Patience: w.patience, Looks: w.looks, Fresh: w.fresh, Wait: w.wait}
	var err error
	if d.Algorithm, err = sdk.ParseContent(algorithm); err != nil {
		return d, err
	}
	if err := checkAlgorithm(d.Algorithm.File); err != nil {
		return d, err
	}
	for _, word := range w.data {
		c, err := sdk.ParseContent(word)
		if err != nil {
			return d, fmt.Errorf("--data: %w", err)
		}
		if err := readable(c.File); err != nil {
			return d, fmt.Errorf("--data: %w", err)
		}
		d.Data = append(d.Data, c)
	}
	for _, condition := range w.wheres {
		if _, err := policy.CompileWhere(condition); err != nil {
			return d, console.Wrong("--data-where: %w", err)
		}
		d.Data = append(d.Data, sdk.Content{Where: condition})
	}
	if len(d.Data) > maxData {
		return d, console.Wrong("--data and --data-where are given %d times, at most %d are possible", len(d.Data), maxData)
	}
	return w.complete(d)
}

// complete checks what does not depend on what is leased.
func (w *work) complete(d sdk.Wanted) (_ sdk.Wanted, err error) {
	if d.Discover, err = parseDiscover(w.discover); err != nil {
		return d, err
	}
	d.Purpose, d.Where, d.Network = w.purpose, w.where, w.network
	switch w.sandbox {
	case "":
	case resources.SandboxGVisor, resources.SandboxEngine:
		demand := fmt.Sprintf("%q in offer.attributes", "sandbox="+w.sandbox)
		if w.where != "" {
			demand = "(" + w.where + ") && " + demand
		}
		d.Where = demand
	default:
		return d, console.Wrong("--sandbox %.40q is not known: use gvisor or runc", w.sandbox)
	}
	if d.Where != "" {
		if _, err := policy.CompileWhere(d.Where); err != nil {
			return d, console.Wrong("--where: %w", err)
		}
	}
	for _, word := range w.accept {
		o, err := policy.ParseObligation(word)
		if err != nil {
			return d, console.Wrong("--accept: %w", err)
		}
		d.Accepts = append(d.Accepts, o)
	}
	switch {
	case w.wall <= 0:
		return d, console.Wrong("--wall %s is no time to run: use for example 30s", w.wall)
	case w.max == 0:
		return d, console.Wrong("--max 0MAN pays for nothing: use for example 0.5MAN")
	case w.looks > tx.MaxLooks:
		return d, console.Wrong("--looks %d, at most %d can be paid for", w.looks, tx.MaxLooks)
	case w.blocks == 0 || w.patience == 0:
		return d, console.Wrong("--blocks and --patience must be at least 1")
	}
	w.limits.WallMs = uint64(w.wall.Milliseconds()) //nolint:gosec // it is positive
	if err := w.limits.Validate(); err != nil {
		return d, console.Wrong("limits of the run: %w", err)
	}
	if err := resources.ValidArgs(w.args); err != nil {
		return d, console.Wrong("--arg: %w", err)
	}
	d.Limits = w.limits
	return d, nil
}

// maxData is how many data legs a request can have.
const maxData = 8

func parseDiscover(word string) (dht bool, err error) {
	switch word {
	case discoverIndex:
		return false, nil
	case discoverDHT:
		return true, nil
	default:
		return false, console.Wrong("--discover %.40q is not known: use index or dht", word)
	}
}

// runAnswer is a run as scripts read it.
type runAnswer struct {
	Request  mman.RequestID  `json:"request"`
	Lease    mman.LeaseID    `json:"lease"`
	Provider mman.Address    `json:"provider"`
	Result   runResult       `json:"result"`
	Usage    resources.Usage `json:"usage"`
	Paid     mman.Amount     `json:"paid_uman"`
	Burned   mman.Amount     `json:"burned_uman"`
	MS       runTimes        `json:"ms"`
	// Receipt is what mman replay takes.
	Receipt mman.CID `json:"receipt"`
	// Settled is the transaction that closed the lease, with --close.
	Settled mman.Hash `json:"settled,omitzero"`
	// ExitCode and Error are there when the algorithm failed.
	ExitCode uint32           `json:"exit_code,omitempty"`
	Error    *console.Problem `json:"error,omitempty"`
}

type runResult struct {
	CID    mman.CID  `json:"cid"`
	SHA256 mman.Hash `json:"sha256"`
	Bytes  uint64    `json:"bytes"`
}

type runTimes struct {
	Match int64 `json:"match"`
	Run   int64 `json:"run"`
	Total int64 `json:"total"`
}

// run does the whole of request run.
func (a *app) run(ctx context.Context, algorithm string, w work) (err error) {
	begun := a.now()
	wanted, err := w.wanted(algorithm)
	if err != nil {
		return err
	}
	input, err := openInput(a.streams.In, w.input, w.limits.InputBytes)
	if err != nil {
		return err
	}
	defer input.close()
	out, err := a.newOutput(w.out)
	if err != nil {
		return err
	}
	defer out.discard()

	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	params, lease, err := a.engage(ctx, c, wanted)
	if err != nil {
		return err
	}

	outcome, settled, err := a.session(ctx, c, lease, w, sdk.Work{
		Args: w.args, Stdin: input.reader(), Seed: w.seed.hash, Limits: w.limits,
		Stdout: out, Stderr: console.Tame(a.streams.Err),
		Paid: func(paid mman.Amount) { a.tick("running, %s so far", paid) },
	})
	if err != nil {
		return err
	}
	answer, err := newAnswer(lease, outcome, settled, params)
	if err != nil {
		return err
	}
	failed := failure(outcome, w.limits)
	if failed != nil {
		answer.Error = console.NewProblem(failed)
	}
	if err := out.deliver(failed == nil); err != nil {
		return err
	}
	answer.MS.Total = a.now().Sub(begun).Milliseconds()
	a.note("ran for %s ms, paid %s", strconv.FormatInt(answer.MS.Run, 10), answer.Paid)
	if a.output == formatJSON {
		if err := console.JSON(a.streams.Out, answer); err != nil {
			return err
		}
		if failed != nil {
			return console.Said(failed)
		}
	}
	return failed
}

// engage gets a lease on what is wanted.
func (a *app) engage(ctx context.Context, c *sdk.Client, wanted sdk.Wanted) (genesis.Params, *sdk.Lease, error) {
	params, err := c.Chain().Params(ctx)
	if err != nil {
		return params, nil, err
	}
	if wanted.Blocks > params.MaxLeaseBlocks {
		return params, nil, console.Wrong("--blocks %d is too long, a lease on %s lasts at most %d blocks", wanted.Blocks, c.ChainID(), params.MaxLeaseBlocks)
	}
	if err := a.bring(ctx, c, &wanted); err != nil {
		return params, nil, fmt.Errorf("--data: %w", err)
	}
	a.tick("asking for a lease of at most %s …", wanted.Cap)
	lease, err := c.Lease(ctx, wanted)
	if err != nil {
		return params, nil, err
	}
	a.note("leased from %s, lease %s", lease.Lease.Compute().Provider, lease.Lease.ID)
	return params, lease, nil
}

// newAnswer returns what scripts read of a run, but for how it failed and how long
// all took.
func newAnswer(lease *sdk.Lease, outcome sdk.Outcome, settled mman.Hash, params genesis.Params) (answer runAnswer, err error) {
	answer = runAnswer{
		Request: lease.Request, Lease: lease.Lease.ID, Provider: lease.Lease.Compute().Provider,
		Result: runResult{outcome.Result.Output, outcome.SHA256, outcome.Result.OutputBytes},
		Usage:  outcome.Usage, Paid: outcome.Paid,
		MS:      runTimes{Match: lease.Match.Milliseconds(), Run: outcome.Time.Milliseconds()},
		Receipt: outcome.Receipt, Settled: settled, ExitCode: outcome.Result.ExitCode,
	}
	answer.Burned, err = outcome.Paid.MulDivCeil(params.BurnPPM, 1_000_000)
	return answer, err
}

// session has the work run once and ends the session, and the lease too when
// that is asked for. When the run itself could not be carried out, the lease
// stays for another try.
func (a *app) session(ctx context.Context, c *sdk.Client, lease *sdk.Lease, w work, do sdk.Work) (outcome sdk.Outcome, settled mman.Hash, err error) {
	s, err := c.Open(ctx, lease)
	if err != nil {
		return outcome, settled, err
	}
	outcome, err = s.Run(ctx, do)
	if err == nil && w.settle {
		a.tick("settling …")
		if settled, err = s.Settle(ctx); err != nil {
			if ctx.Err() != nil {
				err = mman.ErrCanceled
			}
			err = fmt.Errorf("the run is done and paid, but its lease is still open; try: mman lease close %s: %w", lease.Lease.ID, err)
		}
		return outcome, settled, err
	}
	// Ctrl-C shall end the session too, not only the wait for it.
	bye, stop := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer stop()
	if err != nil && lease.Match > 0 && hopeless(err) {
		return outcome, settled, a.giveBack(bye, s, lease, err)
	}
	closing := s.Close(bye)
	if err != nil {
		return outcome, settled, err // the broken session has nothing to add
	}
	if closing != nil && a.verbose {
		_, _ = fmt.Fprintf(a.streams.Err, "the session did not end cleanly: %v\n", closing) // the result is in hand
	}
	return outcome, settled, nil
}

// hopeless reports whether the same work fails again on the same lease: then
// nobody wants a lease that was made for it.
func hopeless(err error) bool {
	for _, never := range []error{mman.ErrModule, mman.ErrImport, mman.ErrMemory, mman.ErrUnsupported, mman.ErrCapExceeded} {
		if errors.Is(err, never) {
			return true
		}
	}
	return false
}

// giveBack closes a lease on which nothing ran, so that its escrow comes back
// at once.
func (a *app) giveBack(ctx context.Context, s *sdk.Session, lease *sdk.Lease, why error) error {
	if _, err := s.Settle(ctx); err != nil {
		return fmt.Errorf("%w (its lease could not be closed, try: mman lease close %s)", why, lease.Lease.ID)
	}
	return fmt.Errorf("%w (nothing was paid, the lease is closed)", why)
}

// failure is the error of an algorithm that ended otherwise than with exit
// code 0.
func failure(o sdk.Outcome, l resources.Limits) error {
	paid := fmt.Sprintf("what it used, %s, is paid", o.Paid)
	switch o.Result.Code {
	case 0:
		if o.Result.ExitCode == 0 {
			return nil
		}
		return fmt.Errorf("%w: exit code %d; %s", mman.ErrGuestExit, o.Result.ExitCode, paid)
	case mman.ErrFuel.Code:
		return fmt.Errorf("%w: %d; raise --fuel, or --max if the cap does not pay for more; %s", mman.ErrFuel, o.Usage.Fuel, paid)
	case mman.ErrWall.Code:
		return fmt.Errorf("%w: it ran for %d ms; raise --wall, or see what the provider allows with mman offer show; %s", mman.ErrWall, o.Usage.WallMs, paid)
	case mman.ErrMemory.Code:
		return fmt.Errorf("%w: %s were asked for; raise --memory; %s is paid", mman.ErrMemory, sizeText(l.MemoryBytes), o.Paid)
	case mman.ErrOutput.Code:
		return fmt.Errorf("%w: %s were asked for; raise --output-limit; %s", mman.ErrOutput, sizeText(l.OutputBytes), paid)
	case mman.ErrIdle.Code:
		return fmt.Errorf("%w; raise --idle; %s", mman.ErrIdle, paid)
	case mman.ErrInputLimit.Code:
		return fmt.Errorf("%w: %s were asked for; raise --input-limit; %s", mman.ErrInputLimit, sizeText(l.InputBytes), paid)
	case mman.ErrUnpaid.Code:
		return fmt.Errorf("%w: it was not paid ahead of what it used, or computed too much at once for one window; a lease with a higher --max has larger windows; %s", mman.ErrUnpaid, paid)
	case mman.ErrCapExceeded.Code:
		return fmt.Errorf("%w: nothing is left of the lease; raise --max; %s", mman.ErrCapExceeded, paid)
	case mman.ErrStopped.Code:
		return fmt.Errorf("%w: %s", mman.ErrStopped, paid)
	case mman.ErrCanceled.Code:
		return fmt.Errorf("%w: %s", mman.ErrCanceled, paid)
	case mman.ErrGuestTrap.Code:
		return fmt.Errorf("%w: %s", mman.ErrGuestTrap, trapText(o))
	default:
		return mman.RemoteError(o.Result.Code, mman.RetryNever, fmt.Sprintf("the provider stopped the run with code %d", o.Result.Code))
	}
}

// trapText says what a trap costs. Only a WASM module has fuel.
func trapText(o sdk.Outcome) string {
	if o.Usage.Fuel == 0 {
		return fmt.Sprintf("a signal ended it; what it used, %s, is paid", o.Paid)
	}
	return fmt.Sprintf("it did what WebAssembly forbids; %s is paid, the price of its whole fuel limit: a lower --fuel risks less", o.Paid)
}
