// Package statetest is the conformance suite of state.DB: every database under
// the store passes it. Tests alone use it.
package statetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
)

// Opener opens the database under test. Each call after the first closes what
// was open and opens the same data again.
type Opener func(t *testing.T) state.DB

// Run runs the suite. NewOpener is called once for each subtest and returns an
// opener of an empty database. The seed chooses the random blocks.
func Run(t *testing.T, seed uint64, newOpener func(t *testing.T) Opener) {
	t.Helper()
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		open := newOpener(t)
		for range 2 {
			db := open(t)
			require.Equal(t, state.Marker{}, marker(t, db, math.MaxUint64))
			require.Empty(t, pairs(t, db, math.MaxUint64, ""))
		}
	})
	t.Run("versions", func(t *testing.T) {
		t.Parallel()
		testVersions(t, seed, newOpener(t))
	})
	t.Run("iteration stops", func(t *testing.T) {
		t.Parallel()
		db := newOpener(t)(t)
		require.NoError(t, db.Apply(changes(map[string]string{"a/1": "x", "a/2": "y"}), state.Marker{Height: 1}))
		stop := errors.New("stop")
		calls := 0
		require.ErrorIs(t, db.Iterate(1, "", func([]byte, []byte) error { calls++; return stop }), stop)
		require.Equal(t, 1, calls)
	})
	t.Run("heights rise", func(t *testing.T) {
		t.Parallel()
		db := newOpener(t)(t)
		require.NoError(t, db.Apply(nil, state.Marker{Height: 5}))
		require.ErrorIs(t, db.Apply(nil, state.Marker{Height: 5}), mman.ErrInvalid)
	})
	t.Run("forgotten heights", func(t *testing.T) {
		t.Parallel()
		testForgotten(t, newOpener(t))
	})
	t.Run("large block", func(t *testing.T) {
		t.Parallel()
		testLargeBlock(t, newOpener(t))
	})
}

// dice is a small repeatable source of numbers.
type dice struct{ seed, rolls uint64 }

func (d *dice) roll(n uint64) uint64 {
	d.rolls++
	sum := mman.Sum256(state.Uint64Key(d.seed), state.Uint64Key(d.rolls))
	return binary.BigEndian.Uint64(sum[:]) % n
}

// testVersions writes random blocks, now and then returns to an older height
// and goes on differently, and compares every kept height with a model.
func testVersions(t *testing.T, seed uint64, open Opener) {
	t.Helper()
	t.Logf("seed %d", seed)
	rng := &dice{seed: seed}
	db := open(t)
	models := map[uint64]map[string]string{0: {}}
	height := uint64(0)
	for range 80 {
		switch rng.roll(8) {
		case 0:
			db = open(t)
		case 1:
			to := height - min(rng.roll(state.KeepHeights/2), height)
			if to > 0 && marker(t, db, to).Height != to { // forgotten, or passed by an earlier return
				require.ErrorIs(t, db.Rewind(to), mman.ErrNotFound)
				break
			}
			height = to
			require.NoError(t, db.Rewind(height))
		}
		height++
		next, block := maps.Clone(models[height-1]), map[string]string{}
		for range rng.roll(20) {
			key := fmt.Sprintf("%c/%02d", "abc"[rng.roll(3)], rng.roll(20))
			block[key] = ""
			delete(next, key)
			if rng.roll(3) > 0 {
				block[key] = fmt.Sprintf("%d.%d", height, rng.roll(1000))
				next[key] = block[key]
			}
		}
		models[height] = next
		m := state.Marker{Height: height, Root: mman.Sum256([]byte{byte(height)}), Data: state.Uint64Key(height)}
		require.NoError(t, db.Apply(changes(block), m))
		require.Equal(t, m, marker(t, db, math.MaxUint64))
		for h := height; h > 0 && h+state.KeepHeights > height; h-- {
			at := marker(t, db, h)
			if at.Height == 0 {
				break // forgotten by an earlier return
			}
			require.Equal(t, h, at.Height)
			require.Equal(t, models[h], pairs(t, db, h, ""), "height %d of %d", h, height)
			require.Equal(t, models[h], undone(t, db, next, h), "height %d of %d", h, height)
		}
		within := maps.Clone(next)
		maps.DeleteFunc(within, func(k, _ string) bool { return k[0] != 'b' })
		require.Equal(t, within, pairs(t, db, height, "b/"))
	}
}

