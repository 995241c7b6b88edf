package kernel

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// The kernels of source/kernels.c, line by line, so that what differs in speed is the
// way that code is made and run, not the algorithm.

const (
	bytesSize = 1 << 20
	wordCount = 1 << 18
)

// sha256Constants are those of the standard, FIPS 180-4.
func sha256Constants() [64]uint32 {
	return [64]uint32{
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
		0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
		0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
		0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
		0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
		0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
		0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
		0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
	}
}

func sha256Block(state *[8]uint32, k *[64]uint32, p []byte) {
	var w [64]uint32
	for i := range 16 {
		w[i] = binary.BigEndian.Uint32(p[4*i:])
	}
	for i := 16; i < 64; i++ {
		x, y := w[i-15], w[i-2]
		w[i] = w[i-16] + w[i-7] +
			(bits.RotateLeft32(x, -7) ^ bits.RotateLeft32(x, -18) ^ x>>3) +
			(bits.RotateLeft32(y, -17) ^ bits.RotateLeft32(y, -19) ^ y>>10)
	}
	a, b, c, d, e, f, g, h := state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
	for i := range 64 {
		t := h + (bits.RotateLeft32(e, -6) ^ bits.RotateLeft32(e, -11) ^ bits.RotateLeft32(e, -25)) + (g ^ (e & (f ^ g))) + k[i] + w[i]
		s := (bits.RotateLeft32(a, -2) ^ bits.RotateLeft32(a, -13) ^ bits.RotateLeft32(a, -22)) + ((a & b) | (c & (a | b)))
		h, g, f, e, d, c, b, a = g, f, e, d+t, c, b, a, t+s
	}
	for i, v := range [8]uint32{a, b, c, d, e, f, g, h} {
		state[i] += v
	}
}

