package e2e_test

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	cometdb "github.com/cometbft/cometbft-db"
	"github.com/cometbft/cometbft/config"
)

// journal remembers what each key of CometBFT's databases held before it was
// written, and forgets all at each sync: they share one database, which is synced
// as a whole. After a kill it tells how to take back what a power cut would have
// lost. A record is on file before the write that it undoes.
type journal struct {
	mu   sync.Mutex
	file *os.File
}

const journalFile = "unsynced"

func openJournal(home string) (*journal, error) {
	f, err := os.OpenFile(filepath.Join(home, journalFile), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	return &journal{file: f}, err
}

// provider puts the journal between CometBFT and its databases.
func (j *journal) provider(next config.DBProvider) config.DBProvider {
	return func(ctx *config.DBContext) (cometdb.DB, error) {
		db, err := next(ctx)
		return journaled{db, j, ctx.ID}, err
	}
}

// before notes what a key holds.
func (j *journal) before(db journaled, key []byte) error {
	old, err := db.Get(key)
	if err != nil {
		return err
	}
	record := binary.BigEndian.AppendUint32(nil, uint32(len(db.id)))
	record = append(record, db.id...)
	record = append(binary.BigEndian.AppendUint32(record, uint32(len(key))), key...)
	size := uint32(len(old))
	if old == nil {
		size = absent
	}
	record = append(binary.BigEndian.AppendUint32(record, size), old...)
	_, err = j.file.Write(record)
	return err
}

const absent = 1<<32 - 1

func (j *journal) synced() error { return j.file.Truncate(0) }

// undo takes back what was written since the last sync, the latest first, and
// returns how many writes that were.
func undo(home string, open config.DBProvider) (int, error) {
	path := filepath.Join(home, journalFile)
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // it was read
	type write struct {
		id         string
		key, value []byte
	}
	var all []write
	field := func() ([]byte, error) {
		var size uint32
		if err := binary.Read(f, binary.BigEndian, &size); err != nil || size == absent {
			return nil, err
		}
		b := make([]byte, size)
		_, err := io.ReadFull(f, b)
		return b, err
	}
	for {
		id, err1 := field()
		key, err2 := field()
		value, err3 := field()
		if err := errors.Join(err1, err2, err3); err != nil {
			break // the end, or a record whose write never was
		}
		all = append(all, write{string(id), key, value})
	}
	for _, w := range slices.Backward(all) {
		db, err := open(&config.DBContext{ID: w.id})
		if err != nil {
			return 0, err
		}
		if w.value == nil {
			err = db.Delete(w.key)
		} else {
			err = db.Set(w.key, w.value)
		}
		if err != nil {
			return 0, err
		}
	}
	return len(all), os.Remove(path)
}

type journaled struct {
	cometdb.DB

	j  *journal
	id string
}

func (d journaled) write(key []byte, durable bool, fn func() error) error {
	d.j.mu.Lock()
	defer d.j.mu.Unlock()
	if err := d.j.before(d, key); err != nil {
		return err
	}
	if err := fn(); err != nil || !durable {
		return err
	}
	return d.j.synced()
}

func (d journaled) Set(key, value []byte) error {
	return d.write(key, false, func() error { return d.DB.Set(key, value) })
}

func (d journaled) SetSync(key, value []byte) error {
	return d.write(key, true, func() error { return d.DB.SetSync(key, value) })
}

func (d journaled) Delete(key []byte) error {
	return d.write(key, false, func() error { return d.DB.Delete(key) })
}

func (d journaled) DeleteSync(key []byte) error {
	return d.write(key, true, func() error { return d.DB.DeleteSync(key) })
}

func (d journaled) NewBatch() cometdb.Batch { return &journaledBatch{Batch: d.DB.NewBatch(), db: d} }

type journaledBatch struct {
	cometdb.Batch

	db   journaled
	keys [][]byte
}

func (b *journaledBatch) Set(key, value []byte) error {
	b.keys = append(b.keys, slices.Clone(key))
	return b.Batch.Set(key, value)
}

func (b *journaledBatch) Delete(key []byte) error {
	b.keys = append(b.keys, slices.Clone(key))
	return b.Batch.Delete(key)
}

func (b *journaledBatch) Write() error { return b.finish(false, b.Batch.Write) }

func (b *journaledBatch) WriteSync() error { return b.finish(true, b.Batch.WriteSync) }

func (b *journaledBatch) finish(durable bool, fn func() error) error {
	b.db.j.mu.Lock()
	defer b.db.j.mu.Unlock()
	for _, key := range b.keys {
		if err := b.db.j.before(b.db, key); err != nil {
			return err
		}
	}
	if err := fn(); err != nil || !durable {
		return err
	}
	return b.db.j.synced()
}
