package stake_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/stake"
)

// TestPoolConserves deposits, rewards, slashes and withdraws at random: nobody
// takes out more than is there, rounding never favours who acts, and the last
// one out leaves nothing.
func TestPoolConserves(t *testing.T) {
	t.Parallel()
	for range 200 {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 5))
		var p stake.Pool
		var in, out mman.Amount
		held := make([]uint64, 4)
		for range 200 {
			who := rng.IntN(len(held))
			before := others(t, p, held, who)
			switch rng.IntN(5) {
			case 0, 1:
				amount := 1 + mman.Amount(rng.Uint64N(1<<(1+rng.Uint64N(45))))
				shares, err := p.Deposit(amount)
				if err != nil {
					require.ErrorIs(t, err, mman.ErrInvalid, "seed %d", seed)
					continue
				}
				held[who] += shares
				in += amount
				mine, err := p.Value(shares)
				require.NoError(t, err)
				require.LessOrEqual(t, mine, amount, "seed %d", seed)
				require.LessOrEqual(t, amount-mine, amount/1000, "seed %d", seed)
			case 2:
				shares := held[who]
				if shares > 0 && rng.IntN(2) == 0 {
					worth, err := p.Value(shares)
					require.NoError(t, err)
					if worth > 0 {
						some, err := p.Price(1 + mman.Amount(rng.Uint64N(uint64(worth))))
						require.NoError(t, err)
						require.LessOrEqual(t, some, shares, "seed %d", seed)
						shares = some
					}
				}
				paid, err := p.Withdraw(shares)
				require.NoError(t, err)
				held[who] -= shares
				out += paid
			case 3:
				if p.Shares > 0 {
					reward := mman.Amount(rng.Uint64N(1 << 20))
					p.Tokens += reward
					in += reward
				}
			default:
				cut, err := p.Slash(rng.Uint64N(100_000))
				require.NoError(t, err)
				out += cut
				before = 0
			}
			require.LessOrEqual(t, before, others(t, p, held, who), "seed %d: nobody loses by what another does", seed)
			require.Equal(t, in-out, p.Tokens, "seed %d", seed)
			require.Equal(t, p.Tokens == 0, p.Shares == 0, "seed %d", seed)
		}
		for who := range held {
			_, err := p.Withdraw(held[who])
			require.NoError(t, err)
		}
		require.Equal(t, stake.Pool{}, p, "seed %d", seed)
	}
}

// others returns what all but one hold together.
func others(t *testing.T, p stake.Pool, held []uint64, but int) mman.Amount {
	t.Helper()
	var shares uint64
	for i, n := range held {
		if i != but {
			shares += n
		}
	}
	v, err := p.Value(shares)
	require.NoError(t, err)
	return v
}

func TestPoolRefuses(t *testing.T) {
	t.Parallel()
	p := stake.Pool{Tokens: 1_000_001, Shares: 1}
	_, err := p.Deposit(1_900_000)
	require.ErrorIs(t, err, mman.ErrInvalid, "it would lose almost half")
	_, err = p.Deposit(5)
	require.ErrorIs(t, err, mman.ErrInvalid)
	require.Equal(t, stake.Pool{Tokens: 1_000_001, Shares: 1}, p)
	_, err = p.Withdraw(2)
	require.ErrorIs(t, err, mman.ErrInvariant)
	_, err = (&stake.Pool{}).Price(5)
	require.ErrorIs(t, err, mman.ErrFunds)
	whole := stake.Pool{Tokens: 10, Shares: 10}
	cut, err := whole.Slash(1_000_000)
	require.NoError(t, err)
	require.Equal(t, mman.Amount(9), cut, "shares keep a price")
	full := stake.Pool{Tokens: 1, Shares: 1 << 63}
	_, err = full.Deposit(1 << 40)
	require.ErrorIs(t, err, mman.ErrOverflow)
}
