package sdk

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market/storage"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/protocol/replicas"
	"github.com/limboid/massive-man/sdk/chain"
)

// StoreWanted is a file to store.
type StoreWanted struct {
	// File is the path of a file or folder, Name what it is called in lists. A folder
	// is stored as its pack.
	File, Name string
	// Replicas is how many, 1 to storage.MaxReplicas.
	Replicas int
	Tier     storage.Tier
	// MaxPrice is for each MiB and epoch.
	MaxPrice mman.Amount
	// Spread asks for another region for each replica.
	Spread bool
	// Providers, if there are any, are the only ones that may hold it: at most
	// storage.MaxProviders.
	Providers []mman.Address
	// Public stores the file as it is, for everybody who pays to fetch it.
	Public bool
	// Epochs is how long.
	Epochs uint64
}

// Stored is what a consumer keeps of a storage lease: without it a private file
// cannot be read again.
type Stored struct {
	ChainID string       `json:"chain_id"`
	Lease   mman.LeaseID `json:"lease"`
	Name    string       `json:"name"`
	// Bytes and Content are those of the file before it was encrypted.
	Bytes   uint64   `json:"bytes"`
	Content mman.CID `json:"content"`
	Public  bool     `json:"public"`
	// Folder says that the file is the pack of a folder.
	Folder bool `json:"folder,omitempty"`
	// Key is the seed of the lease key.
	Key []byte `json:"key"`
	// Replicas are what was made of the file.
	Replicas []StoredReplica `json:"replicas"`
}

// StoredReplica is one of them.
type StoredReplica struct {
	Root mman.Hash `json:"root"`
	// Identity decrypts it, in age's form; empty for a public file.
	Identity string `json:"identity,omitempty"`
}

// Moving is how far a replica is on its way.
type Moving struct {
	Replica     int
	Done, Total uint64
}

const (
	storedFile = "lease.json"
	// placeAgain is the pause between two looks at the ledger.
	placeAgain = 500 * time.Millisecond
	// bringTries is how often an upload that broke goes on.
	bringTries = 5
)

// StorageDir is the folder of this consumer's storage leases, beside that of the
// others.
func (c *Client) StorageDir() string { return filepath.Join(filepath.Dir(c.cfg.Leases), "storage") }

// Store encrypts a file once for each replica, asks for a lease, brings the replicas
// to the providers that the ledger chose, and waits until they have accepted them. An
// error after the lease was made leaves it, and what is encrypted, for Resume: then
// Stored.Lease is set. When nobody knows yet whether it was made, they are left for
// Adopt, which it also calls for what others left. mman.ErrCapacity when no providers
// fit, mman.ErrFunds.
func (c *Client) Store(ctx context.Context, w StoreWanted, progress func(Moving)) (Stored, error) {
	if w.Replicas < 1 || w.Replicas > storage.MaxReplicas {
		return Stored{}, fmt.Errorf("%w: %d replicas: 1 to %d", mman.ErrInvalid, w.Replicas, storage.MaxReplicas)
	}
	if err := c.Adopt(ctx); err != nil {
		c.log.Warn("what a store left stays", slog.Any("err", err))
	}
	made, err := c.leaseStorage(ctx, w)
	if err != nil {
		return made, err
	}
	return made, c.Resume(ctx, made, progress)
}

// leaseStorage makes the replicas and asks for the lease.
func (c *Client) leaseStorage(ctx context.Context, w StoreWanted) (made Stored, err error) {
	s, err := c.Submitter()
	if err != nil {
		return Stored{}, err
	}
	m, err := c.newMaking()
	if err != nil {
		return Stored{}, err
	}
	defer func() { err = errors.Join(err, m.lock.Close()) }()
	made, size, err := c.seal(ctx, w, m.dir)
	if err != nil {
		return Stored{}, errors.Join(err, m.remove())
	}
	key := ed25519.NewKeyFromSeed(made.Key)
	pub, _ := key.Public().(ed25519.PublicKey)
	msg := tx.MsgStore{
		Consumer: s.Address(), Key: [ed25519.PublicKeySize]byte(pub), Bytes: size, Tier: w.Tier, MaxPrice: w.MaxPrice,
		Spread: w.Spread, Providers: w.Providers, Epochs: w.Epochs,
	}
	if w.Public {
		msg.Content = made.Content
	}
	for _, r := range made.Replicas {
		msg.Roots = append(msg.Roots, r.Root)
	}
	// The keys are on the disk before the money is away.
	result, err := s.SubmitNoted(ctx, m.noting(made, s.Address()), msg)
	if err != nil {
		return m.broke(ctx, err)
	}
	made.Lease = mman.NewStorageID(c.chainID, result.Hash, 0)
	return made, m.keep(made)
}

