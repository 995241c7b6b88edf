// Package block is what a module of the state machine sees of the block that is
// being executed: its header, the parameters, the state to read and write, and
// where events go. It is the vocabulary between the application, which makes a
// Context for each message, and the modules, which do not know the application.
//
// It decides nothing and keeps nothing between blocks. A Context is for one
// goroutine and for the length of the call that it is passed to.
package block

import (
	"fmt"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
)

// Header is what all messages of a block share.
type Header struct {
	// ChainID is the chain's id.
	ChainID string
	// Height of the block.
	Height uint64
	// Time is the block's time in seconds since 1970, UTC.
	Time int64
	// Version numbers the rules in force, from 1 on.
	Version uint64
	// Beacon is the latest randomness of the chain, the block's own when it
	// carries any. The block's proposer knows it before it chooses the block's
	// transactions, so ties are broken with it and no money is drawn: for that,
	// ask for a later one (package beacon).
	Beacon mman.Hash
}

// Context is what a module works on.
type Context struct {
	Header
	// Params are the parameters in force, read from state for this block.
	Params genesis.Params
	// TxHash and Message name the message; zero in EndBlock.
	TxHash  mman.Hash
	Message uint32
	// State is read and written. What is written below a message that fails is
	// dropped.
	State state.Writer
	// Events collects what happened, in order.
	Events *[]Event
}

// ConsensusAddress names a validator in consensus: the first 20 bytes of
// SHA-256 of its consensus key.
type ConsensusAddress [20]byte

// NewConsensusAddress returns the address of a consensus key.
func NewConsensusAddress(key []byte) ConsensusAddress {
	sum := mman.Sum256(key)
	return ConsensusAddress(sum[:len(ConsensusAddress{})])
}

// Consensus is what the validators did as far as the block tells, and what the
// block tells them.
type Consensus struct {
	// Proposer made the block.
	Proposer ConsensusAddress
	// Votes are the last commit, one for each validator of that height.
	Votes []Vote
	// Misbehavior is what was proven in this block.
	Misbehavior []Misbehavior
	// Aside is what one module remembers outside of the state's tree until it
	// writes it there, so that a quiet block leaves the root as it was. It is
	// kept with the block and is as old as the state; nil at first. The module
	// replaces it, and changes no byte of it.
	Aside []byte
	// Updates collects changes of the validators' power, at most one for each
	// key. They count two blocks later.
	Updates []Update
}

// Vote is what a validator did in the last commit.
type Vote struct {
	Validator ConsensusAddress
	Power     uint64
	// Signed is false when it was absent.
	Signed bool
}

// Misbehavior is a validator that signed what contradicts itself.
type Misbehavior struct {
	Validator ConsensusAddress
	Height    uint64
}

// Update is a validator's new power, 0 for one that leaves.
type Update struct {
	Key   []byte // 32 bytes, ed25519
	Power uint64
}

// Event is something that happened, for indexers and people.
type Event struct {
	Type       string
	Attributes []Attribute
}

// Attribute is one fact of an Event.
type Attribute struct{ Key, Value string }

// Emit adds an event. The attributes are key, value, key, value.
func (c *Context) Emit(typ string, pairs ...string) {
	e := Event{Type: typ, Attributes: make([]Attribute, 0, len(pairs)/2)}
	for i := 0; i+1 < len(pairs); i += 2 {
		e.Attributes = append(e.Attributes, Attribute{pairs[i], pairs[i+1]})
	}
	*c.Events = append(*c.Events, e)
}

// Coins writes an amount as the ecosystem's tools expect it, "5uman".
func Coins(a mman.Amount) string { return strconv.FormatUint(uint64(a), 10) + mman.Denom }

// Query is a question to a module: what stands behind /mman/ in the path, and
// the arguments behind the question mark.
type Query struct {
	// Path has at least one element, the noun.
	Path []string
	// Args are the arguments by name, each once.
	Args map[string]string
	// State is a committed state, Height its height.
	State  state.Reader
	Height uint64
}

// Bounds of a list in an answer.
const (
	DefaultLimit = 50
	MaxLimit     = 200
)

// Page is one page of a list. Next is the argument "after" of the next page,
// empty on the last.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

// Allow refuses arguments with other names than these; mman.ErrInvalid.
func (q Query) Allow(names ...string) error {
	known := 0
	for _, n := range names {
		if _, ok := q.Args[n]; ok {
			known++
		}
	}
	if known != len(q.Args) {
		return fmt.Errorf("%w: unknown argument: %q takes %q and nothing else", mman.ErrInvalid, q.Path[0], names)
	}
	return nil
}

// Limit returns the argument "limit", DefaultLimit when it is not given.
func (q Query) Limit() (int, error) {
	s, ok := q.Args["limit"]
	if !ok {
		return DefaultLimit, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > MaxLimit {
		return 0, fmt.Errorf("%w: limit %.32q: 1 to %d", mman.ErrInvalid, s, MaxLimit)
	}
	return n, nil
}

// NotFound is the answer to a question for something that is not there.
func NotFound(what, name string) error {
	return fmt.Errorf("%w: %s %.96s", mman.ErrNotFound, what, name)
}
