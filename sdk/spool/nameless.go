package spool

import (
	"errors"
	"fmt"
	"os"

	mman "github.com/limboid/massive-man"
)

// Nameless makes a file in the system's folder for temporary files that has no name any
// more, so that nothing is left behind; pattern is os.CreateTemp's. It fails with
// mman.ErrHome.
func Nameless(pattern string) (*os.File, error) {
	f, err := os.CreateTemp("", pattern)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", mman.ErrHome, err), f.Close())
	}
	return f, nil
}
