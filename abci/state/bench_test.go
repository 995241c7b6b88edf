package state_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/abci/state"
)

type size struct {
	name string
	keys uint64
}

func sizes() []size { return []size{{"10k", 10_000}, {"1M", 1_000_000}} }

// filled is a state with so many accounts.
func filled(b *testing.B, keys uint64) *state.Store {
	b.Helper()
	s, err := state.Open(state.NewMemory())
	require.NoError(b, err)
	value := make([]byte, 80)
	o := s.Begin()
	for i := range keys {
		require.NoError(b, o.Set("bank", state.BankAccounts.Key(state.Uint64Key(i)), value))
	}
	staged, err := s.Stage(o)
	require.NoError(b, err)
	require.NoError(b, s.Commit(staged, 1, nil))
	return s
}

// BenchmarkStage executes and hashes blocks of 10,000 updates spread over all
// keys, as transfers between random accounts are.
func BenchmarkStage(b *testing.B) {
	for _, size := range sizes() {
		b.Run(size.name, func(b *testing.B) {
			s, value := filled(b, size.keys), make([]byte, 80)
			const updates = 10_000
			rng := rand.New(rand.NewPCG(1, 2))
			n := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				o := s.Begin()
				for range updates {
					n++
					binary.BigEndian.PutUint64(value, n)
					if err := o.Set("bank", state.BankAccounts.Key(state.Uint64Key(rng.Uint64N(size.keys))), value); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := s.Stage(o); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*updates/b.Elapsed().Seconds(), "updates/s")
		})
	}
}

// BenchmarkRoot hashes blocks of 3,000 transfers from 10,000 accounts to any other,
// which were executed before: each reads and writes two accounts.
func BenchmarkRoot(b *testing.B) {
	for _, size := range sizes() {
		b.Run(size.name, func(b *testing.B) {
			s, value := filled(b, size.keys), make([]byte, 80)
			const transfers = 3000
			rng := rand.New(rand.NewPCG(1, 2))
			n := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				o := s.Begin()
				for i := range uint64(transfers) {
					for _, k := range []uint64{(n*transfers + i) % 10_000, rng.Uint64N(size.keys)} {
						key := state.BankAccounts.Key(state.Uint64Key(k))
						_, _, err := o.Get("bank", key)
						require.NoError(b, err)
						binary.BigEndian.PutUint64(value, rng.Uint64())
						require.NoError(b, o.Set("bank", key, value))
					}
				}
				n++
				b.StartTimer()
				staged, err := s.Stage(o)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				require.NoError(b, s.Commit(staged, 1+n, nil))
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/transfers, "ns/transfer")
		})
	}
}
