package store

import "github.com/limboid/massive-man/abci/state"

// CrashInBlock writes a block's pairs and ends before its marker, as a crash
// may.
func (s *State) CrashInBlock(changes []state.Change) error {
	return s.writePairs(changes, s.version+1)
}
