package wasm

import (
	"encoding/binary"
	"math"
	"path"
	"strconv"
	"strings"
)

// Files as a guest sees them: three streams, the folder DataDir and the inputs
// in it. Nothing can be created, changed or found elsewhere.

const (
	// maxFiles bounds the descriptors of a guest.
	maxFiles = 256
	// maxVectors bounds the buffers of one read or write.
	maxVectors  = 1024
	maxPath     = 4096
	dirFD       = 3
	rightsRead  = 1<<1 | 1<<2 | 1<<5 | 1<<21 // read, seek, tell, stat
	rightsWrite = 1 << 6
	rightsDir   = 1<<13 | 1<<14 | 1<<18 | 1<<21 // open, list, stat of paths and of itself
)

// The types of a file.
const (
	typeUnknown   = 0
	typeCharacter = 2
	typeDirectory = 3
	typeRegular   = 4
)

// file is an open descriptor. Readable files have a source, of which several
// descriptors may read at their own offsets; streams that are written have out.
type file struct {
	kind   byte
	source *source
	out    *output
	offset uint64
	// inode tells the files apart: descriptors 0 to 2, the folder 3, inputs on.
	inode uint64
}

// left returns how many bytes are yet to be read.
func (f *file) left() uint64 {
	if f.source == nil {
		return 0
	}
	return f.source.size - min(f.offset, f.source.size)
}

func (f *file) size() uint64 {
	if f.kind != typeRegular {
		return 0
	}
	return f.source.size
}

func (r *run) openStreams() {
	r.files = []*file{
		{kind: typeCharacter, source: r.stdin, inode: 0},
		{kind: typeCharacter, out: r.stdout, inode: 1},
		{kind: typeCharacter, out: r.stderr, inode: 2},
		{kind: typeDirectory, inode: dirFD},
	}
}

func (r *run) file(fd uint64) (*file, errno) {
	if fd = uint64(i32(fd)); fd >= uint64(len(r.files)) || r.files[fd] == nil {
		return nil, errBadFD
	}
	return r.files[fd], success
}

// fdNothing serves what has no effect here: hints, flags, rights, syncing.
func (r *run) fdNothing(_ guestMemory, args []uint64) errno {
	_, e := r.file(args[0])
	return e
}

// fdReadOnly serves what would change a file.
func (r *run) fdReadOnly(_ guestMemory, args []uint64) errno {
	if _, e := r.file(args[0]); e != success {
		return e
	}
	return errReadOnly
}

func (r *run) fdNoSocket(_ guestMemory, args []uint64) errno {
	if _, e := r.file(args[0]); e != success {
		return e
	}
	return errNotSock
}

func (r *run) fdClose(_ guestMemory, args []uint64) errno {
	if _, e := r.file(args[0]); e != success {
		return e
	}
	r.files[i32(args[0])] = nil
	return success
}

// fdRenumber moves a descriptor onto another open one.
func (r *run) fdRenumber(_ guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e != success {
		return e
	}
	if _, e := r.file(args[1]); e != success {
		return e
	}
	r.files[i32(args[0])] = nil
	r.files[i32(args[1])] = f
	return success
}

func (r *run) fdStatGet(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e != success {
		return e
	}
	rights := uint64(rightsRead)
	switch {
	case f.kind == typeDirectory:
		rights = rightsDir
	case f.out != nil:
		rights = rightsWrite
	}
	stat := make([]byte, 24)
	stat[0] = f.kind
	binary.LittleEndian.PutUint64(stat[8:], rights)
	if f.kind == typeDirectory {
		binary.LittleEndian.PutUint64(stat[16:], rightsRead)
	}
	return mem.put(args[1], stat)
}

func (r *run) fdFilestatGet(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e != success {
		return e
	}
	return mem.put(args[1], f.stat())
}

// stat returns the 64 bytes of a filestat: device, inode, type, links, size and
// three times.
func (f *file) stat() []byte {
	stat := make([]byte, 64)
	binary.LittleEndian.PutUint64(stat[8:], f.inode)
	stat[16] = f.kind
	binary.LittleEndian.PutUint64(stat[24:], 1)
	binary.LittleEndian.PutUint64(stat[32:], f.size())
	for at := 40; at < 64; at += 8 {
		binary.LittleEndian.PutUint64(stat[at:], ClockEpoch)
	}
	return stat
}

