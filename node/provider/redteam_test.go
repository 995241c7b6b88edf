package provider_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/decision"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/gate"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// symbols are what the red team wants to have: sixteen different ones, four bits each.
const symbols = "\x07\x00\x0d\x04\x0a\x01\x0f\x06\x03\x0c\x09\x02\x0e\x05\x0b\x08"

// redteam is a consumer with an algorithm of its own at a node with private data.
type redteam struct {
	*consumer

	module   []byte
	before   market.Statement // of the last run
	arrived  time.Duration    // after how long the last run's answer came, by the consumer's own clock
	released uint64           // by all of them
}

// guarded returns a node with a real executor.
func guarded(t *testing.T, executor resources.Executor) *lender {
	t.Helper()
	l := newLender(t, 0)
	l.real = executor
	l.cfg.Now = func() time.Time { return time.Unix(5000, 0) }
	l.restart(t)
	return l
}

// attack leases private data for an algorithm that the consumer brings, under the
// release if there is one.
func (l *lender) attack(t *testing.T, id byte, module, data []byte, release *resources.Release) *redteam {
	t.Helper()
	terms := listing(t, resources.KindDataset, "secret", true, data)
	terms.Policy.Release = release
	p, err := l.Publish(t.Context(), terms)
	require.NoError(t, err)
	code, _, err := content.SumUnixFS(t.Context(), bytes.NewReader(module))
	require.NoError(t, err)
	lease := l.lease(id, func(m *market.Lease) {
		algorithm, compute := m.Legs[0], m.Legs[1]
		algorithm.Resource = code
		m.Legs = []market.Leg{algorithm, {
			Role: market.RoleData, Facet: resources.FacetFile, Resource: p.Resource, Offer: p.Offer,
			Provider: l.chain.Address(), Peer: l.host.ID(), Sealed: true, Release: release,
		}, compute}
		m.Limits = resources.Limits{WallMs: 60_000, MemoryBytes: 64 << 20, InputBytes: 8 << 20, OutputBytes: 1 << 20, Fuel: 400_000_000}
		m.Cap = 1000 * mman.MAN
	})
	r := &redteam{consumer: l.consumer(t, lease, 0), module: module}
	require.NoError(t, r.open())
	return r
}

// everything takes all that a consumer gets while a run goes on.
type everything struct {
	out

	stderr bytes.Buffer
	stated int
}

func (e *everything) Stderr(p []byte) error { _, err := e.stderr.Write(p); return err }

func (e *everything) Statement(market.Signed) error { e.stated++; return nil }

// try runs once. It returns all that the consumer sees of a run and that may differ
// from run to run: the result, the usage, what was printed, how much was stated on
// the way, and the entries in the log of decisions. The time is apart.
func (r *redteam) try(args ...string) (view string, st market.Statement, err error) {
	r.tb.Helper()
	ctx := r.tb.Context()
	logged, _ := r.log()
	r.run++
	run := session.Run{Number: r.run, Limits: r.lease.Limits, Args: args, Seed: mman.Sum256([]byte{byte(r.run)})}
	missing, err := r.work.Missing(ctx, run)
	if err != nil {
		return "", st, err
	}
	for _, id := range missing {
		require.NoError(r.tb, r.work.Supply(ctx, id, uint64(len(r.module)), bytes.NewReader(r.module)))
	}
	var all everything
	begun := time.Now()
	signed, err := r.work.Run(ctx, run, nil, &all)
	r.arrived = time.Since(begun)
	if err != nil {
		return "", st, err
	}
	st, _ = r.statement(signed)
	used := st.Usage.Since(r.before.Usage)
	var seen strings.Builder
	fmt.Fprintf(&seen, "code %d, exit code %d, output %d %q, error %q, %d statements", st.Result.Code, st.Result.ExitCode, st.Result.OutputBytes, all.String(), all.stderr.String(), all.stated)
	entries, _ := r.log()
	for _, e := range entries[len(logged):] {
		fmt.Fprintf(&seen, ", %s %s %q %d %q", e.Event, e.Effect, e.Rule, e.Pieces, e.Reason)
		if e.Event == decision.Output {
			fmt.Fprintf(&seen, " %d", e.Counts.OutputBytes-r.released)
		}
	}
	r.released += used.OutBytes
	r.before = st
	used.WallMs = 0
	fmt.Fprintf(&seen, ", %+v", used)
	require.NoError(r.tb, r.work.Receipt(ctx, r.sign(signed)))
	return seen.String(), st, nil
}

