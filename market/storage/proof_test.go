package storage_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/storage"
)

func TestProof(t *testing.T) {
	t.Parallel()
	for _, size := range []uint64{1, 1023, 1024, 1025, 5000, storage.BlockSize, storage.BlockSize + 1, 3*storage.BlockSize + 777} {
		data := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(data) // it never fails
		tree, err := storage.Plant(bytes.NewReader(data))
		require.NoError(t, err)
		require.Equal(t, size, tree.Bytes)
		seen := map[string]bool{}
		for i := range byte(32) {
			d := storage.Drawn{Epoch: 1, Value: mman.Hash{i}}
			p, err := storage.Prove(tree, bytes.NewReader(data), mman.LeaseID{1}, 2, d.Value)
			require.NoError(t, err)
			raw := p.Encode()
			require.LessOrEqual(t, len(raw), storage.ProofMaxBytes)
			seen[string(p.Leaf)] = true
			again, err := storage.DecodeProof(raw)
			require.NoError(t, err)
			require.NoError(t, again.Verify(tree.Root, size, d.Value))
			for _, at := range []int{21, len(raw) - 1} {
				bad := bytes.Clone(raw)
				bad[at] ^= 1
				if b, err := storage.DecodeProof(bad); err == nil {
					require.ErrorIs(t, b.Verify(tree.Root, size, d.Value), mman.ErrProof)
				}
			}
		}
		if size > 100*storage.LeafSize {
			require.Greater(t, len(seen), 20, "challenges spread over the leaves")
		}
	}
	_, err := storage.Plant(bytes.NewReader(nil))
	require.ErrorIs(t, err, mman.ErrInvalid)
	for _, b := range [][]byte{nil, make([]byte, 21), make([]byte, 22), make([]byte, 5000)} {
		_, err := storage.DecodeProof(b)
		require.ErrorIs(t, err, mman.ErrInvalid)
	}
}

func FuzzDecodeProof(f *testing.F) {
	f.Add(storage.Proof{Leaf: []byte{1}, Path: []mman.Hash{{1}}}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := storage.DecodeProof(b); err == nil {
			require.Equal(t, b, p.Encode())
			_ = p.Verify(mman.Hash{}, 5000, mman.Hash{}) // whatever it says, it ends
		}
	})
}

func TestTerms(t *testing.T) {
	t.Parallel()
	rules := storage.Rules{EpochBlocks: 10, WindowBlocks: 4, AcceptBlocks: 4, DepositEpochs: 4, BurnPPM: 20_000, MaxEpochs: 100}
	good := storage.Wanted{Key: make([]byte, 32), Bytes: 5 << 20, Tier: storage.Fast, MaxPrice: 10, Epochs: 6, Roots: []mman.Hash{{1}, {2}, {3}}}
	l, err := storage.New(mman.LeaseID{1}, good, 35, rules)
	require.NoError(t, err)
	require.Equal(t, mman.Amount(5*10*6*3), l.Escrow)
	require.Equal(t, uint64(9), l.Last)
	for name, change := range map[string]func(*storage.Wanted){
		"nothing":          func(w *storage.Wanted) { w.Bytes = 0 },
		"too much":         func(w *storage.Wanted) { w.Bytes = storage.MaxBytes + 1 },
		"no tier":          func(w *storage.Wanted) { w.Tier = "warm" },
		"no replica":       func(w *storage.Wanted) { w.Roots = nil },
		"many replicas":    func(w *storage.Wanted) { w.Roots = make([]mman.Hash, storage.MaxReplicas+1) },
		"equal replicas":   func(w *storage.Wanted) { w.Roots[1] = w.Roots[0] },
		"no epochs":        func(w *storage.Wanted) { w.Epochs = 0 },
		"many epochs":      func(w *storage.Wanted) { w.Epochs = 101 },
		"no key":           func(w *storage.Wanted) { w.Key = nil },
		"absurd price":     func(w *storage.Wanted) { w.MaxPrice = storage.MaxPrice + 1 },
		"absurd providers": func(w *storage.Wanted) { w.Providers = make([]mman.Address, storage.MaxProviders+1) },
	} {
		w := good
		w.Roots = append([]mman.Hash{}, good.Roots...)
		change(&w)
		_, err := storage.New(mman.LeaseID{1}, w, 35, rules)
		require.ErrorIs(t, err, mman.ErrInvalid, name)
	}
	w := good
	w.Bytes, w.MaxPrice, w.Epochs = storage.MaxBytes, storage.MaxPrice, 100
	_, err = storage.New(mman.LeaseID{1}, w, 35, rules)
	require.ErrorIs(t, err, mman.ErrOverflow)
	_, err = l.Extend(1<<63, 35, rules)
	require.ErrorIs(t, err, mman.ErrInvalid)
}

// BenchmarkVerify is what the ledger does for one proof of a replica of 1 GiB.
func BenchmarkVerify(b *testing.B) {
	p := storage.Proof{Leaf: make([]byte, storage.LeafSize), Path: make([]mman.Hash, 20)}
	for b.Loop() {
		_ = p.Verify(mman.Hash{}, 1<<30, mman.Hash{}) // it fails after all hashes
	}
}

// TestFits: a replica goes where the tier, the room and the price fit, to an account and
// a node that have no other of the lease, and with Spread into another region.
func TestFits(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		offer func(o *storage.Offer)
		lease func(l *storage.Lease)
		want  bool
	}{
		"another account, node and region": {want: true},
		"the same account":                 {offer: func(o *storage.Offer) { o.Provider = mman.Address{1} }},
		"the same node":                    {offer: func(o *storage.Offer) { o.Peer = mman.PeerID{1} }},
		"the same region":                  {offer: func(o *storage.Offer) { o.Region = "eu" }},
		"the same region, not spread":      {offer: func(o *storage.Offer) { o.Region = "eu" }, lease: func(l *storage.Lease) { l.Spread = false }, want: true},
		"the same as one that was lost":    {offer: func(o *storage.Offer) { o.Provider, o.Region = mman.Address{1}, "eu" }, lease: func(l *storage.Lease) { l.Replicas[0].State = storage.Lost }, want: true},
		"the other tier":                   {offer: func(o *storage.Offer) { o.Tier = storage.Slow }},
		"too dear":                         {offer: func(o *storage.Offer) { o.Price = 11 }},
		"no room":                          {offer: func(o *storage.Offer) { o.Used = 9 }},
		"suspended":                        {offer: func(o *storage.Offer) { o.Suspended = true }},
		"not one of those that are named":  {lease: func(l *storage.Lease) { l.Providers = []mman.Address{{3}} }},
		"one of those that are named":      {lease: func(l *storage.Lease) { l.Providers = []mman.Address{{3}, {2}} }, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := storage.Lease{Tier: storage.Fast, Bytes: 2 << 20, MaxPrice: 10, Spread: true, Replicas: []storage.Replica{
				{State: storage.Held, Provider: mman.Address{1}, Peer: mman.PeerID{1}, Region: "eu"}, {State: storage.Unplaced},
			}}
			o := storage.Offer{Provider: mman.Address{2}, Peer: mman.PeerID{2}, Tier: storage.Fast, Region: "us", Price: 10, Capacity: 10}
			if tc.offer != nil {
				tc.offer(&o)
			}
			if tc.lease != nil {
				tc.lease(&l)
			}
			require.Equal(t, tc.want, l.Fits(1, o))
		})
	}
}
