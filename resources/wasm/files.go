package wasm

import (
	"encoding/binary"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/folder"
)

// Descriptors as a guest sees them: three streams, the folder DataDir with the
// inputs, which nobody can change, and the folder ScratchDir, which is the
// guest's own.

const (
	// maxFiles bounds the descriptors of a guest.
	maxFiles = 256
	// maxVectors bounds the buffers of one read or write.
	maxVectors = 1024
	maxPath    = 4096

	rightRead  = 1 << 1
	rightTell  = 1 << 5
	rightWrite = 1 << 6
	rightsRead = rightRead | rightTell | 1<<2 | 1<<21 // seek, stat
	// rightsWrite are those of a file that is written: data, size, times.
	rightsWrite = rightWrite | 1<<0 | 1<<4 | 1<<8 | 1<<22 | 1<<23
	rightsDir   = 1<<13 | 1<<14 | 1<<18 | 1<<21 // open, list, stat of paths and of itself
	// rightsChange are those of a folder that is the guest's own.
	rightsChange = 1<<9 | 1<<10 | 1<<16 | 1<<17 | 1<<20 | 1<<25 | 1<<26

	flagAppend = 1
)

// The types of a file.
const (
	typeCharacter = 2
	typeDirectory = 3
	typeRegular   = 4
)

// file is an open descriptor: of a file or folder, at its own offset, or of a
// stream.
type file struct {
	node *node
	// mount is where a folder is found from the start, "" for all others.
	mount               string
	offset              uint64
	read, write, append bool

	// A stream has no node, but a source when it is read and out when it is
	// written.
	source *source
	live   resources.Input // input that comes while the guest runs
	out    *output
	stream uint64
}

func (f *file) kind() byte {
	if f.node == nil {
		return typeCharacter
	}
	return f.node.kind
}

// left returns how many bytes are yet to be read.
func (f *file) left() uint64 {
	size := uint64(0)
	switch {
	case f.live != nil:
		if f.live.Ready() {
			return 1
		}
	case f.source != nil:
		size = f.source.size
	case f.kind() == typeRegular:
		size = f.node.size()
	}
	return size - min(f.offset, size)
}

// mount gives a folder a descriptor, under the path at which guests look for it.
func (r *run) mount(at string, root *node) {
	root.open++
	r.files = append(r.files, &file{node: root, mount: at})
}

func (r *run) openFiles() {
	r.files = []*file{r.standardInput(), {out: r.stdout, stream: 1}, {out: r.stderr, stream: 2}}
	data := newFolder(inodeData, nil)
	next := uint64(inodeFolders)
	for i, in := range r.inputs {
		inode := inodeData + 1 + uint64(i)
		if r.folders[i] == nil {
			data.add(strconv.Itoa(i), newContent(inode, in))
			continue
		}
		data.add(strconv.Itoa(i), unpacked(inode, next, in, r.folders[i]))
		next += uint64(len(r.folders[i]))
	}
	r.mount(DataDir, data)
	top := newFolder(inodeTmp, &scratch{memory: &r.memory, inodes: inodeScratch})
	r.mount(ScratchDir, top)
	if r.desk != nil {
		r.desk.top = top
	}
}

// unpacked is the folder of a pack, whose entries have inodes from next on.
func unpacked(inode, next uint64, pack *source, entries []folder.Entry) *node {
	folders := map[string]*node{".": newFolder(inode, nil)}
	for i, e := range entries {
		n := next + uint64(i)
		child := newContent(n, &source{size: e.Size, pack: pack, base: e.Offset})
		if e.Folder {
			child = newFolder(n, nil)
			folders[e.Path] = child
		}
		folders[path.Dir(e.Path)].add(path.Base(e.Path), child)
	}
	return folders["."]
}

func (r *run) now() uint64 { return r.clock(clockRealtime) }

func (r *run) file(fd uint64) (*file, errno) {
	if fd = uint64(i32(fd)); fd >= uint64(len(r.files)) || r.files[fd] == nil {
		return nil, errBadFD
	}
	return r.files[fd], success
}

