package cartpole

import "math"

// The constants of the system, in SI units, and where an episode ends.
const (
	gravity    = 9.8
	cartMass   = 1.0
	poleMass   = 0.1
	totalMass  = cartMass + poleMass
	halfLength = 0.5 // of the pole
	force      = 10.0
	tick       = 0.02 // seconds
	farthest   = 2.4
	steepest   = 12 * 2 * math.Pi / 360
	lastStep   = 500
	startRange = 0.05
)

// Pole is one cart with its pole.
type Pole struct {
	x, speed, angle, spin float64
	steps                 int
	over                  bool // the episode has ended
	random                *pcg
}

// NewPole returns a cart whose randomness comes from the seed.
func NewPole(seed uint64) *Pole { return &Pole{random: newPCG(seed), over: true} }

// Seed makes the randomness that of the seed.
func (p *Pole) Seed(seed uint64) { p.random = newPCG(seed) }

// Reset begins an episode.
func (p *Pole) Reset() {
	for _, v := range []*float64{&p.x, &p.speed, &p.angle, &p.spin} {
		*v = -startRange + 2*startRange*p.random.float64()
	}
	p.steps, p.over = 0, false
}

// Observation is the cart's position and speed, and the pole's angle and spin.
func (p *Pole) Observation() [4]float32 {
	return [4]float32{float32(p.x), float32(p.speed), float32(p.angle), float32(p.spin)}
}

// Step pushes the cart to the left (0) or to the right (1) for a moment. After the end
// of an episode it begins the next one instead, for no reward.
func (p *Pole) Step(action int64) (reward float64, terminated, truncated bool) {
	if p.over {
		p.Reset()
		return 0, false, false
	}
	push := -force
	if action == 1 {
		push = force
	}
	sin, cos := math.Sincos(p.angle)
	lever := poleMass * halfLength
	pushed := (push + lever*p.spin*p.spin*sin) / totalMass
	spinning := (gravity*sin - cos*pushed) / (halfLength * (4.0/3.0 - poleMass*cos*cos/totalMass))
	moving := pushed - lever*spinning*cos/totalMass
	p.x += tick * p.speed
	p.speed += tick * moving
	p.angle += tick * p.spin
	p.spin += tick * spinning
	p.steps++
	terminated = math.Abs(p.x) > farthest || math.Abs(p.angle) > steepest
	truncated = p.steps >= lastStep
	p.over = terminated || truncated
	return 1, terminated, truncated
}
