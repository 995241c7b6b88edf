package p2p

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	mman "github.com/limboid/massive-man"
)

// Mode says which part a host plays in the network.
type Mode string

// The three modes.
const (
	// ModeServer listens and answers the DHT's questions.
	ModeServer Mode = "server"
	// ModeClient listens nowhere and only asks. It is the mode of mman.
	ModeClient Mode = "client"
	// ModeAuto listens, and is a DHT server unless AutoNAT finds the host
	// unreachable from outside.
	ModeAuto Mode = "auto"
)

// DefaultPort is the port on which a node listens, TCP and UDP.
const DefaultPort = 4051

// Limits bounds what the network may cost this process.
type Limits struct {
	// Memory is the number of bytes that connections and streams may reserve
	// for their windows. Default 256 MiB, at least 32 MiB.
	Memory int64
	// FileDescriptors bounds open sockets. Default 1,024, at least 64.
	FileDescriptors int
	// LowConns and HighConns are the connection manager's marks: above High it
	// closes the least useful connections until Low is reached. Defaults 96
	// and 192. Hard limits are twice High.
	LowConns, HighConns int
	// PeerStreams is how many inbound streams of one protocol one peer may
	// hold open at a time; the next is reset as busy. Default 128, range 1 to
	// 4,096.
	PeerStreams int
	// DialTimeout bounds one dial. Default 10 s.
	DialTimeout time.Duration
}

// Config is everything that a Host needs.
type Config struct {
	// Listen holds the multiaddrs to listen on; ignored by ModeClient. Default
	// loopback only, TCP and QUIC, DefaultPort.
	Listen []string
	// Bootstrap holds multiaddrs that end in /p2p/<peer id> through which the
	// network is joined. Default none.
	Bootstrap []string
	// NetworkID is the chain id. Hosts of different networks do not find each
	// other. Required, at most 64 characters of [a-zA-Z0-9._-].
	NetworkID string
	// IdentityFile is where the node key is kept; it is made, 0600, when it
	// is not there. Empty means PrivateKey, or a throwaway key.
	IdentityFile string
	// PrivateKey is the node key when IdentityFile is empty.
	PrivateKey ed25519.PrivateKey
	// Mode is the part in the network. Default ModeAuto.
	Mode Mode
	// EnableNAT turns on AutoNAT, hole punching, port mapping and relaying
	// of control streams. It has no effect on a host that listens on loopback
	// only. Default true.
	EnableNAT bool
	// Limits bounds the cost.
	Limits Limits
	// Now is the clock behind stream timeouts; time.Now in a program.
	// Required.
	Now func() time.Time
	// Logger takes the log. Default: discard.
	Logger *slog.Logger
}

// Default returns the configuration of a node on a local network. NetworkID
// and Now are left to the caller.
func Default() Config {
	return Config{
		Listen: []string{
			fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", DefaultPort),
			fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", DefaultPort),
		},
		Mode:      ModeAuto,
		EnableNAT: true,
		Limits: Limits{
			Memory:          256 << 20,
			FileDescriptors: 1024,
			LowConns:        96,
			HighConns:       192,
			PeerStreams:     128,
			DialTimeout:     10 * time.Second,
		},
		Logger: slog.New(slog.DiscardHandler),
	}
}

// Client returns the configuration of an ephemeral client: it listens
// nowhere, has a throwaway identity and only asks.
func Client() Config {
	cfg := Default()
	cfg.Listen = nil
	cfg.Mode = ModeClient
	cfg.Limits.LowConns, cfg.Limits.HighConns = 32, 64
	cfg.Limits.DialTimeout = 4 * time.Second // somebody is waiting
	return cfg
}

