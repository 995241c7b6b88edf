package abci

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
)

// firstVersion is that of the rules with which every chain begins.
const firstVersion = 1

// Migration leads from one version of the rules to the next.
type Migration struct {
	// Version is the one that it leads to.
	Version uint64
	// Run changes the state as the new rules want it, at the beginning of the
	// first block under them. It runs on every node and must give the same bytes
	// on each. Rules that differ look at the context's Version.
	Run func(ctx *block.Context) error
}

// Migrations returns the changes of rules that this program knows, ascending by
// version. A version is added and none is ever changed: nodes that replay old
// blocks go through all of them. There is none yet.
func Migrations() []Migration { return nil }

// changes are the upgrades that this program can do and those that are planned
// beside the state's.
type changes struct {
	known []Migration
	plan  []genesis.Upgrade
}

func newChanges(cfg Config) (changes, error) {
	c := changes{cfg.Migrations, cfg.Plan}
	if c.known == nil {
		c.known = Migrations()
	}
	for i, m := range c.known {
		if m.Version != firstVersion+1+uint64(i) {
			return c, fmt.Errorf("%w: migration %d leads to version %d", mman.ErrInternal, i, m.Version)
		}
	}
	if err := genesis.ValidUpgrades(c.plan); err != nil {
		return c, fmt.Errorf("the operator's plan: %w", err)
	}
	return c, nil
}

// newest returns the newest version that this program knows.
func (c changes) newest() uint64 { return firstVersion + uint64(len(c.known)) }

func versions() state.Table[uint64] { return state.NewTable[uint64](state.ParamsValues, 16) }

func plans() state.Table[[]genesis.Upgrade] {
	const maxBytes = 4 << 10
	return state.NewTable[[]genesis.Upgrade](state.ParamsValues, maxBytes)
}

// readVersion returns the version of the rules in force.
func readVersion(r state.Reader) (uint64, error) {
	v, ok, err := versions().Get(r, []byte(versionKey))
	if err == nil && !ok {
		v = firstVersion
	}
	return v, err
}

// readPlan returns the upgrades that the chain itself plans.
func readPlan(r state.Reader) ([]genesis.Upgrade, error) {
	plan, _, err := plans().Get(r, []byte(planKey))
	return plan, err
}

// all returns the planned upgrades, of the chain and of its operators, in the
// order of their heights.
func (c changes) all(r state.Reader) ([]genesis.Upgrade, error) {
	plan, err := readPlan(r)
	if err != nil {
		return nil, err
	}
	plan = append(slices.Clip(plan), c.plan...)
	slices.SortFunc(plan, func(a, b genesis.Upgrade) int {
		return cmp.Or(cmp.Compare(a.Height, b.Height), cmp.Compare(a.Version, b.Version))
	})
	return plan, nil
}

// target returns the version of the rules for the block of the height above the
// state.
func (c changes) target(r state.Reader, height uint64) (now, target uint64, err error) {
	if now, err = readVersion(r); err != nil {
		return 0, 0, err
	}
	plan, err := c.all(r)
	if err != nil {
		return 0, 0, err
	}
	target = now
	for _, u := range plan {
		switch {
		case u.Height == height:
			target = max(target, u.Version)
		case u.Height < height && u.Version > now:
			return now, 0, fmt.Errorf("%w: version %d of the rules was to begin at height %d, and the state of height %d has version %d: take that upgrade out of the configuration, or fetch the state anew from nodes that made it",
				mman.ErrUpgrade, u.Version, u.Height, height-1, now)
		}
	}
	return now, target, nil
}

// fit reports mman.ErrUpgrade when this program does not know the rules of the
// state, or of the block of the height above it.
func (c changes) fit(r state.Reader, height uint64) error {
	now, target, err := c.target(r, height)
	switch {
	case err != nil:
		return err
	case now > c.newest():
		return fmt.Errorf("%w: the state of height %d has rules of version %d, this program knows %d: install a newer mman-node", mman.ErrUpgrade, height-1, now, c.newest())
	case target > c.newest():
		return fmt.Errorf("%w: from height %d on the rules have version %d, this program knows %d: install a newer mman-node and start it again, the state of height %d is kept",
			mman.ErrUpgrade, height, target, c.newest(), height-1)
	default:
		return nil
	}
}

// migrate brings the state to the rules of the block with the header, and sets
// the header's ChainID and Version. It returns what happened, nothing for a block that has the
// rules of the one before it.
func (c changes) migrate(o *state.Overlay, h *block.Header) ([]block.Event, error) {
	chain, err := readChain(o)
	if err != nil {
		return nil, err
	}
	h.ChainID = chain.ID
	now, target, err := c.target(o, h.Height)
	if err != nil {
		return nil, err
	}
	if target > c.newest() || now > c.newest() {
		return nil, c.fit(o, h.Height)
	}
	h.Version = target
	if target == now {
		return nil, nil
	}
	var events []block.Event
	for _, m := range c.known[now-firstVersion : target-firstVersion] {
		params, err := readParams(o)
		if err != nil {
			return nil, err
		}
		ctx := &block.Context{Header: *h, Params: params, State: o, Events: &events}
		ctx.Version = m.Version
		if err := m.Run(ctx); err != nil {
			return nil, fmt.Errorf("migrate to version %d at height %d: %w", m.Version, h.Height, err)
		}
		ctx.Emit("mman.upgrade", "version", strconv.FormatUint(m.Version, 10))
	}
	return events, versions().Set(o, []byte(versionKey), target)
}

// UpgradesAnswer is the answer to /mman/upgrades.
type UpgradesAnswer struct {
	// Version is that of the rules in force, Newest the newest that this node
	// knows.
	Version uint64 `json:"version"`
	Newest  uint64 `json:"newest"`
	// Plan are the upgrades that the chain and this node's operator plan, also
	// those that are made.
	Plan []genesis.Upgrade `json:"plan"`
}

func (c changes) answer(r state.Reader) (UpgradesAnswer, error) {
	version, err := readVersion(r)
	if err != nil {
		return UpgradesAnswer{}, err
	}
	plan, err := c.all(r)
	return UpgradesAnswer{version, c.newest(), append([]genesis.Upgrade{}, plan...)}, err
}
