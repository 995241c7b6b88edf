package daemon

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/examples/stats"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/sdk/chain"
)

// demoWithin bounds the whole demo.
const demoWithin = 3 * time.Minute

// step is one step of the demo.
type step struct {
	Step   string `json:"step"`
	OK     bool   `json:"ok"`
	Ms     int64  `json:"ms"`
	Detail string `json:"detail"`
}

// demoReport is what the demo ends with under -o json.
type demoReport struct {
	OK         bool    `json:"ok"`
	ChainID    string  `json:"chain_id"`
	Validators int     `json:"validators"`
	Height     uint64  `json:"height"`
	AppHash    string  `json:"app_hash"`
	Steps      []step  `json:"steps"`
	Request    string  `json:"request"`
	Lease      string  `json:"lease"`
	Result     *result `json:"result"`

	Paid     mman.Amount `json:"paid_uman"`
	Burned   mman.Amount `json:"burned_uman"`
	Received mman.Amount `json:"provider_received_uman"`
	Refunded mman.Amount `json:"refunded_uman"`
	Supply   mman.Amount `json:"supply_uman"`
}

type result struct {
	CID    mman.CID  `json:"cid"`
	SHA256 mman.Hash `json:"sha256"`
	Bytes  uint64    `json:"bytes"`
}

// demo tells the whole story once.
type demo struct {
	*program

	dataset string
	seed    uint64
	keep    string

	town   *town
	report demoReport
	rows   []byte // of the table
	code   mman.CID
	data   mman.CID
	output []byte
	answer runAnswer
}

func (p *program) demo() *cobra.Command {
	d := &demo{program: p}
	cmd := &cobra.Command{
		Use: "demo", Short: "Show the whole story on this machine, then exit", Args: console.Args(0, 0, ""),
		Long: `demo starts four validators, two providers and a consumer, each its own process
on loopback, and lets them deal: one provider holds a private table and lends
compute beside it, another sells an algorithm, the consumer finds both through
the DHT, has the algorithm run where the data is, pays by receipts, and gets the
rest of its escrow back. Then the demo checks the answer, the bill and the
ledger.`,
		Example: "  mman-node demo\n  mman-node demo --dataset table.csv --seed 7 -o json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&d.dataset, "dataset", "", "a CSV file with a header and at least one numeric column (default: the Palmer penguins)")
	cmd.Flags().Uint64Var(&d.seed, "seed", 1, "draw the rows that are summarised with this seed")
	cmd.Flags().StringVar(&d.keep, "home", "", "folder for the homes of all processes, which are kept (default: a temporary one)")
	return cmd
}

func (d *demo) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, demoWithin)
	defer cancel()
	dir, err := d.folder()
	if err != nil {
		return err
	}
	if d.keep == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	defer func() {
		if d.town != nil {
			err = errors.Join(err, d.town.stop())
		}
	}()
	d.report.Validators = validators
	for _, s := range []struct {
		name string
		do   func(ctx context.Context, dir string) (string, error)
	}{
		{"network", d.network},
		{"publish algorithm", d.publishCode},
		{"publish data", d.publishData},
		{"publish compute", d.publishCompute},
		{"discover", d.discover},
		{"match, lease, execute, receipt, settle", d.request},
		{"forbidden algorithm is refused", d.forbidden},
		{"verify the answer", d.verify},
		{"verify the bill", d.bill},
		{"verify the ledger", d.ledger},
	} {
		if err := d.step(ctx, s.name, dir, s.do); err != nil {
			return d.end(err)
		}
	}
	d.report.OK = true
	return d.end(nil)
}

