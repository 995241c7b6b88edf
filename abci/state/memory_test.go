package state_test

import (
	"math/rand/v2"
	"testing"

	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/state/statetest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	statetest.Run(t, rand.Uint64(), func(*testing.T) statetest.Opener {
		db := state.NewMemory()
		return func(*testing.T) state.DB { return db }
	})
}
