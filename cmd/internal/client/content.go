package client

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk/spool"
)

// regular returns the size of a file that the user names; "" is none.
func regular(path string) (uint64, error) {
	if path == "" {
		return 0, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: file %s", mman.ErrNotFound, path)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", mman.ErrInvalid, err)
	}
	if !info.Mode().IsRegular() {
		return 0, console.Wrong("%s is not a file: name one", path)
	}
	return uint64(info.Size()), nil //nolint:gosec // sizes are not negative
}

// readable refuses what is neither a file nor a folder; "" is none.
func readable(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	_, err := regular(path)
	return err
}

// checkAlgorithm refuses a local file that cannot be a WASM module, nor a
// script by its name, before anybody is paid to find out.
func checkAlgorithm(path string) (err error) {
	if path == "" {
		return nil
	}
	size, err := regular(path)
	if err != nil {
		return err
	}
	if i, ok := resources.InterpreterOf(resources.FacetOfFile(path)); ok {
		if size > resources.ScriptMaxBytes {
			return fmt.Errorf("%w: %s has %d bytes, a script of %s has at most %d", mman.ErrTooLarge, path, size, i.Name, resources.ScriptMaxBytes)
		}
		return nil
	}
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInvalid, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if resources.FacetOfFile(path) == resources.FacetContainer {
		return checkImage(f)
	}
	head := make([]byte, 8)
	if _, err := io.ReadFull(f, head); err != nil || !bytes.Equal(head, []byte("\x00asm\x01\x00\x00\x00")) {
		return fmt.Errorf("%w: %s does not begin like a WASM module; compile it for WASI preview 1, in Go with GOOS=wasip1 GOARCH=wasm, or name a script .js or .py", mman.ErrModule, path)
	}
	return nil
}

// checkImage refuses a .tar that does not begin as one does. All else is for the
// provider to say, whose machine the image must suit.
func checkImage(f *os.File) error {
	if _, err := tar.NewReader(f).Next(); err != nil {
		return fmt.Errorf("%w: %s is no archive of an image (%w); make one with mman image build or docker save, not compressed", mman.ErrModule, f.Name(), err)
	}
	return nil
}

// input is a run's standard input; a zero one is none.
type input struct{ f *os.File }

// reader returns what the run reads, nil for nothing.
func (i input) reader() io.ReadSeeker {
	if i.f == nil {
		return nil
	}
	return i.f
}

func (i input) close() {
	if i.f != nil {
		_ = i.f.Close() // only read from
	}
}

// openInput opens a file, or spools stdin for "-", since input is read twice.
// It must have at most limit bytes.
func openInput(stdin io.Reader, name string, limit uint64) (input, error) {
	switch name {
	case "":
		return input{}, nil
	case "-":
		f, err := spooled(stdin, limit)
		return input{f}, err
	}
	n, err := regular(name)
	if err != nil {
		return input{}, fmt.Errorf("--input: %w", err)
	}
	if n > limit {
		return input{}, tooLong(fmt.Sprintf("%s has %d bytes", name, n), limit)
	}
	f, err := os.Open(name) //nolint:gosec // the user names it
	if err != nil {
		return input{}, fmt.Errorf("--input: %w: %w", mman.ErrInvalid, err)
	}
	return input{f}, nil
}

func tooLong(what string, limit uint64) error {
	return fmt.Errorf("%w: %s, allowed are %s; raise --input-limit", mman.ErrInputLimit, what, sizeText(limit))
}

func spooled(r io.Reader, limit uint64) (_ *os.File, err error) {
	f, err := spool.Nameless("mman-input-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	n, err := io.Copy(f, io.LimitReader(r, int64(limit)+1)) //nolint:gosec // limits are far below 2⁶³
	if err != nil {
		return nil, diskError("spool standard input", err)
	}
	if uint64(n) > limit { //nolint:gosec // counts are not negative
		return nil, tooLong("standard input is longer than that", limit)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return f, nil
}

// diskError says a full disk by its code.
func diskError(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: %s: %w", mman.ErrDiskFull, what, err)
	}
	return fmt.Errorf("%w: %s: %w", mman.ErrHome, what, err)
}

// output holds a run's output until it is verified. It is written by one
// goroutine.
type output struct {
	to     io.Writer // standard output, nil for a file
	path   string    // of the file, "" for none
	f      *os.File  // nil: nobody wants the output
	placed bool
}

// newOutput makes the place for the output before anything is paid: beside the
// file of --out, or a file without a name for standard output. With -o json
// and no --out nobody wants it.
func (a *app) newOutput(path string) (_ *output, err error) {
	o := &output{path: path}
	if path == "" {
		if a.output == formatJSON {
			return o, nil
		}
		o.to = console.Tame(a.streams.Out)
		if o.f, err = os.CreateTemp("", "mman-output-*"); err != nil {
			return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		if err := os.Remove(o.f.Name()); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %w", mman.ErrHome, err), o.f.Close())
		}
		return o, nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, console.Wrong("--out %s is not a file: name one", path)
	}
	var salt [6]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	part := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+hex.EncodeToString(salt[:]))
	o.f, err = os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // the output is as public as the user's umask says
	if err != nil {
		return nil, console.Wrong("--out: no file can be made there: %w", err)
	}
	return o, nil
}

// Write keeps p.
func (o *output) Write(p []byte) (int, error) {
	if o.f == nil {
		return len(p), nil
	}
	n, err := o.f.Write(p)
	if err != nil {
		return n, diskError("keep the output", err)
	}
	return n, nil
}

// deliver hands the verified output over. A file is replaced only when whole;
// what a failed algorithm wrote goes to standard output at most.
func (o *output) deliver(whole bool) error {
	switch {
	case o.f == nil:
		return nil
	case o.to != nil:
		if _, err := o.f.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		if _, err := io.Copy(o.to, o.f); err != nil {
			return console.Unwritten(err)
		}
		return nil
	case !whole:
		return nil
	}
	if err := o.f.Close(); err != nil {
		return diskError("write "+o.path, err)
	}
	if err := os.Rename(o.f.Name(), o.path); err != nil {
		return diskError("write "+o.path, err)
	}
	o.placed = true
	return nil
}

// discard leaves nothing behind but a placed file. It is safe twice.
func (o *output) discard() {
	if o.f == nil {
		return
	}
	_ = o.f.Close() // its content is placed or given up
	if o.path != "" && !o.placed {
		_ = os.Remove(o.f.Name()) // a hidden file remains at worst
	}
	o.f = nil
}