func (d *demo) folder() (string, error) {
	if d.keep == "" {
		dir, err := os.MkdirTemp("", "mman-demo-")
		if err != nil {
			return "", fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		return dir, nil
	}
	return filepath.Abs(d.keep)
}

// step runs one step and says how it went.
func (d *demo) step(ctx context.Context, name, dir string, do func(context.Context, string) (string, error)) error {
	begun := time.Now()
	detail, err := do(ctx, dir)
	s := step{Step: name, OK: err == nil, Ms: time.Since(begun).Milliseconds(), Detail: detail}
	if err != nil {
		s.Detail = console.Clean(err.Error())
	}
	d.report.Steps = append(d.report.Steps, s)
	if !d.asJSON() {
		if err == nil {
			d.printf("ok   %6d ms  %s: %s\n", s.Ms, s.Step, s.Detail)
		} else {
			d.printf("FAIL %6d ms  %s\n", s.Ms, s.Step) // why is said last
		}
	}
	return err
}

func (d *demo) end(err error) error {
	if d.asJSON() {
		if jerr := console.JSON(d.streams.Out, d.report); jerr != nil {
			return jerr
		}
		if err != nil {
			return console.Said(err)
		}
		return nil
	}
	if err == nil {
		d.printf("\nThe consumer paid %s: %s to the providers, %s burned; %s of its escrow came back.\n%s", d.report.Paid, d.report.Received, d.report.Burned, d.report.Refunded, d.output)
	}
	return err
}

func (d *demo) network(ctx context.Context, dir string) (string, error) {
	var err error
	d.rows = examples.Penguins()
	if d.dataset != "" {
		if d.rows, err = os.ReadFile(d.dataset); err != nil {
			return "", fmt.Errorf("%w: --dataset: %w", mman.ErrNotFound, err)
		}
	}
	if _, err := d.native(); err != nil {
		return "", fmt.Errorf("%w: --dataset %s: %w", mman.ErrInvalid, d.dataset, err)
	}
	if d.town, err = raise(ctx, dir, 1); err != nil {
		return "", err
	}
	if _, err := d.town.announce(); err != nil {
		return "", err
	}
	d.report.ChainID = d.town.net.Genesis.ChainID
	return fmt.Sprintf("%d validators and %d providers run %s, each its own process", len(d.town.validators), len(d.town.providers), d.report.ChainID), nil
}

func (d *demo) publishCode(ctx context.Context, _ string) (string, error) {
	got, err := d.town.publish(ctx, 1, "code", codeListing, map[string][]byte{"stats.wasm": examples.StatsModule()})
	d.code = got.Resource
	return fmt.Sprintf("%s sells %q as %s", author, got.Name, got.Resource), err
}

func (d *demo) publishData(ctx context.Context, _ string) (string, error) {
	name, licence, source := "Palmer penguins", "CC0-1.0", "palmerpenguins, see examples/penguins/SOURCE.md"
	if d.dataset != "" {
		name, licence, source = filepath.Base(d.dataset), "", ""
	}
	got, err := d.town.publish(ctx, 0, "data", fmt.Sprintf(dataListing, name, licence, source, d.code), map[string][]byte{"data.csv": d.rows})
	d.data = got.Resource
	return fmt.Sprintf("%s holds %q as %s; only the listed algorithm may see it", dataOwner, got.Name, got.Resource), err
}

func (d *demo) publishCompute(ctx context.Context, _ string) (string, error) {
	return dataOwner + " lends compute beside it", d.town.lendCompute(ctx)
}

// mman runs the consumer's program as its own process and returns what it
// wrote.
func (d *demo) mman(ctx context.Context, args ...string) (stdout []byte, code int, err error) {
	home := d.town.net.Consumers[0].Home
	cmd := exec.CommandContext(ctx, d.town.runner.Program, append([]string{clientVerb, "--home", home, "-o", "json"}, args...)...) //nolint:gosec // our own program
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.Bytes(), exit.ExitCode(), fmt.Errorf("%w: mman %s: %s", mman.ErrInternal, args[0], bytes.TrimSpace(errs.Bytes()))
	}
	if err != nil {
		return nil, -1, fmt.Errorf("%w: mman %s: %w", mman.ErrInternal, args[0], err)
	}
	return out.Bytes(), 0, nil
}

// discover finds both providers through the DHT. The consumer knows one
// validator and has never met them.
func (d *demo) discover(ctx context.Context, _ string) (string, error) {
	for _, want := range []struct {
		kind     string
		resource mman.CID
	}{{"algorithm", d.code}, {"dataset", d.data}} {
		out, _, err := d.mman(ctx, "search", "--discover", "dht", "--kind", want.kind)
		if err != nil {
			return "", err
		}
		if !bytes.Contains(out, []byte(want.resource.String())) {
			return "", fmt.Errorf("%w: the DHT does not show the %s %s", mman.ErrNotFound, want.kind, want.resource)
		}
	}
	return "the consumer found the algorithm and the data through the DHT, from a validator's address alone", nil
}

// runAnswer is the part of request run's JSON that the demo checks.
type runAnswer struct {
	Request mman.RequestID `json:"request"`
	Lease   mman.LeaseID   `json:"lease"`
	Result  result         `json:"result"`
	Paid    mman.Amount    `json:"paid_uman"`
	Error   *struct {
		Code mman.Code `json:"code"`
		Text string    `json:"text"`
	} `json:"error"`
}

