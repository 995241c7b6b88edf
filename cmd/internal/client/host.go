package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container/hosting"
	"github.com/limboid/massive-man/sdk"
	"github.com/limboid/massive-man/sdk/hosted"
)

// What a hosted container may use unless flags say otherwise, and how often one whose
// provider went is asked for again.
const (
	hostWall   = 24 * time.Hour
	hostBytes  = 4 << 30
	hostTries  = 10
	hostPause  = time.Second
	hostSteady = 5 * time.Minute
)

// berth is what the flags of request host say beside the terms.
type berth struct {
	service resources.Service
	restart string
	every   time.Duration
	listen  string
	follow  bool
	meter   bool
}

func (a *app) requestHost() *cobra.Command {
	std := sdk.DefaultWanted()
	w := work{max: money(std.Cap), limits: std.Limits, wall: hostWall}
	w.limits.InputBytes, w.limits.OutputBytes = hostBytes, hostBytes
	b := berth{listen: callListen, restart: string(resources.RestartOnFailure), every: resources.HealthDefaultMs * time.Millisecond}
	cmd := &cobra.Command{
		Use: "host IMAGE --port PORT [flags] [-- ARG…]", Short: "Keep a container running at a provider, and reach its port at an address of this machine",
		Long: `Keep a container running at a provider, and reach its port at an address of this machine.

IMAGE is the CID of a resource, or an archive here, as for request run. Its program
listens at --port; connections to the loopback address that is opened go there over the
session. It is healthy when --health is answered with a status below 400, or without
one when the port takes connections; a program that ends, or is not healthy any more,
is begun again as --restart says. When the provider goes, the lease's next run or
another provider takes its place behind the same address, unless --restart is no.

It runs until Ctrl-C, --wall, or the end of the lease, and is paid a window ahead, 2 % of
--max: it rests while a window is empty. --follow shows what the program prints.`,
		Example: `  mman request host web.tar --port 8080 --health /
  mman request host baf… --port 5432 --restart always --follow --max 5MAN -- --verbose`,
		Args: func(cmd *cobra.Command, args []string) error {
			own := args
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				own, w.args = args[:n], append(w.args, args[n:]...)
			}
			return console.Args(1, 1, "IMAGE")(cmd, own)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			b.service.Restart, b.service.HealthMs = resources.Restart(b.restart), uint64(max(0, b.every.Milliseconds()))
			if err := b.service.Validate(); err != nil {
				return console.Wrong("%w", err)
			}
			return a.host(cmd.Context(), args[0], w, b)
		},
	}
	f := cmd.Flags()
	w.flags(f)
	f.Uint64Var(&b.service.Port, "port", 0, "where the program listens in its container")
	f.StringVar(&b.service.Health, "health", "", "path that must answer, for example /healthz (default: the port takes connections)")
	f.DurationVar(&b.every, "health-every", b.every, "the time between two looks at it")
	f.StringVar(&b.restart, "restart", b.restart, "begin the program again: no, on-failure or always")
	f.BoolVar(&b.service.Network, "public", false, "let others reach it at a port of the provider, where its policy allows that")
	f.StringVar(&b.listen, "listen", b.listen, "address of this machine to listen on; port 0 takes a free one")
	f.BoolVar(&b.follow, "follow", false, "show what the program prints")
	f.BoolVar(&b.meter, "meter", false, "show on standard error what it has cost, at most once a second")
	return cmd
}

// hostAnswer is what scripts read of request host when the container is healthy.
type hostAnswer struct {
	Addr     string       `json:"addr"`
	URL      string       `json:"url"`
	Lease    mman.LeaseID `json:"lease"`
	Provider mman.Address `json:"provider"`
	// Network is where others reach it, with --public.
	Network string `json:"network,omitempty"`
}

// host does the whole of request host.
func (a *app) host(ctx context.Context, image string, w work, b berth) (err error) {
	wanted, err := w.wanted(image)
	if err != nil {
		return err
	}
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	logs := io.Writer(nil)
	if b.follow {
		logs = console.Tame(a.streams.Err)
		if a.output != formatJSON {
			logs = console.Tame(a.streams.Out)
		}
	}
	voice := &announcer{app: a}
	harbour, err := hosted.New(ctx, hosted.Config{Listen: b.listen, Told: voice.told, Logs: logs, After: time.After})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, harbour.Close()) }()
	voice.answer.Addr, voice.answer.URL = harbour.Addr(), "http://"+harbour.Addr()
	for tries := 1; ; tries++ {
		begun := a.now()
		again, err := a.hostOnce(ctx, c, harbour, voice, wanted, w, b)
		if a.now().Sub(begun) >= hostSteady {
			tries = 1
		}
		if !again || ctx.Err() != nil || tries >= hostTries || b.service.Restart == resources.RestartNever {
			return err
		}
		voice.say(fmt.Sprintf("it is asked for again: %v", err))
		select {
		case <-ctx.Done():
			return err
		case <-time.After(hostPause * time.Duration(tries)):
		}
	}
}

