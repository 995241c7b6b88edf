package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/moby/moby/client"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container/image"
)

// loaded is an image in the engine.
type loaded struct {
	cid     mman.CID
	id      string
	process image.Process
	bytes   uint64
	uses    int
	used    uint64 // when it was taken last, in turns
}

// images are those of one owner in an engine: each archive once, by its CID.
type images struct {
	engine *engine
	most   uint64 // of one
	keep   uint64 // of all

	loading chan struct{} // one place: an archive is read and loaded at a time
	mu      sync.Mutex
	all     map[mman.CID]*loaded
	turn    uint64
}

// openImages finds the images that an earlier process loaded. They come unpacked
// from archives that were checked then, and the label says which.
func openImages(ctx context.Context, e *engine, most, keep uint64) (*images, error) {
	s := &images{engine: e, most: most, keep: keep, loading: make(chan struct{}, 1), all: map[mman.CID]*loaded{}}
	got, err := e.ImageList(ctx, client.ImageListOptions{All: true, Filters: e.mine()})
	if err != nil {
		return nil, fmt.Errorf("%w: list images: %w", mman.ErrUnreachable, err)
	}
	for _, i := range got.Items {
		cid, err := mman.ParseCID(i.Labels[labelImage])
		if err != nil {
			continue // somebody else's work under our label
		}
		facts, err := e.ImageInspect(ctx, i.ID)
		if err != nil || facts.Config == nil {
			continue
		}
		s.all[cid] = &loaded{cid: cid, id: i.ID, bytes: uint64(max(0, i.Size)), process: image.Process{
			User: facts.Config.User, Env: facts.Config.Env, Entrypoint: facts.Config.Entrypoint,
			Cmd: facts.Config.Cmd, WorkingDir: facts.Config.WorkingDir,
		}}
	}
	return s, nil
}

// find takes an image that is loaded, or returns nil.
func (s *images) find(cid mman.CID) *loaded {
	s.mu.Lock()
	defer s.mu.Unlock()
	img := s.all[cid]
	if img != nil {
		s.turn++
		img.uses++
		img.used = s.turn
	}
	return img
}

// release gives an image back.
func (s *images) release(img *loaded) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img.uses--
}

// take returns the image of an archive, loaded. It must be released.
func (s *images) take(ctx context.Context, cid mman.CID, blob resources.Blob) (*loaded, error) {
	if img, err := s.standing(ctx, cid); img != nil || err != nil {
		return img, err
	}
	select {
	case s.loading <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another image: %w", context.Cause(ctx))
	}
	defer func() { <-s.loading }()
	if img, err := s.standing(ctx, cid); img != nil || err != nil { // another one was faster
		return img, err
	}
	off := s.engine.off
	archive, err := image.Open(ctx, blob, image.Want{Arch: s.engine.facts.Arch, Unpacked: s.most, Devices: off.devices, Names: off.names})
	if err != nil {
		return nil, err
	}
	if err := s.evict(ctx, archive.Bytes); err != nil {
		return nil, err
	}
	id, err := s.load(ctx, cid, archive)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn++
	img := &loaded{cid: cid, id: id, process: archive.Config.Config, bytes: archive.Bytes, uses: 1, used: s.turn}
	s.all[cid] = img
	return img, nil
}

// standing takes an image that the engine still has.
func (s *images) standing(ctx context.Context, cid mman.CID) (*loaded, error) {
	img := s.find(cid)
	if img == nil {
		return nil, nil
	}
	_, err := s.engine.ImageInspect(ctx, img.id)
	if err == nil {
		return img, nil
	}
	s.release(img)
	if !gone(err) {
		return nil, fmt.Errorf("look for an image: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, cid) // somebody removed it by hand
	return nil, nil
}

// load streams an archive into the engine and checks that it has the image.
func (s *images) load(ctx context.Context, cid mman.CID, archive *image.Archive) (string, error) {
	labels := map[string]string{labelOwner: s.engine.owner, labelImage: cid.String()}
	want, err := archive.ID(labels)
	if err != nil {
		return "", err
	}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		_, err := archive.Write(ctx, w, labels)
		_ = w.CloseWithError(err) // always nil
		written <- err
	}()
	answer, err := s.engine.ImageLoad(ctx, r, client.ImageLoadWithQuiet(true))
	if err == nil {
		err = errors.Join(said(answer), answer.Close())
	}
	_ = r.CloseWithError(io.ErrClosedPipe) // the engine may have stopped reading
	if wrote := <-written; wrote != nil && !errors.Is(wrote, io.ErrClosedPipe) {
		return "", wrote
	}
	if err != nil {
		return "", fmt.Errorf("%w: the engine does not take the image: %w", mman.ErrModule, err)
	}
	if _, err := s.engine.ImageInspect(ctx, want); err != nil {
		return "", fmt.Errorf("%w: the engine loaded another image than %s: %w", mman.ErrContent, want, err)
	}
	return want, nil
}

// said reads what an engine says of loading, and returns an error in it.
func said(r io.Reader) error {
	d := json.NewDecoder(io.LimitReader(r, 1<<20))
	for {
		var line struct {
			Error string `json:"error"`
		}
		if err := d.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if line.Error != "" {
			return fmt.Errorf("%w: %.300s", mman.ErrModule, line.Error)
		}
	}
}

// evict makes room for an image: those that nobody uses go, the one that was used
// least recently first.
func (s *images) evict(ctx context.Context, room uint64) error {
	for {
		img := s.oldest(room)
		if img == nil {
			return nil
		}
		_, err := s.engine.ImageRemove(ctx, img.id, client.ImageRemoveOptions{PruneChildren: true})
		if err != nil && !gone(err) {
			return fmt.Errorf("%w: remove image %s: %w", mman.ErrInternal, img.id, err)
		}
	}
}

// oldest forgets one image and returns it, nil when there is room.
func (s *images) oldest(room uint64) *loaded {
	s.mu.Lock()
	defer s.mu.Unlock()
	total, found := room, (*loaded)(nil)
	for _, img := range s.all {
		total += img.bytes
		if img.uses == 0 && (found == nil || img.used < found.used) {
			found = img
		}
	}
	if total <= s.keep || found == nil {
		return nil
	}
	delete(s.all, found.cid)
	return found
}
