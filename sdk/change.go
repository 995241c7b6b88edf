package sdk

import (
	"fmt"
	"slices"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
)

const (
	// maxChanges bounds how many changes are tried.
	maxChanges = 64
	// maxPurposes bounds how many words it takes for a purpose.
	maxPurposes = 8
	// leastMemory is the least memory that is tried, a page of WebAssembly.
	leastMemory = 1 << 16
)

// change is one thing in which a request may differ: by an amount, or not at all.
type change struct {
	edit func(r *market.Request, n uint64)
	says func(n uint64) string
	// near is the amount of the request itself and far the last that is tried; of what
	// has no amount they are 0 and 1.
	near, far uint64
}

// relax returns the smallest change of one thing after which the request would be
// matched, the cheapest thing for the consumer first; "" when none helps.
func (s *stall) relax(r market.Request) (string, error) {
	for _, c := range s.changes(r) {
		n, helps, err := s.least(r, c)
		if err != nil {
			return "", err
		}
		if helps {
			return c.says(n), nil
		}
	}
	return "", nil
}

// least returns the amount nearest to the request's own with which it is matched.
func (s *stall) least(r market.Request, c change) (n uint64, helps bool, err error) {
	near, far := c.near, c.far
	helps, err = s.matches(r, c, far)
	for helps && err == nil && max(near, far)-min(near, far) > 1 {
		mid := near/2 + far/2 + near&far&1
		var fits bool
		if fits, err = s.matches(r, c, mid); fits {
			far = mid
		} else {
			near = mid
		}
	}
	return far, helps, err
}

func (s *stall) matches(r market.Request, c change, n uint64) (bool, error) {
	r.Legs = slices.Clone(r.Legs)
	c.edit(&r, n)
	d, _, err := s.try(r)
	return d.Outcome == match.Matched, err
}

func (s *stall) changes(r market.Request) []change {
	var out []change
	replace := func(says string, edit func(r *market.Request)) {
		out = append(out, change{
			edit: func(r *market.Request, _ uint64) { edit(r) }, says: func(uint64) string { return says }, far: 1,
		})
	}
	amount := func(near, far uint64, says func(n uint64) string, edit func(r *market.Request, n uint64)) {
		if near != far {
			out = append(out, change{edit, says, near, far})
		}
	}
	for _, list := range s.obligations() {
		names := make([]string, len(list))
		for i, o := range list {
			names[i] = "--accept " + o.String()
		}
		replace("Take on the provider's obligations: "+strings.Join(names, " ")+".", func(r *market.Request) { r.Accepts = list })
	}
	for _, purpose := range s.purposes() {
		replace("Say what it is for: --purpose "+purpose+".", func(r *market.Request) { r.Purpose = purpose })
	}
	if r.Network {
		replace("Do without a network: leave --network out.", func(r *market.Request) { r.Network = false })
	}
	amount(r.Limits.WallMs, min(1, r.Limits.WallMs),
		func(n uint64) string { return fmt.Sprintf("Ask for a shorter run: --wall %dms.", n) },
		func(r *market.Request, n uint64) { r.Limits.WallMs = n })
	amount(r.Limits.MemoryBytes, min(leastMemory, r.Limits.MemoryBytes),
		func(n uint64) string { return fmt.Sprintf("Ask for less memory: --memory %dB.", n) },
		func(r *market.Request, n uint64) { r.Limits.MemoryBytes = n })
	for _, e := range s.entries {
		for _, algorithm := range e.Offer.Policy.Algorithms {
			replace("Use the algorithm that the data's owner lists: "+algorithm.String()+".", func(r *market.Request) {
				r.Legs[0].Resource, r.Legs[0].Supplied, r.Legs[0].Offers = algorithm, false, nil
			})
		}
	}
	out = out[:min(len(out), maxChanges)]
	amount(uint64(r.Cap), uint64(max(r.Cap, mman.MaxSupply)),
		func(n uint64) string { return "Raise the cap: --max " + mman.Amount(n).String() + "." },
		func(r *market.Request, n uint64) { r.Cap = mman.Amount(n) })
	return out
}

// obligations are the lists that the offers ask for, each once.
func (s *stall) obligations() [][]policy.Obligation {
	var out [][]policy.Obligation
	for _, e := range s.entries {
		list := e.Offer.Policy.Obligations
		if len(list) > 0 && !slices.ContainsFunc(out, func(has []policy.Obligation) bool { return slices.Equal(has, list) }) {
			out = append(out, list)
		}
	}
	return out
}

// purposes are the words in quotes in conditions that read the purpose.
func (s *stall) purposes() []string {
	var out []string
	for _, e := range s.entries {
		for _, rule := range e.Offer.Policy.Rules {
			for _, word := range policy.Purposes(rule.When) {
				if len(out) < maxPurposes && !slices.Contains(out, word) {
					out = append(out, word)
				}
			}
		}
	}
	return out
}