func (r *run) fdPrestatGet(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e != success || f.inode != dirFD {
		return errBadFD
	}
	prestat := make([]byte, 8)
	binary.LittleEndian.PutUint32(prestat[4:], uint32(len(DataDir)))
	return mem.put(args[1], prestat)
}

func (r *run) fdPrestatDirName(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e != success || f.inode != dirFD {
		return errBadFD
	}
	if i32(args[2]) < uint32(len(DataDir)) {
		return errLongName
	}
	return mem.put(args[1], []byte(DataDir))
}

func (r *run) fdSeek(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	switch {
	case e != success:
		return e
	case f.kind == typeDirectory:
		return errIsDir
	case f.kind != typeRegular:
		return errPipeSeek
	}
	base := uint64(0)
	switch i32(args[2]) {
	case 0: // from the beginning
	case 1:
		base = f.offset
	case 2:
		base = f.source.size
	default:
		return errInval
	}
	target := base + args[1] // in two's complement
	if target > math.MaxInt64 {
		return errInval
	}
	f.offset = target
	return mem.putU64(args[3], f.offset)
}

func (r *run) fdTell(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	switch {
	case e != success:
		return e
	case f.kind == typeDirectory:
		return errIsDir
	case f.kind != typeRegular:
		return errPipeSeek
	}
	return mem.putU64(args[1], f.offset)
}

func (r *run) fdRead(mem guestMemory, args []uint64) errno {
	f, e := r.readable(args[0])
	if e != success {
		return e
	}
	n, e := r.readVectors(mem, args[1], args[2], f.source, f.offset)
	if e != success {
		return e
	}
	f.offset += n
	return mem.putU32(args[3], i32(n))
}

func (r *run) fdPread(mem guestMemory, args []uint64) errno {
	f, e := r.readable(args[0])
	switch {
	case e != success:
		return e
	case f.kind != typeRegular:
		return errPipeSeek
	case args[3] > 1<<63-1:
		return errInval
	}
	n, e := r.readVectors(mem, args[1], args[2], f.source, args[3])
	if e != success {
		return e
	}
	return mem.putU32(args[4], i32(n))
}

func (r *run) readable(fd uint64) (*file, errno) {
	f, e := r.file(fd)
	switch {
	case e != success:
		return nil, e
	case f.kind == typeDirectory:
		return nil, errIsDir
	case f.source == nil:
		return nil, errBadFD
	}
	return f, success
}

// vectors returns the guest's buffers.
func (r *run) vectors(mem guestMemory, address, count uint64) ([][]byte, errno) {
	if i32(count) > maxVectors {
		return nil, errInval
	}
	list, ok := mem.array(address, count, 8)
	if !ok {
		return nil, errFault
	}
	buffers := make([][]byte, 0, i32(count))
	for ; len(list) > 0; list = list[8:] {
		b, ok := mem.view(uint64(binary.LittleEndian.Uint32(list)), uint64(binary.LittleEndian.Uint32(list[4:])))
		if !ok {
			return nil, errFault
		}
		buffers = append(buffers, b)
	}
	return buffers, success
}

// readVectors fills the guest's buffers, up to chunkBytes in all: how much a read
// returns depends on the guest and the content alone.
func (r *run) readVectors(mem guestMemory, address, count uint64, from *source, offset uint64) (uint64, errno) {
	buffers, e := r.vectors(mem, address, count)
	if e != success {
		return 0, e
	}
	want := uint64(0)
	for _, b := range buffers {
		want = min(chunkBytes, want+uint64(len(b)))
	}
	got := r.readAt(from, offset, want)
	n := uint64(len(got))
	for _, b := range buffers {
		got = got[copy(b, got):]
	}
	return n, success
}

func (r *run) fdWrite(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	switch {
	case e != success:
		return e
	case f.out == nil:
		return errBadFD
	}
	buffers, e := r.vectors(mem, args[1], args[2])
	if e != success {
		return e
	}
	// The sum fits into 32 bits, or the guest reads a short write.
	total := uint64(0)
	for _, b := range buffers {
		b = b[:min(uint64(len(b)), 1<<31-total)]
		r.write(f.out, b)
		total += uint64(len(b))
	}
	return mem.putU32(args[3], i32(total))
}