// bits is what as many different views can tell.
func bits(views map[string]bool) float64 { return math.Log2(float64(len(views))) }

// TestRedTeam: one encoder for each way out of a run on private data, with the defence
// and without, against sixteen symbols that the consumer does not know: four bits in a
// run. What got through is the logarithm of how many different things were seen, and
// is never more than what the outlet counts.
func TestRedTeam(t *testing.T) {
	t.Parallel()
	module := wasmtest.Build(t, "./testdata/redteam")
	executor, err := wasm.New(wasm.Config{Clock: time.Now, CacheDir: t.TempDir(), PrepareTimeout: 10 * time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, executor.Close()) })
	l := guarded(t, executor)
	t.Run("bits of a lease", func(t *testing.T) {
		t.Parallel()
		bitsOfALease(t, guarded(t, executor), module)
	})
	t.Run("gate", func(t *testing.T) {
		t.Parallel()
		gateOfAPolicy(t, guarded(t, executor), module)
	})
	release := &resources.Release{Bits: 1 << 20, OutputBytes: 512, PadBytes: 256, FuelSteps: 4, SlotMs: 4}
	outlet, _ := resources.Join([]resources.Release{*release})
	for i, tc := range []struct {
		way string
		// open and closed are the bits in a run that get through without the defence and
		// with it, at most; open is -1 where it is enough that something does.
		open, closed float64
	}{
		{"output", 4, 4}, // what is meant to leave, counted by the byte
		{"exit", 4, 1},
		{"stderr", 4, 0},
		{"fuel", 4, 2},
		{"length", 4, 2}, // three lengths, or too much
		{"names", -1, 0}, // without the defence they show in the fuel,
		{"crash", 4, 0},
		{"limits", -1, 3}, // released or not, and its fuel,
		{"time", -1, math.Log2(float64(outlet.Slots(60_000)))},
	} {
		t.Run(tc.way, func(t *testing.T) {
			t.Parallel()
			seen := func(id byte, release *resources.Release) (views, whole map[string]bool, excess time.Duration) {
				r := l.attack(t, id, module, []byte(symbols), release)
				views, whole = map[string]bool{}, map[string]bool{}
				for n := range symbols {
					before := r.before.Usage.WallMs
					view, st, err := r.try(tc.way, strconv.Itoa(n))
					require.NoError(t, err)
					wall := st.Usage.WallMs - before
					all := fmt.Sprintf("%s after %d ms", view, wall)
					if tc.way == "time" {
						view = strconv.FormatUint(wall, 10)
					}
					views[view], whole[all] = true, true
					if release != nil {
						require.Zero(t, wall%release.SlotMs, "%d ms", wall)
						require.LessOrEqual(t, wall/release.SlotMs&(wall/release.SlotMs-1), uint64(0), "%d ms is no moment of the outlet's", wall)
						moment := time.Duration(wall) * time.Millisecond
						require.GreaterOrEqual(t, r.arrived, moment, "it came before the moment that was stated")
						excess = max(excess, r.arrived-moment)
					}
				}
				return views, whole, excess
			}
			open, _, _ := seen(byte(100+i), nil)
			closed, whole, excess := seen(byte(200+i), release)
			counted := float64(outlet.Cost(resources.Limits{WallMs: 60_000, OutputBytes: 1 << 20}))
			t.Logf("%-7s %.1f bits a run without the defence, %.1f with it, of all that was seen %.1f; the outlet counts %.0f and 8 for each byte of output; an answer came %s after its moment, at most", tc.way, bits(open), bits(closed), bits(whole), counted, excess)
			require.Positive(t, bits(open), "without the defence it tells something")
			if tc.open >= 0 {
				require.InDelta(t, tc.open, bits(open), 0.01)
			}
			require.LessOrEqual(t, bits(closed), tc.closed+0.001)
			if tc.way != "output" {
				require.LessOrEqual(t, bits(whole), counted)
			}
		})
	}
}

