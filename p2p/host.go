package p2p

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	mman "github.com/limboid/massive-man"
)

// Host is one peer of the network. All methods are safe for concurrent use.
type Host struct {
	cfg   Config
	key   ed25519.PrivateKey
	id    mman.PeerID
	h     host.Host
	flood *flood
	gater gater
	held  atomic.Uint64 // how often Hold was called
	quic  *quicreuse.ConnManager

	reached reached

	mu      sync.Mutex
	started bool
	closed  bool
	cancels []context.CancelFunc
	running sync.WaitGroup
}

// New builds a host from cfg. It loads or makes the node key; it listens and
// dials nothing before Start. The caller must Close it.
func New(cfg Config) (*Host, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	key, err := identity(cfg)
	if err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg, key: key, id: mman.PeerID(key[ed25519.SeedSize:]), flood: newFlood(cfg.Limits.PeerStreams)}
	options, err := h.options()
	if err != nil {
		return nil, err
	}
	if h.h, err = libp2p.New(options...); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: build the p2p host: %w", mman.ErrInternal, err), h.closeSockets())
	}
	return h, nil
}

func identity(cfg Config) (ed25519.PrivateKey, error) {
	switch {
	case cfg.IdentityFile != "":
		return LoadOrCreateIdentity(cfg.IdentityFile)
	case cfg.PrivateKey != nil:
		return cfg.PrivateKey, nil
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("%w: make a throwaway node key: %w", mman.ErrInternal, err)
	}
	return key, nil
}

func (h *Host) options() ([]libp2p.Option, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(h.key)
	if err != nil {
		return nil, fmt.Errorf("%w: node key: %w", mman.ErrKeyfile, err)
	}
	limits := h.cfg.Limits
	resources, err := resourceManager(limits)
	if err != nil {
		return nil, err
	}
	conns, err := connmgr.NewConnManager(limits.LowConns, limits.HighConns, connmgr.WithGracePeriod(time.Minute))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: connection manager: %w", mman.ErrInvalid, err), resources.Close())
	}
	options := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.UserAgent("mman/1"),
		libp2p.NoListenAddrs,
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(libp2pquic.NewTransport),
		libp2p.QUICReuse(h.sockets),
		libp2p.Security(libp2ptls.ID, newBurstTLS), // first: the faster of the two for bulk
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, multiplexer()),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(conns),
		libp2p.ConnectionGater(&h.gater),
		libp2p.WithDialTimeout(limits.DialTimeout),
		libp2p.SwarmOpts(swarm.WithDialRanker(rank)),
		libp2p.DisableMetrics(),
	}
	if !h.cfg.EnableNAT || h.LoopbackOnly() {
		return append(options, libp2p.DisableRelay()), nil
	}
	options = append(options, libp2p.EnableRelay(), libp2p.EnableHolePunching())
	if h.cfg.Mode == ModeClient {
		return options, nil
	}
	// Of AutoNAT both versions: the first one's answer is what AutoRelay waits for.
	options = append(options, libp2p.EnableAutoNATv2(), libp2p.EnableNATService(), libp2p.NATPortMap(), libp2p.EnableRelayService())
	if relays, err := parseAddrs(h.cfg.Bootstrap); err == nil && len(relays) > 0 {
		options = append(options, libp2p.EnableAutoRelayWithStaticRelays(relays))
	}
	return options, nil
}

// nearQUICDelay is how long QUIC waits for TCP on loopback and on a LAN: a loaded
// machine needs more than libp2p's 30 ms. It follows at once when TCP is refused.
const nearQUICDelay = time.Second

// rank lets TCP go first on loopback and on a LAN, where it moves three times
// as many bytes a second as QUIC for the same work; elsewhere libp2p's own
// order, QUIC first, gets through more networks. A process that was killed is
// noticed at once on TCP, and only after many seconds on QUIC.
func rank(addrs []ma.Multiaddr) []network.AddrDelay {
	var near []network.AddrDelay
	var far []ma.Multiaddr
	for _, a := range addrs {
		if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil || (!manet.IsPrivateAddr(a) && !manet.IsIPLoopback(a)) {
			far = append(far, a)
			continue
		}
		delay := nearQUICDelay
		if _, err := a.ValueForProtocol(ma.P_TCP); err == nil {
			delay = 0
		}
		near = append(near, network.AddrDelay{Addr: a, Delay: delay})
	}
	return append(near, swarm.DefaultDialRanker(far)...)
}

