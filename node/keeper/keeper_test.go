package keeper_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	vault "github.com/limboid/massive-man/abci/storage"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market/storage"
	"github.com/limboid/massive-man/node/keeper"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/replicas"
)

// book is the ledger as the keepers see it.
type book struct {
	mu     sync.Mutex
	height uint64
	leases map[mman.LeaseID]storage.Lease
	drawn  *storage.Drawn
	held   uint64
	aside  *vault.Retrieval
	nodes  map[mman.PeerID]*p2p.Host
	told   chan tx.Msg // what keepers submit
}

func (b *book) Height() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.height
}

func (b *book) StorageRules() (storage.Rules, error) {
	return storage.Rules{EpochBlocks: 100, WindowBlocks: 60, AcceptBlocks: 50, DepositEpochs: 4, MaxEpochs: 100}, nil
}

func (b *book) StorageReplicas(provider mman.Address) (out []vault.Name, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, l := range b.leases {
		for i, r := range l.Replicas {
			if r.Provider == provider {
				out = append(out, vault.Name{Lease: id, Replica: uint8(i)})
			}
		}
	}
	return out, nil
}

func (b *book) StorageLease(id mman.LeaseID) (storage.Lease, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.leases[id]
	if !ok {
		return l, mman.ErrNotFound
	}
	l.Replicas = append([]storage.Replica{}, l.Replicas...)
	return l, nil
}

func (b *book) StorageDrawn() (storage.Drawn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn == nil {
		return storage.Drawn{}, mman.ErrNotFound
	}
	return *b.drawn, nil
}

func (b *book) StorageHeld() (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held, nil
}

func (b *book) StorageRetrieval(mman.Address, mman.Address) (vault.Retrieval, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.aside == nil {
		return vault.Retrieval{}, mman.ErrNotFound
	}
	return *b.aside, nil
}

func (b *book) Bound(peer mman.PeerID) (mman.Address, []string, error) {
	host, ok := b.nodes[peer]
	if !ok {
		return mman.Address{}, nil, mman.ErrNotFound
	}
	return mman.Address{}, host.Addrs(), nil
}

// change lets a test write the ledger.
func (b *book) change(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
}

// holder is an account with a node and its keeper.
type holder struct {
	*keeper.Keeper

	book    *book
	host    *p2p.Host
	address mman.Address
	dir     string
	full    bool

	// cut, if it is positive, is where the next transfer from here breaks; asked are
	// the offsets of all.
	cut   atomic.Int64
	mu    sync.Mutex
	asked []uint64
}

// Give notes where a transfer begins, and breaks it.
func (h *holder) Give(ctx context.Context, a replicas.Ask, remote mman.PeerID) (replicas.Download, error) {
	d, err := h.Keeper.Give(ctx, a, remote)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, a.Offset)
	return broken{d, h.cut.Swap(0)}, nil
}

// broken is a replica that cannot be read from a place on.
type broken struct {
	replicas.Download

	at int64
}

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if b.at > 0 && off >= b.at {
		return 0, io.ErrUnexpectedEOF
	}
	return b.Download.ReadAt(p, off) //nolint:wrapcheck // a fake passes it on
}

func (h *holder) Address() mman.Address { return h.address }

// Submit notes the message, and what it changes on the ledger.
func (h *holder) Submit(_ context.Context, msgs ...tx.Msg) (mman.Hash, error) {
	for _, m := range msgs {
		h.book.change(func() {
			if a, ok := m.(tx.MsgAcceptStorage); ok {
				for _, name := range a.Replicas {
					r := &h.book.leases[name.Lease].Replicas[name.Replica]
					r.State, r.Due = storage.Held, h.book.height/100+1
				}
			}
		})
		h.book.told <- m
	}
	return mman.Hash{}, nil
}

// street is two holders and a consumer.
type street struct {
	t       *testing.T
	book    *book
	me      *p2p.Host
	holders []*holder
	key     ed25519.PrivateKey
	lease   storage.Lease
	data    []byte
}

// newHeld is a street whose replica its holder has accepted.
func newHeld(t *testing.T) *street {
	t.Helper()
	s := newStreet(t, storage.Fast)
	s.runs()
	require.NoError(t, s.bring())
	submitted[tx.MsgAcceptStorage](s)
	return s
}

