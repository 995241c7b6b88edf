package abci

import (
	"bytes"
	"slices"
	"time"

	"github.com/cometbft/cometbft/abci/types"

	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/internal/beside"
)

// ahead is a proposal of this node, which is executed while consensus signs it and
// sends it around, so that ProcessProposal finds it done.
type ahead struct {
	proposal proposal
	done     *executed // nil when it failed
}

// Spent is for how long blocks were executed, and for how long the roots of the
// state after them were computed; what went on beside consensus counts.
type Spent struct{ Executing, Rooting time.Duration }

// Spent returns what blocks took so far by the configured Clock.
func (a *Application) Spent() Spent {
	defer a.enter()()
	return a.spent
}

// enter begins a call of consensus: it takes the lock and ends what still goes on
// beside.
func (a *Application) enter() (leave func()) {
	a.consensus.Lock()
	for _, wait := range a.running {
		wait()
	}
	a.running = nil
	return a.consensus.Unlock
}

// beside runs fn until the next call of consensus, which waits for it: so the state
// and what consensus guards stand still meanwhile. Whoever finds nothing done does it
// in his own call, where an error or a panic shows again.
func (a *Application) beside(fn func()) {
	a.running = append(a.running, beside.Start(func() struct{} {
		defer func() { _ = recover() }() // told above
		fn()
		return struct{}{}
	}))
}

// executeAhead begins to execute a proposal that is being made.
func (a *Application) executeAhead(p proposal) {
	next := &ahead{proposal: p}
	a.ahead = next
	a.beside(func() {
		if done, err := a.execute(p); err == nil {
			next.done = done
		}
	})
}

// stageAhead begins to compute the root of a proposal while it is voted on.
func (a *Application) stageAhead(done *executed) {
	a.beside(func() {
		if staged, err := a.stage(done); err == nil {
			done.staged = staged
		}
	})
}

// stage computes the state after a block that was executed.
func (a *Application) stage(done *executed) (*state.Staged, error) {
	begun := a.clock()
	defer func() { a.spent.Rooting += a.clock() - begun }()
	return a.store.Stage(done.overlay)
}

// foreseenOr returns the result of a proposal that was executed ahead, when it is the
// same in everything that execution sees, and executes any other.
func (a *Application) foreseenOr(p proposal) (*executed, error) {
	if next := a.ahead; next != nil && next.done != nil && next.proposal.same(p) {
		done := *next.done
		done.hash = string(p.hash)
		return &done, nil
	}
	return a.execute(p)
}

// same reports whether executing both gives the same. A proposal that is made has no
// hash yet, and execution does not look at it.
func (p proposal) same(other proposal) bool {
	mine, its := p.consensus(nil), other.consensus(nil)
	return p.height == other.height && p.at.Equal(other.at) && bytes.Equal(p.proposer, other.proposer) &&
		slices.EqualFunc(p.txs, other.txs, bytes.Equal) &&
		slices.Equal(mine.Votes, its.Votes) && slices.Equal(mine.Misbehavior, its.Misbehavior)
}

// lastCommit returns what a block will say of the last commit.
func lastCommit(info types.ExtendedCommitInfo) types.CommitInfo {
	c := types.CommitInfo{Round: info.Round, Votes: make([]types.VoteInfo, len(info.Votes))}
	for i, v := range info.Votes {
		c.Votes[i] = types.VoteInfo{Validator: v.Validator, BlockIdFlag: v.BlockIdFlag}
	}
	return c
}