// LoopbackOnly reports whether the host can be reached from this machine only,
// because every listen and bootstrap address is a loopback address.
func (h *Host) LoopbackOnly() bool {
	all := append(append([]string(nil), h.cfg.Listen...), h.cfg.Bootstrap...)
	for _, s := range all {
		if a, err := ma.NewMultiaddr(s); err != nil || !manet.IsIPLoopback(a) {
			return false
		}
	}
	return len(all) > 0
}

// Start listens on the configured addresses. An address that another process
// holds gives mman.ErrPortInUse. A client host has nothing to start.
func (h *Host) Start(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started || h.closed {
		return fmt.Errorf("%w: p2p host %s was started before", mman.ErrInvalid, h.id)
	}
	h.started = true
	if h.cfg.Mode == ModeClient {
		return nil
	}
	if err := h.watch(ctx); err != nil {
		return err
	}
	for _, s := range h.cfg.Listen {
		if err := h.listen(ctx, s); err != nil {
			return err
		}
	}
	h.cfg.Logger.InfoContext(ctx, "p2p host listens", slog.String("peer", h.id.String()), slog.Any("addrs", h.Addrs()))
	return nil
}

// listen probes the address first: libp2p shares TCP ports between processes,
// so two nodes on one port would both start and each get half of the calls.
func (h *Host) listen(ctx context.Context, s string) error {
	a, err := ma.NewMultiaddr(s)
	if err == nil {
		err = probe(ctx, a)
	}
	if err == nil {
		err = h.h.Network().Listen(a)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE), strings.Contains(err.Error(), syscall.EADDRINUSE.Error()):
		return fmt.Errorf("%w: %s: stop the other program or choose another address with --listen: %w", mman.ErrPortInUse, s, err)
	default:
		return fmt.Errorf("%w: listen on %s: %w (choose another address with --listen)", mman.ErrInvalid, s, err)
	}
}