func sha256(rounds uint32) uint32 {
	state := [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
	k := sha256Constants()
	text := make([]byte, bytesSize)
	for i := range text {
		text[i] = byte(i * 31 & 0xff)
	}
	for range rounds {
		for i := 0; i < bytesSize; i += 64 {
			sha256Block(&state, &k, text[i:i+64])
		}
	}
	return state[0]
}

type planet struct{ x, y, z, vx, vy, vz, mass float64 }

// The products are converted so that no processor adds them without rounding.
func advance(b *[5]planet, dt float64) {
	for i := range b {
		for j := i + 1; j < len(b); j++ {
			dx, dy, dz := b[i].x-b[j].x, b[i].y-b[j].y, b[i].z-b[j].z
			d2 := float64(dx*dx) + float64(dy*dy) + float64(dz*dz)
			mag := dt / float64(d2*math.Sqrt(d2))
			b[i].vx -= float64(dx * b[j].mass * mag)
			b[i].vy -= float64(dy * b[j].mass * mag)
			b[i].vz -= float64(dz * b[j].mass * mag)
			b[j].vx += float64(dx * b[i].mass * mag)
			b[j].vy += float64(dy * b[i].mass * mag)
			b[j].vz += float64(dz * b[i].mass * mag)
		}
	}
	for i := range b {
		b[i].x += float64(dt * b[i].vx)
		b[i].y += float64(dt * b[i].vy)
		b[i].z += float64(dt * b[i].vz)
	}
}

func nbody(rounds uint32) uint32 {
	sun := [5]planet{
		{0, 0, 0, 0, 0, 0, 39.47841760435743},
		{4.84143144246472090, -1.16032004402742839, -0.103622044471123109, 0.606326392995832, 2.81198684491626, -0.02521836165988763, 0.03769367487038949},
		{8.34336671824457987, 4.12479856412430479, -0.403523417114321, -1.01077434617879, 1.82566237123041, 0.008415761376584154, 0.011286326131968767},
		{12.8943695621391310, -15.1111514016986312, -0.223307578892655734, 1.08279100644153, 0.868713018169608, -0.010832637401363636, 0.0017237240570597112},
		{15.3796971148509165, -25.9193146099879641, 0.179258772950371181, 0.979090732243898, 0.594698998647676, -0.034755955550407446, 0.0020336868699246304},
	}
	for range rounds {
		advance(&sun, 0.01)
	}
	return uint32(int32(sun[0].x * 1e9)) //nolint:gosec // a checksum
}

func flips(p, q *[16]int32, n uint32) int32 {
	q0 := p[0]
	if q0 == 0 {
		return 0
	}
	copy(q[1:n], p[1:n])
	for count := int32(1); ; count++ {
		qq := q[q0]
		if qq == 0 {
			return count
		}
		q[q0] = q0
		if q0 >= 3 {
			for i, j := int32(1), q0-1; i < j; i, j = i+1, j-1 {
				q[i], q[j] = q[j], q[i]
			}
		}
		q0 = qq
	}
}

// permute makes the next permutation; false after the last.
func permute(p, s *[16]int32, n uint32) bool {
	p[1], p[2] = p[2], p[1]
	for i := uint32(2); i < n; i++ {
		if s[i] != 0 {
			s[i]--
			return true
		}
		if i == n-1 {
			return false
		}
		s[i] = int32(i)
		t := p[0]
		copy(p[:i+1], p[1:i+2])
		p[i+1] = t
	}
	return true
}

func fannkuch(n uint32) uint32 {
	var p, q, s [16]int32
	for i := range int32(n) { //nolint:gosec // below 16
		p[i], q[i], s[i] = i, i, i
	}
	sum, most := int32(0), int32(0)
	for {
		count := flips(&p, &q, n)
		sum, most = sum+count, max(most, count)
		p[0], p[1] = p[1], p[0]
		count = flips(&p, &q, n)
		sum, most = sum-count, max(most, count)
		if !permute(&p, &s, n) {
			return uint32(sum*100 + most) //nolint:gosec // a checksum
		}
	}
}

func sieve(rounds uint32) uint32 {
	composite := make([]byte, bytesSize)
	count := uint32(0)
	for range rounds {
		count = 0
		for i := 2; i < bytesSize; i++ {
			composite[i] = 1
		}
		for i := 2; i < bytesSize; i++ {
			if composite[i] == 0 {
				continue
			}
			count++
			for j := 2 * i; j < bytesSize; j += i {
				composite[j] = 0
			}
		}
	}
	return count
}

func quicksort(a []uint32, low, high int) {
	for low < high {
		pivot, i, j := a[(low+high)/2], low, high
		for i <= j {
			for a[i] < pivot {
				i++
			}
			for a[j] > pivot {
				j--
			}
			if i <= j {
				a[i], a[j] = a[j], a[i]
				i, j = i+1, j-1
			}
		}
		quicksort(a, low, j)
		low = i
	}
}

func sort(rounds uint32) uint32 {
	words := make([]uint32, wordCount)
	seed, sum := uint32(1), uint32(0)
	for range rounds {
		for i := range words {
			seed = seed*1664525 + 1013904223
			words[i] = seed
		}
		quicksort(words, 0, len(words)-1)
		sum += words[1000]
	}
	return sum
}

// scanner reads a text of JSON and sums it up.
type scanner struct {
	text []byte
	at   int
}

func (s *scanner) value() uint32 {
	n := uint32(1)
	for s.text[s.at] == ' ' {
		s.at++
	}
	switch s.text[s.at] {
	case '{', '[':
		for s.at++; s.text[s.at] != '}' && s.text[s.at] != ']'; {
			n += s.value()
			for s.text[s.at] == ',' || s.text[s.at] == ':' || s.text[s.at] == ' ' {
				s.at++
			}
		}
		s.at++
	case '"':
		for s.at++; s.text[s.at] != '"'; s.at++ {
			if s.text[s.at] == '\\' {
				s.at++
			}
		}
		s.at++
	default:
		for isWord(s.text[s.at]) {
			n = n*31 + uint32(s.text[s.at])
			s.at++
		}
	}
	return n
}

func isWord(c byte) bool {
	return c == '-' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z'
}

func json(rounds uint32) uint32 {
	const item = `{"name": "a \"quoted\" name", "values": [1, 22.5, -333, true, null], "more": {"deep": [[], {}, "x"]}}, `
	text := []byte{'['}
	for range 8000 {
		text = append(text, item...)
	}
	text = append(text, "0]\x00"...)
	sum := uint32(0)
	for range rounds {
		s := scanner{text: text}
		sum += s.value()
	}
	return sum
}

func interpreter(rounds uint32) uint32 {
	code := [][4]byte{{0, 1, 2, 3}, {1, 2, 1, 4}, {2, 3, 3, 0}, {3, 4, 1, 0}, {5, 1, 1, 3}, {4, 3, 2, 0}, {6, 2, 4, 1}, {8, 5, 6, 3}, {0, 6, 6, 3}, {7, 0, 0, 0}}
	r := make([]uint32, 2048)
	for i := range r {
		r[i] = uint32(i * 7)
	}
	for pc := 0; ; {
		in := code[pc]
		pc++
		to, x, y := &r[in[1]], r[in[2]], r[in[3]]
		switch in[0] {
		case 0:
			*to = x + y
		case 1:
			*to = x ^ y<<3
		case 2:
			*to = x*5 + 1
		case 3:
			*to = r[1024+(x&1023)]
		case 4:
			r[1024+(x&1023)] = *to
		case 5:
			*to = x - y>>5
		case 6:
			*to = x | y
		case 7:
			rounds--
			if rounds == 0 {
				return r[1] ^ r[2]
			}
			pc = 0
		default:
			*to = max(x, y) - min(x, y)
		}
	}
}

func tightloop(rounds uint32) uint32 {
	x := uint32(1)
	for i := range rounds {
		x = (x<<13 ^ x) + i
		x ^= x >> 7
	}
	return x
}
