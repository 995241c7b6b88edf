package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/dgraph-io/badger/v4"

	mman "github.com/limboid/massive-man"
)

const (
	// largeBlock is the size from which a block is written beside the database.
	largeBlock = 32 << 10
	// segmentBytes is where a file ends and the next begins.
	segmentBytes = 64 << 20
	// pageBytes is what places and lengths in a file are multiples of.
	pageBytes = 4096
	// moveBytes is how much garbage collection moves at a time.
	moveBytes = 8 << 20
	// metaPlace marks a value of the database that is a place in a file.
	metaPlace = 1
	// placeBytes is the length of such a value.
	placeBytes = 16
	// lentBytes is the length of the buffers that are kept for those who lend: most
	// large blocks are leaves of files, a larger one gets memory of its own.
	lentBytes = 1 << 20
	// mostTries is how often a block that is being moved is looked for.
	mostTries = 4
)

// place is where a large block stands.
type place struct {
	segment, offset, length, sum uint32
}

func (p place) marshal() []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, placeBytes), p.segment)
	b = binary.BigEndian.AppendUint32(b, p.offset)
	b = binary.BigEndian.AppendUint32(b, p.length)
	return binary.BigEndian.AppendUint32(b, p.sum)
}

func parsePlace(b []byte) (place, error) {
	if len(b) != placeBytes {
		return place{}, fmt.Errorf("%w: a place of %d bytes", mman.ErrCorrupt, len(b))
	}
	at := func(i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }
	p := place{at(0), at(1), at(2), at(3)}
	if p.length > MaxBlock || p.offset%pageBytes != 0 {
		return place{}, fmt.Errorf("%w: a place of %d bytes at %d", mman.ErrCorrupt, p.length, p.offset)
	}
	return p, nil
}

// key is the place's key among all places: those of a file stand together.
func (p place) key() []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, p.segment), p.offset)
}

// segments holds large blocks in files that are only appended to, and past the
// kernel's cache where the system allows it: in the database each byte would be
// copied three times and faulted in page by page, which costs five times as much of a
// processor. The database knows where each block stands, and what stands where.
//
// What a crash of the machine can tear is in the last file only, because a file is
// synced before the next one begins; it is looked through when the files are opened.
type segments struct {
	dir  string
	data *Data

	mu     sync.Mutex // guards what follows
	id     uint32     // of the file that is written, or of the last one
	file   *os.File   // nil before the first write
	end    int64
	bounce []byte // for blocks that are not aligned

	// moving is held for reading by who writes or deletes blocks, and by who moves
	// them for a moment.
	moving sync.RWMutex
	again  recent
	lent   sync.Pool // of *[]byte, of lentBytes: what nobody has now
}

func openSegments(dir string, data *Data) (*segments, error) {
	s := &segments{dir: dir, data: data, lent: sync.Pool{New: func() any {
		b := aligned(lentBytes)
		return &b
	}}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, openError(dir, err)
	}
	ids, err := s.files()
	if err != nil {
		return nil, openError(dir, err)
	}
	if len(ids) > 0 {
		s.id = ids[len(ids)-1]
	}
	last, err := data.Namespace(NamespaceSegments).Iterate(nil, nil, true)
	if err != nil {
		return nil, err
	}
	if last.Valid() && len(last.Key()) == 8 {
		s.id = max(s.id, binary.BigEndian.Uint32(last.Key()))
	}
	err = last.Err()
	last.Close()
	if err != nil {
		return nil, err
	}
	if err := s.repair(s.id); err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return s, nil
}

func (s *segments) path(id uint32) string { return filepath.Join(s.dir, fmt.Sprintf("%08x.seg", id)) }