func (c *Client) storedDir(id mman.LeaseID) string {
	return filepath.Join(c.StorageDir(), id.String())
}

func replicaFile(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("replica-%d", i)) }

// seal makes the replicas of a file in a folder.
func (c *Client) seal(ctx context.Context, w StoreWanted, dir string) (Stored, uint64, error) {
	out := Stored{ChainID: c.chainID, Name: w.Name, Public: w.Public, Folder: isFolder(w.File), Key: make([]byte, ed25519.SeedSize)}
	if _, err := rand.Read(out.Key); err != nil {
		return out, 0, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	var size uint64
	for i := range w.Replicas {
		r := StoredReplica{}
		var recipient age.Recipient
		if !w.Public {
			identity, err := age.GenerateX25519Identity()
			if err != nil {
				return out, 0, fmt.Errorf("%w: %w", mman.ErrInternal, err)
			}
			r.Identity, recipient = identity.String(), identity.Recipient()
		}
		tree, err := sealOne(ctx, w.File, replicaFile(dir, i), recipient)
		if err != nil {
			return out, 0, err
		}
		if i > 0 && tree.Bytes != size {
			return out, 0, fmt.Errorf("%w: %s changed while it was read", mman.ErrInvalid, w.File)
		}
		r.Root, size = tree.Root, tree.Bytes
		out.Replicas = append(out.Replicas, r)
	}
	f, _, err := OpenSupplied(ctx, w.File)
	if err != nil {
		return out, 0, err
	}
	out.Content, out.Bytes, err = content.SumUnixFS(ctx, f)
	return out, size, errors.Join(err, f.Close())
}

// sealOne writes one replica, encrypted when there is a recipient, and returns its
// tree.
func sealOne(ctx context.Context, from, to string, recipient age.Recipient) (t storage.Tree, err error) {
	in, _, err := OpenSupplied(ctx, from)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the user's own home
	if err != nil {
		return t, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if recipient == nil {
		_, err = io.Copy(out, in)
	} else {
		var w io.WriteCloser
		if w, err = age.Encrypt(out, recipient); err == nil {
			_, err = io.Copy(w, in)
			err = errors.Join(err, w.Close())
		}
	}
	if err != nil {
		return t, fmt.Errorf("%w: write %s: %w", mman.ErrHome, to, err)
	}
	// The lease would be worth nothing if a crash of the machine left no more than it.
	if err := out.Sync(); err != nil {
		return t, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return t, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return storage.Plant(out)
}

// Stored returns what this home keeps of a storage lease; mman.ErrNotFound, also for one
// that Adopt has not seen to.
func (c *Client) Stored(id mman.LeaseID) (s Stored, err error) {
	err = readStored(c.storedDir(id), &s)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, fmt.Errorf("%w: this home keeps no storage lease %s", mman.ErrNotFound, id)
	case err != nil:
		return s, err
	case s.Lease != id || len(s.Key) != ed25519.SeedSize:
		return s, fmt.Errorf("%w: %s", mman.ErrCorrupt, filepath.Join(c.storedDir(id), storedFile))
	}
	return s, nil
}

// Resume brings what providers have not got yet, goes on where an upload stopped, and
// waits until all replicas are accepted; then what was encrypted is deleted here.
func (c *Client) Resume(ctx context.Context, s Stored, progress func(Moving)) error {
	g, gctx := errgroup.WithContext(ctx)
	for i := range s.Replicas {
		g.Go(func() error {
			if err := c.bring(gctx, s, i, progress); err != nil {
				return fmt.Errorf("replica %d of lease %s: %w; go on with mman request store --resume %s", i, s.Lease, err, s.Lease)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var errs []error
	for i := range s.Replicas {
		if err := os.Remove(replicaFile(c.storedDir(s.Lease), i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%w: %w", mman.ErrHome, err))
		}
	}
	return errors.Join(errs...)
}

// bring sees one replica to a provider.
func (c *Client) bring(ctx context.Context, s Stored, i int, progress func(Moving)) error {
	sent := false
	for tries := 0; ; {
		l, err := c.chain.StorageLease(ctx, s.Lease)
		if err != nil {
			return err
		}
		switch r := l.Replicas[i]; {
		case r.State == storage.Held || r.State == storage.Lost || r.Source != storage.NoSource:
			return nil // it is there, or the ledger mends it
		case r.State == storage.Unplaced:
			if err := c.place(ctx, s, i); err != nil {
				return err
			}
			sent = false
			continue
		case !sent:
			err := c.bringTo(ctx, s, i, l, progress)
			if sent = err == nil || errors.Is(err, mman.ErrExists); sent {
				continue
			}
			if tries++; tries == bringTries {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
		case <-c.cfg.After(placeAgain):
		}
	}
}

// place asks for another provider for a replica that nobody took.
func (c *Client) place(ctx context.Context, s Stored, i int) error {
	sub, err := c.Submitter()
	if err != nil {
		return err
	}
	_, err = sub.Submit(ctx, tx.MsgPlaceStorage{Consumer: sub.Address(), Lease: s.Lease, Replica: uint8(i), Root: s.Replicas[i].Root}) //nolint:gosec // at most MaxReplicas
	return err
}

func (c *Client) bringTo(ctx context.Context, s Stored, i int, l storage.Lease, progress func(Moving)) (err error) {
	n, err := c.near(ctx, l.Replicas[i].Peer)
	if err != nil {
		return err
	}
	f, err := os.Open(replicaFile(c.storedDir(s.Lease), i))
	if err != nil {
		return fmt.Errorf("%w: what was encrypted is gone: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	ask, err := replicas.Ask{Verb: replicas.Put, Lease: s.Lease, Replica: uint8(i), Asker: n.host.ID()}.Sign(c.chainID, ed25519.NewKeyFromSeed(s.Key)) //nolint:gosec // at most MaxReplicas
	if err != nil {
		return err
	}
	var tell func(uint64)
	if progress != nil {
		tell = func(done uint64) { progress(Moving{i, done, l.Bytes}) }
	}
	return replicas.Bring(ctx, n.host, l.Replicas[i].Peer, ask, f, l.Bytes, tell, replicas.Default())
}

// near joins the network and learns where a peer is.
func (c *Client) near(ctx context.Context, peer mman.PeerID) (*network, error) {
	n, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	return n, c.introduce(ctx, peer)
}

// Retrieve writes a stored file to out, from whichever holder serves it, and compares
// it with what was stored.
func (c *Client) Retrieve(ctx context.Context, s Stored, out io.Writer, progress func(Moving)) error {
	l, err := c.chain.StorageLease(ctx, s.Lease)
	if err != nil {
		return err
	}
	dir := c.storedDir(s.Lease)
	var errs []error
	for i, r := range l.Replicas {
		if r.State != storage.Held {
			continue
		}
		err := c.retrieveFrom(ctx, l, i, filepath.Join(dir, "fetched-"+r.Root.String()), func(n *network) (replicas.Wanted, error) {
			ask, err := replicas.Ask{Verb: replicas.Get, Lease: s.Lease, Replica: uint8(i), Asker: n.host.ID()}.Sign(c.chainID, ed25519.NewKeyFromSeed(s.Key)) //nolint:gosec // at most MaxReplicas
			return replicas.Wanted{Ask: ask}, err
		}, func(ask replicas.Ask) (replicas.Ask, error) {
			return ask.Sign(c.chainID, ed25519.NewKeyFromSeed(s.Key))
		}, progress, func(f *os.File) error { return s.open(ctx, r.Root, f, out) })
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("replica %d at %s: %w", i, r.Peer, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return fmt.Errorf("%w: nobody holds lease %s now: its replicas are %v", mman.ErrUnreachable, s.Lease, states(l))
	}
	return errors.Join(errs...)
}

func states(l storage.Lease) []storage.ReplicaState {
	var out []storage.ReplicaState
	for _, r := range l.Replicas {
		out = append(out, r.State)
	}
	return out
}

// retrieveFrom fetches a replica into a file, goes on from what is in it, checks it,
// and hands it to use; then the file is deleted.
func (c *Client) retrieveFrom(ctx context.Context, l storage.Lease, i int, path string, begin func(*network) (replicas.Wanted, error), sign func(replicas.Ask) (replicas.Ask, error), progress func(Moving), use func(*os.File) error) (err error) {
	n, err := c.near(ctx, l.Replicas[i].Peer)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // a folder of our own
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if uint64(end) < l.Bytes { //nolint:gosec // a length is not negative
		w, err := begin(n)
		if err != nil {
			return err
		}
		w.Size, w.Ask.Offset = l.Bytes, uint64(end) //nolint:gosec // as above
		if w.Ask, err = sign(w.Ask); err != nil {
			return err
		}
		if progress != nil {
			w.Progress = func(done uint64) { progress(Moving{i, done, l.Bytes}) }
		}
		if err := replicas.Fetch(ctx, n.host, l.Replicas[i].Peer, w, f, replicas.Default()); err != nil {
			return err
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	tree, err := storage.Plant(f)
	if err != nil {
		return err
	}
	if tree.Root != l.Replicas[i].Root || tree.Bytes != l.Bytes {
		return errors.Join(fmt.Errorf("%w: what came is not the replica that the lease commits to", mman.ErrContent), os.Remove(path))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if err := use(f); err != nil {
		return err
	}
	return os.Remove(path)
}

// open decrypts a replica with the identity of the one that has the root, and
// compares the file with what was stored.
func (s Stored) open(ctx context.Context, root mman.Hash, f io.Reader, out io.Writer) error {
	plain := f
	for _, r := range s.Replicas {
		if r.Root != root || r.Identity == "" {
			continue
		}
		identity, err := age.ParseX25519Identity(r.Identity)
		if err != nil {
			return fmt.Errorf("%w: the key of the replica: %w", mman.ErrCorrupt, err)
		}
		if plain, err = age.Decrypt(f, identity); err != nil {
			return fmt.Errorf("%w: decrypt: %w", mman.ErrContent, err)
		}
	}
	id, _, err := content.SumUnixFS(ctx, io.TeeReader(plain, out))
	if err == nil && id != s.Content {
		err = fmt.Errorf("%w: the file is %s, %s was stored", mman.ErrContent, id, s.Content)
	}
	return err
}

// RetrievePublic writes a public file to out, from whichever holder serves it for at
// most maxPrice a MiB. It sets aside what the holder asks, and pays for each part
// before it comes. The file is compared with its CID.
func (c *Client) RetrievePublic(ctx context.Context, id mman.CID, maxPrice mman.Amount, out io.Writer, progress func(Moving)) error {
	found, err := c.chain.StorageOf(ctx, id, 16)
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range found {
		for i, r := range l.Replicas {
			if r.State != storage.Held {
				continue
			}
			if r.Retrieve > maxPrice {
				errs = append(errs, fmt.Errorf("%w: %s asks %d uman a MiB", mman.ErrPrice, r.Provider, uint64(r.Retrieve)))
				continue
			}
			err := c.retrievePaid(ctx, l, i, id, out, progress)
			if err == nil || ctx.Err() != nil {
				return err
			}
			errs = append(errs, fmt.Errorf("from %s: %w", r.Peer, err))
		}
	}
	if len(errs) == 0 {
		return fmt.Errorf("%w: nobody serves content %s from a storage lease", mman.ErrNotFound, id)
	}
	return errors.Join(errs...)
}

func (c *Client) retrievePaid(ctx context.Context, l storage.Lease, i int, id mman.CID, out io.Writer, progress func(Moving)) error {
	r := l.Replicas[i]
	wallet := &wallet{}
	if r.Retrieve > 0 {
		var err error
		if wallet, err = c.fund(ctx, l, r); err != nil {
			return err
		}
	}
	begin := func(n *network) (replicas.Wanted, error) {
		return replicas.Wanted{
			Ask:      replicas.Ask{Verb: replicas.Get, Lease: l.ID, Replica: uint8(i), Asker: n.host.ID(), Payer: wallet.consumer}, //nolint:gosec // at most MaxReplicas
			MaxPrice: r.Retrieve, Pay: wallet.pay,
		}, nil
	}
	return c.retrieveFrom(ctx, l, i, filepath.Join(c.StorageDir(), "fetched-"+r.Root.String()), begin, replicas.Ask.Fresh, progress, func(f *os.File) error {
		got, _, err := content.SumUnixFS(ctx, io.TeeReader(f, out))
		if err == nil && got != id {
			err = fmt.Errorf("%w: what came is %s", mman.ErrContent, got)
		}
		return err
	})
}

// wallet signs promises to one provider.
type wallet struct {
	c                  *Client
	consumer, provider mman.Address
	key                ed25519.PrivateKey
	promised           mman.Amount // before this download
}

// walletFile is the form of a wallet on disk.
type walletFile struct {
	Key      []byte      `json:"key"`
	Promised mman.Amount `json:"promised_uman"`
}

func (w *wallet) path() string {
	return filepath.Join(w.c.StorageDir(), "wallet-"+w.provider.String()+".json")
}

// fund makes sure that enough is set aside for a whole replica.
func (c *Client) fund(ctx context.Context, l storage.Lease, r storage.Replica) (*wallet, error) {
	s, err := c.Submitter()
	if err != nil {
		return nil, err
	}
	w := &wallet{c: c, consumer: s.Address(), provider: r.Provider}
	aside, err := c.aside(ctx, s.Address(), r.Provider)
	if err != nil {
		return nil, err
	}
	var kept walletFile
	if b, err := os.ReadFile(w.path()); err == nil && aside != nil {
		if err := json.Unmarshal(b, &kept); err != nil || len(kept.Key) != ed25519.SeedSize {
			return nil, fmt.Errorf("%w: %s", mman.ErrCorrupt, w.path())
		}
		w.promised = max(kept.Promised, aside.Redeemed)
	} else {
		kept.Key = make([]byte, ed25519.SeedSize)
		if _, err := rand.Read(kept.Key); err != nil {
			return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
		}
	}
	w.key = ed25519.NewKeyFromSeed(kept.Key)
	cost, err := storage.Pay(l.Bytes, r.Retrieve)
	if err != nil {
		return nil, err
	}
	have := mman.Amount(0)
	if aside != nil {
		have = aside.Redeemed + aside.Held - min(w.promised, aside.Redeemed+aside.Held)
	}
	if err := w.keep(w.promised); err != nil {
		return nil, err
	}
	if have >= cost {
		return w, nil
	}
	pub, _ := w.key.Public().(ed25519.PublicKey)
	_, err = s.Submit(ctx, tx.MsgFundRetrieval{Consumer: s.Address(), Provider: r.Provider, Key: [ed25519.PublicKeySize]byte(pub), Amount: cost - have})
	return w, err
}

// aside returns what this account set aside for a provider, nil for nothing.
func (c *Client) aside(ctx context.Context, consumer, provider mman.Address) (*chain.Retrieval, error) {
	all, err := c.chain.Retrievals(ctx, consumer, 1000)
	for i := range all {
		if all[i].Provider == provider {
			return &all[i], err
		}
	}
	return nil, err
}

func (w *wallet) keep(promised mman.Amount) error {
	b, err := json.Marshal(walletFile{w.key.Seed(), promised})
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	if err := os.MkdirAll(w.c.StorageDir(), 0o700); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if err := os.WriteFile(w.path(), b, 0o600); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return nil
}

// pay promises for the first n bytes of a download; it is written down first.
func (w *wallet) pay(price mman.Amount, n uint64) (replicas.Promise, error) {
	cost, err := storage.Pay(n, price)
	if err != nil {
		return replicas.Promise{}, err
	}
	msg := tx.MsgRedeemRetrieval{Provider: w.provider, Consumer: w.consumer, Amount: w.promised + cost}
	if err := w.keep(msg.Amount); err != nil {
		return replicas.Promise{}, err
	}
	digest := mman.SignDigest(mman.SignRetrieval, w.c.chainID, msg.Payload())
	return replicas.Promise{Amount: msg.Amount, Signature: ed25519.Sign(w.key, digest[:])}, nil
}

// EndStorage lets a storage lease end with the running epoch.
func (c *Client) EndStorage(ctx context.Context, id mman.LeaseID) error {
	s, err := c.Submitter()
	if err == nil {
		_, err = s.Submit(ctx, tx.MsgEndStorage{Consumer: s.Address(), Lease: id})
	}
	return err
}

// RenewStorage adds epochs to a storage lease.
func (c *Client) RenewStorage(ctx context.Context, id mman.LeaseID, epochs uint64) error {
	s, err := c.Submitter()
	if err == nil {
		_, err = s.Submit(ctx, tx.MsgRenewStorage{Consumer: s.Address(), Lease: id, Epochs: epochs})
	}
	return err
}
