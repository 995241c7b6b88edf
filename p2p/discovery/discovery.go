package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
)

// Config sets how a host finds and is found.
type Config struct {
	// MaxProvided bounds the CIDs that this host announces. Default 20,000, at
	// least 1.
	MaxProvided int
	// MaxRecords bounds the provider records kept, of others and of this host; one
	// peer may hold a twentieth of them. Default 400,000, at least 20 times
	// MaxProvided, so that all that one host announces is kept.
	MaxRecords int
	// ReprovideInterval is the time after which everything is announced again.
	// Default 12 h; records live twice as long.
	ReprovideInterval time.Duration
	// FindTimeout bounds one search. Default 10 s.
	FindTimeout time.Duration
	// FindGrace is how long a search goes on after its first result. Default
	// 300 ms.
	FindGrace time.Duration
	// After is the clock behind intervals; time.After in a program. Required.
	After func(time.Duration) <-chan time.Time
	// Now is the clock behind Provided; time.Now in a program. Without one it
	// says when nothing was provided.
	Now func() time.Time
	// Logger takes the log. Default: discard.
	Logger *slog.Logger
}

// Default returns the settings of a node; After is left to the caller.
func Default() Config {
	return Config{
		MaxProvided:       20_000,
		MaxRecords:        400_000,
		ReprovideInterval: 12 * time.Hour,
		FindTimeout:       10 * time.Second,
		FindGrace:         300 * time.Millisecond,
		Logger:            slog.New(slog.DiscardHandler),
	}
}

// Validate reports the first setting out of its range, as mman.ErrInvalid.
func (c Config) Validate() error {
	switch {
	case c.MaxProvided < 1:
		return fmt.Errorf("%w: discovery: %d provided CIDs, at least 1 is needed", mman.ErrInvalid, c.MaxProvided)
	case c.MaxRecords/recordShare < c.MaxProvided:
		return fmt.Errorf("%w: discovery: %d records, at least %d for each of %d provided CIDs are needed", mman.ErrInvalid, c.MaxRecords, recordShare, c.MaxProvided)
	case c.ReprovideInterval <= 0 || c.FindTimeout <= 0 || c.FindGrace <= 0:
		return fmt.Errorf("%w: discovery: intervals %s, %s, %s must be positive", mman.ErrInvalid, c.ReprovideInterval, c.FindTimeout, c.FindGrace)
	case c.After == nil:
		return fmt.Errorf("%w: discovery: After is not set", mman.ErrInvalid)
	}
	return nil
}

const (
	// provideTimeout bounds the announcement of one CID.
	provideTimeout = 30 * time.Second
	// waitStep is how often the routing table is looked at while it is empty
	// and a peer has just come, waitIdle when none has.
	waitStep = 5 * time.Millisecond
	waitIdle = time.Second
	// bootstrapMax bounds the pause between attempts to join the network.
	bootstrapMax = time.Minute
)

// Provider is a peer that said it has something.
type Provider struct {
	ID mman.PeerID
	// Addrs are the multiaddrs it gave, each with /p2p/<peer id>; they may be
	// empty when the host is connected to it.
	Addrs []string
}

// announced is a CID that this host provides.
type announced struct {
	key cid.Cid
	at  time.Time // when others were last told
}

// Discovery is a host's part in the DHT. All methods are safe for concurrent
// use.
type Discovery struct {
	cfg  Config
	host *p2p.Host
	dht  *dht.IpfsDHT
	tell *pb.ProtocolMessenger

	fresh    chan struct{} // wakes Run to announce what nobody was told of
	mu       sync.Mutex
	provided map[mman.CID]announced
	reserved int // CIDs that others will provide
}

// Topic returns the CID under which the providers of a kind and facet are
// found on one chain.
func Topic(chainID, kind, facet string) mman.CID {
	return mman.SumCID(mman.CodecRaw, []byte("mman/offer/1/"+chainID+"/"+kind+"/"+facet))
}

