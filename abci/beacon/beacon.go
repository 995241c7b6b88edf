package beacon

import (
	"fmt"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
)

const (
	// Delay is how many heights lie between what is fixed and the beacon that may
	// be used for it, at least.
	Delay = 2
	// Kept is for how many heights a beacon can be asked for.
	Kept = 4096

	latestKey      = "latest"
	domain         = "mman/beacon/1"
	recordMaxBytes = 64
	// maxClear bounds how many heights one beacon takes out of the queue.
	maxClear = 256
)

// Beacon is the randomness of one height.
type Beacon struct {
	Height uint64    `cbor:"height" json:"height"`
	Value  mman.Hash `cbor:"value"  json:"beacon"`
}

// Module is the keeper. It holds nothing: all it knows is in state.
type Module struct{}

// New returns the module.
func New() Module { return Module{} }

func values() state.Table[Beacon] {
	return state.NewTable[Beacon](state.BeaconValues, recordMaxBytes)
}

func latest() state.Table[Beacon] {
	return state.NewTable[Beacon](state.BeaconLatest, recordMaxBytes)
}

func queue() state.Index { return state.NewIndex(state.BeaconDue) }

// Latest returns the newest beacon, that of the genesis before the first block
// that has one.
func Latest(r state.Reader) (Beacon, error) {
	b, ok, err := latest().Get(r, []byte(latestKey))
	if err == nil && !ok {
		err = fmt.Errorf("%w: there is no beacon, not even that of the genesis", mman.ErrCorrupt)
	}
	return b, err
}

// Input returns what the proposer of the height proves: the chain, the height
// and the beacon before it.
func Input(chainID string, height uint64, before Beacon) []byte {
	b := append([]byte(domain), 0)
	b = append(append(b, chainID...), 0)
	return append(append(b, state.Uint64Key(height)...), before.Value[:]...)
}

// Due reports whether the block of that height must carry a beacon for what
// earlier blocks fixed.
func Due(r state.Reader, height uint64) (bool, error) {
	keys, err := queue().Due(r, height, 1)
	return len(keys) > 0, err
}

// Advance sets the beacon of the block from the output of its proof, which the
// caller has verified.
func Advance(ctx *block.Context, output []byte) (mman.Hash, error) {
	before, err := Latest(ctx.State)
	if err != nil {
		return mman.Hash{}, err
	}
	b := Beacon{ctx.Height, mman.Sum256(before.Value[:], output)}
	if err := latest().Set(ctx.State, []byte(latestKey), b); err != nil {
		return b.Value, err
	}
	key := state.Uint64Key(b.Height)
	if err := values().Set(ctx.State, key, b); err != nil {
		return b.Value, err
	}
	ctx.Emit("mman.beacon", "height", strconv.FormatUint(b.Height, 10), "value", b.Value.String())
	done, err := queue().Due(ctx.State, b.Height, maxClear)
	if err != nil {
		return b.Value, err
	}
	for _, key := range done {
		if err := queue().Remove(ctx.State, key); err != nil {
			return b.Value, err
		}
	}
	return b.Value, forget(ctx.State, b.Height)
}

// forget drops up to two beacons that are too old, of which each new one leaves
// at most one.
func forget(w state.Writer, height uint64) error {
	rows, err := values().Page(w, nil, nil, 2)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.Value.Height+Kept > height {
			return nil
		}
		if err := values().Delete(w, row.Key); err != nil {
			return err
		}
	}
	return nil
}

// Ask makes the block Delay heights after this one carry a beacon, for something
// that this block fixes. After(r, ctx.Height) gives it.
func (Module) Ask(ctx *block.Context) error {
	return queue().Add(ctx.State, state.Uint64Key(ctx.Height+Delay))
}

// After returns the beacon for what the block of the height fixed: the first one
// Delay heights later or more. Ok is false when there is none yet; one that is
// forgotten already is mman.ErrNotFound.
func (Module) After(r state.Reader, fixed uint64) (b Beacon, ok bool, err error) {
	newest, err := Latest(r)
	if err != nil || newest.Height < fixed+Delay {
		return b, false, err
	}
	if newest.Height >= fixed+Kept {
		return b, false, fmt.Errorf("%w: the beacon for height %d: those of %d heights are kept, up to %d", mman.ErrNotFound, fixed, Kept, newest.Height)
	}
	rows, err := values().Page(r, nil, state.Uint64Key(fixed+Delay-1), 1)
	if err != nil || len(rows) == 0 {
		return b, false, err
	}
	return rows[0].Value, true, nil
}

// Name returns "beacon".
func (Module) Name() string { return "beacon" }

// Messages returns none: the system transaction is no message.
func (Module) Messages() []string { return nil }

// Execute refuses.
func (Module) Execute(_ *block.Context, msg tx.Msg) error {
	return fmt.Errorf("%w: the beacon does not execute %s", mman.ErrUnknownMsg, msg.TypeURL())
}

// EndBlock has nothing due.
func (Module) EndBlock(*block.Context) error { return nil }

// InitGenesis begins with the hash of the genesis.
func (Module) InitGenesis(ctx *block.Context, doc genesis.Document) error {
	hash, err := doc.Hash()
	if err != nil {
		return err
	}
	return latest().Set(ctx.State, []byte(latestKey), Beacon{doc.InitialHeight - 1, hash})
}

// Invariants checks that the kept beacons are in order and end with the latest;
// mman.ErrInvariant.
func (Module) Invariants(r state.Reader) error {
	newest, err := Latest(r)
	if err != nil {
		return err
	}
	last, some := Beacon{}, false
	if err := values().Each(r, nil, func(key []byte, b Beacon) error {
		if height, rest, err := state.ParseUint64Key(key); err != nil || len(rest) > 0 || height != b.Height {
			return fmt.Errorf("%w: the beacon of height %d has the key %x", mman.ErrInvariant, b.Height, key)
		}
		last, some = b, true
		return nil
	}); err != nil {
		return err
	}
	if some && last != newest {
		return fmt.Errorf("%w: the latest beacon is that of height %d, the newest kept of %d", mman.ErrInvariant, newest.Height, last.Height)
	}
	return nil
}

// Nouns returns "beacon".
func (Module) Nouns() []string { return []string{"beacon"} }

// Answer is the answer to /mman/beacon.
type Answer struct {
	Beacon
	// Due is the height whose block must carry the next one, 0 when nobody asked.
	Due uint64 `json:"due"`
}

// Query answers beacon, the latest one, and beacon?fixed=HEIGHT, the one that
// decides about what that block fixed.
func (m Module) Query(q block.Query) (any, error) {
	if err := q.Allow("fixed"); err != nil {
		return nil, err
	}
	if len(q.Path) != 1 {
		return nil, fmt.Errorf("%w: use /mman/beacon or /mman/beacon?fixed=HEIGHT", mman.ErrInvalid)
	}
	if s, ok := q.Args["fixed"]; ok {
		return m.after(q, s)
	}
	b, err := Latest(q.State)
	if err != nil {
		return nil, err
	}
	answer := Answer{Beacon: b}
	keys, err := queue().Page(q.State, nil, nil, 1)
	if err == nil && len(keys) > 0 {
		answer.Due, _, err = state.ParseUint64Key(keys[0])
	}
	return answer, err
}

func (m Module) after(q block.Query, s string) (any, error) {
	fixed, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return nil, fmt.Errorf("%w: fixed %.32q: write a height", mman.ErrInvalid, s)
	}
	b, ok, err := m.After(q.State, fixed)
	if err == nil && !ok {
		err = block.NotFound("a beacon after height", s)
	}
	return b, err
}