func probe(ctx context.Context, a ma.Multiaddr) error {
	transport, rest := ma.SplitFunc(a, func(c ma.Component) bool {
		return c.Protocol().Code == ma.P_QUIC_V1
	})
	if len(rest) == 0 {
		transport = a
	}
	netw, addr, err := manet.DialArgs(transport)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	if strings.HasPrefix(netw, "udp") {
		conn, err := lc.ListenPacket(ctx, netw, addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	l, err := lc.Listen(ctx, netw, addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// Run starts the host, waits for ctx to end and closes it. It returns nil on
// cancel.
func (h *Host) Run(ctx context.Context) error {
	if err := h.Start(ctx); err != nil {
		return errors.Join(err, h.Close())
	}
	<-ctx.Done()
	return h.Close()
}

// Close ends every stream and connection, cancels the handlers' contexts and
// waits for the handlers to return. It must not be called from a handler. It
// is safe twice.
func (h *Host) Close() error {
	h.mu.Lock()
	first := !h.closed
	h.closed = true
	cancels := h.cancels
	h.cancels = nil
	h.mu.Unlock()
	var err error
	if first {
		for _, cancel := range cancels {
			cancel()
		}
		err = errors.Join(h.h.Close(), h.closeSockets())
	}
	h.running.Wait()
	return err
}

// ID returns who this host is.
func (h *Host) ID() mman.PeerID { return h.id }

// NetworkID returns the chain id of the network.
func (h *Host) NetworkID() string { return h.cfg.NetworkID }

// Mode returns the part that the host plays.
func (h *Host) Mode() Mode { return h.cfg.Mode }

// Addrs returns the multiaddrs at which others reach this host, each with
// /p2p/<peer id>; none before Start and none for a client.
func (h *Host) Addrs() []string {
	suffix := "/p2p/" + h.id.String()
	addrs := h.h.Addrs()
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String() + suffix
	}
	return out
}

// Sign signs payload with the node key under the domain-separated digest.
func (h *Host) Sign(purpose mman.SignContext, chainID string, payload []byte) []byte {
	digest := mman.SignDigest(purpose, chainID, payload)
	return ed25519.Sign(h.key, digest[:])
}

// Connect makes sure of a connection to the one peer that addrs name, each
// with /p2p/<peer id>, and returns that peer. A peer that does not answer
// gives mman.ErrUnreachable.
func (h *Host) Connect(ctx context.Context, addrs []string) (mman.PeerID, error) {
	infos, err := parseAddrs(addrs)
	if err != nil {
		return mman.PeerID{}, err
	}
	if len(infos) != 1 {
		return mman.PeerID{}, fmt.Errorf("%w: connect: the addresses name %d peers, not one", mman.ErrInvalid, len(infos))
	}
	id, err := mman.PeerIDFromBytes([]byte(infos[0].ID))
	if err != nil {
		return mman.PeerID{}, err
	}
	if err := h.h.Connect(ctx, infos[0]); err != nil {
		return id, unreachable(id, err)
	}
	return id, nil
}

// Remember notes addresses of peers, each with /p2p/<peer id>, for later
// dials; they are forgotten after an hour.
func (h *Host) Remember(addrs []string) error {
	infos, err := parseAddrs(addrs)
	if err != nil {
		return err
	}
	for _, info := range infos {
		h.h.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.AddressTTL)
	}
	return nil
}

// Open opens a stream of the named protocol to a peer whose address is known
// from a connection, from Remember or from discovery. Failures are
// mman.ErrUnreachable, mman.ErrUnsupported, mman.ErrTimeout or mman.ErrBusy;
// some show only at the first read, because the protocol is agreed on lazily.
func (h *Host) Open(ctx context.Context, to mman.PeerID, name string) (Stream, error) {
	s, err := h.h.NewStream(ctx, peer.ID(to.Bytes()), protocol.ID(name))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, unreachable(to, err))
	}
	return &stream{s, to, h.cfg.Now}, nil
}

func unreachable(to mman.PeerID, err error) error {
	kind := classify(err)
	var reset *network.StreamError // it answered, and then hung up
	if kind == mman.ErrPeerVanished && !errors.As(err, &reset) {
		kind = mman.ErrUnreachable
	}
	return fmt.Errorf("%w: peer %s: %w", kind, to, brief(err))
}

// maxTold is how many addresses that did not answer an error names.
const maxTold = 3

// brief says a failed dial in a few words: which addresses did not answer, and
// why.
func brief(err error) error {
	var dial *swarm.DialError
	if !errors.As(err, &dial) || len(dial.DialErrors) == 0 {
		return err
	}
	var told []string
	for _, one := range dial.DialErrors {
		if len(told) == maxTold {
			told = append(told, "…")
			break
		}
		told = append(told, fmt.Sprintf("%s (%s)", one.Address, innermost(one.Cause)))
	}
	return &briefError{"it does not answer at " + strings.Join(told, ", "), err}
}