func newStreet(t *testing.T, tier storage.Tier) *street {
	t.Helper()
	hosts := p2ptest.New(t, 3)
	b := &book{height: 10, leases: map[mman.LeaseID]storage.Lease{}, nodes: map[mman.PeerID]*p2p.Host{}, told: make(chan tx.Msg, 64)}
	pub, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	s := &street{t: t, book: b, me: hosts[0], key: key, data: make([]byte, 2*replicas.Piece+1)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(s.data) // it never fails
	for i, host := range hosts[1:] {
		b.nodes[host.ID()] = host
		p2ptest.Connect(t, hosts[0], host)
		h := &holder{book: b, host: host, address: mman.Address{byte(i + 1)}, dir: filepath.Join(t.TempDir(), "replicas")}
		h.Keeper, err = keeper.New(keeper.Config{
			Dir: h.dir, ChainID: p2ptest.NetworkID, Bind: func(context.Context) error { return nil }, Transfers: replicas.Default(), Logger: slog.New(slog.DiscardHandler),
			Room: func(n int64) error {
				if h.full && n > 0 {
					return fmt.Errorf("%w: %d bytes", mman.ErrDiskFull, n)
				}
				return nil
			},
		}, b, h, host, nil)
		require.NoError(t, err)
		require.NoError(t, replicas.Serve(t.Context(), host, h, replicas.Default()))
		s.holders = append(s.holders, h)
	}
	tree, err := storage.Plant(bytes.NewReader(s.data))
	require.NoError(t, err)
	s.lease = storage.Lease{ID: mman.LeaseID{7}, Key: pub, Bytes: uint64(len(s.data)), Tier: tier, Last: 50, Replicas: []storage.Replica{
		{State: storage.Assigned, Root: tree.Root, Provider: s.holders[0].address, Peer: s.holders[0].host.ID(), Source: storage.NoSource},
	}}
	b.leases[s.lease.ID] = s.lease
	return s
}

// runs lets the keepers live until the test ends.
func (s *street) runs() {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(s.t.Context()))
	var life sync.WaitGroup
	for _, h := range s.holders {
		life.Go(func() { _ = h.Run(ctx) }) // it ends with ctx alone
	}
	s.t.Cleanup(func() { stop(); life.Wait() })
}

func (s *street) bring() error {
	ask, err := replicas.Ask{Verb: replicas.Put, Lease: s.lease.ID, Asker: s.me.ID()}.Sign(p2ptest.NetworkID, s.key)
	require.NoError(s.t, err)
	return replicas.Bring(s.t.Context(), s.me, s.holders[0].host.ID(), ask, bytes.NewReader(s.data), uint64(len(s.data)), nil, replicas.Default())
}

func (s *street) fetch(key ed25519.PrivateKey) ([]byte, error) {
	ask, err := replicas.Ask{Verb: replicas.Get, Lease: s.lease.ID, Asker: s.me.ID()}.Sign(p2ptest.NetworkID, key)
	require.NoError(s.t, err)
	var out bytes.Buffer
	err = replicas.Fetch(s.t.Context(), s.me, s.holders[0].host.ID(), replicas.Wanted{Ask: ask, Size: uint64(len(s.data))}, &out, replicas.Default())
	return out.Bytes(), err
}

// block lets a block pass.
func (s *street) block() {
	s.book.change(func() { s.book.height++ })
	for _, h := range s.holders {
		h.AtHeight(0)
	}
}

// submitted waits for a message of a kind, while blocks pass.
func submitted[M tx.Msg](s *street) M {
	s.t.Helper()
	within, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for {
		s.block()
		select {
		case m := <-s.book.told:
			if got, ok := m.(M); ok {
				return got
			}
		case <-time.After(5 * time.Millisecond):
		case <-within.Done():
			require.FailNow(s.t, "nothing was submitted")
		}
	}
}

func (s *street) files(h int) []string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.holders[h].dir, "*"))
	require.NoError(s.t, err)
	return found
}

// TestKeeps: a replica is brought, accepted, proved once an epoch, served to its
// consumer and nobody else, and deleted when the ledger does not name it any more.
func TestKeeps(t *testing.T) {
	t.Parallel()
	s := newStreet(t, storage.Fast)
	s.runs()
	require.NoError(t, s.bring())
	require.Equal(t, []tx.ReplicaName{{Lease: s.lease.ID}}, submitted[tx.MsgAcceptStorage](s).Replicas)

	got, err := s.fetch(s.key)
	require.NoError(t, err)
	require.True(t, bytes.Equal(s.data, got))
	_, other, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	_, err = s.fetch(other)
	require.ErrorIs(t, err, mman.ErrNotYourLease)
	require.ErrorIs(t, s.bring(), mman.ErrLeaseState, "it is held")

	d := storage.Drawn{Epoch: 1, Height: 102, Value: mman.Hash{5}}
	s.book.change(func() { s.book.height, s.book.drawn = 102, &d })
	msg := submitted[tx.MsgProveStorage](s)
	require.Equal(t, uint64(1), msg.Epoch)
	p, err := storage.DecodeProof(msg.Proofs[0])
	require.NoError(t, err)
	require.NoError(t, p.Verify(s.lease.Replicas[0].Root, s.lease.Bytes, d.Value))

	s.book.change(func() { delete(s.book.leases, s.lease.ID) })
	require.Eventually(t, func() bool { s.block(); return len(s.files(0)) == 0 }, time.Minute, 5*time.Millisecond)
	_, err = s.fetch(s.key)
	require.ErrorIs(t, err, mman.ErrLeaseUnknown)
}

