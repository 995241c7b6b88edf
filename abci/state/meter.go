package state

import (
	"fmt"

	mman "github.com/limboid/massive-man"
)

// Prices are what operations cost, in gas. Read is for a key that is looked up and
// for each pair of a list, Write for a key that is set or deleted.
type Prices struct{ Read, Write uint64 }

// Meter is a Writer that counts what is done through it and refuses what would
// cost more than the limit. It sees keys and not where they are found, so the count
// is the same on every node, whatever is cached. It is for one goroutine.
type Meter struct {
	w      Writer
	prices Prices
	limit  uint64
	used   uint64
	over   bool
}

// NewMeter returns a Meter over w that allows operations for limit gas.
func NewMeter(w Writer, prices Prices, limit uint64) *Meter {
	return &Meter{w: w, prices: prices, limit: limit}
}

// Used returns the gas of all operations so far, at most the limit.
func (m *Meter) Used() uint64 { return m.used }

// Exceeded reports whether an operation was refused because of the limit.
func (m *Meter) Exceeded() bool { return m.over }

// spend counts n operations; mman.ErrOutOfGas.
func (m *Meter) spend(n int, price uint64) error {
	left := m.limit - m.used
	if m.over || (n > 0 && price > left/uint64(n)) {
		m.used, m.over = m.limit, true
		return fmt.Errorf("%w: the state was read or written for more than %d gas", mman.ErrOutOfGas, m.limit)
	}
	m.used += uint64(max(n, 0)) * price
	return nil
}

// Get implements Reader.
func (m *Meter) Get(store string, key []byte) (value []byte, ok bool, err error) {
	if err := m.spend(1, m.prices.Read); err != nil {
		return nil, false, err
	}
	return m.w.Get(store, key)
}

// Iterate implements Reader. A list costs a read, and one for each pair in it.
func (m *Meter) Iterate(store string, prefix, from []byte, limit int) ([]Pair, error) {
	if err := m.spend(1, m.prices.Read); err != nil {
		return nil, err
	}
	pairs, err := m.w.Iterate(store, prefix, from, limit)
	if err != nil {
		return nil, err
	}
	return pairs, m.spend(len(pairs), m.prices.Read)
}

// Set implements Writer.
func (m *Meter) Set(store string, key, value []byte) error {
	if err := m.spend(1, m.prices.Write); err != nil {
		return err
	}
	return m.w.Set(store, key, value)
}

// Delete implements Writer.
func (m *Meter) Delete(store string, key []byte) error {
	if err := m.spend(1, m.prices.Write); err != nil {
		return err
	}
	return m.w.Delete(store, key)
}