// hostOnce hosts on one lease; again says that the provider is the reason of its end.
func (a *app) hostOnce(ctx context.Context, c *sdk.Client, harbour *hosted.Harbour, voice *announcer, wanted sdk.Wanted, w work, b berth) (again bool, err error) {
	begun := a.now()
	params, lease, err := a.engage(ctx, c, wanted)
	if err != nil {
		return errors.Is(err, mman.ErrUnreachable), err
	}
	voice.leased(lease)
	desk := &desk{err: a.streams.Err}
	var settled mman.Hash
	outcome, err := harbour.Run(ctx, sdk.Work{
		Args: w.args, Seed: w.seed.hash, Limits: w.limits, Service: &b.service, Stderr: console.Tame(a.streams.Err),
		Paid: a.taximeter(desk, b.meter),
		Lost: func(err error) {
			if err == nil {
				voice.say("the connection is back")
				return
			}
			voice.say("the connection broke, trying again: " + err.Error())
		},
		Held: func(err error) { voice.say("not paid for the moment: " + err.Error()) },
	}, func(ctx context.Context, do sdk.Work) (outcome sdk.Outcome, err error) {
		outcome, settled, err = a.session(ctx, c, lease, w, do)
		return outcome, err
	})
	if err != nil {
		gone := []*mman.Error{mman.ErrUnreachable, mman.ErrPeerVanished, mman.ErrTimeout, mman.ErrStopped}
		return slices.ContainsFunc(gone, func(e *mman.Error) bool { return errors.Is(err, e) }), err
	}
	answer, err := newAnswer(lease, outcome, settled, params)
	if err != nil {
		return false, err
	}
	answer.MS.Total = a.now().Sub(begun).Milliseconds()
	failed := failure(outcome, w.limits)
	a.note("ran for %d ms, paid %s", answer.MS.Run, answer.Paid)
	if outcome.Result.Code == mman.ErrStopped.Code {
		return true, failed
	}
	if a.output == formatJSON {
		if failed != nil {
			answer.Error = console.NewProblem(failed)
		}
		if err := console.JSON(a.streams.Out, answer); err != nil {
			return false, err
		}
		if failed != nil {
			return false, console.Said(failed)
		}
	}
	return false, failed
}

// announcer says what becomes of a hosted container.
type announcer struct {
	app *app

	mu     sync.Mutex
	answer hostAnswer
}

func (v *announcer) leased(l *sdk.Lease) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answer.Lease, v.answer.Provider = l.Lease.ID, l.Lease.Compute().Provider
}

func (v *announcer) say(text string) {
	_, _ = fmt.Fprintf(v.app.streams.Err, "mman: %s\n", console.Clean(text)) // only a courtesy
}

// told is told of events, which a provider wrote.
func (v *announcer) told(e hosting.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	in := time.Duration(min(e.InMs, uint64(resources.HealthMaxMs)*24)) * time.Millisecond
	switch e.State {
	case hosting.Healthy:
		lines := []string{"healthy at " + v.answer.URL + ", lease " + v.answer.Lease.String(), "Ctrl-C ends it."}
		_ = v.app.answer(v.answer, lines...) // whoever reads is gone
	case hosting.Published:
		v.answer.Network = console.Clean(e.Addr)
		v.say("others reach it at " + e.Addr)
	case hosting.Running:
	case hosting.Unhealthy:
		v.say("it does not answer: " + e.Reason)
	case hosting.Exited:
		v.say(fmt.Sprintf("the program ended with exit code %d", e.ExitCode))
	case hosting.Restart:
		v.say(fmt.Sprintf("it is begun again in %s, the %d. time", in, e.Restarts))
	case hosting.Notified:
		v.say(fmt.Sprintf("the provider will end it in %s: %s", in, e.Reason))
	case hosting.Stopped:
		if e.Reason != "" {
			v.say("it ends: " + e.Reason)
		}
	}
}
