package consensus

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/p2p"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/genesis"
)

// The flags that set the two addresses, as errors name them.
const (
	FlagRPC = "--rpc-listen"
	FlagP2P = "--p2p-listen"
)

const (
	txMaxBytes     = 64 << 10
	rpcBodyBytes   = 1 << 20
	rpcHeaderBytes = 64 << 10
	rpcConns       = 256
	rpcBatch       = 10
	// underway is more than the goroutines that bring transactions at one time: one
	// for each connection of the RPC, one for each peer, and submits of Submit.
	underway      = 1024
	submits       = 256
	peersInbound  = 40
	peersOutbound = 10
	peersListed   = 64
	// peerRate bounds what one connection carries in bytes per second.
	// CometBFT's 5 MB/s would take a fifth of a second for a block of 1 MiB.
	peerRate   = 64 << 20
	flushDelay = time.Millisecond
	// syncDiscovery is how long states to join from are collected, again and
	// again until there is one; CometBFT takes no less.
	syncDiscovery = 5 * time.Second
	// syncChunk is how long a peer may take for a chunk before another is asked.
	syncChunk    = 10 * time.Second
	monikerBytes = 64
)

// Timeouts is how a node paces consensus. Nodes may differ in it; the slowest
// third decides the pace.
type Timeouts struct {
	// Propose is how long a proposal is waited for in the first round; each
	// further round waits ProposeDelta longer. At least 100 ms.
	Propose, ProposeDelta time.Duration
	// Vote is how long stragglers are waited for once two thirds voted, but
	// not for one block; each further round waits VoteDelta longer.
	Vote, VoteDelta time.Duration
	// Commit is how long late precommits are collected after a block before
	// the next one may begin: they count for their validators' liveness.
	Commit time.Duration
	// Quiet is how long a height waits for a transaction before an empty block
	// is made. At least 100 ms.
	Quiet time.Duration
	// Gossip is how long a peer's routine sleeps when it has nothing to send:
	// each vote and each block part waits up to that long at every hop. At
	// least 1 ms.
	Gossip time.Duration
}

// LocalTimeouts suit validators on one machine or one LAN.
func LocalTimeouts() Timeouts {
	return Timeouts{
		Propose: time.Second, ProposeDelta: 500 * time.Millisecond,
		Vote: 500 * time.Millisecond, VoteDelta: 250 * time.Millisecond,
		Commit: 20 * time.Millisecond, Quiet: time.Second, Gossip: 5 * time.Millisecond,
	}
}

// PublicTimeouts suit validators on several continents.
func PublicTimeouts() Timeouts {
	return Timeouts{
		Propose: 3 * time.Second, ProposeDelta: 500 * time.Millisecond,
		Vote: time.Second, VoteDelta: 500 * time.Millisecond,
		Commit: 250 * time.Millisecond, Quiet: time.Second, Gossip: 25 * time.Millisecond,
	}
}

func (t Timeouts) validate() error {
	rows := []struct {
		name       string
		value, min time.Duration
	}{
		{"propose", t.Propose, 100 * time.Millisecond},
		{"propose_delta", t.ProposeDelta, time.Millisecond},
		{"vote", t.Vote, time.Millisecond},
		{"vote_delta", t.VoteDelta, time.Millisecond},
		{"commit", t.Commit, 0},
		{"quiet", t.Quiet, 100 * time.Millisecond},
		{"gossip", t.Gossip, time.Millisecond},
	}
	for _, r := range rows {
		if r.value < r.min || r.value > time.Minute {
			return fmt.Errorf("%w: consensus timeout %s is %v: %v to 1m are allowed", mman.ErrInvalid, r.name, r.value, r.min)
		}
	}
	return nil
}

// Sync says whom a new node believes about the chain: the hash of one block,
// from which a light client follows the signatures of the validators.
type Sync struct {
	// Servers are URLs of RPCs that serve headers, the first one first; the
	// others are witnesses against it. 1 to 16.
	Servers []string `yaml:"servers"`
	// Height and Hash name the trusted block. It must not be older than evidence
	// counts on the chain.
	Height uint64    `yaml:"height"`
	Hash   mman.Hash `yaml:"hash"`
}

// MaxServers is how many Sync.Servers there may be.
const MaxServers = 16

func (s *Sync) validate() error {
	switch {
	case s == nil:
		return nil
	case len(s.Servers) < 1 || len(s.Servers) > MaxServers:
		return fmt.Errorf("%w: sync has %d servers, 1 to %d are allowed", mman.ErrInvalid, len(s.Servers), MaxServers)
	case s.Height == 0 || s.Height > math.MaxInt64 || s.Hash == mman.Hash{}:
		return fmt.Errorf("%w: sync trusts the block %d with hash %s: name a block of the chain", mman.ErrInvalid, s.Height, s.Hash)
	}
	return nil
}