// TestTurn: with many replicas on the ledger a provider waits for its turn, and proves
// within the first half of the window all the same.
func TestTurn(t *testing.T) {
	t.Parallel()
	s := newHeld(t)
	d := storage.Drawn{Epoch: 1, Height: 102}
	rules, err := s.book.StorageRules()
	require.NoError(t, err)
	const held = 100_000
	for d.Value = (mman.Hash{}); rules.Turn(d, s.holders[0].address, held) < 120; d.Value[0]++ {
	}
	turn := rules.Turn(d, s.holders[0].address, held)
	require.LessOrEqual(t, turn, d.Height+rules.WindowBlocks/2)
	require.Equal(t, d.Height, rules.Turn(d, s.holders[0].address, 50), "few need no turns")
	s.book.change(func() { s.book.height, s.book.drawn, s.book.held = 102, &d, held })
	submitted[tx.MsgProveStorage](s)
	require.GreaterOrEqual(t, s.book.Height(), turn)
}

// TestFullDisk: a holder whose disk is full says so before anything is sent, and in the
// middle; nothing is accepted, and what is whole is only what is whole.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := newStreet(t, storage.Fast)
	s.runs()
	first := s.holders[0]
	first.full = true
	err := s.bring()
	require.ErrorIs(t, err, mman.ErrDiskFull)
	require.ErrorContains(t, err, s.lease.ID.String())
	require.Empty(t, s.files(0))

	first.full = false
	part := filepath.Join(first.dir, s.lease.ID.String()+"-0.part")
	require.NoError(t, os.Symlink("/dev/full", part)) // every write to it finds the disk full
	err = s.bring()
	require.ErrorIs(t, err, mman.ErrDiskFull)
	require.Equal(t, []string{part}, s.files(0))
	for range 3 {
		s.block()
	}
	l, err := s.book.StorageLease(s.lease.ID)
	require.NoError(t, err)
	require.Equal(t, storage.Assigned, l.Replicas[0].State)
	_, err = s.fetch(s.key)
	require.ErrorIs(t, err, mman.ErrLeaseState)

	// When there is room again, it comes.
	require.NoError(t, os.Remove(part))
	require.NoError(t, s.bring())
	submitted[tx.MsgAcceptStorage](s)
}

// TestNotTheReplica: bytes that are not what the lease commits to are deleted and never
// accepted.
func TestNotTheReplica(t *testing.T) {
	t.Parallel()
	s := newStreet(t, storage.Fast)
	right := s.data
	s.data = bytes.Clone(right)
	s.data[len(right)/2] ^= 1
	require.ErrorIs(t, s.bring(), mman.ErrContent)
	require.Empty(t, s.files(0))
	s.data = right
	require.NoError(t, s.bring())
	require.ErrorIs(t, s.bring(), mman.ErrExists)
}