func (d *demo) request(ctx context.Context, dir string) (string, error) {
	file := filepath.Join(dir, "answer.txt")
	out, _, err := d.mman(ctx, "request", "run", d.code.String(), "--data", d.data.String(), "--discover", "dht",
		"--arg", "--seed", "--arg", strconv.FormatUint(d.seed, 10), "--out", file, "--close")
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(out, &d.answer); err != nil {
		return "", fmt.Errorf("%w: %w", mman.ErrProtocol, err)
	}
	if d.output, err = os.ReadFile(file); err != nil { //nolint:gosec // the demo's own folder
		return "", fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	d.report.Request, d.report.Lease, d.report.Result = d.answer.Request.String(), d.answer.Lease.String(), &d.answer.Result
	return fmt.Sprintf("lease %s, result %s of %d bytes, paid %s", d.answer.Lease, d.answer.Result.CID, d.answer.Result.Bytes, d.answer.Paid), nil
}

// forbidden asks for an algorithm that the data's owner has not listed.
func (d *demo) forbidden(ctx context.Context, dir string) (string, error) {
	file := filepath.Join(dir, "wordcount.wasm")
	if err := os.WriteFile(file, examples.WordcountModule(), 0o600); err != nil {
		return "", fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	out, code, err := d.mman(ctx, "request", "run", file, "--data", d.data.String())
	if err == nil {
		return "", fmt.Errorf("%w: a forbidden algorithm saw the data", mman.ErrInternal)
	}
	var answer runAnswer
	if jerr := json.Unmarshal(out, &answer); jerr != nil || answer.Error == nil || answer.Error.Code != mman.ErrPolicy.Code || code != console.Refused {
		return "", fmt.Errorf("%w: exit code %d, %s: %w", mman.ErrInternal, code, bytes.TrimSpace(out), err)
	}
	if !bytes.Contains([]byte(answer.Error.Text), []byte(`rule "algorithms"`)) {
		return "", fmt.Errorf("%w: the refusal names no rule: %s", mman.ErrInternal, answer.Error.Text)
	}
	return answer.Error.Text, nil
}

// native computes the answer in this process.
func (d *demo) native() ([]byte, error) {
	return stats.Summarize(d.rows, stats.Options{Sample: true, Seed: d.seed})
}

func (d *demo) verify(context.Context, string) (string, error) {
	want, err := d.native()
	if err != nil {
		return "", err
	}
	if !bytes.Equal(want, d.output) {
		return "", fmt.Errorf("%w: the answer is %q, computed here it is %q", mman.ErrContent, d.output, want)
	}
	if sum := mman.Sum256(want); sum != d.answer.Result.SHA256 {
		return "", fmt.Errorf("%w: sha256 %s, computed here %s", mman.ErrContent, d.answer.Result.SHA256, sum)
	}
	return fmt.Sprintf("computed natively, the answer is the same %d bytes", len(want)), nil
}

// bill compares what the consumer signed with what the ledger moved.
func (d *demo) bill(ctx context.Context, _ string) (string, error) {
	rpc, err := chain.New(d.town.validators[0].Running.RPC)
	if err != nil {
		return "", err
	}
	defer rpc.Close()
	lease, err := rpc.Lease(ctx, d.answer.Lease)
	if err != nil {
		return "", err
	}
	r, err := rpc.Request(ctx, d.answer.Request)
	if err != nil {
		return "", err
	}
	received := lease.Paid - lease.Burned
	d.report.Paid, d.report.Burned, d.report.Received, d.report.Refunded = lease.Paid, lease.Burned, received, lease.Refunded
	switch {
	case lease.State != market.LeaseClosed || r.State != match.Matched:
		return "", fmt.Errorf("%w: the lease is %s, the request %s", mman.ErrLeaseState, lease.State, r.State)
	case lease.Paid != d.answer.Paid:
		return "", fmt.Errorf("%w: the ledger paid %s, the receipts say %s", mman.ErrInvariant, lease.Paid, d.answer.Paid)
	case lease.Paid+lease.Refunded != lease.Cap:
		return "", fmt.Errorf("%w: paid %s and refunded %s of %s", mman.ErrInvariant, lease.Paid, lease.Refunded, lease.Cap)
	}
	return fmt.Sprintf("paid %s = %s to providers + %s burned; %s of %s came back", lease.Paid, received, lease.Burned, lease.Refunded, lease.Cap), nil
}

// ledger compares the app hash of all validators at one height and checks that
// no token was made or lost.
func (d *demo) ledger(ctx context.Context, _ string) (string, error) {
	var clients []*chain.Client
	height := uint64(0)
	for i, v := range d.town.validators {
		c, err := chain.New(v.Running.RPC)
		if err != nil {
			return "", err
		}
		defer c.Close()
		st, err := c.Status(ctx)
		if err != nil {
			return "", err
		}
		if i == 0 || st.Height < height {
			height = st.Height
		}
		clients = append(clients, c)
	}
	height-- // its app hash stands in the next header
	var hashes []string
	for _, c := range clients {
		h, err := c.AppHash(ctx, height)
		if err != nil {
			return "", err
		}
		hashes = append(hashes, h)
		s, err := c.Supply(ctx)
		if err != nil {
			return "", err
		}
		if !s.Conserved() {
			return "", fmt.Errorf("%w: %+v", mman.ErrInvariant, s)
		}
		d.report.Supply = s.Total()
	}
	if len(slices.Compact(slices.Clone(hashes))) != 1 {
		return "", fmt.Errorf("%w: at height %d the app hashes are %v", mman.ErrInvariant, height, hashes)
	}
	if b, err := hex.DecodeString(hashes[0]); err != nil || len(b) == 0 {
		return "", fmt.Errorf("%w: app hash %q", mman.ErrInvariant, hashes[0])
	}
	d.report.Height, d.report.AppHash = height, hashes[0]
	return fmt.Sprintf("%d validators agree on app hash %.16s… at height %d; %s exist, none made or lost", len(clients), hashes[0], height, d.report.Supply), nil
}
