package sdk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// RunRecord is what a consumer keeps of a run: enough to run it again and to
// check its bill.
type RunRecord struct {
	ChainID   string        `cbor:"chain"`
	Lease     mman.LeaseID  `cbor:"lease"`
	Run       session.Run   `cbor:"run"` // without inline input
	Statement market.Signed `cbor:"statement"`
	Receipt   market.Signed `cbor:"receipt"`
	// Before is the lane's usage before the run.
	Before resources.Usage `cbor:"before"`
	// Input is all that an environment was asked, in its order; zero for other runs.
	Input mman.CID `cbor:"input,omitzero"`
	// Files are where the contents that the consumer brought were then.
	Files []RunFile `cbor:"files"`
}

// RunFile is a local file and the content that it held.
type RunFile struct {
	Content mman.CID `cbor:"content"`
	Path    string   `cbor:"path"`
}

// Bounds of the history.
const (
	runRecordMax = 64 << 10
	// historyBytes is the size from which a lease's history begins anew; the
	// one before is kept until then.
	historyBytes  = 16 << 20
	historyFolder = "history"
)

// ReceiptID returns the id of a signed receipt, the CID of its bytes.
func ReceiptID(receipt market.Signed) mman.CID {
	return mman.SumCID(mman.CodecDagCBOR, receipt.Bytes)
}

func (b *LeaseBook) historyFile(id mman.LeaseID) string {
	return filepath.Join(b.dir, historyFolder, id.String())
}

// record appends a run to the history of its lease.
func (b *LeaseBook) record(r RunRecord) (err error) {
	r.Run.Inline = nil
	body, err := dagcbor.Marshal(r)
	if err != nil {
		return err
	}
	path := b.historyFile(r.Lease)
	f, err := openHistory(path)
	if errors.Is(err, fs.ErrNotExist) { // the first run of this home
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			f, err = openHistory(path)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil { //nolint:gosec // bounded by its parts
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return nil
}

// openHistory opens a history to append to, and begins it anew when it is full. It is
// locked until it is closed: sessions of one lease, and processes of one home, end
// their runs at the same time.
func openHistory(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // the name is an id
		if err != nil {
			return nil, err
		}
		ready, err := turn(f, path)
		if err == nil && ready {
			return f, nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

// turn locks the open history and reports whether it may be written: it is not when
// another began it anew meanwhile, or this call did.
func turn(f *os.File, path string) (bool, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return false, err
	}
	open, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(open, named):
		return false, nil
	case err != nil || open.Size() <= historyBytes:
		return err == nil, err
	default:
		return false, os.Rename(path, path+".old")
	}
}

// FindRun returns the run that a receipt of this home pays for, or
// mman.ErrNotFound.
func (b *LeaseBook) FindRun(receipt mman.CID) (RunRecord, error) {
	entries, err := os.ReadDir(filepath.Join(b.dir, historyFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return RunRecord{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	for _, e := range entries {
		var id mman.LeaseID
		if id.UnmarshalText([]byte(strings.TrimSuffix(e.Name(), ".old"))) != nil {
			continue
		}
		r, ok, err := findIn(filepath.Join(b.dir, historyFolder, e.Name()), receipt)
		if ok || err != nil {
			return r, err
		}
	}
	return RunRecord{}, fmt.Errorf("receipt %s: %w: no run of this home was paid with it; see the receipt in the answer of request run -o json", receipt, mman.ErrNotFound)
}

// findIn reads one history; a record that a crash cut off ends it.
func findIn(path string, receipt mman.CID) (_ RunRecord, ok bool, err error) {
	f, err := os.Open(path) //nolint:gosec // below the home
	if err != nil {
		return RunRecord{}, false, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in := bufio.NewReader(f)
	for {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return RunRecord{}, false, nil // the end, or a record that was cut off
		}
		size := binary.BigEndian.Uint32(head[:])
		if size > runRecordMax {
			return RunRecord{}, false, fmt.Errorf("%w: %s: a record of %d bytes", mman.ErrCorrupt, path, size)
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(in, body); err != nil {
			return RunRecord{}, false, nil // as above
		}
		r, err := dagcbor.Unmarshal[RunRecord](body, runRecordMax)
		if err != nil {
			return RunRecord{}, false, fmt.Errorf("%w: %s: %w", mman.ErrCorrupt, path, err)
		}
		if ReceiptID(r.Receipt) == receipt {
			return r, true, nil
		}
	}
}
