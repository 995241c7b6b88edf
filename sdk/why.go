package sdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/sdk/chain"
)

// offer returns an offer, standing or not, whose bytes hash to the id.
func (c *Client) offer(ctx context.Context, id mman.CID) (market.Offer, error) {
	r, err := c.chain.Offer(ctx, c.chainID, id)
	if chain.Gone(err) {
		return c.chain.PostedOffer(ctx, id)
	}
	return r.Offer, err
}

// Replay decides again what the ledger decided: it fetches what the decision was
// made upon, and the offers by their ids, and compares the records byte for
// byte. An answer that differs is mman.ErrInvariant.
func (c *Client) Replay(ctx context.Context, r chain.RequestRecord) (looks int, err error) {
	if r.Decision == nil {
		return 0, fmt.Errorf("request %s: %w: no block has looked at it yet", r.ID, mman.ErrNotFound)
	}
	in, err := c.chain.Inputs(ctx, *r.Decision)
	if err != nil {
		return 0, err
	}
	again, err := match.Decide(r.Request, *r.Decision, in, func(id mman.CID) (market.Offer, error) {
		o, err := c.offer(ctx, id)
		if err != nil || r.RFP == nil {
			return o, err
		}
		o.Price, err = r.RFP.PriceOf(o)
		return o, err
	})
	if err != nil {
		return 0, err
	}
	want, err := dagcbor.Marshal(*r.Decision)
	if err != nil {
		return 0, err
	}
	got, err := dagcbor.Marshal(again)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(want, got) {
		return 0, fmt.Errorf("request %s: %w: the ledger recorded %x, the offers give %x", r.ID, mman.ErrInvariant, want, got)
	}
	return len(in.Looks), nil
}

// Why says in plain sentences, the most telling first, why a request stands as
// it does: what the decision says, which offers it chose, of a policy's rule that
// denied what it read, and, when none was chosen, the smallest change after which one
// that stands now would be. Offers that cannot be had any more are spoken of by their
// ids only.
func (c *Client) Why(ctx context.Context, r chain.RequestRecord) ([]string, error) {
	var out []string
	if r.RFP != nil {
		for _, said := range r.RFP.Explain() {
			out = append(out, sentence(said))
		}
	}
	if r.Decision == nil {
		if r.RFP == nil {
			out = append(out, "No block has looked at it yet.")
		}
		return out, nil
	}
	out = append(out, sentence(r.Decision.Outline()))
	for _, id := range r.Decision.Chosen {
		said, err := c.chosen(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, sentence(said))
	}
	for _, reason := range r.Decision.Reasons() {
		said := reason.Explain()
		if reason.Code == mman.ErrPolicy.Code && policy.ByRule(reason.Rule) {
			detail, err := c.read(ctx, r, reason)
			if err != nil && !errors.Is(err, mman.ErrNotFound) {
				return nil, err
			}
			said += detail
		}
		out = append(out, sentence(said))
	}
	if r.RFP != nil || r.Decision.Outcome == match.Matched || len(r.Decision.Rejections) == 0 {
		return out, nil
	}
	helps, err := c.helps(ctx, r.Request)
	if err == nil && helps != "" {
		out = append(out, helps)
	}
	return out, err
}

// chosen says which offer serves.
func (c *Client) chosen(ctx context.Context, id mman.CID) (string, error) {
	o, err := c.offer(ctx, id)
	if errors.Is(err, mman.ErrNotFound) {
		return fmt.Sprintf("offer %s was chosen", id), nil
	}
	return fmt.Sprintf("offer %s of %s was chosen: %s for %s", id, o.Provider, o.Kind, o.Price), err
}

// next is what policies read of the chain if a block is made now.
func (c *Client) next(ctx context.Context) (policy.Chain, error) {
	st, err := c.chain.Status(ctx)
	return policy.Chain{Height: st.Height + 1, Time: c.cfg.Now().Unix()}, err
}

// helps says what would have to change for a request to be matched by what stands now,
// in a sentence; "" when no single change is known.
func (c *Client) helps(ctx context.Context, r market.Request) (string, error) {
	s, err := c.stall(ctx, r.Legs, r.Consumer)
	if err != nil {
		return "", err
	}
	if s.at, err = c.next(ctx); err != nil {
		return "", err
	}
	d, _, err := s.try(r)
	if err != nil {
		return "", err
	}
	if d.Outcome == match.Matched {
		return "It would be matched by what is offered now: send it again.", nil
	}
	change, err := s.relax(r)
	if err != nil || change == "" {
		return "", err
	}
	return "With one change it would be matched: " + change, nil
}

// read tells which words the rule that denied read, with their values, as far as
// the request and the offer tell.
func (c *Client) read(ctx context.Context, r chain.RequestRecord, reason match.Reason) (string, error) {
	o, err := c.offer(ctx, reason.Offer)
	if err != nil {
		return "", err
	}
	program, err := o.Policy.Compile()
	if err != nil {
		return "", err
	}
	for _, v := range program.Explain(match.Alone(r.Request, reason.Leg, o, policy.Chain{Height: r.Decision.Height, Time: r.Decision.Time})) {
		if v.Rule != reason.Rule || len(v.Facts) == 0 {
			continue
		}
		var facts []string
		for _, f := range v.Facts {
			facts = append(facts, f.Word+" is "+f.Value)
		}
		for _, rule := range o.Policy.Rules {
			if rule.ID == reason.Rule {
				return fmt.Sprintf(": it denies when %s, and %s", strings.Join(strings.Fields(rule.When), " "), strings.Join(facts, ", ")), nil
			}
		}
	}
	return "", nil
}

// sentence begins with a capital and ends with a full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
