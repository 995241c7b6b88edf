package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

var (
	// errFooter is a table whose last bytes lead out of it.
	errFooter = errors.New("its index lies outside of the file")
	// errBlocks is a table that cannot be read at all.
	errBlocks = errors.New("its blocks are not what was written")
	// errLengths is a log with an entry that is longer than the log.
	errLengths = errors.New("the length of an entry leads out of the file")
)

// checkTables reads every table of the database in a folder and compares all
// checksums. Badger would do so itself, but ends the process on some of the damages
// that it finds, in goroutines of its own. A folder without a manifest has no tables;
// what is wrong with a manifest badger says well.
func checkTables(dir string, opts badger.Options) error {
	manifest, err := os.Open(filepath.Join(dir, badger.ManifestFilename)) //nolint:gosec // a folder of our own
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer manifest.Close() //nolint:errcheck // it was read
	held, _, err := badger.ReplayManifestFile(manifest, opts.ExternalMagicVersion, opts)
	if err != nil {
		return nil // badger finds it again, after it has the lock of the folder
	}
	for id := range held.Tables {
		err := checkTable(table.NewFilename(id, dir), opts)
		// Whoever has the folder open may have replaced it meanwhile.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("table %s: %w", table.IDToFilename(id), err)
		}
	}
	return nil
}

// checkTable reads one table. Its last bytes are the index, the index's length, the
// index's checksum and the checksum's length, lengths as big-endian uint32.
func checkTable(path string, opts badger.Options) (err error) {
	data, err := os.ReadFile(path) //nolint:gosec // a folder of our own
	if err != nil {
		return err
	}
	end := len(data)
	for range 2 {
		if end < 4 {
			return errFooter
		}
		size := int64(binary.BigEndian.Uint32(data[end-4:]))
		if size > int64(end-4) {
			return errFooter
		}
		end -= 4 + int(size)
	}
	defer func() {
		if recover() != nil {
			err = errBlocks
		}
	}()
	id, _ := table.ParseFileID(path)
	t, err := table.OpenInMemoryTable(data, id, &table.Options{BlockSize: opts.BlockSize, Compression: opts.Compression})
	if err != nil {
		return err
	}
	return t.VerifyChecksum()
}

const (
	// logStart is where the entries of a log begin, behind the number of a key and
	// a vector for ciphers, which are not used.
	logStart = 20
	// mostEntryHead is how long the head of an entry may be: two bytes and three
	// variable-length integers.
	mostEntryHead = 2 + 3*binary.MaxVarintLen64
	// mostKey is the length of a key above which badger takes a log to end.
	mostKey = 1 << 16
)

// checkLogs walks the logs that badger replays when it opens a folder: those of
// write buffers and the newest of values. Badger makes room for as much as an entry
// says that it holds, three times up to 4 GiB, and ends the process when the sum of
// both lengths overflows.
func checkLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return err
	}
	values, err := filepath.Glob(filepath.Join(dir, "*.vlog")) // in order: names have six digits
	if err != nil {
		return err
	}
	for _, path := range append(logs, values[max(0, len(values)-1):]...) {
		// Whoever has the folder open may have removed it meanwhile.
		if err := checkLog(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("log %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// checkLog walks a log up to where badger stops: at the end, at an entry without a
// key, or at one whose checksum is wrong, from which on it cuts the log off. An
// entry is its head (two bytes, the lengths of key and value, when it expires), key,
// value and, big-endian, a Castagnoli checksum of all that.
func checkLog(path string) error {
	file, err := os.Open(path) //nolint:gosec // a folder of our own
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	left := info.Size() - logStart
	in := bufio.NewReaderSize(io.NewSectionReader(file, logStart, max(0, left)), 64<<10)
	for {
		head, err := in.Peek(mostEntryHead)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		size, key, value, ok := entryHead(head)
		switch {
		case !ok, key > mostKey:
			return nil
		case int64(size)+int64(key)+int64(value)+crc32.Size > left:
			return errLengths
		case key == 0:
			return nil
		}
		sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
		if _, err := io.CopyN(sum, in, int64(size)+int64(key)+int64(value)); err != nil {
			return err
		}
		var want [crc32.Size]byte
		if _, err := io.ReadFull(in, want[:]); err != nil {
			return err
		}
		if binary.BigEndian.Uint32(want[:]) != sum.Sum32() {
			return nil
		}
		left -= int64(size) + int64(key) + int64(value) + crc32.Size
	}
}

// entryHead reads the head of an entry; ok is false when there is none. Badger
// drops the upper halves of lengths.
func entryHead(b []byte) (size int, key, value uint32, ok bool) {
	var fields [3]uint64
	size = 2
	for i := range fields {
		if size >= len(b) {
			return 0, 0, 0, false
		}
		v, n := binary.Uvarint(b[size:])
		if n <= 0 {
			return 0, 0, 0, false
		}
		fields[i], size = v, size+n
	}
	return size, uint32(fields[0]), uint32(fields[1]), true //nolint:gosec // as badger does
}
