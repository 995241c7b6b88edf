package cartpole_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/examples/cartpole"
)

// TestAsPublished holds the first observations against those that Gymnasium's
// documentation prints for CartPole-v1: three seeds, and a step each way from the first.
func TestAsPublished(t *testing.T) {
	t.Parallel()
	near := func(want []float32, got [4]float32) {
		t.Helper()
		for i := range want {
			require.InDelta(t, want[i], got[i], 6e-9, "%v, %v", want, got)
		}
	}
	for seed, want := range map[uint64][]float32{
		42: {0.0273956, -0.00611216, 0.03585979, 0.0197368},
		43: {0.01522993, -0.04562247, -0.04799704, 0.03392126},
		44: {-0.03774345, -0.02418869, -0.00942293, 0.0469184},
	} {
		p := cartpole.NewPole(seed)
		p.Reset()
		near(want, p.Observation())
	}
	for action, want := range [][]float32{{0.02727336, -0.20172954, 0.03625453, 0.32351476}, {0.02727336, 0.18847767, 0.03625453, -0.26141977}} {
		p := cartpole.NewPole(42)
		p.Reset()
		reward, terminated, truncated := p.Step(int64(action))
		require.InDelta(t, 1, reward, 0)
		require.False(t, terminated || truncated)
		near(want, p.Observation())
	}
}

// TestEpisode: an episode ends when the pole falls, and the step after that begins the
// next; one that stands is cut off after 500 steps.
func TestEpisode(t *testing.T) {
	t.Parallel()
	p := cartpole.NewPole(1)
	p.Reset()
	steps := 0
	for over := false; !over; steps++ {
		_, over, _ = p.Step(1)
	}
	require.Less(t, steps, 15, "pushed to one side it falls")
	reward, terminated, truncated := p.Step(1)
	require.Zero(t, reward)
	require.False(t, terminated || truncated)
	for _, v := range p.Observation() {
		require.Less(t, v*v, float32(0.05*0.05+1e-6))
	}
	p = cartpole.NewPole(2)
	p.Reset()
	for i := 1; ; i++ {
		o := p.Observation()
		action := int64(0)
		if o[2]+0.3*o[3]+0.02*o[0]+0.05*o[1] > 0 {
			action = 1
		}
		_, terminated, truncated := p.Step(action)
		require.False(t, terminated, "step %d", i)
		if truncated {
			require.Equal(t, 500, i)
			return
		}
	}
}