// fdReaddir lists the folder in a fixed order: itself, its parent, the inputs by
// number. A record that does not fit is cut, as the interface wants.
func (r *run) fdReaddir(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	switch {
	case e != success:
		return e
	case f.kind != typeDirectory:
		return errNotDir
	}
	dst, ok := mem.view(args[1], args[2])
	if !ok {
		return errFault
	}
	used := uint64(0)
	for cookie := args[3]; cookie < uint64(len(r.inputs))+2 && used < uint64(len(dst)); cookie++ {
		name, kind, inode := ".", byte(typeDirectory), uint64(dirFD)
		switch cookie {
		case 0:
		case 1:
			name = ".."
		default:
			name, kind, inode = strconv.FormatUint(cookie-2, 10), typeRegular, inputInode(cookie-2)
		}
		record := binary.LittleEndian.AppendUint64(nil, cookie+1)
		record = binary.LittleEndian.AppendUint64(record, inode)
		record = binary.LittleEndian.AppendUint32(record, i32(uint64(len(name))))
		record = append(record, kind, 0, 0, 0)
		record = append(record, name...)
		copy(dst[used:], record)
		used = min(used+uint64(len(record)), uint64(len(dst)))
	}
	return mem.putU32(args[4], i32(used))
}

func inputInode(i uint64) uint64 { return i + dirFD + 1 }

// lookup finds what a path under an open folder names: the folder itself or an
// input.
func (r *run) lookup(mem guestMemory, fd, address, length uint64) (*file, errno) {
	dir, e := r.file(fd)
	switch {
	case e != success:
		return nil, e
	case dir.kind != typeDirectory:
		return nil, errNotDir
	case i32(length) > maxPath:
		return nil, errLongName
	}
	b, ok := mem.view(address, length)
	if !ok {
		return nil, errFault
	}
	name := string(b)
	if name == "" {
		return nil, errNoEnt
	}
	clean := path.Clean(name)
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		return nil, errNotCap
	}
	if clean == "." {
		return &file{kind: typeDirectory, inode: dirFD}, success
	}
	first, rest, nested := strings.Cut(clean, "/")
	i, err := strconv.ParseUint(first, 10, 8)
	if err != nil || i >= uint64(len(r.inputs)) || strconv.FormatUint(i, 10) != first {
		return nil, errNoEnt
	}
	if nested && rest != "" || strings.HasSuffix(name, "/") {
		return nil, errNotDir
	}
	return &file{kind: typeRegular, source: r.inputs[i], inode: inputInode(i)}, success
}

// The flags of path_open that ask for something that is not there.
const (
	openCreate    = 1
	openDirectory = 2
	openTruncate  = 8
)

func (r *run) pathOpen(mem guestMemory, args []uint64) errno {
	flags := i32(args[4])
	f, e := r.lookup(mem, args[0], args[2], args[3])
	switch {
	case e == errNoEnt && flags&openCreate != 0:
		return errReadOnly
	case e != success:
		return e
	case flags&openDirectory != 0 && f.kind != typeDirectory:
		return errNotDir
	case flags&(openCreate|openTruncate) != 0:
		return errReadOnly
	case args[5]&rightsWrite != 0 && f.kind == typeDirectory:
		return errIsDir
	case args[5]&rightsWrite != 0:
		return errReadOnly
	}
	fd := uint64(0)
	for fd < uint64(len(r.files)) && r.files[fd] != nil {
		fd++
	}
	if fd == maxFiles {
		return errManyFD
	}
	if e := mem.putU32(args[8], i32(fd)); e != success {
		return e
	}
	if fd == uint64(len(r.files)) {
		r.files = append(r.files, nil)
	}
	r.files[fd] = f
	return success
}

func (r *run) pathFilestatGet(mem guestMemory, args []uint64) errno {
	f, e := r.lookup(mem, args[0], args[2], args[3])
	if e != success {
		return e
	}
	return mem.put(args[4], f.stat())
}

// pathReadlink knows no link.
func (r *run) pathReadlink(mem guestMemory, args []uint64) errno {
	if _, e := r.lookup(mem, args[0], args[1], args[2]); e != success {
		return e
	}
	return errInval
}

// pathSymlink differs from the others in that its folder comes third.
func (r *run) pathSymlink(mem guestMemory, args []uint64) errno {
	return r.fdReadOnly(mem, args[2:])
}
