package state_test

import (
	"testing"

	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/state/statetest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(*testing.T) statetest.Opener {
		db := state.NewMemory()
		return func(*testing.T) state.DB { return db }
	})
}