// New joins host to the DHT of its network; it dials nobody before Bootstrap or
// Run. The caller must Close it before the host.
func New(host *p2p.Host, cfg Config) (*Discovery, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	mode := dht.ModeAutoServer
	switch {
	case host.Mode() == p2p.ModeClient:
		mode = dht.ModeClient
	case host.Mode() == p2p.ModeServer, host.LoopbackOnly():
		mode = dht.ModeServer
	}
	d, err := dht.New(host.Libp2p(),
		dht.ProtocolPrefix(protocol.ID("/mman/"+host.NetworkID())),
		dht.Mode(mode),
		dht.DisableValues(), // nobody asks for values, so nobody can fill us with them
		dht.ProviderDatastore(newRecordStore(cfg.MaxRecords)),
		dht.ProviderManagerOpts(records.ProvideValidity(2*cfg.ReprovideInterval)),
	)
	if err != nil {
		return nil, fmt.Errorf("%w: build the DHT: %w", mman.ErrInternal, err)
	}
	tell, err := pb.NewProtocolMessenger(d.MessageSender())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: build the DHT: %w", mman.ErrInternal, err), d.Close())
	}
	return &Discovery{cfg: cfg, host: host, dht: d, tell: tell, fresh: make(chan struct{}, 1), provided: make(map[mman.CID]announced)}, nil
}

// Close leaves the DHT. It is safe twice.
func (d *Discovery) Close() error {
	if err := d.dht.Close(); err != nil {
		return fmt.Errorf("%w: close the DHT: %w", mman.ErrInternal, err)
	}
	return nil
}

// Peers returns how many peers the routing table holds.
func (d *Discovery) Peers() int { return d.dht.RoutingTable().Size() }

// Bootstrap connects to the host's bootstrap peers, all at a time, and returns
// when each has answered or failed. It is mman.ErrUnreachable when there are
// some and none answered.
func (d *Discovery) Bootstrap(ctx context.Context) error {
	addrs := d.host.Bootstrap()
	errs := make([]error, len(addrs))
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() { _, errs[i] = d.host.Connect(ctx, []string{addr}) })
	}
	wg.Wait()
	for _, err := range errs {
		if err == nil {
			return nil
		}
	}
	if len(errs) == 0 {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
	return fmt.Errorf("%w: none of %d bootstrap addresses answered, the first: %w", mman.ErrUnreachable, len(addrs), errs[0])
}

// WaitReady returns when the routing table holds at least one peer, or with
// mman.ErrUnreachable when ctx ends before.
func (d *Discovery) WaitReady(ctx context.Context) error {
	for d.Peers() == 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: no peer of network %s found yet; check the bootstrap addresses: %w", mman.ErrUnreachable, d.host.NetworkID(), ctx.Err())
		case <-d.cfg.After(waitStep):
		}
	}
	return nil
}