// files lists the files, oldest first.
func (s *segments) files() ([]uint32, error) {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var ids []uint32
	for _, e := range list {
		name, ok := strings.CutSuffix(e.Name(), ".seg")
		if id, err := strconv.ParseUint(name, 16, 32); ok && err == nil {
			ids = append(ids, uint32(id))
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// repair forgets the blocks of a file that a crash tore.
func (s *segments) repair(id uint32) error {
	known, err := s.blocks(id)
	if err != nil {
		return err
	}
	batch := s.data.Namespace(NamespaceSegments).NewBatch()
	for _, b := range known {
		_, err := s.readAt(b.at, nil, true)
		switch {
		case err == nil:
			continue
		case !errors.Is(err, mman.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		batch.ops = append(batch.ops, op{key: b.key, remove: true})
		if err := batch.Delete(b.at.key()); err != nil {
			return err
		}
	}
	return batch.Write()
}

// stored is a block that stands in a file.
type stored struct {
	key []byte // in the database
	at  place
}

// blocks lists the blocks of one file that somebody can still ask for, in its order.
func (s *segments) blocks(id uint32) ([]stored, error) {
	start := place{segment: id}.key()[:4]
	it, err := s.data.Namespace(NamespaceSegments).within(start).Iterate(nil, nil, false)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out []stored
	for ; it.Valid(); it.Next() {
		key := it.Value()
		at, ok, err := s.find(key)
		if err != nil {
			return nil, err
		}
		if ok && at.segment == id && len(it.Key()) == 4 && at.offset == binary.BigEndian.Uint32(it.Key()) {
			out = append(out, stored{key, at})
		}
	}
	return out, it.Err()
}

// find returns the place that the database has under a key; false when it has none.
func (s *segments) find(key []byte) (at place, ok bool, err error) {
	if len(key) == 0 {
		return at, false, fmt.Errorf("%w: a place without a block", mman.ErrCorrupt)
	}
	_, err = (&KV{s.data, key[:1]}).look(key[1:], func(item *badger.Item) (err error) {
		if ok = item.UserMeta() == metaPlace; ok {
			at, err = placeOf(item)
		}
		return err
	})
	return at, ok && err == nil, err
}

// append writes blocks and says where they stand. They are found after the caller
// has noted that in the database, and s.moving is held from here till then.
func (s *segments) append(list [][]byte) ([]place, error) {
	total := int64(0)
	for _, data := range list {
		total += padded(len(data))
	}
	if err := s.data.room.take(total); err != nil {
		return nil, wrap("write blocks", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]place, len(list))
	for i, data := range list {
		if err := s.ready(padded(len(data))); err != nil {
			return nil, wrap("write blocks", err)
		}
		if err := s.write(data); err != nil {
			return nil, wrap("write blocks", err)
		}
		out[i] = place{s.id, uint32(s.end), uint32(len(data)), checksum(data)} //nolint:gosec // bounded by segmentBytes
		s.end += padded(len(data))
	}
	return out, nil
}

// padded is how many bytes n bytes take in a file.
func padded(n int) int64 { return (int64(n) + pageBytes - 1) / pageBytes * pageBytes }

func checksum(data []byte) uint32 { return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) }

// ready makes room for n bytes in the file that is written. s.mu is held.
func (s *segments) ready(n int64) error {
	if s.file != nil && s.end+n <= segmentBytes {
		return nil
	}
	if s.file == nil {
		if err := s.resume(n); s.file != nil || err != nil {
			return err
		}
	} else if err := s.seal(); err != nil {
		return err
	}
	f, err := openDirect(s.path(s.id+1), os.O_CREATE|os.O_EXCL|os.O_RDWR)
	if err != nil {
		return err
	}
	if err := syncFolder(s.dir); err != nil {
		return errors.Join(err, f.Close())
	}
	s.id, s.file, s.end = s.id+1, f, 0
	return nil
}

// resume opens the last file of an earlier process, if it has room for n bytes.
func (s *segments) resume(n int64) error {
	f, err := openDirect(s.path(s.id), os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	end := (info.Size() + pageBytes - 1) / pageBytes * pageBytes
	if end+n > segmentBytes {
		return errors.Join(f.Sync(), f.Close())
	}
	s.file, s.end = f, end
	return nil
}

// seal brings the file that is written to the disk and ends it. s.mu is held.
func (s *segments) seal() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.file.Sync(), s.file.Close())
	s.file = nil
	return err
}

// write writes one block at the end. s.mu is held.
func (s *segments) write(data []byte) error {
	if n := padded(len(data)); n != int64(len(data)) || !isAligned(data) {
		if s.bounce == nil {
			s.bounce = aligned(MaxBlock)
		}
		have := copy(s.bounce, data)
		clear(s.bounce[have:n])
		data = s.bounce[:n]
	}
	_, err := s.file.WriteAt(data, s.end)
	if errors.Is(err, syscall.EINVAL) && buffered(s.file) {
		_, err = s.file.WriteAt(data, s.end)
	}
	return err
}

// read returns the block at a place, in buf if that is large enough. A file that is
// gone is fs.ErrNotExist.
func (s *segments) read(at place, buf []byte) ([]byte, error) {
	return s.readAt(at, buf, !s.again.seen(at))
}

// readAt reads past the kernel's cache, or through it.
func (s *segments) readAt(at place, buf []byte, direct bool) ([]byte, error) {
	open := openDirect
	if !direct {
		open = openCached
	}
	f, err := open(s.path(at.segment), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if n := int(padded(int(at.length))); n <= len(buf) {
		buf = buf[:n]
	} else {
		buf = aligned(n)
	}
	n, err := f.ReadAt(buf, int64(at.offset))
	if errors.Is(err, syscall.EINVAL) && buffered(f) {
		n, err = f.ReadAt(buf, int64(at.offset))
	}
	if err != nil && (!errors.Is(err, io.EOF) || n < int(at.length)) {
		return nil, fmt.Errorf("%w: %d of %d bytes at %d of %s: %w", mman.ErrCorrupt, n, at.length, at.offset, f.Name(), err)
	}
	data := buf[:at.length:at.length]
	if checksum(data) != at.sum {
		return nil, fmt.Errorf("%w: checksum of %d bytes at %d of %s", mman.ErrCorrupt, at.length, at.offset, f.Name())
	}
	return data, nil
}

// lend returns a buffer, and what takes it back: with a crowd of readers, new memory for
// each block would be three times what they hold until it is collected.
func (s *segments) lend() (buf []byte, release func()) {
	b, ok := s.lent.Get().(*[]byte)
	if !ok {
		return nil, func() {} // the pool makes nothing else
	}
	return *b, func() { s.lent.Put(b) }
}

// openCached opens a file through the kernel's cache.
func openCached(path string, flags int) (*os.File, error) {
	return os.OpenFile(path, flags, 0o600) //nolint:gosec // a folder of our own
}

// syncFolder brings the names of a folder to the disk.
func syncFolder(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // a folder of our own
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// sync returns when what was appended is safe from a crash of the machine.
func (s *segments) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	return wrap("sync blocks", s.file.Sync())
}

func (s *segments) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return wrap("close blocks", s.seal())
}

// collect frees the files of which less than half is still asked for, and moves what
// is left in them.
func (s *segments) collect(ctx context.Context) error {
	ids, err := s.files()
	if err != nil {
		return wrap("collect garbage", err)
	}
	for _, id := range ids {
		if err := s.free(ctx, id); err != nil {
			return wrap("collect garbage", err)
		}
	}
	return nil
}

// free frees one file, unless ctx ends before.
func (s *segments) free(ctx context.Context, id uint32) error {
	_, wasted, err := s.waste(id)
	if err != nil || !wasted {
		return err
	}
	s.mu.Lock()
	if s.id == id {
		if err = s.seal(); err == nil {
			s.id++ // nobody resumes it
		}
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	// Whoever wrote into it has noted so after this.
	s.moving.Lock()
	s.moving.Unlock() //nolint:staticcheck // a barrier
	live, _, err := s.waste(id)
	if err != nil {
		return err
	}
	for len(live) > 0 && ctx.Err() == nil {
		n, size := 0, uint32(0)
		for n < len(live) && size < moveBytes {
			size += live[n].at.length
			n++
		}
		if err := s.move(live[:n]); err != nil {
			return err
		}
		live = live[n:]
	}
	if len(live) > 0 {
		return nil // the next time
	}
	return s.remove(id)
}

// waste lists the blocks of a file that are still asked for, and says whether they
// are less than half of it.
func (s *segments) waste(id uint32) ([]stored, bool, error) {
	info, err := os.Stat(s.path(id))
	if err != nil {
		return nil, false, err
	}
	live, err := s.blocks(id)
	used := int64(0)
	for _, b := range live {
		used += padded(int(b.at.length))
	}
	return live, info.Size() > 0 && 2*used < info.Size(), err
}

// move writes blocks anew, and lets the database know unless they were deleted
// meanwhile.
func (s *segments) move(list []stored) error {
	data := make([][]byte, len(list))
	for i, b := range list {
		var err error
		if data[i], err = s.readAt(b.at, nil, true); err != nil {
			return err
		}
	}
	to, err := s.append(data)
	if err == nil {
		err = s.sync()
	}
	if err != nil {
		return err
	}
	s.moving.Lock()
	defer s.moving.Unlock()
	batch := s.data.Namespace(NamespaceSegments).NewBatch()
	for i, b := range list {
		if at, ok, err := s.find(b.key); err != nil || !ok || at != b.at {
			if err != nil {
				return err
			}
			continue
		}
		batch.place(b.key, to[i])
	}
	return batch.Write()
}

// remove deletes a file in which nothing is asked for any more.
func (s *segments) remove(id uint32) error {
	places := s.data.Namespace(NamespaceSegments)
	if err := places.Sync(); err != nil {
		return err
	}
	if err := os.Remove(s.path(id)); err != nil {
		return err
	}
	it, err := places.within(place{segment: id}.key()[:4]).Iterate(nil, nil, false)
	if err != nil {
		return err
	}
	defer it.Close()
	batch := places.NewBatch()
	for ; it.Valid(); it.Next() {
		at := place{segment: id, offset: binary.BigEndian.Uint32(it.Key())}
		if err := batch.Delete(at.key()); err != nil {
			return err
		}
	}
	return errors.Join(it.Err(), batch.Write())
}

// place notes where a block stands, under a key of the whole database.
func (b *Batch) place(key []byte, at place) {
	places := b.kv.data.Namespace(NamespaceSegments)
	b.ops = append(b.ops,
		op{key: places.full(at.key()), value: key},
		op{key: key, value: at.marshal(), meta: metaPlace})
	b.size += int64(2*len(key) + 2*placeBytes + 64)
}

// recent remembers the places that were read last, so that what is read once goes
// past the kernel's cache and does not drive out what the node needs, and what is
// read again goes through it.
type recent struct {
	mu   sync.Mutex
	at   map[place]struct{}
	ring [1024]place
	next int
}

// seen reports whether a place was read lately, and remembers it.
func (r *recent) seen(at place) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.at[at]; ok {
		return true
	}
	if r.at == nil {
		r.at = make(map[place]struct{}, len(r.ring))
	}
	delete(r.at, r.ring[r.next])
	r.ring[r.next] = at
	r.at[at] = struct{}{}
	r.next = (r.next + 1) % len(r.ring)
	return false
}
