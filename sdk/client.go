package sdk

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk/chain"
	"github.com/limboid/massive-man/sdk/submit"
)

// Config sets up a Client.
type Config struct {
	// Node is the RPC of any node, http://host:port.
	Node string
	// Peers are multiaddrs at which to enter the peer-to-peer network; without
	// any, the nodes of validators are asked from the chain.
	Peers []string
	// Leases is the folder of this consumer's leases.
	Leases string
	// Key is the account's; the zero key can read but not request.
	Key sig.PrivateKey
	// Lock keeps other processes from submitting for the account meanwhile.
	Lock submit.Lock
	// Now and After are the clock; time.Now and time.After in a program.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
	// Logger takes the log. Default: discard.
	Logger *slog.Logger
	// Interpreter opens what runs scripts, for a provider that lacks it; nil
	// when there is none here.
	Interpreter func(module mman.CID) (resources.Blob, error)
}

// Client is a consumer. Its methods are safe for concurrent use.
type Client struct {
	cfg     Config
	log     *slog.Logger
	chain   *chain.Client
	chainID string
	submit  *submit.Submitter
	leases  *LeaseBook
	liars   *blocks.Liars

	mu  sync.Mutex
	net *network // nil until it is needed
}

// manifestTime is how long a manifest is waited for: it is small, and somebody
// is waiting.
const manifestTime = 10 * time.Second

// network is the client's part in the peer-to-peer network.
type network struct {
	host    *p2p.Host
	disc    *discovery.Discovery
	content *content.Service
	stop    context.CancelFunc
}

// Connect asks the node for its chain and returns a client. Nothing is dialled
// on the peer-to-peer network before it is needed.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Now == nil || cfg.After == nil {
		return nil, fmt.Errorf("%w: the client has no clock", mman.ErrInvalid)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	rpc, err := chain.New(cfg.Node)
	if err != nil {
		return nil, err
	}
	st, err := rpc.Status(ctx)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, log: cfg.Logger, chain: rpc, chainID: st.ChainID, leases: OpenLeaseBook(cfg.Leases), liars: blocks.NewLiars(cfg.Now)}
	if !cfg.Key.IsZero() {
		c.submit = submit.New(rpc, st.ChainID, cfg.Key, cfg.Lock, cfg.After)
	}
	return c, nil
}

// Chain returns the client of the node's RPC.
func (c *Client) Chain() *chain.Client { return c.chain }

// ChainID returns the id of the chain that the node is on.
func (c *Client) ChainID() string { return c.chainID }

// Leases returns the book of this consumer's leases.
func (c *Client) Leases() *LeaseBook { return c.leases }

// Submitter returns what submits for the account, or mman.ErrKeyfile when the
// client has no key.
func (c *Client) Submitter() (*submit.Submitter, error) {
	if c.submit == nil {
		return nil, fmt.Errorf("%w: an account is needed: make one with mman keys new, or name one with --from", mman.ErrKeyfile)
	}
	return c.submit, nil
}

// Close leaves the network.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chain.Close()
	if c.net == nil {
		return nil
	}
	n := c.net
	c.net = nil
	n.stop()
	return errors.Join(n.content.Close(), n.disc.Close(), n.host.Close())
}

// Cut takes the client off the peer-to-peer network and back; see p2p.Host.Cut.
func (c *Client) Cut(ctx context.Context, off bool) error {
	n, err := c.join(ctx)
	if err != nil {
		return err
	}
	return n.host.Cut(off)
}

// join enters the peer-to-peer network with a host that lives as long as the
// client.
func (c *Client) join(ctx context.Context) (*network, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.net != nil {
		return c.net, nil
	}
	peers := c.cfg.Peers
	if len(peers) == 0 {
		var err error
		if peers, err = c.bootstrap(ctx); err != nil {
			return nil, err
		}
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	cfg := p2p.Client()
	cfg.NetworkID, cfg.Bootstrap, cfg.PrivateKey, cfg.Now, cfg.Logger = c.chainID, peers, key, c.cfg.Now, c.log
	host, err := p2p.New(cfg)
	if err != nil {
		return nil, err
	}
	n, err := c.assemble(ctx, host)
	if err != nil {
		return nil, errors.Join(err, host.Close())
	}
	c.net = n
	return n, nil
}

func (c *Client) assemble(ctx context.Context, host *p2p.Host) (*network, error) {
	if err := host.Start(ctx); err != nil {
		return nil, err
	}
	dcfg := discovery.Default()
	dcfg.After, dcfg.Logger = c.cfg.After, c.log
	disc, err := discovery.New(host, dcfg)
	if err != nil {
		return nil, err
	}
	if err := disc.Bootstrap(ctx); err != nil {
		return nil, errors.Join(err, disc.Close())
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	ccfg := content.Default()
	ccfg.After, ccfg.BlockTimeout = c.cfg.After, manifestTime
	bcfg := blocks.Default()
	bcfg.Now, bcfg.After, bcfg.Logger, bcfg.Liars = c.cfg.Now, c.cfg.After, c.log, c.liars
	ccfg.Bulk = blocks.Bulk(host, disc, bcfg)
	service, err := content.New(life, host, content.NewPublicStore(content.Memory()), disc, ccfg)
	if err != nil {
		stop()
		return nil, errors.Join(err, disc.Close())
	}
	return &network{host, disc, service, stop}, nil
}

// bootstrap asks the chain where to enter the network.
func (c *Client) bootstrap(ctx context.Context) ([]string, error) {
	bindings, err := c.chain.Bootstrap(ctx)
	if err != nil {
		return nil, err
	}
	var addrs []string
	for _, b := range bindings {
		addrs = append(addrs, b.Addrs...)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%w: no validator has told the chain its peer-to-peer address yet; name one with --peer", mman.ErrUnreachable)
	}
	return addrs, nil
}

// Manifest returns a resource's manifest from the network.
func (c *Client) Manifest(ctx context.Context, id mman.CID) (resources.Manifest, error) {
	n, err := c.join(ctx)
	if err != nil {
		return resources.Manifest{}, err
	}
	if err := n.disc.WaitReady(ctx); err != nil {
		return resources.Manifest{}, err
	}
	b, err := n.content.GetBlock(ctx, id)
	if err != nil {
		return resources.Manifest{}, fmt.Errorf("manifest %s: %w", id, err)
	}
	return resources.DecodeManifest(id, b)
}

// Content opens public content of at most maxBytes from the network.
func (c *Client) Content(ctx context.Context, id mman.CID, maxBytes uint64) (resources.Blob, error) {
	n, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	return n.content.Open(ctx, id, maxBytes)
}
