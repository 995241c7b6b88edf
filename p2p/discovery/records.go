package discovery

import (
	"container/heap"
	"context"
	"strings"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// recordShare is the part of all records that one peer may hold: one in as many as peers
// keep each record, the DHT's bucket size. A network keeps each CID that often, so its
// peers keep on the mean what this many announce, however large it is.
const recordShare = 20

// recordStore keeps provider records in memory, bounded in total and for each peer. A
// record's key is <content>/<peer>; content is an index of its own, so that a question
// costs as much as it has answers.
//
// At a bound somebody's oldest record gives way: the peer's own when it has its share
// or as many as anybody, else that of the peer with the most. So whoever announces too
// much displaces itself, and peers under many names leave everybody else as many records
// as each of them has. A record that gave way is gone without an error, as if it had
// been lost on its way: an error would stop the records of others in the same batch.
//
// A record takes some 300 bytes, 360 when a liar makes its key as long as the DHT takes
// it, and each peer 250 more: 120 MB for 400,000 records of some hundred peers, and 240
// when each of them is a liar of its own.
type recordStore struct {
	max int

	mu       sync.RWMutex
	records  map[pair]*record
	contents map[string]*recorded // by the key's parent
	peers    map[string]*holder   // by the key's last part
	most     ranking              // the same peers
}

// pair is a content and one who has it.
type pair struct {
	of *recorded
	by *holder
}

// record says that a peer has a content. It stands in a list of its peer's records and
// in one of its content's.
type record struct {
	pair

	value          string
	older, newer   *record // of its peer
	before, behind *record // of its content
}

// recorded is a content and the first record of it.
type recorded struct {
	key   string
	first *record
}

// holder is a peer and its records.
type holder struct {
	peer  string
	count int
	ends  record // newer is the oldest record, older the newest
	rank  int    // its place in the ranking
}

// ranking is a heap of peers, the one with the most records on top.
type ranking struct{ list []*holder }

// Len implements heap.Interface.
func (r *ranking) Len() int { return len(r.list) }

// Less implements heap.Interface.
func (r *ranking) Less(i, k int) bool { return r.list[i].count > r.list[k].count }

// Swap implements heap.Interface.
func (r *ranking) Swap(i, k int) {
	r.list[i], r.list[k] = r.list[k], r.list[i]
	r.list[i].rank, r.list[k].rank = i, k
}

// Push implements heap.Interface.
func (r *ranking) Push(x any) {
	h := x.(*holder) //nolint:errcheck // nothing else is pushed
	h.rank = len(r.list)
	r.list = append(r.list, h)
}

// Pop implements heap.Interface.
func (r *ranking) Pop() any {
	last := len(r.list) - 1
	h := r.list[last]
	r.list[last] = nil
	r.list = r.list[:last]
	return h
}

func newRecordStore(limit int) *recordStore {
	return &recordStore{max: limit, records: make(map[pair]*record), contents: make(map[string]*recorded), peers: make(map[string]*holder)}
}

func split(key ds.Key) (content, peer string) { return key.Parent().String(), key.BaseNamespace() }

// find returns the record under a key, nil for none. The caller holds mu.
func (s *recordStore) find(content, peer string) *record {
	return s.records[pair{s.contents[content], s.peers[peer]}]
}

func (s *recordStore) Get(_ context.Context, key ds.Key) ([]byte, error) {
	content, peer := split(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.find(content, peer)
	if r == nil {
		return nil, ds.ErrNotFound
	}
	return []byte(r.value), nil
}

func (s *recordStore) Has(ctx context.Context, key ds.Key) (bool, error) {
	return ds.GetBackedHas(ctx, s, key)
}

func (s *recordStore) GetSize(ctx context.Context, key ds.Key) (int, error) {
	return ds.GetBackedSize(ctx, s, key)
}

// Query may be read slowly: it copies the records of one content at a time.
func (s *recordStore) Query(_ context.Context, q query.Query) (query.Results, error) {
	left := s.below(ds.NewKey(q.Prefix).String())
	var entries []query.Entry
	next := func() (query.Result, bool) {
		for len(entries) == 0 {
			if len(left) == 0 {
				return query.Result{}, false
			}
			entries = s.entries(left[0])
			left = left[1:]
		}
		e := entries[0]
		entries = entries[1:]
		return query.Result{Entry: e}, true
	}
	return query.NaiveQueryApply(q, query.ResultsFromIterator(q, query.Iterator{Next: next})), nil
}

// below lists the content whose key is at, or all where that is no content's key.
func (s *recordStore) below(at string) []*recorded {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if strings.Count(at, "/") > 1 {
		if c := s.contents[at]; c != nil {
			return []*recorded{c}
		}
		return nil
	}
	all := make([]*recorded, 0, len(s.contents))
	for _, c := range s.contents {
		all = append(all, c)
	}
	return all
}

func (s *recordStore) entries(c *recorded) []query.Entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var entries []query.Entry
	for r := c.first; r != nil; r = r.behind {
		entries = append(entries, query.Entry{Key: c.key + "/" + r.by.peer, Value: []byte(r.value), Size: len(r.value)})
	}
	return entries
}

func (s *recordStore) Put(_ context.Context, key ds.Key, value []byte) error {
	content, peer := split(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.find(content, peer); r != nil {
		r.value = string(value)
		r.leave()
		r.join()
		return nil
	}
	if !s.makeRoom(peer) {
		return nil
	}
	s.add(content, peer, value)
	return nil
}

// makeRoom takes back the record that gives way to a further one of a peer, if there is
// no room. It is false when the peer has none itself and nobody has more.
func (s *recordStore) makeRoom(peer string) bool {
	own := s.peers[peer]
	switch {
	case own != nil && own.count >= s.max/recordShare:
		s.remove(own.ends.newer)
	case len(s.records) < s.max:
	case own == nil && s.most.list[0].count == 1:
		return false
	case own == nil || s.most.list[0].count > own.count:
		s.remove(s.most.list[0].ends.newer)
	default:
		s.remove(own.ends.newer)
	}
	return true
}

func (s *recordStore) add(content, peer string, value []byte) {
	c := s.contents[content]
	if c == nil {
		c = &recorded{key: strings.Clone(content)} // not the whole key
		s.contents[c.key] = c
	}
	h := s.peers[peer]
	if h == nil {
		h = &holder{peer: strings.Clone(peer)}
		h.ends.older, h.ends.newer = &h.ends, &h.ends
		s.peers[h.peer] = h
		heap.Push(&s.most, h)
	}
	r := &record{pair: pair{c, h}, value: string(value), behind: c.first}
	if r.behind != nil {
		r.behind.before = r
	}
	c.first = r
	r.join()
	s.records[r.pair] = r
	h.count++
	heap.Fix(&s.most, h.rank)
}

// join makes a record the newest of its peer.
func (r *record) join() {
	ends := &r.by.ends
	r.older, r.newer = ends.older, ends
	r.older.newer, r.newer.older = r, r
}

// leave takes a record out from between its neighbours.
func (r *record) leave() { r.older.newer, r.newer.older = r.newer, r.older }

func (s *recordStore) remove(r *record) {
	delete(s.records, r.pair)
	if r.behind != nil {
		r.behind.before = r.before
	}
	if r.before != nil {
		r.before.behind = r.behind
	} else if r.of.first = r.behind; r.behind == nil {
		delete(s.contents, r.of.key)
	}
	r.leave()
	if r.by.count--; r.by.count > 0 {
		heap.Fix(&s.most, r.by.rank)
		return
	}
	heap.Remove(&s.most, r.by.rank)
	delete(s.peers, r.by.peer)
}

func (s *recordStore) Delete(_ context.Context, key ds.Key) error {
	content, peer := split(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.find(content, peer); r != nil {
		s.remove(r)
	}
	return nil
}

func (s *recordStore) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(s), nil }

func (s *recordStore) Sync(context.Context, ds.Key) error { return nil }

func (s *recordStore) Close() error { return nil }
