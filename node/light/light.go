package light

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	cometdb "github.com/cometbft/cometbft-db"
	"github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/light"
	"github.com/cometbft/cometbft/light/provider"
	lighthttp "github.com/cometbft/cometbft/light/provider/http"
	lightrpc "github.com/cometbft/cometbft/light/rpc"
	"github.com/cometbft/cometbft/light/store"
	lightdb "github.com/cometbft/cometbft/light/store/db"
	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	rpcjson "github.com/cometbft/cometbft/rpc/jsonrpc/client"
	"github.com/cometbft/cometbft/types"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/node/consensus"
)

const (
	// maxAnswer bounds one answer of a node.
	maxAnswer = 16 << 20
	// callTimeout bounds a call of a node; it is above broadcast_tx_commit's.
	callTimeout = 12 * time.Second
	// startTimeout bounds the first verification.
	startTimeout = 30 * time.Second
	stopTimeout  = 2 * time.Second
	// socketQueue is how many events wait for a slow websocket.
	socketQueue = 200
	maxServers  = 16
)

// Config is what a Proxy needs.
type Config struct {
	// Trust names the block that is believed and the RPCs: the first one answers,
	// the others are witnesses of its headers. 1 to 16.
	Trust consensus.Sync
	// Period is how old a header may be from which others are verified. It must be
	// shorter than stake takes to be free, or those who sign a false header lose
	// nothing. At least a minute.
	Period time.Duration
	// Listen is a loopback host:port; port 0 takes a free one.
	Listen string
	// Unproved passes on answers that cannot be proved, marked so in "info".
	Unproved bool
	// Now and After are the clock.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
	// Logger is required.
	Logger *slog.Logger
}

// FlagListen is the flag that sets Config.Listen, as errors name it.
const FlagListen = "--listen"

func (c Config) validate() error {
	ap, err := netip.ParseAddrPort(c.Listen)
	switch {
	case len(c.Trust.Servers) < 1 || len(c.Trust.Servers) > maxServers:
		return fmt.Errorf("%w: %d RPCs, 1 to %d are allowed", mman.ErrInvalid, len(c.Trust.Servers), maxServers)
	case c.Trust.Height == 0 || c.Trust.Height >= 1<<62 || c.Trust.Hash.IsZero():
		return fmt.Errorf("%w: no block to trust: name one with --trust HEIGHT:HASH, as somebody tells you whom you trust", mman.ErrInvalid)
	case c.Period < time.Minute:
		return fmt.Errorf("%w: a trust period of %s, at least a minute is needed", mman.ErrInvalid, c.Period)
	case err != nil || !ap.Addr().IsLoopback():
		return fmt.Errorf("%w: %s %.64q: it listens on loopback only, write 127.0.0.1:8888", mman.ErrInvalid, FlagListen, c.Listen)
	case c.Now == nil || c.After == nil || c.Logger == nil:
		return fmt.Errorf("%w: light: clock and logger are needed", mman.ErrInvalid)
	}
	return nil
}

// Proxy is a verifying proxy. It is safe for concurrent use.
type Proxy struct {
	cfg     Config
	log     log.Logger
	ln      net.Listener
	node    *rpchttp.HTTP // the first RPC
	headers *headers
	checked *lightrpc.Client // what CometBFT's own proxy checks well
	asker   *abci.Asker
	quit    chan struct{} // closed when Run ends
}

// New asks the nodes for the block that is trusted and listens. It serves nothing
// before Run. Errors: mman.ErrInvalid, mman.ErrUnreachable, mman.ErrPortInUse, and
// mman.ErrWrongChain when a node has another block at that height.
func New(ctx context.Context, cfg Config) (*Proxy, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	asker, err := abci.NewAsker()
	if err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, log: consensus.NewLogger(cfg.Logger), asker: asker, quit: make(chan struct{})}
	var nodes []*rpchttp.HTTP
	for _, server := range cfg.Trust.Servers {
		one, err := dial(server)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, one)
	}
	p.node = nodes[0]
	start, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if p.headers, err = follow(start, cfg, nodes, p.log); err != nil {
		return nil, err
	}
	p.checked = lightrpc.NewClient(p.node, p.headers)
	var lc net.ListenConfig
	p.ln, err = lc.Listen(ctx, "tcp", cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: %s: stop what listens there or choose another port with %s", mman.ErrPortInUse, cfg.Listen, FlagListen)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s %s: %w", mman.ErrInvalid, FlagListen, cfg.Listen, err)
	}
	return p, nil
}

