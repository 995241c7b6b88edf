package content

import (
	"context"
	"errors"
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
)

// maxForget bounds the blocks below a root that is forgotten.
const maxForget = 16 << 20

// Forget deletes the blocks of a root that none of the kept roots needs, and returns
// their bytes. Blocks that are not here are passed over, so that what was interrupted
// can be done again. Nothing may be added meanwhile that is not among the kept.
func (s *Service) Forget(ctx context.Context, root mman.CID, kept []mman.CID) (freed uint64, err error) {
	var order []mman.CID
	lost := make(map[mman.CID]struct{})
	err = s.eachBelow(ctx, []mman.CID{root}, func(c mman.CID) error {
		if _, ok := lost[c]; ok {
			return nil
		}
		if len(order) == maxForget {
			return fmt.Errorf("%w: below %s are more than %d blocks", mman.ErrTooLarge, root, maxForget)
		}
		lost[c] = struct{}{}
		order = append(order, c)
		return nil
	})
	if err != nil {
		return 0, err
	}
	err = s.eachBelow(ctx, kept, func(c mman.CID) error {
		delete(lost, c)
		return nil
	})
	if err != nil {
		return 0, err
	}
	// What leads to others goes last: until then a second try finds them.
	for _, c := range slices.Backward(order) {
		if _, ok := lost[c]; !ok {
			continue
		}
		size, _, err := s.public.Size(ctx, c)
		if err == nil {
			err = s.public.Delete(ctx, c)
		}
		if err != nil {
			return freed, err
		}
		freed += size
	}
	return freed, s.public.Sync()
}

// eachBelow calls do for the roots and all that they link to, a parent before its
// children. It reads only blocks that can link to others, each once.
func (s *Service) eachBelow(ctx context.Context, roots []mman.CID, do func(mman.CID) error) error {
	left := append([]mman.CID{}, roots...)
	read := make(map[mman.CID]struct{})
	for len(left) > 0 {
		c := left[len(left)-1]
		left = left[:len(left)-1]
		if err := do(c); err != nil {
			return err
		}
		if _, ok := read[c]; ok || c.Codec() != mman.CodecDagPB {
			continue
		}
		read[c] = struct{}{}
		b, err := s.public.Get(ctx, c)
		if errors.Is(err, mman.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		below, err := linksOf(b)
		if err != nil {
			return err
		}
		left = append(left, below...)
	}
	return nil
}
