package content

import (
	"context"
	"errors"
	"sync"

	mman "github.com/limboid/massive-man"
)

// fresh says which blocks of the public store came with something that is still being
// added: should that fail, they are deleted again, so that a disk that it filled has
// its room back. It is safe for concurrent use.
type fresh struct {
	mu sync.Mutex
	of map[mman.CID]*attempt
}

// attempt is one file, folder or CAR file on its way into the public store.
type attempt struct {
	of     *fresh
	public *PublicStore
	mine   []mman.CID // blocks that were not here before, also those that others took since
}

// note remembers the blocks of a batch that are not here yet. One that two attempts
// bring is nobody's: neither may delete it.
func (a *attempt) note(ctx context.Context, batch []Block) error {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	for _, b := range batch {
		owner, ok := a.of.of[b.cid]
		switch {
		case owner == a:
			continue
		case ok:
			a.of.of[b.cid] = nil
			continue
		}
		has, err := a.public.Has(ctx, b.cid)
		if err != nil {
			return err
		}
		if !has {
			a.of.of[b.cid] = a
			a.mine = append(a.mine, b.cid)
		}
	}
	return nil
}

// end forgets the attempt, and deletes what it brought when it failed.
func (a *attempt) end(ctx context.Context, failed bool) error {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	var errs []error
	for _, c := range a.mine {
		if owner := a.of.of[c]; owner == a && failed {
			errs = append(errs, a.public.Delete(ctx, c))
		}
		delete(a.of.of, c)
	}
	return errors.Join(errs...)
}

// adding runs do, which stores batches with put. When it fails, what it stored and was
// not here before is deleted.
func (s *Service) adding(ctx context.Context, do func(put func([]Block) error) error) error {
	a := &attempt{of: s.fresh, public: s.public}
	err := do(func(batch []Block) error {
		if err := a.note(ctx, batch); err != nil {
			return err
		}
		return s.put(ctx, batch)
	})
	return errors.Join(err, a.end(context.WithoutCancel(ctx), err != nil))
}

// addingFile is adding for one file.
func (s *Service) addingFile(ctx context.Context, do func(put func([]Block) error) (mman.CID, uint64, error)) (root mman.CID, size uint64, err error) {
	err = s.adding(ctx, func(put func([]Block) error) (err error) {
		root, size, err = do(put)
		return err
	})
	return root, size, err
}