// innermost returns the last word of a chain of errors, which says what
// happened.
func innermost(err error) string {
	if errors.Is(err, swarm.ErrDialBackoff) {
		return "tried a moment ago"
	}
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

type briefError struct {
	text string
	err  error
}

func (e *briefError) Error() string { return e.text }

func (e *briefError) Unwrap() error { return e.err }

// Handle lets handler answer the streams of a protocol, each in its own
// goroutine, until ctx ends or the host closes. The context that a handler
// gets ends then too. A handler owns its stream and must end it; the host
// closes what a returning handler left open. A peer with too many open streams
// of the protocol sees mman.ErrBusy.
func (h *Host) Handle(ctx context.Context, name string, handler func(context.Context, Stream)) {
	ctx, cancel := context.WithCancel(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		cancel()
		return
	}
	h.cancels = append(h.cancels, cancel)
	h.h.SetStreamHandler(protocol.ID(name), func(s network.Stream) { h.serve(ctx, name, s, handler) })
	context.AfterFunc(ctx, func() { h.h.RemoveStreamHandler(protocol.ID(name)) })
}

func (h *Host) serve(ctx context.Context, name string, s network.Stream, handler func(context.Context, Stream)) {
	remote, err := mman.PeerIDFromBytes([]byte(s.Conn().RemotePeer()))
	at := slot{name, remote}
	if err != nil || !h.flood.enter(at) {
		h.cfg.Logger.DebugContext(ctx, "inbound stream refused", slog.String("peer", remote.String()), slog.String("protocol", name))
		h.drop(ctx, s.ResetWithError(network.StreamResourceLimitExceeded))
		return
	}
	defer h.flood.leave(at)
	h.mu.Lock()
	if h.closed || ctx.Err() != nil {
		h.mu.Unlock()
		h.drop(ctx, s.ResetWithError(network.StreamShutdown))
		return
	}
	h.running.Add(1)
	h.mu.Unlock()
	defer h.running.Done()
	// What is still open when the handler returns would hold a slot of the
	// resource manager for ever; closing twice does no harm.
	defer func() { h.drop(ctx, s.Close()) }()
	handler(ctx, &stream{s, remote, h.cfg.Now})
}

// drop notes an error that nobody can act on.
func (h *Host) drop(ctx context.Context, err error) {
	if err != nil {
		h.cfg.Logger.DebugContext(ctx, "stream did not end cleanly", slog.Any("error", err))
	}
}

// Peers returns the peers that are connected now.
func (h *Host) Peers() []mman.PeerID {
	peers := h.h.Network().Peers()
	out := make([]mman.PeerID, 0, len(peers))
	for _, p := range peers {
		if id, err := mman.PeerIDFromBytes([]byte(p)); err == nil {
			out = append(out, id)
		}
	}
	return out
}

// Speaking returns at most limit connected peers that said they speak a
// protocol.
func (h *Host) Speaking(name string, limit int) []mman.PeerID {
	var out []mman.PeerID
	for _, id := range h.Peers() {
		if len(out) == limit {
			break
		}
		got, err := h.h.Peerstore().SupportsProtocols(peer.ID(id.Bytes()), protocol.ID(name))
		if err == nil && len(got) > 0 {
			out = append(out, id)
		}
	}
	return out
}

// Disconnect closes the connections to a peer.
func (h *Host) Disconnect(id mman.PeerID) error {
	if err := h.h.Network().ClosePeer(peer.ID(id.Bytes())); err != nil {
		return fmt.Errorf("%w: disconnect peer %s: %w", mman.ErrPeerVanished, id, err)
	}
	return nil
}

// Hold keeps the connections to a peer while something goes on with it, also when
// there are more than Limits.HighConns; the hard limits stand. The function that it
// returns, which is called once, ends that. Several may hold one peer.
func (h *Host) Hold(id mman.PeerID) (release func()) {
	tag, of := "held-"+strconv.FormatUint(h.held.Add(1), 10), peer.ID(id.Bytes())
	h.h.ConnManager().Protect(of, tag)
	return func() { h.h.ConnManager().Unprotect(of, tag) }
}

// Cut takes the host off the network: all connections are closed and none is made,
// as when a cable is pulled, until Cut(false).
func (h *Host) Cut(off bool) error {
	h.gater.off.Store(off)
	if !off {
		return nil
	}
	var errs []error
	for _, p := range h.h.Network().Peers() {
		errs = append(errs, h.h.Network().ClosePeer(p))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: cut the connections: %w", mman.ErrPeerVanished, err)
	}
	return nil
}

// Bootstrap returns the configured bootstrap addresses. The caller must not
// change them.
func (h *Host) Bootstrap() []string { return h.cfg.Bootstrap }

// Libp2p returns the host underneath. It is for the packages under p2p only:
// node and sdk must not reach through it.
func (h *Host) Libp2p() host.Host { return h.h }