// Validate reports the first setting that cannot be used, as mman.ErrInvalid.
func (c Config) Validate() error {
	if err := c.Limits.Validate(); err != nil {
		return err
	}
	switch c.Mode {
	case ModeServer, ModeAuto:
		if len(c.Listen) == 0 {
			return fmt.Errorf("%w: p2p listen: a %s host needs an address such as /ip4/127.0.0.1/tcp/%d", mman.ErrInvalid, c.Mode, DefaultPort)
		}
	case ModeClient:
	default:
		return fmt.Errorf("%w: p2p mode %.32q: use server, client or auto", mman.ErrInvalid, c.Mode)
	}
	if err := checkNetworkID(c.NetworkID); err != nil {
		return err
	}
	if c.Now == nil {
		return fmt.Errorf("%w: p2p clock: Now is not set", mman.ErrInvalid)
	}
	if c.IdentityFile == "" && c.PrivateKey != nil && len(c.PrivateKey) != ed25519.PrivateKeySize {
		return fmt.Errorf("%w: p2p private key: %d bytes where an ed25519 key has %d", mman.ErrInvalid, len(c.PrivateKey), ed25519.PrivateKeySize)
	}
	for _, s := range c.Listen {
		if _, err := ma.NewMultiaddr(s); err != nil {
			return fmt.Errorf("%w: p2p listen %.128q: %w", mman.ErrInvalid, s, err)
		}
	}
	_, err := parseAddrs(c.Bootstrap)
	return err
}

// Validate reports the first limit out of its range, as mman.ErrInvalid.
func (l Limits) Validate() error {
	switch {
	case l.Memory < 32<<20:
		return fmt.Errorf("%w: p2p memory limit %d: at least %d bytes are needed", mman.ErrInvalid, l.Memory, 32<<20)
	case l.FileDescriptors < 64:
		return fmt.Errorf("%w: p2p file descriptor limit %d: at least 64 are needed", mman.ErrInvalid, l.FileDescriptors)
	case l.LowConns < 1 || l.HighConns < l.LowConns || l.HighConns > 1<<16:
		return fmt.Errorf("%w: p2p connection marks %d and %d: 1 <= low <= high <= 65536 is needed", mman.ErrInvalid, l.LowConns, l.HighConns)
	case l.PeerStreams < 1 || l.PeerStreams > 4096:
		return fmt.Errorf("%w: p2p streams per peer %d: 1 to 4096", mman.ErrInvalid, l.PeerStreams)
	case l.DialTimeout <= 0:
		return fmt.Errorf("%w: p2p dial timeout %s: it must be positive", mman.ErrInvalid, l.DialTimeout)
	}
	return nil
}

var errNetworkID = errors.New("1 to 64 characters of a-z, A-Z, 0-9, '.', '_' and '-' are needed")

func checkNetworkID(id string) error {
	if id == "" || len(id) > 64 {
		return fmt.Errorf("%w: network id %.80q: %w", mman.ErrInvalid, id, errNetworkID)
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("%w: network id %.80q: %w", mman.ErrInvalid, id, errNetworkID)
		}
	}
	return nil
}

// parseAddrs reads multiaddrs that end in /p2p/<ed25519 peer id> and groups
// them by peer.
func parseAddrs(addrs []string) ([]peer.AddrInfo, error) {
	list := make([]ma.Multiaddr, 0, len(addrs))
	for _, s := range addrs {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("%w: peer address %.256q: %w", mman.ErrInvalid, s, err)
		}
		info, err := peer.AddrInfoFromP2pAddr(a)
		if err != nil {
			return nil, fmt.Errorf("%w: peer address %.256q: it must end in /p2p/12D3Koo…: %w", mman.ErrInvalid, s, err)
		}
		if _, err := mman.PeerIDFromBytes([]byte(info.ID)); err != nil {
			return nil, fmt.Errorf("peer address %.256q: %w", s, err)
		}
		list = append(list, a)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(list...)
	if err != nil {
		return nil, fmt.Errorf("%w: peer addresses: %w", mman.ErrInvalid, err)
	}
	return infos, nil
}
