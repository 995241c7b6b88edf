package market

import (
	"fmt"
	"slices"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
)

func grantKey(line []byte, grantee mman.Address) []byte {
	return append(slices.Clip(line), grantee[:]...)
}

// grant shares a line: the offer that stands on it now and those that renew it.
func (m Module) grant(ctx *block.Context, msg tx.MsgGrant) error {
	s, err := m.own(ctx, msg.Offer, msg.Provider)
	if err != nil {
		return err
	}
	p, err := dagcbor.Unmarshal[policy.Policy](msg.Policy, tx.MaxPolicyBytes)
	if err == nil {
		err = p.Validate()
	}
	if err == nil {
		_, err = s.offer.Policy.Granted(p).Compile()
	}
	switch last := ctx.Height + ctx.Params.MaxGrantBlocks; {
	case err != nil:
		return fmt.Errorf("grant on offer %s: %w", msg.Offer, err)
	case len(p.Algorithms) > 0:
		return fmt.Errorf("grant on offer %s: %w: the offer says which algorithms may see the data", msg.Offer, mman.ErrInvalid)
	case msg.Grantee == msg.Provider:
		return fmt.Errorf("grant on offer %s: %w: %s is its own provider", msg.Offer, mman.ErrInvalid, msg.Grantee)
	case msg.Expires <= ctx.Height || msg.Expires > last:
		return fmt.Errorf("grant on offer %s: %w: it expires at height %d, choose %d to %d", msg.Offer, mman.ErrInvalid, msg.Expires, ctx.Height+1, last)
	}
	key := grantKey(s.line, msg.Grantee)
	was, ok, err := grants().Get(ctx.State, key)
	if err != nil {
		return err
	}
	if !ok {
		rows, err := grants().Page(ctx.State, s.line, nil, maxGrants)
		if err != nil {
			return err
		}
		if len(rows) == maxGrants {
			return fmt.Errorf("grant on offer %s: %w: it is shared with %d accounts already", msg.Offer, mman.ErrTooLarge, maxGrants)
		}
	}
	if err := dropGrant(ctx.State, key, was); err != nil {
		return err
	}
	record := GrantRecord{Provider: msg.Provider, Policy: p, Expires: msg.Expires}
	if err := grants().Set(ctx.State, key, record); err != nil {
		return err
	}
	if err := state.NewIndex(state.MarketGrantsByExpiry).Add(ctx.State, heightKey(msg.Expires, key)); err != nil {
		return err
	}
	if err := state.NewIndex(state.MarketGrantsByGrantee).Add(ctx.State, append(msg.Grantee[:], s.line...)); err != nil {
		return err
	}
	ctx.Emit("mman.grant", "offer", msg.Offer.String(), "provider", msg.Provider.String(), "grantee", msg.Grantee.String(), "expires", strconv.FormatUint(msg.Expires, 10))
	offer, _, err := offers().Get(ctx.State, msg.Offer.Bytes())
	if err != nil {
		return err
	}
	return arrive(ctx.State, msg.Offer, s.offer, offer)
}

// own returns a standing offer of the account's.
func (m Module) own(ctx *block.Context, id mman.CID, provider mman.Address) (standing, error) {
	s, ok, err := m.offers.get(ctx.State, id)
	switch {
	case err != nil:
		return s, err
	case !ok:
		return s, fmt.Errorf("offer %s: %w: it does not stand", id, mman.ErrOfferGone)
	case s.offer.Provider != provider:
		return s, fmt.Errorf("offer %s: %w: it belongs to %s", id, mman.ErrDenied, s.offer.Provider)
	}
	return s, nil
}

func dropGrant(w state.Writer, key []byte, record GrantRecord) error {
	if err := state.NewIndex(state.MarketGrantsByExpiry).Remove(w, heightKey(record.Expires, key)); err != nil {
		return err
	}
	line, grantee := key[:len(key)-len(mman.Address{})], key[len(key)-len(mman.Address{}):]
	if err := state.NewIndex(state.MarketGrantsByGrantee).Remove(w, slices.Concat(grantee, line)); err != nil {
		return err
	}
	return grants().Delete(w, key)
}

// revoke takes a grant back: from now on, and for runs of leases that it made.
func (m Module) revoke(ctx *block.Context, msg tx.MsgRevoke) error {
	s, err := m.own(ctx, msg.Offer, msg.Provider)
	if err != nil {
		return err
	}
	key := grantKey(s.line, msg.Grantee)
	record, ok, err := grants().Get(ctx.State, key)
	switch {
	case err != nil:
		return err
	case !ok || record.Revoked > 0:
		return fmt.Errorf("offer %s: %w: it is not shared with %s", msg.Offer, mman.ErrNotFound, msg.Grantee)
	}
	record.Revoked = ctx.Height
	ctx.Emit("mman.revoke", "offer", msg.Offer.String(), "provider", msg.Provider.String(), "grantee", msg.Grantee.String())
	return grants().Set(ctx.State, key, record)
}

// expireGrants forgets grants whose time is over.
func expireGrants(ctx *block.Context) error {
	keys, err := due(ctx, state.MarketGrantsByExpiry)
	if err != nil {
		return err
	}
	for _, key := range keys {
		record, ok, err := grants().Get(ctx.State, key)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: grant %x is due and missing", mman.ErrCorrupt, key)
		}
		if err := dropGrant(ctx.State, key, record); err != nil {
			return err
		}
	}
	return nil
}

// LookupGrant returns what an account was granted on the line of a node's offer
// of a resource, also when that was taken back.
func LookupGrant(r state.Reader, line []byte, grantee mman.Address) (GrantRecord, bool, error) {
	return grants().Get(r, grantKey(line, grantee))
}

// Grant implements match.Records.
func (b *book) Grant(e match.Entry, consumer mman.Address) (match.Grant, bool, error) {
	g, ok, err := LookupGrant(b.state, offerLine(e.Offer), consumer)
	if err != nil || !ok || g.Expires <= b.height {
		return match.Grant{}, false, err
	}
	return match.Grant{Policy: g.Policy, Revoked: g.Revoked > 0}, true, nil
}