// comet returns CometBFT's settings of it.
func (s *Sync) comet(p genesis.Params) *config.StateSyncConfig {
	out := config.DefaultStateSyncConfig()
	if s == nil {
		return out
	}
	out.Enable, out.RPCServers = true, s.Servers
	if len(s.Servers) == 1 { // CometBFT wants a witness
		out.RPCServers = append(slices.Clone(s.Servers), s.Servers...)
	}
	out.TrustHeight, out.TrustHash = int64(s.Height), s.Hash.String()   //nolint:gosec // validated
	out.TrustPeriod = time.Duration(p.EvidenceMaxSeconds) * time.Second //nolint:gosec // bounded by Validate
	out.DiscoveryTime, out.ChunkRequestTimeout = syncDiscovery, syncChunk
	return out
}

// Config is what a Node needs to know.
type Config struct {
	// Home is the node's folder; this package writes below <home>/consensus.
	Home string
	// Genesis is the chain's first state. It decides the chain id, the
	// validators and the consensus parameters, and may not change for a home.
	Genesis genesis.Document
	// RPCListen is where the RPC answers, host:port, tcp:// before it is
	// allowed. Port 0 takes a free one. Default 127.0.0.1:26657.
	RPCListen string
	// P2PListen is where validators reach this one, in the same form. Default
	// 127.0.0.1:26656.
	P2PListen string
	// ExternalAddress is the host:port told to others when it differs from
	// P2PListen. Default none.
	ExternalAddress string
	// Peers are dialled at the start and again whenever they are lost, each
	// id@host:port, at most 64. Default none.
	Peers []string
	// Index says whether transactions and blocks can be searched for by their
	// events. Clients need it; a validator without clients saves the disk.
	// Default true.
	Index bool
	// Timeouts is the pace. Default LocalTimeouts or PublicTimeouts, by the
	// genesis's network.
	Timeouts Timeouts
	// MempoolTxs bounds the waiting transactions. Default 10,000, 1 to 1,000,000.
	MempoolTxs int
	// MempoolBytes bounds the bytes of all of them. Default 64 MiB, 1 MiB to
	// 1 GiB.
	MempoolBytes int64
	// Sync, when set, lets a node that has no state fetch the end of an epoch
	// from its peers instead of all blocks. One that has a state ignores it.
	Sync *Sync
	// Metrics registers CometBFT's figures with Prometheus's default registry,
	// which takes them once in a process. Default false.
	Metrics bool
	// Moniker is a name shown to peers, 1 to 64 printable ASCII characters.
	// Default "mman".
	Moniker string
	// Logger takes the log: what must be acted on at ERROR, what is degraded at
	// WARN, all that CometBFT tells of a block at DEBUG. Required.
	Logger *slog.Logger
}

// DefaultConfig returns the configuration of a node with clients, on loopback.
func DefaultConfig(home string, doc genesis.Document, logger *slog.Logger) Config {
	c := Config{
		Home: home, Genesis: doc, RPCListen: "127.0.0.1:26657", P2PListen: "127.0.0.1:26656", Index: true,
		Timeouts: PublicTimeouts(), MempoolTxs: 10_000, MempoolBytes: 64 << 20, Moniker: "mman", Logger: logger,
	}
	if doc.Network == genesis.Local {
		c.Timeouts = LocalTimeouts()
	}
	return c
}

// Validate checks every field and says which one is wrong.
func (c Config) Validate() error {
	switch {
	case c.Home == "":
		return fmt.Errorf("%w: consensus: no home is given", mman.ErrInvalid)
	case c.Logger == nil:
		return fmt.Errorf("%w: consensus: no logger is given", mman.ErrInvalid)
	case c.MempoolTxs < 1 || c.MempoolTxs > 1_000_000:
		return fmt.Errorf("%w: a mempool of %d transactions: 1 to 1,000,000 are allowed", mman.ErrInvalid, c.MempoolTxs)
	case c.MempoolBytes < 1<<20 || c.MempoolBytes > 1<<30:
		return fmt.Errorf("%w: a mempool of %d bytes: 1 MiB to 1 GiB are allowed", mman.ErrInvalid, c.MempoolBytes)
	case len(c.Peers) > peersListed:
		return fmt.Errorf("%w: %d peers: at most %d may be listed", mman.ErrInvalid, len(c.Peers), peersListed)
	}
	if err := validMoniker(c.Moniker); err != nil {
		return err
	}
	if err := c.Timeouts.validate(); err != nil {
		return err
	}
	if err := c.Sync.validate(); err != nil {
		return err
	}
	if err := c.validAddresses(); err != nil {
		return err
	}
	return c.Genesis.Validate()
}

func validMoniker(name string) error {
	bad := strings.TrimSpace(name) == "" || len(name) > monikerBytes
	for _, b := range []byte(name) {
		bad = bad || b < ' ' || b > '~'
	}
	if bad {
		return fmt.Errorf("%w: moniker %.80q: 1 to %d printable ASCII characters are needed", mman.ErrInvalid, name, monikerBytes)
	}
	return nil
}

