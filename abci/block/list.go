package block

import (
	"encoding/hex"
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
)

// Pager reads one page of keys, in ascending order: at most limit of those under a
// prefix that stand behind after, or the first ones when after is nil.
type Pager func(after []byte, limit int) ([][]byte, error)

// IndexKeys pages through the keys of an index under a prefix.
func IndexKeys(q Query, x state.Index, prefix []byte) Pager {
	return func(after []byte, limit int) ([][]byte, error) { return x.Page(q.State, prefix, after, limit) }
}

// TableKeys pages through the keys of a table under a prefix.
func TableKeys[T any](q Query, t state.Table[T], prefix []byte) Pager {
	return func(after []byte, limit int) ([][]byte, error) {
		rows, err := t.Page(q.State, prefix, after, limit)
		keys := make([][]byte, len(rows))
		for i, row := range rows {
			keys[i] = row.Key
		}
		return keys, err
	}
}

// List answers the page of a list that the arguments limit and after ask for. Its keys
// stand under prefix, and take turns one into an item. It fails with mman.ErrInvalid
// for arguments that no earlier page gave.
func List[T any](q Query, prefix []byte, keys Pager, take func(key []byte) (T, error)) (Page[T], error) {
	page := Page[T]{Items: []T{}}
	limit, err := q.Limit()
	if err != nil {
		return page, err
	}
	var after []byte
	if s := q.Args["after"]; s != "" {
		b, err := hex.DecodeString(s)
		if err != nil || len(b)+len(prefix) > state.MaxKey {
			return page, fmt.Errorf("%w: after %.64q: use the next of an earlier page", mman.ErrInvalid, s)
		}
		after = append(slices.Clip(prefix), b...)
	}
	found, err := keys(after, limit+1)
	if err != nil {
		return page, err
	}
	for i, key := range found {
		if i == limit {
			page.Next = hex.EncodeToString(found[i-1][len(prefix):])
			break
		}
		item, err := take(key)
		if err != nil {
			return page, err
		}
		page.Items = append(page.Items, item)
	}
	return page, nil
}
