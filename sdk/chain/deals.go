package chain

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
)

// Grant is what a holder granted an account on the offer that stands now.
type Grant struct {
	Offer    mman.CID      `json:"offer,omitzero"`
	Provider mman.Address  `json:"provider"`
	Grantee  mman.Address  `json:"grantee"`
	Policy   policy.Policy `json:"policy"`
	Expires  uint64        `json:"expires"`
	Revoked  uint64        `json:"revoked,omitempty"`
}

// GrantsOf lists at most limit grants on an offer.
func (c *Client) GrantsOf(ctx context.Context, offer mman.CID, limit int) ([]Grant, error) {
	return list[Grant](ctx, c, "/mman/grants", url.Values{"offer": {offer.String()}}, limit)
}

// GrantsTo lists at most limit grants to an account.
func (c *Client) GrantsTo(ctx context.Context, grantee mman.Address, limit int) ([]Grant, error) {
	return list[Grant](ctx, c, "/mman/grants", url.Values{"grantee": {grantee.String()}}, limit)
}

// Inputs returns what a decision was made upon, from the events of its block,
// and checks that it is what the decision names. A node that dropped the block's
// results answers mman.ErrNotFound.
func (c *Client) Inputs(ctx context.Context, d match.Decision) (match.Inputs, error) {
	var r struct {
		Events []struct {
			Type       string `json:"type"`
			Attributes []struct {
				Key   string `json:"key"`
				Value string `json:"value"`
			} `json:"attributes"`
		} `json:"finalize_block_events"`
	}
	if err := c.call(ctx, "block_results", map[string]string{"height": strconv.FormatUint(d.Height, 10)}, &r); err != nil {
		return match.Inputs{}, fmt.Errorf("results of block %d: %w: %w", d.Height, mman.ErrNotFound, err)
	}
	for _, e := range r.Events {
		facts := map[string]string{}
		for _, a := range e.Attributes {
			facts[a.Key] = a.Value
		}
		if e.Type != "mman.decision" || facts["request"] != d.Request.String() {
			continue
		}
		return match.DecodeInputs(facts["inputs"], d.Inputs)
	}
	return match.Inputs{}, fmt.Errorf("%w: block %d tells nothing of request %s", mman.ErrNotFound, d.Height, d.Request)
}

// PostedOffer returns an offer by its id although it may not stand any more,
// from the transaction that posted it. The node must index transactions.
func (c *Client) PostedOffer(ctx context.Context, id mman.CID) (market.Offer, error) {
	var r struct {
		Txs []struct {
			Tx []byte `json:"tx"`
		} `json:"txs"`
	}
	query := map[string]any{"query": fmt.Sprintf("mman.offer.id='%s'", id), "prove": false, "page": "1", "per_page": "10", "order_by": "desc"}
	if err := c.call(ctx, "tx_search", query, &r); err != nil {
		return market.Offer{}, fmt.Errorf("offer %s: %w: %w", id, mman.ErrNotFound, err)
	}
	for _, t := range r.Txs {
		decoded, err := tx.Decode(t.Tx)
		if err != nil {
			return market.Offer{}, err
		}
		msgs, err := decoded.Msgs()
		if err != nil {
			return market.Offer{}, err
		}
		for _, m := range msgs {
			posted, ok := m.(tx.MsgOffer)
			if !ok || mman.SumCID(mman.CodecDagCBOR, posted.Offer) != id {
				continue
			}
			o, _, err := market.DecodeOffer(posted.Offer)
			return o, err
		}
	}
	return market.Offer{}, fmt.Errorf("offer %s: %w: this node does not remember it", id, mman.ErrNotFound)
}

// EncodePolicy returns a policy as a grant carries it.
func EncodePolicy(p policy.Policy) ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return dagcbor.Marshal(p)
}