func (c Config) validAddresses() error {
	if _, err := hostPort(c.RPCListen, FlagRPC); err != nil {
		return err
	}
	if _, err := hostPort(c.P2PListen, FlagP2P); err != nil {
		return err
	}
	if c.ExternalAddress != "" {
		if _, err := hostPort(c.ExternalAddress, "the external address"); err != nil {
			return err
		}
	}
	for _, peer := range c.Peers {
		if err := ValidPeer(peer); err != nil {
			return err
		}
	}
	return nil
}

// ValidPeer reports an address that is not id@host:port, as mman.ErrInvalid.
func ValidPeer(peer string) error {
	id, addr, ok := strings.Cut(peer, "@")
	if !ok || len(id) != 2*p2p.IDByteLength || strings.Trim(id, "0123456789abcdef") != "" {
		return fmt.Errorf("%w: peer %.100q: write id@host:port with an id of %d hex digits", mman.ErrInvalid, peer, 2*p2p.IDByteLength)
	}
	_, err := hostPort(addr, "peer "+id)
	return err
}

// hostPort checks an address and returns it without its scheme.
func hostPort(address, what string) (string, error) {
	plain := strings.TrimPrefix(address, "tcp://")
	host, port, err := net.SplitHostPort(plain)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" || strings.ContainsAny(plain, ", \t\n@/") {
		return "", fmt.Errorf("%w: %s is %.100q: write host:port", mman.ErrInvalid, what, address)
	}
	return plain, nil
}

// onLoopback reports whether an address is on this machine only.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && loopbackHost(host)
}

func loopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func (c Config) dir() string { return filepath.Join(c.Home, folder) }

// cometConfig returns CometBFT's configuration for the two addresses in use.
func (c Config) cometConfig(rpcAddr, p2pAddr string) *config.Config {
	out := config.DefaultConfig()
	out.SetRoot(c.dir())
	out.Moniker = c.Moniker
	out.PrivValidatorKey, out.PrivValidatorState, out.NodeKey = validatorKeyFile, validatorStateFile, nodeKeyFile
	c.setRPC(out.RPC, rpcAddr)
	c.setP2P(out.P2P, p2pAddr)

	// The bounds are kept by the check that stands before the application's, which
	// answers what is over them. CometBFT's own stand above by what can be on its way
	// between that answer and the mempool, for there it would say yes and keep nothing.
	out.Mempool.Size = c.MempoolTxs + underway
	out.Mempool.CacheSize = 2 * c.MempoolTxs
	out.Mempool.MaxTxsBytes = c.MempoolBytes + underway*txMaxBytes
	out.Mempool.MaxTxBytes = txMaxBytes
	out.Mempool.Recheck = true

	t, cs := c.Timeouts, out.Consensus
	cs.WalPath = walFile
	cs.TimeoutPropose, cs.TimeoutProposeDelta = t.Propose, t.ProposeDelta
	cs.TimeoutPrevote, cs.TimeoutPrevoteDelta = t.Vote, t.VoteDelta
	cs.TimeoutPrecommit, cs.TimeoutPrecommitDelta = t.Vote, t.VoteDelta
	cs.TimeoutCommit = t.Commit
	cs.CreateEmptyBlocks, cs.CreateEmptyBlocksInterval = true, t.Quiet
	cs.PeerGossipSleepDuration = t.Gossip

	out.StateSync = c.Sync.comet(c.Genesis.Params)
	out.TxIndex.Indexer = "null"
	if c.Index {
		out.TxIndex.Indexer = "kv"
	}
	// Without an address they are kept but not served: the node's API does.
	out.Instrumentation.Prometheus, out.Instrumentation.PrometheusListenAddr = c.Metrics, ""
	return out
}

func (c Config) setRPC(rpc *config.RPCConfig, addr string) {
	rpc.ListenAddress = "tcp://" + addr
	rpc.CORSAllowedOrigins = nil
	rpc.Unsafe = false
	rpc.PprofListenAddress = ""
	rpc.MaxOpenConnections = rpcConns
	rpc.MaxRequestBatchSize = rpcBatch
	rpc.MaxBodyBytes = rpcBodyBytes
	rpc.MaxHeaderBytes = rpcHeaderBytes
}

func (c Config) setP2P(peers *config.P2PConfig, addr string) {
	local := c.Genesis.Network == genesis.Local || onLoopback(addr)
	listed := make([]string, len(c.Peers))
	for i, p := range c.Peers {
		id, at, _ := strings.Cut(p, "@")
		listed[i] = id + "@" + strings.TrimPrefix(at, "tcp://")
	}
	peers.ListenAddress = "tcp://" + addr
	peers.ExternalAddress = strings.TrimPrefix(c.ExternalAddress, "tcp://")
	peers.PersistentPeers = strings.Join(listed, ",")
	peers.PersistentPeersMaxDialPeriod = 10 * time.Second
	peers.AddrBook = addressBookFile
	peers.AddrBookStrict = !local
	peers.AllowDuplicateIP = local
	peers.MaxNumInboundPeers, peers.MaxNumOutboundPeers = peersInbound, peersOutbound
	peers.SendRate, peers.RecvRate = peerRate, peerRate
	peers.FlushThrottleTimeout = flushDelay
	peers.PexReactor = true
}
