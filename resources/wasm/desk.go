package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"syscall"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// A framed guest is talked to in records: what is typed is its standard input, and files
// are put below ScratchDir and sent from there while it waits for input. Those that are
// asked for at the end are sent when it has ended.

// desk takes the records of a framed run. The guest's goroutine owns it.
type desk struct {
	in      resources.Input
	aside   *output
	top     *node // ScratchDir
	now     func() uint64
	records resources.Records
	order   resources.RecordOrder

	buffer []byte
	typed  []byte // that the guest has not read
	ended  bool   // nothing more is typed
	took   uint64 // bytes since they were counted last
	put    filing
	asked  []question
	late   []string
}

// filing is a file that is put.
type filing struct {
	node   *node // nil when there is none
	length uint64
	errno  byte
}

// question is what must be answered: a file that was put, or one that is asked for.
type question struct {
	errno byte   // of one that was put
	get   string // "" for one that was put
}

// leaveRoom is what a file leaves of the run's output, for the guest.
const leaveRoom = 64 << 10

// Ready reports whether Read would return at once.
func (d *desk) Ready() bool { return len(d.typed) > 0 || d.ended || d.in.Ready() }

// Read takes what comes next and returns what was typed, which may be nothing: then
// something else was done.
func (d *desk) Read(ctx context.Context, p []byte) (int, error) {
	if len(d.typed) == 0 && d.ended {
		return 0, io.EOF
	}
	if len(d.typed) == 0 {
		if err := d.next(ctx); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.typed)
	d.typed = d.typed[n:]
	return n, nil
}

func (d *desk) next(ctx context.Context) error {
	if d.buffer == nil {
		d.buffer = make([]byte, chunkBytes)
	}
	n, err := d.in.Read(ctx, d.buffer)
	d.took += uint64(n) //nolint:gosec // readers count upwards
	if perr := d.records.Push(d.buffer[:n], d.record); perr != nil {
		return perr
	}
	if errors.Is(err, io.EOF) {
		d.ended, err = true, nil
	}
	return err
}

// cost is how many bytes came since it was asked last.
func (d *desk) cost() uint64 {
	n := d.took
	d.took = 0
	return n
}

func (d *desk) record(kind resources.RecordKind, body []byte) error {
	if err := d.order.Next(kind, body); err != nil {
		return err
	}
	switch kind {
	case resources.RecordTyped:
		d.typed = append(d.typed, body...)
	case resources.RecordTypedEnd:
		d.ended = true
	case resources.RecordPut:
		d.put = filing{}
		d.put.node, d.put.errno = d.create(string(body))
	case resources.RecordPutData:
		d.putGoesOn(body)
	case resources.RecordPutEnd:
		if n := d.put.node; n != nil {
			n.open--
			n.release()
		}
		d.asked = append(d.asked, question{errno: d.put.errno})
	case resources.RecordGet:
		d.asked = append(d.asked, question{get: string(body)})
	case resources.RecordGetAtEnd:
		d.late = append(d.late, string(body))
	case resources.RecordSize, resources.RecordFile, resources.RecordDone: // the order has none
	}
	return nil
}

// create makes the file that is put, or empties it.
func (d *desk) create(name string) (*node, byte) {
	at, e := d.find(name)
	if e != 0 {
		if e == byte(syscall.ENOENT) && path.IsAbs(name) && !within(name) {
			e = byte(syscall.EROFS)
		}
		return nil, e
	}
	n := at.node
	switch {
	case n == nil && at.folder, n != nil && n.kind == typeDirectory:
		return nil, byte(syscall.EISDIR)
	case n == nil:
		made, e := at.dir.create(at.name, typeRegular, d.now())
		if e != success {
			return nil, number(e)
		}
		n = made
	default:
		if e := n.resize(0); e != success {
			return nil, number(e)
		}
	}
	n.open++
	return n, 0
}