// bitsOfALease: an encoder that tells another bit with each seed is stopped when
// the lease's bits are used up, on every lane and after a restart.
func bitsOfALease(t *testing.T, l *lender, module []byte) {
	t.Helper()
	release := &resources.Release{Bits: 200, OutputBytes: 4, PadBytes: 4, FuelSteps: 1, SlotMs: 4}
	outlet, _ := resources.Join([]resources.Release{*release})
	r := l.attack(t, 1, module, bytes.Repeat([]byte{0x5a}, 64), release)
	cost, most := outlet.Cost(r.lease.Limits), outlet.Worth(r.lease.Limits, 4)
	told, runs := uint64(0), 0
	got, views := map[string]bool{}, map[string]bool{}
	for {
		before := r.before.Usage
		view, st, err := r.try("seed", "0")
		if err != nil {
			require.ErrorIs(t, err, mman.ErrPolicy)
			require.ErrorContains(t, err, `"release"`)
			break
		}
		told += cost + 8*(st.Usage.OutBytes-before.OutBytes)
		runs++
		got[st.Result.Output.String()] = true
		views[fmt.Sprintf("%s %s after %d ms", view, st.Result.Output, st.Usage.WallMs-before.WallMs)] = true
		require.LessOrEqual(t, told, release.Bits)
	}
	require.Greater(t, told+most, release.Bits, "it was refused before it was used up")
	require.LessOrEqual(t, uint64(runs), release.Bits/cost)
	// What was really seen, by another count than the outlet's own: runs of which each is
	// one of so many views tell no more than the logarithm of these, each.
	really := float64(runs) * bits(views)
	require.Greater(t, len(views), 1, "something did get through")
	require.LessOrEqual(t, really, float64(told))
	t.Logf("%d runs told %d different things, %.1f bits by the views and %d by the outlet's count; the lease's limit is %d", runs, len(got), really, told, release.Bits)
	log, err := l.Accesses(provider.AccessFilter{Limit: 100, Lease: r.lease.ID})
	require.NoError(t, err)
	require.Equal(t, policy.Allow, log[0].Decision)
	require.Equal(t, told, log[0].BitsUsed, "the owner sees how much was told")
	r.work.Close()
	l.restart(t)
	r.lane, r.last, r.before = 1, nil, market.Statement{}
	require.NoError(t, r.open())
	_, _, err = r.try("seed", "0")
	require.ErrorIs(t, err, mman.ErrPolicy)
}