// Run joins the network and keeps in it: it dials the bootstrap peers while the
// routing table is empty, and announces what was provided. It returns nil when
// ctx ends.
func (d *Discovery) Run(ctx context.Context) error {
	identified, err := d.host.Libp2p().EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return fmt.Errorf("%w: watch for peers: %w", mman.ErrInternal, err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { d.note(ctx, "peer watch did not close", identified.Close()) }()
	wg.Go(func() { d.rejoin(ctx) })

	// While the table is empty we look often after a peer has come, because
	// the DHT checks it before it counts, and seldom otherwise.
	var again <-chan time.Time
	known := 0
	wait := waitStep
	for ctx.Err() == nil {
		if now := d.Peers(); known == 0 && now > 0 {
			d.reprovide(ctx, d.items(false))
			again = d.cfg.After(d.cfg.ReprovideInterval)
			known, wait = now, waitIdle
		} else {
			known = now
		}
		select {
		case <-ctx.Done():
		case <-again:
			d.reprovide(ctx, d.items(false))
			again = d.cfg.After(d.cfg.ReprovideInterval)
		case <-d.fresh:
			d.reprovide(ctx, d.items(true))
		case <-identified.Out():
			wait = waitStep
		case <-d.cfg.After(wait):
			wait = min(2*wait, waitIdle)
		}
	}
	return nil
}

// rejoin dials the bootstrap peers whenever the routing table is empty, with
// growing pauses.
func (d *Discovery) rejoin(ctx context.Context) {
	pause := waitIdle
	for ctx.Err() == nil {
		if d.Peers() == 0 {
			err := d.Bootstrap(ctx)
			d.note(ctx, "bootstrap failed, trying again", err)
			if err == nil {
				pause = waitIdle
			}
		}
		select {
		case <-ctx.Done():
		case <-d.cfg.After(pause):
			pause = min(2*pause, bootstrapMax)
		}
	}
}

func (d *Discovery) note(ctx context.Context, text string, err error) {
	if err != nil && ctx.Err() == nil {
		d.cfg.Logger.WarnContext(ctx, "discovery is degraded", slog.String("why", text), slog.Any("error", err))
	}
}

// Provide announces that this host has c, now and for as long as Run runs. A
// host that knows nobody yet announces it when it does. A client host cannot
// provide: mman.ErrUnsupported. More than MaxProvided CIDs are
// mman.ErrCapacity. After mman.ErrUnreachable c is announced with the others
// when Run announces again.
func (d *Discovery) Provide(ctx context.Context, c mman.CID) error {
	key, err := d.take(c)
	if err != nil {
		return err
	}
	return d.announce(ctx, c, key)
}

// ProvideAll is Provide for many CIDs, as after a start. It tells nobody itself:
// Run announces them together, with one search for all that the same peers
// keep. After an error those are announced that could be.
func (d *Discovery) ProvideAll(ctx context.Context, cids []mman.CID) error {
	self := peer.AddrInfo{ID: d.host.Libp2p().ID()}
	refused := 0
	var first error
	for _, c := range cids {
		key, err := d.take(c)
		if err == nil {
			err = d.dht.ProviderStore().AddProvider(ctx, key.Hash(), self)
		}
		if err != nil {
			refused++
			first = cmp.Or(first, err)
		}
	}
	select {
	case d.fresh <- struct{}{}:
	default: // Run is woken already
	}
	if refused > 0 {
		return fmt.Errorf("%d of %d CIDs are not announced, the first: %w", refused, len(cids), first)
	}
	return nil
}

// take notes that this host provides c.
func (d *Discovery) take(c mman.CID) (cid.Cid, error) {
	if d.host.Mode() == p2p.ModeClient {
		return cid.Undef, fmt.Errorf("%w: provide %s: a client host listens nowhere, run a node", mman.ErrUnsupported, c)
	}
	key, err := toCid(c)
	if err != nil {
		return cid.Undef, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	it, has := d.provided[c]
	if !has && len(d.provided) >= d.cfg.MaxProvided {
		return cid.Undef, fmt.Errorf("%w: provide %s: this host announces %d CIDs already", mman.ErrCapacity, c, d.cfg.MaxProvided)
	}
	d.provided[c] = announced{key, it.at}
	return key, nil
}

// Reserve keeps room for n further CIDs from other reservations until free is
// called, for who must know before there is something to provide. No room is
// mman.ErrCapacity.
func (d *Discovery) Reserve(n int) (free func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if taken := len(d.provided) + d.reserved; n > d.cfg.MaxProvided-taken {
		return nil, fmt.Errorf("%w: this host announces %d CIDs of at most %d, and %d more are asked for", mman.ErrCapacity, taken, d.cfg.MaxProvided, n)
	}
	d.reserved += n
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.reserved -= n
	}), nil
}

// Withdraw stops announcing c. Records that others keep expire by themselves.
func (d *Discovery) Withdraw(c mman.CID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.provided, c)
}

func (d *Discovery) announce(ctx context.Context, c mman.CID, key cid.Cid) error {
	ctx, cancel := context.WithTimeout(ctx, provideTimeout)
	defer cancel()
	alone := d.Peers() == 0
	// Alone, only the local record is made: there is nobody to tell.
	if err := d.dht.Provide(ctx, key, !alone); err != nil {
		return fmt.Errorf("%w: provide %s: %w", mman.ErrUnreachable, c, err)
	}
	if !alone {
		d.told(c)
	}
	return nil
}

