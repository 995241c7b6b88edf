package provider

import (
	"context"
	"net/http"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/p2p/content"
)

// KeepAccesses sets how many accesses are listed one by one.
func (p *Provider) KeepAccesses(n uint64) {
	p.accesses.kept = map[policy.Effect]uint64{policy.Allow: n, policy.Deny: n}
}

// Attend is the step of Run that moves bids on.
func (p *Provider) Attend(ctx context.Context, height uint64) error { return p.attend(ctx, height) }

// Undefend switches a defence off: credit, stored, floor,
// forgive, replay or accepted.
func (p *Provider) Undefend(name string) {
	switch name {
	case "credit":
		p.off.credit = true
	case "stored":
		p.off.stored = true
	case "floor":
		p.off.floor = true
	case "forgive":
		p.off.forgive = true
	case "replay":
		p.off.replay = true
	case "accepted":
		p.off.accepted = true
	default:
		panic(name)
	}
}

// NewParts answers calls with the blocks of one file.
func NewParts(store content.Reader, root mman.CID) http.RoundTripper { return parts{store, root} }