// TestCanceledRunTellsNothing: a consumer that gives up gets the same answer whatever
// the run does just then, and whether it has ended or not.
func TestCanceledRunTellsNothing(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]bool{"while it runs": false, "when it has ended": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLender(t, 0)
			running := make(chan struct{})
			l.executor.Play = func(ctx context.Context, _ resources.Task, streams resources.IO) (resources.Result, error) {
				close(running)
				_, err := streams.Stdout.Write([]byte("secret"))
				if !ends {
					<-ctx.Done()
					err = fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
				}
				return resources.Result{Usage: resources.Usage{Fuel: 77, CallCount: 1, InBytes: 6}}, err
			}
			// An hour is longer than the test: it is never answered but by canceling.
			r := l.attack(t, 1, module, []byte("secret"), &resources.Release{Bits: 1 << 20, OutputBytes: 512, PadBytes: 256, FuelSteps: 4, SlotMs: 3_600_000})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			run := session.Run{Number: 1, Limits: r.lease.Limits}
			missing, err := r.work.Missing(ctx, run)
			require.NoError(t, err)
			require.NoError(t, r.work.Supply(ctx, missing[0], uint64(len(module)), bytes.NewReader(module)))
			var all everything
			var signed market.Signed
			over := make(chan error, 1)
			go func() {
				var err error
				signed, err = r.work.Run(ctx, run, nil, &all)
				over <- err
			}()
			<-running
			l.eventually(t, "noted", func() bool {
				log, err := l.Accesses(provider.AccessFilter{Limit: 1})
				return err == nil && len(log) == 1 && log[0].Over == ends
			})
			cancel()
			require.NoError(t, <-over)
			st, _ := r.statement(signed)
			require.Equal(t, resources.Usage{Fuel: r.lease.Limits.Fuel, CallCount: 1}, st.Usage)
			require.Equal(t, mman.ErrCanceled.Code, st.Result.Code)
			require.Zero(t, st.Result.OutputBytes)
			require.Zero(t, all.Len())
			log, err := l.Accesses(provider.AccessFilter{Limit: 1})
			require.NoError(t, err)
			require.Equal(t, gate.Failed, log[0].Verdict)
			require.Zero(t, log[0].BytesOut)
		})
	}
}

// gateOfAPolicy: what an algorithm prints passes the owner's gate before it leaves;
// small groups stay, and the owner reads why a run gave nothing.
func gateOfAPolicy(t *testing.T, l *lender, module []byte) {
	t.Helper()
	minimum, _, err := l.public.AddPublic(t.Context(), bytes.NewReader(examples.MinimumModule()))
	require.NoError(t, err)
	release := resources.Release{Gate: minimum, Args: []string{"--minimum", "100"}, Bits: 1 << 20, OutputBytes: 4096, PadBytes: 32, FuelSteps: 8, SlotMs: 4}
	for i, tc := range []struct {
		data, want string
		most       uint64
		verdict    gate.Verdict
	}{
		{"kind,rows\nAdelie,152\nChinstrap,68\nGentoo,124\n", "kind,rows\nAdelie,152\nGentoo,124\n", 4096, gate.Passed},
		{"words are no groups\n", "", 4096, gate.Blocked},
		{"kind,rows\n" + strings.Repeat("a,100\n", 50), "", 64, gate.Large},
	} {
		release.OutputBytes = tc.most
		r := l.attack(t, byte(i+1), module, []byte(tc.data), &release)
		_, st, err := r.try("print", "0")
		require.NoError(t, err)
		log, err := l.Accesses(provider.AccessFilter{Limit: 10, Lease: r.lease.ID})
		require.NoError(t, err)
		require.Len(t, log, 1)
		require.True(t, log[0].Over)
		require.Equal(t, tc.verdict, log[0].Verdict, "%+v", log[0])
		require.Equal(t, tc.verdict.ExitCode(), st.Result.ExitCode)
		require.Equal(t, []mman.CID{minimum}, log[0].Gates)
		require.EqualValues(t, len(tc.data), log[0].BytesIn)
		require.Equal(t, st.Result.OutputBytes, log[0].BytesOut)
		require.LessOrEqual(t, log[0].Fuel, st.Usage.Fuel, "the bill is rounded up, with the gate's fuel")
		blob, err := content.OpenFrom(t.Context(), l.stores.Lease(r.lease.ID), st.Result.Output, 1<<20)
		require.NoError(t, err)
		output := string(readAll(t, blob))
		require.Equal(t, tc.want, output[:len(tc.want)])
		require.Empty(t, strings.Trim(output[len(tc.want):], "\n"))
		require.Zero(t, len(output)%32)
	}
	release.Gate = mman.SumCID(mman.CodecRaw, []byte("nobody has it"))
	terms := listing(t, resources.KindDataset, "secret", true, []byte("x"))
	terms.Policy.Release = &release
	_, err = l.Publish(t.Context(), terms)
	require.ErrorIs(t, err, mman.ErrNotFound)
}