// regular returns an open file, no stream and no folder.
func (r *run) regular(fd uint64) (*file, errno) {
	f, e := r.file(fd)
	switch {
	case e != success:
		return nil, e
	case f.kind() == typeDirectory:
		return nil, errIsDir
	case f.kind() != typeRegular:
		return nil, errPipeSeek
	}
	return f, success
}

// own returns an open file of the scratch that is written.
func (r *run) own(fd uint64) (*file, errno) {
	f, e := r.file(fd)
	switch {
	case e != success:
		return nil, e
	case f.node == nil:
		return nil, errPipeSeek
	case f.node.scratch == nil:
		return nil, errReadOnly
	case f.kind() == typeDirectory:
		return nil, errIsDir
	case !f.write:
		return nil, errBadFD
	}
	return f, success
}

// fdNothing serves what has no effect here: hints, rights, syncing.
func (r *run) fdNothing(_ guestMemory, args []uint64) errno {
	_, e := r.file(args[0])
	return e
}

func (r *run) fdNoSocket(_ guestMemory, args []uint64) errno {
	if _, e := r.file(args[0]); e != success {
		return e
	}
	return errNotSock
}

func (r *run) fdClose(_ guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e != success {
		return e
	}
	r.files[i32(args[0])] = nil
	if f.node != nil {
		f.node.open--
		f.node.release()
	}
	return success
}

// fdRenumber moves a descriptor onto another open one, which is closed.
func (r *run) fdRenumber(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e != success {
		return e
	}
	if i32(args[0]) == i32(args[1]) {
		return success
	}
	if e := r.fdClose(mem, args[1:]); e != success {
		return e
	}
	r.files[i32(args[0])] = nil
	r.files[i32(args[1])] = f
	return success
}

func (f *file) rights() uint64 {
	rights := uint64(0)
	if f.kind() == typeDirectory {
		rights = rightsDir
		if f.node.scratch != nil {
			rights |= rightsChange
		}
		return rights
	}
	if f.read || f.source != nil || f.live != nil {
		rights |= rightsRead
	}
	if f.write {
		rights |= rightsRead&^rightRead | rightsWrite
	}
	if f.out != nil {
		// With the right to tell a position a stream is no terminal for C
		// libraries, so that they write what they print in blocks and not in lines.
		rights |= rightWrite | rightTell
	}
	return rights
}

func (r *run) fdStatGet(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e != success {
		return e
	}
	stat := make([]byte, 24)
	stat[0] = f.kind()
	if f.append {
		stat[2] = flagAppend
	}
	binary.LittleEndian.PutUint64(stat[8:], f.rights())
	if f.kind() == typeDirectory {
		// What is opened below may be asked for whatever there is; C libraries
		// ask for no more than this.
		binary.LittleEndian.PutUint64(stat[16:], rightsRead|rightsWrite|rightsDir|rightsChange)
	}
	return mem.put(args[1], stat)
}

func (r *run) fdSetFlags(_ guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e == success && f.write {
		f.append = args[1]&flagAppend != 0
	}
	return e
}

func (r *run) fdFilestatGet(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e != success {
		return e
	}
	if f.node == nil {
		return mem.put(args[1], filestat(f.stream, typeCharacter, 0, ClockEpoch, ClockEpoch))
	}
	return mem.put(args[1], f.node.stat())
}

func (n *node) stat() []byte {
	size := uint64(0)
	if n.kind == typeRegular {
		size = n.size()
	}
	return filestat(n.inode, n.kind, size, n.accessed, n.changed)
}

// filestat returns the 64 bytes of a filestat: device, inode, type, links, size
// and three times.
func filestat(inode uint64, kind byte, size, accessed, changed uint64) []byte {
	stat := make([]byte, 64)
	binary.LittleEndian.PutUint64(stat[8:], inode)
	stat[16] = kind
	binary.LittleEndian.PutUint64(stat[24:], 1)
	binary.LittleEndian.PutUint64(stat[32:], size)
	binary.LittleEndian.PutUint64(stat[40:], accessed)
	binary.LittleEndian.PutUint64(stat[48:], changed)
	binary.LittleEndian.PutUint64(stat[56:], changed)
	return stat
}

