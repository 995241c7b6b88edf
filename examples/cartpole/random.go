package cartpole

import "math/bits"

// pcg is the generator that NumPy uses by default: PCG XSL RR 128/64 (O'Neill, "PCG: A
// Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random Number
// Generation", 2014), seeded as NumPy's SeedSequence does.
type pcg struct{ state, odd uint128 }

type uint128 struct{ high, low uint64 }

func (a uint128) add(b uint128) uint128 {
	low, carry := bits.Add64(a.low, b.low, 0)
	high, _ := bits.Add64(a.high, b.high, carry)
	return uint128{high, low}
}

func (a uint128) times(b uint128) uint128 {
	high, low := bits.Mul64(a.low, b.low)
	return uint128{high + a.high*b.low + a.low*b.high, low}
}

func newPCG(seed uint64) *pcg {
	w := spread(seed)
	sequence := uint128{w[2], w[3]}
	p := &pcg{odd: uint128{sequence.high<<1 | sequence.low>>63, sequence.low<<1 | 1}}
	p.step()
	p.state = p.state.add(uint128{w[0], w[1]})
	p.step()
	return p
}

func (p *pcg) step() {
	p.state = p.state.times(uint128{0x2360ed051fc65da4, 0x4385df649fccf645}).add(p.odd)
}

// float64 returns a number in [0, 1), of 53 bits.
func (p *pcg) float64() float64 {
	p.step()
	word := bits.RotateLeft64(p.state.high^p.state.low, -int(p.state.high>>58))
	return float64(word>>11) / (1 << 53)
}

// spread turns a seed into 256 bits that differ everywhere when seeds differ anywhere:
// the hash of NumPy's SeedSequence, which is after O'Neill's seed_seq_fe.
func spread(seed uint64) (out [4]uint64) {
	constant := uint32(0x43b0d7e5)
	hash := func(v uint32) uint32 {
		v ^= constant
		constant *= 0x931e8875
		v *= constant
		return v ^ v>>16
	}
	pool := [4]uint32{uint32(seed), uint32(seed >> 32)} //nolint:gosec // halves
	for i := range pool {
		pool[i] = hash(pool[i])
	}
	for from := range pool {
		for to := range pool {
			if from != to {
				mixed := 0xca01f9dd*pool[to] - 0x4973f715*hash(pool[from])
				pool[to] = mixed ^ mixed>>16
			}
		}
	}
	constant = 0x8b51f9dd
	for i := range 8 {
		v := pool[i%4] ^ constant
		constant *= 0x58f38ded
		v *= constant
		out[i/2] |= uint64(v^v>>16) << (32 * (i % 2))
	}
	return out
}