// told notes that others were told that this host has c.
func (d *Discovery) told(c mman.CID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if it, ok := d.provided[c]; ok && d.cfg.Now != nil {
		it.at = d.cfg.Now()
		d.provided[c] = it
	}
}

// Provided returns when others were last told that this host has c; the zero time
// when nobody was, because nobody was there.
func (d *Discovery) Provided(c mman.CID) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.provided[c].at
}

// FindProviders returns at most limit providers of c, without this host. It
// returns when it has them, FindGrace after the first one, or when everybody
// was asked, whichever comes first. Nobody is an empty list and no error. ctx
// that ends before the first one gives mman.ErrTimeout.
func (d *Discovery) FindProviders(ctx context.Context, c mman.CID, limit int) ([]Provider, error) {
	key, err := toCid(c)
	if err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, fmt.Errorf("%w: find %d providers of %s: at least one is needed", mman.ErrInvalid, limit, c)
	}
	search, cancel := context.WithTimeout(ctx, d.cfg.FindTimeout)
	defer cancel()
	var found []Provider
	var grace <-chan time.Time
	results := d.dht.FindProvidersAsync(search, key, limit+1) // one more: it may be us
	for len(found) < limit {
		select {
		case info, ok := <-results:
			if !ok {
				return found, d.ended(ctx, c, found)
			}
			p, err := toProvider(info)
			if err != nil || p.ID == d.host.ID() {
				continue
			}
			found = append(found, p)
			if grace == nil {
				grace = d.cfg.After(d.cfg.FindGrace)
			}
		case <-grace:
			return found, nil
		case <-search.Done():
			return found, d.ended(ctx, c, found)
		}
	}
	return found, nil
}

func (d *Discovery) ended(ctx context.Context, c mman.CID, found []Provider) error {
	if len(found) == 0 && ctx.Err() != nil {
		return fmt.Errorf("%w: find providers of %s: %w", mman.ErrTimeout, c, ctx.Err())
	}
	return nil
}

// FindProvidersAsync is the search behind Bitswap; use FindProviders.
func (d *Discovery) FindProvidersAsync(ctx context.Context, key cid.Cid, limit int) <-chan peer.AddrInfo {
	return d.dht.FindProvidersAsync(ctx, key, limit)
}

// FindPeer returns the addresses of a peer, each with /p2p/<peer id>. A peer
// that nobody knows is mman.ErrNotFound.
func (d *Discovery) FindPeer(ctx context.Context, id mman.PeerID) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.FindTimeout)
	defer cancel()
	info, err := d.dht.FindPeer(ctx, peer.ID(id.Bytes()))
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: find peer %s: %w", mman.ErrTimeout, id, err)
		}
		return nil, fmt.Errorf("%w: peer %s: %w", mman.ErrNotFound, id, err)
	}
	p, err := toProvider(info)
	if err != nil {
		return nil, err
	}
	if len(p.Addrs) == 0 {
		return nil, fmt.Errorf("%w: peer %s: nobody knows an address", mman.ErrNotFound, id)
	}
	return p.Addrs, nil
}

func toCid(c mman.CID) (cid.Cid, error) {
	if c.IsZero() {
		return cid.Undef, fmt.Errorf("%w: a CID that names nothing cannot be provided or found", mman.ErrInvalid)
	}
	key, err := cid.Cast(c.Bytes())
	if err != nil {
		return cid.Undef, fmt.Errorf("%w: cid %s: %w", mman.ErrInvalid, c, err)
	}
	return key, nil
}

// maxAddrs bounds the addresses taken from one record.
const maxAddrs = 16

func toProvider(info peer.AddrInfo) (Provider, error) {
	id, err := mman.PeerIDFromBytes([]byte(info.ID))
	if err != nil {
		return Provider{}, err
	}
	p := Provider{ID: id}
	suffix := "/p2p/" + id.String()
	for _, a := range info.Addrs[:min(len(info.Addrs), maxAddrs)] {
		p.Addrs = append(p.Addrs, a.String()+suffix)
	}
	return p, nil
}