func (d *desk) putGoesOn(body []byte) {
	put := &d.put
	if put.node == nil || put.errno != 0 {
		return
	}
	n, e := put.node.writeAt(body, put.length)
	put.length += n
	put.node.changed = d.now()
	if e != success {
		put.errno = number(e)
	}
}

// within reports whether an absolute path is of the scratch.
func within(name string) bool {
	return name == ScratchDir || strings.HasPrefix(name, ScratchDir+"/")
}

// find follows a path; a relative one is below ScratchDir, and no other is anywhere else.
func (d *desk) find(name string) (place, byte) {
	if path.IsAbs(name) {
		if !within(name) {
			return place{}, byte(syscall.ENOENT)
		}
		name = strings.TrimPrefix(name, ScratchDir)
	}
	at, e := d.top.follow(strings.Split(name, "/"))
	return at, number(e)
}

// number is an error as Linux numbers it.
func number(e errno) byte {
	switch e { //nolint:exhaustive // the default is for the others
	case success:
		return 0
	case errNoEnt:
		return byte(syscall.ENOENT)
	case errNotDir:
		return byte(syscall.ENOTDIR)
	case errNoSpace:
		return byte(syscall.ENOSPC)
	case errBigFile:
		return byte(syscall.EFBIG)
	case errLongName:
		return byte(syscall.ENAMETOOLONG)
	case errReadOnly:
		return byte(syscall.EROFS)
	case errNotCap:
		return byte(syscall.EACCES)
	default:
		return byte(syscall.EIO)
	}
}

// open finds a file that is asked for and bounds it by what may still be written.
func (d *desk) open(name string, room uint64) (*node, byte) {
	at, e := d.find(name)
	switch n := at.node; {
	case e != 0:
		return nil, e
	case n == nil:
		return nil, byte(syscall.ENOENT)
	case n.kind == typeDirectory:
		return nil, byte(syscall.EISDIR)
	case n.size()+n.size()/1024+leaveRoom > room: // with the heads of its records
		return nil, byte(syscall.EFBIG)
	default:
		return n, 0
	}
}

// answer sends all that was asked for.
func (r *run) answer() {
	asked := r.desk.asked
	r.desk.asked = nil
	for _, q := range asked {
		if q.get == "" {
			r.write(r.desk.aside, resources.AppendDone(nil, q.errno))
			continue
		}
		_ = r.send(q.get, func(b []byte) error { // the run ends when it fails
			r.write(r.desk.aside, b)
			r.pay()
			return nil
		})
	}
}

// send sends a file in records.
func (r *run) send(name string, say func([]byte) error) error {
	n, e := r.desk.open(name, r.outLimit-min(r.outLimit, r.outBytes.Load()))
	b := make([]byte, resources.RecordMaxBytes)
	for at := uint64(0); e == 0 && at < n.size(); {
		got := n.readAt(b, at)
		at += got
		if err := say(resources.AppendRecord(nil, resources.RecordFile, b[:got])); err != nil {
			return err
		}
	}
	return say(resources.AppendDone(nil, e))
}

// answerLate sends the files that were asked for at the end. The guest has ended and
// needs its place no more.
func (r *run) answerLate() error {
	late := r.desk.late
	if len(late) > 0 && !r.talk.away {
		<-r.talk.places
		r.talk.away = true
	}
	for _, name := range late {
		if err := r.send(name, r.deliver); err != nil {
			return fmt.Errorf("send %.80q: %w", name, err)
		}
	}
	return nil
}

// deliver writes an answer after the guest's end, as long as the run may take.
func (r *run) deliver(b []byte) error {
	if uint64(len(b)) > r.outLimit-min(r.outLimit, r.outBytes.Load()) {
		return fmt.Errorf("%w: %d bytes", mman.ErrOutput, r.outLimit)
	}
	result := make(chan ioResult, 1)
	go func() { result <- ioResult{writeAll(r.desk.aside.w, b)} }()
	select {
	case got := <-result:
		if got.err == nil {
			r.outBytes.Add(uint64(len(b)))
		}
		return got.err
	case <-r.done:
		r.pending = result
		return stopped{}
	}
}