// TestRepairs: a holder copies a replica that another one lost, from the one that has
// it, and goes on where that was cut.
func TestRepairs(t *testing.T) {
	t.Parallel()
	s := newHeld(t)
	source := s.holders[0]
	source.cut.Store(replicas.Piece)
	s.book.change(func() {
		l := s.book.leases[s.lease.ID]
		l.Replicas = append(l.Replicas, storage.Replica{
			State: storage.Assigned, Root: s.lease.Replicas[0].Root, Provider: s.holders[1].address, Peer: s.holders[1].host.ID(), Source: 0, Copy: true,
		})
		s.book.leases[s.lease.ID] = l
	})
	require.Equal(t, []tx.ReplicaName{{Lease: s.lease.ID, Replica: 1}}, submitted[tx.MsgAcceptStorage](s).Replicas)
	kept, err := os.ReadFile(filepath.Join(s.holders[1].dir, s.lease.ID.String()+"-1"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(s.data, kept))
	source.mu.Lock()
	defer source.mu.Unlock()
	require.Equal(t, []uint64{0, replicas.Piece}, source.asked)
}

// TestTiers: the slow tier serves one after another, the fast one all at once, and each
// asks its own price for what is public.
func TestTiers(t *testing.T) {
	t.Parallel()
	for tier, price := range map[storage.Tier]mman.Amount{storage.Fast: 2000, storage.Slow: 500} {
		t.Run(string(tier), func(t *testing.T) {
			t.Parallel()
			s := newStreet(t, tier)
			require.NoError(t, s.bring())
			s.book.change(func() {
				l := s.book.leases[s.lease.ID]
				l.Content = mman.SumCID(mman.CodecRaw, s.data)
				l.Replicas[0].State, l.Replicas[0].Retrieve = storage.Held, price
				s.book.leases[s.lease.ID] = l
			})
			first := s.holders[0]
			ask := replicas.Ask{Verb: replicas.Get, Lease: s.lease.ID, Asker: s.me.ID(), Payer: mman.Address{9}}
			d, err := first.Give(t.Context(), ask, s.me.ID())
			require.NoError(t, err)
			require.Equal(t, price, d.Price())

			// Whoever cannot wait is served at once or not at all.
			hasty, stop := context.WithCancel(t.Context())
			stop()
			second, err := first.Give(hasty, ask, s.me.ID())
			if tier == storage.Slow {
				require.ErrorIs(t, err, mman.ErrCanceled)
			} else {
				require.NoError(t, err)
				require.NoError(t, second.Close())
			}
			require.NoError(t, d.Close())
			require.NoError(t, d.Close(), "twice")
			second, err = first.Give(t.Context(), ask, s.me.ID())
			require.NoError(t, err)
			b := make([]byte, 5)
			_, err = second.ReadAt(b, 3)
			require.NoError(t, errors.Join(err, second.Close()))
			require.Equal(t, s.data[3:8], b)

			ask.Payer = mman.Address{}
			_, err = first.Give(t.Context(), ask, s.me.ID())
			require.ErrorIs(t, err, mman.ErrUnpaid)
		})
	}
}

// TestPaidRetrieval: what is public comes against promises that the ledger covers, and
// the last of them is redeemed.
func TestPaidRetrieval(t *testing.T) {
	t.Parallel()
	s := newHeld(t)
	const price = 1_000_000
	pub, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	consumer, provider := mman.Address{9}, s.holders[0].address
	s.book.change(func() {
		l := s.book.leases[s.lease.ID]
		l.Content, l.Replicas[0].Retrieve = mman.SumCID(mman.CodecRaw, s.data), price
		s.book.leases[s.lease.ID] = l
	})

	get := func(key ed25519.PrivateKey, amount uint64) error {
		ask, err := replicas.Ask{Verb: replicas.Get, Lease: s.lease.ID, Asker: s.me.ID(), Payer: consumer}.Fresh()
		require.NoError(t, err)
		return replicas.Fetch(t.Context(), s.me, s.holders[0].host.ID(), replicas.Wanted{
			Ask: ask, Size: s.lease.Bytes, MaxPrice: price, Pay: func(mman.Amount, uint64) (replicas.Promise, error) {
				msg := tx.MsgRedeemRetrieval{Provider: provider, Consumer: consumer, Amount: mman.Amount(amount)}
				digest := mman.SignDigest(mman.SignRetrieval, p2ptest.NetworkID, msg.Payload())
				return replicas.Promise{Amount: msg.Amount, Signature: ed25519.Sign(key, digest[:])}, nil
			},
		}, io.Discard, replicas.Default())
	}
	cost, err := storage.Pay(s.lease.Bytes, price)
	require.NoError(t, err)
	signed := uint64(cost)
	require.ErrorIs(t, get(key, signed), mman.ErrUnpaid, "nothing is set aside")
	s.book.change(func() {
		s.book.aside = &vault.Retrieval{Consumer: consumer, Provider: provider, Key: pub, Held: 2*cost + 1}
	})
	require.ErrorIs(t, get(key, signed-1), mman.ErrUnpaid)
	require.ErrorIs(t, get(key, 2*signed+2), mman.ErrUnpaid, "more than is there")
	_, other, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	require.ErrorIs(t, get(other, signed), mman.ErrBadSignature)
	require.NoError(t, get(key, signed))
	require.ErrorIs(t, get(key, signed), mman.ErrUnpaid, "the same promise does not pay twice")
	require.NoError(t, get(key, 2*signed))
	for redeemed := mman.Amount(0); redeemed < 2*cost; {
		redeemed = submitted[tx.MsgRedeemRetrieval](s).Amount
	}
}