func (r *run) fdPrestatGet(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e != success || f.mount == "" {
		return errBadFD
	}
	prestat := make([]byte, 8)
	binary.LittleEndian.PutUint32(prestat[4:], i32(uint64(len(f.mount))))
	return mem.put(args[1], prestat)
}

func (r *run) fdPrestatDirName(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e != success || f.mount == "" {
		return errBadFD
	}
	if uint64(i32(args[2])) < uint64(len(f.mount)) {
		return errLongName
	}
	return mem.put(args[1], []byte(f.mount))
}

func (r *run) fdSeek(mem guestMemory, args []uint64) errno {
	f, e := r.regular(args[0])
	if e != success {
		return e
	}
	base := uint64(0)
	switch i32(args[2]) {
	case 0: // from the beginning
	case 1:
		base = f.offset
	case 2:
		base = f.node.size()
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
	f, e := r.regular(args[0])
	if e != success {
		return e
	}
	return mem.putU64(args[1], f.offset)
}

func (r *run) fdRead(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	if e == success && f.live != nil {
		return r.listen(f, mem, args)
	}
	if e != success {
		return e
	}
	n, e := r.readFile(mem, args[1], args[2], f, f.offset)
	if e != success {
		return e
	}
	f.offset += n
	return mem.putU32(args[3], i32(n))
}

func (r *run) fdPread(mem guestMemory, args []uint64) errno {
	f, e := r.regular(args[0])
	switch {
	case e != success:
		return e
	case args[3] > math.MaxInt64:
		return errInval
	}
	n, e := r.readFile(mem, args[1], args[2], f, args[3])
	if e != success {
		return e
	}
	return mem.putU32(args[4], i32(n))
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

// readFile fills the guest's buffers, up to chunkBytes in all: how much a read
// returns depends on the guest and the content alone.
func (r *run) readFile(mem guestMemory, address, count uint64, f *file, offset uint64) (uint64, errno) {
	from := f.source
	switch {
	case f.kind() == typeDirectory:
		return 0, errIsDir
	case f.node == nil && from == nil, f.node != nil && !f.read:
		return 0, errBadFD
	case f.node != nil:
		from = f.node.source
	}
	buffers, e := r.vectors(mem, address, count)
	if e != success {
		return 0, e
	}
	want := room(buffers)
	var got []byte
	if from != nil {
		got = r.readAt(from, offset, want)
	} else {
		got = r.readNode(f.node, offset, want)
	}
	return scatter(buffers, got), success
}

// room is how much one read gives to the guest's buffers.
func room(buffers [][]byte) (want uint64) {
	for _, b := range buffers {
		want = min(chunkBytes, want+uint64(len(b)))
	}
	return want
}

// scatter copies what was read into the guest's buffers.
func scatter(buffers [][]byte, got []byte) uint64 {
	n := uint64(len(got))
	for _, b := range buffers {
		got = got[copy(b, got):]
	}
	return n
}

// readNode returns up to want bytes of a file that is in memory.
func (r *run) readNode(n *node, offset, want uint64) []byte {
	b := make([]byte, min(want, n.length-min(offset, n.length)))
	n.readAt(b, offset)
	r.gauge.charge(uint64(len(b)))
	return b
}

func (r *run) fdWrite(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	switch {
	case e != success:
		return e
	case f.out == nil && !f.write:
		return errBadFD
	}
	buffers, e := r.vectors(mem, args[1], args[2])
	if e != success {
		return e
	}
	if f.out == nil {
		if f.append {
			f.offset = f.node.length
		}
		n, e := r.writeNode(f.node, buffers, f.offset)
		if e != success {
			return e
		}
		f.offset += n
		return mem.putU32(args[3], i32(n))
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

func (r *run) fdPwrite(mem guestMemory, args []uint64) errno {
	f, e := r.own(args[0])
	switch {
	case e != success:
		return e
	case args[3] > math.MaxInt64:
		return errInval
	}
	buffers, e := r.vectors(mem, args[1], args[2])
	if e != success {
		return e
	}
	n, e := r.writeNode(f.node, buffers, args[3])
	if e != success {
		return e
	}
	return mem.putU32(args[4], i32(n))
}

// writeNode writes the guest's buffers into a file of the scratch. What there was
// room for is a short write; the next one fails.
func (r *run) writeNode(n *node, buffers [][]byte, offset uint64) (uint64, errno) {
	total := uint64(0)
	for _, b := range buffers {
		done, e := n.writeAt(b, offset+total)
		r.gauge.charge(done)
		total += done
		if e != success && total == 0 {
			return 0, e
		}
		if e != success {
			break
		}
	}
	n.changed = r.now()
	return total, success
}

func (r *run) fdSetSize(_ guestMemory, args []uint64) errno {
	f, e := r.own(args[0])
	if e != success {
		return e
	}
	f.node.changed = r.now()
	return f.node.resize(args[1])
}

// fdAllocate makes a file as long as asked for; what is not written takes no
// place.
func (r *run) fdAllocate(_ guestMemory, args []uint64) errno {
	f, e := r.own(args[0])
	switch {
	case e != success:
		return e
	case args[1] > ScratchMaxBytes, args[2] > ScratchMaxBytes:
		return errBigFile
	case args[1]+args[2] <= f.node.length:
		return success
	}
	return f.node.resize(args[1] + args[2])
}

// The flags of what sets times.
const (
	setAccessed    = 1
	setAccessedNow = 2
	setChanged     = 4
	setChangedNow  = 8
)

func (r *run) setTimes(n *node, accessed, changed, flags uint64) errno {
	if n.scratch == nil {
		return errReadOnly
	}
	for _, t := range []struct {
		to       *uint64
		value    uint64
		set, now uint64
	}{{&n.accessed, accessed, setAccessed, setAccessedNow}, {&n.changed, changed, setChanged, setChangedNow}} {
		switch flags & (t.set | t.now) {
		case t.set | t.now:
			return errInval
		case t.set:
			*t.to = t.value
		case t.now:
			*t.to = r.now()
		}
	}
	return success
}

func (r *run) fdSetTimes(_ guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	switch {
	case e != success:
		return e
	case f.node == nil:
		return errInval
	}
	return r.setTimes(f.node, args[1], args[2], args[3])
}

// fdReaddir lists a folder: itself, its parent, then its entries in the order in
// which they came. A record that does not fit is cut, as the interface wants.
func (r *run) fdReaddir(mem guestMemory, args []uint64) errno {
	f, e := r.file(args[0])
	switch {
	case e != success:
		return e
	case f.kind() != typeDirectory:
		return errNotDir
	}
	dst, ok := mem.view(args[1], args[2])
	if !ok {
		return errFault
	}
	used := 0
	put := func(number uint64, name string, n *node) bool {
		if number < args[3] {
			return true
		}
		record := binary.LittleEndian.AppendUint64(nil, number+1)
		record = binary.LittleEndian.AppendUint64(record, n.inode)
		record = binary.LittleEndian.AppendUint32(record, i32(uint64(len(name))))
		record = append(record, n.kind, 0, 0, 0)
		record = append(record, name...)
		used += copy(dst[used:], record)
		return used < len(dst)
	}
	parent := f.node.parent
	if parent == nil {
		parent = f.node
	}
	more := put(0, ".", f.node) && put(1, "..", parent)
	for _, entry := range f.node.from(max(args[3], firstEntry)) {
		if !more {
			break
		}
		if entry.node != nil {
			more = put(entry.number, entry.name, entry.node)
		}
	}
	return mem.putU32(args[4], i32(uint64(used)))
}

// place is what a path names: an entry of a folder, whether it is there or not.
type place struct {
	dir  *node // nil for the folder itself that the path started from or went back to
	name string
	node *node // nil when nothing is there
	// folder says that the path can mean a folder only.
	folder bool
}

// lookup follows a path below an open folder. There are no links, so that ".."
// is the folder above; it never goes above the open one.
func (r *run) lookup(mem guestMemory, fd, address, length uint64) (place, errno) {
	f, e := r.file(fd)
	switch {
	case e != success:
		return place{}, e
	case f.kind() != typeDirectory:
		return place{}, errNotDir
	case i32(length) > maxPath:
		return place{}, errLongName
	}
	b, ok := mem.view(address, length)
	if !ok {
		return place{}, errFault
	}
	name := string(b)
	switch {
	case !utf8.ValidString(name) || strings.ContainsRune(name, 0):
		return place{}, errIllegal
	case name == "":
		return place{}, errNoEnt
	case strings.HasPrefix(name, "/"):
		return place{}, errNotCap
	}
	return f.node.follow(strings.Split(name, "/"))
}

func (n *node) follow(steps []string) (place, errno) {
	at := place{node: n}
	depth := 0
	for i, step := range steps {
		switch {
		case at.node == nil:
			if slices.ContainsFunc(steps[i:], func(s string) bool { return s != "" && s != "." }) {
				return at, errNoEnt
			}
			at.folder = true
			return at, success
		case at.node.kind != typeDirectory:
			return at, errNotDir
		case step == "" || step == ".":
			at.folder = true
		case step == "..":
			if depth == 0 {
				return at, errNotCap
			}
			depth--
			at = place{node: at.node.parent, folder: true}
		default:
			depth++
			next := place{dir: at.node, name: step}
			if e := at.node.names[step]; e != nil {
				next.node = e.node
			}
			at = next
		}
	}
	return at, success
}

// The flags of path_open.
const (
	openCreate    = 1
	openDirectory = 2
	openExclusive = 4
	openTruncate  = 8
)

func (r *run) pathOpen(mem guestMemory, args []uint64) errno {
	flags, write := i32(args[4]), args[5]&rightWrite != 0
	at, e := r.lookup(mem, args[0], args[2], args[3])
	if e != success {
		return e
	}
	fd := slices.Index(r.files, nil)
	if fd < 0 {
		fd = len(r.files)
	}
	if fd == maxFiles {
		return errManyFD
	}
	if e := mem.putU32(args[8], i32(uint64(fd))); e != success {
		return e
	}
	n, e := r.openNode(at, flags, write)
	if e != success {
		return e
	}
	if fd == len(r.files) {
		r.files = append(r.files, nil)
	}
	n.open++
	r.files[fd] = &file{node: n, read: args[5]&rightRead != 0, write: write, append: write && args[7]&flagAppend != 0}
	return success
}

// openNode finds or makes what is to be opened.
func (r *run) openNode(at place, flags uint32, write bool) (*node, errno) {
	n := at.node
	switch {
	case n == nil && flags&openCreate == 0:
		return nil, errNoEnt
	case n == nil && (at.folder || flags&openDirectory != 0):
		return nil, errIsDir
	case n == nil:
		return at.dir.create(at.name, typeRegular, r.now())
	case flags&openCreate != 0 && flags&openExclusive != 0:
		return nil, errExists
	case (at.folder || flags&openDirectory != 0) && n.kind != typeDirectory:
		return nil, errNotDir
	case n.kind == typeDirectory && (write || flags&openTruncate != 0):
		return nil, errIsDir
	case n.scratch == nil && (write || flags&openTruncate != 0):
		return nil, errReadOnly
	case flags&openTruncate != 0:
		n.changed = r.now()
		return n, n.resize(0)
	}
	return n, success
}

func (r *run) pathFilestatGet(mem guestMemory, args []uint64) errno {
	at, e := r.existing(mem, args[0], args[2], args[3])
	if e != success {
		return e
	}
	return mem.put(args[4], at.node.stat())
}

// existing is lookup for what must be there.
func (r *run) existing(mem guestMemory, fd, address, length uint64) (place, errno) {
	at, e := r.lookup(mem, fd, address, length)
	switch {
	case e != success:
		return at, e
	case at.node == nil:
		return at, errNoEnt
	case at.folder && at.node.kind != typeDirectory:
		return at, errNotDir
	}
	return at, success
}

func (r *run) pathSetTimes(mem guestMemory, args []uint64) errno {
	at, e := r.existing(mem, args[0], args[2], args[3])
	if e != success {
		return e
	}
	return r.setTimes(at.node, args[4], args[5], args[6])
}

func (r *run) pathCreateDirectory(mem guestMemory, args []uint64) errno {
	at, e := r.lookup(mem, args[0], args[1], args[2])
	switch {
	case e != success:
		return e
	case at.node != nil:
		return errExists
	}
	_, e = at.dir.create(at.name, typeDirectory, r.now())
	return e
}

// changeable is existing for what is to be taken out of its folder.
func (r *run) changeable(mem guestMemory, fd, address, length uint64) (place, errno) {
	at, e := r.existing(mem, fd, address, length)
	switch {
	case e != success:
		return at, e
	case at.node.scratch == nil:
		return at, errReadOnly
	case at.dir == nil: // a folder that is named by . or ..
		return at, errInval
	}
	return at, success
}

func (r *run) pathRemoveDirectory(mem guestMemory, args []uint64) errno {
	at, e := r.changeable(mem, args[0], args[1], args[2])
	switch {
	case e != success:
		return e
	case at.node.kind != typeDirectory:
		return errNotDir
	case len(at.node.names) > 0:
		return errNotEmpty
	}
	at.dir.remove(at.name, r.now())
	return success
}

func (r *run) pathUnlinkFile(mem guestMemory, args []uint64) errno {
	at, e := r.changeable(mem, args[0], args[1], args[2])
	switch {
	case e != success:
		return e
	case at.node.kind == typeDirectory:
		return errIsDir
	}
	at.dir.remove(at.name, r.now())
	return success
}

func (r *run) pathRename(mem guestMemory, args []uint64) errno {
	old, e := r.changeable(mem, args[0], args[1], args[2])
	if e != success {
		return e
	}
	to, e := r.lookup(mem, args[3], args[4], args[5])
	switch {
	case e != success:
		return e
	case to.dir == nil:
		return errInval
	case to.dir.scratch == nil:
		return errReadOnly
	case to.dir.removed:
		return errNoEnt
	case len(to.name) > maxEntryName:
		return errLongName
	case to.node == old.node:
		return success
	case old.node.holds(to.dir):
		return errInval
	case to.folder && old.node.kind != typeDirectory:
		return errNotDir
	}
	if to.node != nil {
		switch {
		case to.node.kind == typeDirectory && old.node.kind != typeDirectory:
			return errIsDir
		case to.node.kind != typeDirectory && old.node.kind == typeDirectory:
			return errNotDir
		case len(to.node.names) > 0:
			return errNotEmpty
		}
		to.dir.remove(to.name, r.now())
	}
	old.dir.drop(old.name)
	to.dir.add(to.name, old.node)
	old.dir.changed, to.dir.changed = r.now(), r.now()
	return success
}

// pathReadlink knows no link.
func (r *run) pathReadlink(mem guestMemory, args []uint64) errno {
	if _, e := r.existing(mem, args[0], args[1], args[2]); e != success {
		return e
	}
	return errInval
}

// noLink refuses to make a link below an open folder.
func (r *run) noLink(fd uint64) errno {
	f, e := r.file(fd)
	switch {
	case e != success:
		return e
	case f.node == nil || f.node.scratch == nil:
		return errReadOnly
	}
	return errNotSup
}

// pathNoLink makes no second name; the folder of the new one is the fifth.
func (r *run) pathNoLink(_ guestMemory, args []uint64) errno { return r.noLink(args[4]) }

// pathSymlink makes no link; its folder comes third.
func (r *run) pathSymlink(_ guestMemory, args []uint64) errno { return r.noLink(args[2]) }