// undone returns pairs after the changes that lead back to a height.
func undone(t *testing.T, db state.DB, pairs map[string]string, height uint64) map[string]string {
	t.Helper()
	undo, err := db.Undo(height)
	require.NoError(t, err)
	pairs = maps.Clone(pairs)
	for _, c := range undo {
		if c.Value == nil {
			delete(pairs, c.Key)
		} else {
			pairs[c.Key] = string(c.Value)
		}
	}
	return pairs
}

// testForgotten returns to a height that is no longer kept and to one that never was,
// which changes nothing, and to the oldest one that is kept.
func testForgotten(t *testing.T, open Opener) {
	t.Helper()
	db := open(t)
	const last = 2*state.KeepHeights + 1
	for h := uint64(1); h < last; h++ {
		require.NoError(t, db.Apply(changes(map[string]string{"a/1": strconv.FormatUint(h, 10)}), state.Marker{Height: h}))
	}
	require.NoError(t, db.Apply(nil, state.Marker{Height: last + 1}))
	db = open(t)
	for _, to := range []uint64{1, last, last + 2} {
		_, err := db.Undo(to)
		require.ErrorIs(t, err, mman.ErrNotFound)
		require.ErrorIs(t, db.Rewind(to), mman.ErrNotFound)
		require.Equal(t, uint64(last+1), marker(t, db, math.MaxUint64).Height)
		require.Equal(t, map[string]string{"a/1": strconv.Itoa(last - 1)}, pairs(t, db, last+1, ""))
	}
	const oldest = last + 1 - state.KeepHeights + 1
	require.NoError(t, db.Rewind(oldest))
	require.Equal(t, map[string]string{"a/1": strconv.Itoa(oldest)}, pairs(t, db, oldest, ""))
}

// testLargeBlock writes a block of more pairs than one batch of a database
// commonly holds.
func testLargeBlock(t *testing.T, open Opener) {
	t.Helper()
	db := open(t)
	block := map[string]string{}
	for i := range 5000 {
		block[fmt.Sprintf("a/%05d", i)] = string(bytes.Repeat([]byte{byte(i) | 1}, 1+i%1000))
	}
	require.NoError(t, db.Apply(changes(block), state.Marker{Height: 1}))
	require.Equal(t, block, pairs(t, db, 1, ""))
	db = open(t)
	require.Equal(t, block, pairs(t, db, 1, ""))
	require.NoError(t, db.Apply(changes(map[string]string{"a/00000": ""}), state.Marker{Height: 2}))
	require.NoError(t, db.Rewind(1))
	require.Equal(t, block, pairs(t, db, 1, ""))
}

// changes returns the block's writes; "" deletes.
func changes(block map[string]string) []state.Change {
	var out []state.Change
	for _, key := range slices.Sorted(maps.Keys(block)) {
		c := state.Change{Key: key}
		if v := block[key]; v != "" {
			c.Value = []byte(v)
		}
		out = append(out, c)
	}
	return out
}

func marker(t *testing.T, db state.DB, height uint64) state.Marker {
	t.Helper()
	m, err := db.Marker(height)
	require.NoError(t, err)
	return m
}

func pairs(t *testing.T, db state.DB, height uint64, prefix string) map[string]string {
	t.Helper()
	out := map[string]string{}
	last := ""
	require.NoError(t, db.Iterate(height, prefix, func(key, value []byte) error {
		require.Less(t, last, string(key), "order")
		last = string(key)
		out[last] = string(value)
		return nil
	}))
	return out
}
