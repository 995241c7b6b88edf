package store

import (
	"encoding/binary"
	"errors"
	"fmt"
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
