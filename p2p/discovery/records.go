package discovery

import (
	"context"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// recordShare is the part of all records that one peer may hold: one in
// sixteen.
const recordShare = 16

// recordStore keeps provider records in memory, bounded in total and for each
// peer. A record's key is <content>/<peer>; content is an index of its own, so
// that a question costs as much as it has answers. A record above a bound is
// dropped without an error, as if it had been lost on its way: an error would
// stop the records of others in the same batch.
type recordStore struct {
	max int

	mu      sync.RWMutex
	content map[string]map[string][]byte // by the key's parent, then its last part
	peers   map[string]int               // records by the key's last part
	size    int
}

func newRecordStore(limit int) *recordStore {
	return &recordStore{max: limit, content: make(map[string]map[string][]byte), peers: make(map[string]int)}
}

func split(key ds.Key) (content, peer string) { return key.Parent().String(), key.BaseNamespace() }

func (s *recordStore) Get(_ context.Context, key ds.Key) ([]byte, error) {
	content, peer := split(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.content[content][peer]
	if !ok {
		return nil, ds.ErrNotFound
	}
	return v, nil
}

func (s *recordStore) Has(ctx context.Context, key ds.Key) (bool, error) {
	return ds.GetBackedHas(ctx, s, key)
}

func (s *recordStore) GetSize(ctx context.Context, key ds.Key) (int, error) {
	return ds.GetBackedSize(ctx, s, key)
}

// Query answers from a copy, so it may be read slowly.
func (s *recordStore) Query(_ context.Context, q query.Query) (query.Results, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var entries []query.Entry
	add := func(content string) {
		for peer, v := range s.content[content] {
			entries = append(entries, query.Entry{Key: content + "/" + peer, Value: v, Size: len(v)})
		}
	}
	if at := ds.NewKey(q.Prefix).String(); s.content[at] != nil {
		add(at)
	} else {
		for content := range s.content {
			add(content)
		}
	}
	return query.NaiveQueryApply(q, query.ResultsWithEntries(q, entries)), nil
}

func (s *recordStore) Put(_ context.Context, key ds.Key, value []byte) error {
	content, peer := split(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, has := s.content[content][peer]; !has {
		if s.size >= s.max || s.peers[peer] >= s.max/recordShare {
			return nil
		}
		s.size++
		s.peers[peer]++
	}
	if s.content[content] == nil {
		s.content[content] = make(map[string][]byte)
	}
	s.content[content][peer] = value
	return nil
}

func (s *recordStore) Delete(_ context.Context, key ds.Key) error {
	content, peer := split(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, has := s.content[content][peer]; !has {
		return nil
	}
	delete(s.content[content], peer)
	if len(s.content[content]) == 0 {
		delete(s.content, content)
	}
	s.size--
	if s.peers[peer]--; s.peers[peer] == 0 {
		delete(s.peers, peer)
	}
	return nil
}

func (s *recordStore) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(s), nil }

func (s *recordStore) Sync(context.Context, ds.Key) error { return nil }

func (s *recordStore) Close() error { return nil }