// Addr returns the host:port that was chosen.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Run serves until ctx ends. It runs once.
func (p *Proxy) Run(ctx context.Context) error {
	defer close(p.quit)
	if err := p.checked.Start(); err != nil { // for subscriptions
		return errors.Join(fmt.Errorf("%w: %s: %w", mman.ErrUnreachable, p.cfg.Trust.Servers[0], err), p.ln.Close())
	}
	failed := make(chan error, 1)
	server := consensus.ServeRPC(p.ln, p.routes(), socketQueue, p.log, func(remote string) {
		_ = p.checked.UnsubscribeAll(context.WithoutCancel(ctx), remote) // most have no subscription
	}, func(err error) {
		select {
		case failed <- err:
		default: // the first reason counts
		}
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	server.Stop(last)
	_ = p.checked.Stop() // it has no way to fail
	return err
}

// dial returns a client of an RPC that never reads more than maxAnswer at once.
func dial(server string) (*rpchttp.HTTP, error) {
	web, err := rpcjson.DefaultHTTPClient(server)
	if err == nil {
		web.Timeout = callTimeout
		web.Transport = bounded{web.Transport}
		var node *rpchttp.HTTP
		if node, err = rpchttp.NewWithClient(server, "/websocket", web); err == nil {
			return node, nil
		}
	}
	return nil, fmt.Errorf("%w: RPC %.200q: write it as http://127.0.0.1:26657: %w", mman.ErrInvalid, server, err)
}

type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// headers is a light client that many may ask at a time, and that goes on when
// all witnesses were away for a while: CometBFT's forgets them for ever.
type headers struct {
	mu    sync.Mutex
	light *light.Client
	renew func() (*light.Client, error)
	chain string
}

// follow verifies the trusted block.
func follow(ctx context.Context, cfg Config, nodes []*rpchttp.HTTP, out log.Logger) (*headers, error) {
	first := cfg.Trust.Servers[0]
	status, err := nodes[0].Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w; is it running?", mman.ErrUnreachable, first, err)
	}
	chain := status.NodeInfo.Network
	var sources []provider.Provider
	for _, one := range nodes {
		sources = append(sources, lighthttp.NewWithClient(chain, one))
	}
	witnesses := sources[1:]
	if len(witnesses) == 0 {
		witnesses = sources // CometBFT wants one
	}
	trusted := lightdb.New(cometdb.NewMemDB(), chain)
	options := []light.Option{light.Logger(out)}
	c, err := light.NewClient(ctx, chain,
		light.TrustOptions{Period: cfg.Period, Height: int64(cfg.Trust.Height), Hash: cfg.Trust.Hash[:]}, //nolint:gosec // validated
		sources[0], witnesses, trusted, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: block %d with hash %s is not that of %s, or cannot be verified any more: ask somebody you trust for a newer one: %w",
			mman.ErrWrongChain, cfg.Trust.Height, cfg.Trust.Hash, first, err)
	}
	block, err := c.TrustedLightBlock(int64(cfg.Trust.Height)) //nolint:gosec // validated
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	if age := cfg.Now().Sub(block.Time); age > cfg.Period {
		return nil, fmt.Errorf("%w: the trusted block %d is %s old, and after %s its validators may lie without loss: ask somebody you trust for a newer one",
			mman.ErrInvalid, cfg.Trust.Height, age.Round(time.Minute), cfg.Period)
	}
	return &headers{light: c, chain: chain, renew: renewal(chain, cfg.Period, sources[0], witnesses, trusted, options)}, nil
}

func renewal(chain string, period time.Duration, first provider.Provider, witnesses []provider.Provider, trusted store.Store, options []light.Option) func() (*light.Client, error) {
	return func() (*light.Client, error) {
		return light.NewClientFromTrustedStore(chain, period, first, append([]provider.Provider(nil), witnesses...), trusted, options...)
	}
}

// ChainID implements lightrpc.LightClient.
func (h *headers) ChainID() string { return h.chain }

// TrustedLightBlock implements lightrpc.LightClient.
func (h *headers) TrustedLightBlock(height int64) (*types.LightBlock, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.light.TrustedLightBlock(height)
}

// VerifyLightBlockAtHeight implements lightrpc.LightClient.
func (h *headers) VerifyLightBlockAtHeight(ctx context.Context, height int64, now time.Time) (*types.LightBlock, error) {
	return h.ask(ctx, func() (*types.LightBlock, error) { return h.light.VerifyLightBlockAtHeight(ctx, height, now) })
}

// Update implements lightrpc.LightClient. Unlike CometBFT's it returns the newest
// verified block also when there is no newer one.
func (h *headers) Update(ctx context.Context, now time.Time) (*types.LightBlock, error) {
	return h.ask(ctx, func() (*types.LightBlock, error) {
		b, err := h.light.Update(ctx, now)
		if err == nil && b == nil {
			return h.light.TrustedLightBlock(0)
		}
		return b, err
	})
}

func (h *headers) ask(ctx context.Context, fn func() (*types.LightBlock, error)) (*types.LightBlock, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, err := fn()
	if err != nil && ctx.Err() == nil {
		// A node that was away is not forgotten for ever.
		fresh, rerr := h.renew()
		if rerr != nil {
			return nil, fmt.Errorf("%w: %w", mman.ErrProof, errors.Join(err, rerr))
		}
		h.light = fresh
		b, err = fn()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: header: %w", mman.ErrProof, err)
	}
	return b, nil
}
