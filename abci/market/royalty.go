package market

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/resources"
)

// owed returns the royalties of an offer that is posted. A parent whose owner
// offers it now must get at least the royalty that its policy asks for, and shares
// it with its own parents; one that is not offered now gets what the offer says.
func owed(r state.Reader, id mman.CID, o market.Offer) ([]market.Royalty, error) {
	return market.Lineage(o.Parents, func(p resources.Parent) ([]market.Royalty, error) {
		above, ok, err := parents().Get(r, parentKey(p.Resource, p.Owner))
		if err != nil || !ok {
			return nil, err
		}
		parent, record, ok, err := LookupOffer(r, above)
		switch {
		case err != nil:
			return nil, err
		case !ok:
			return nil, fmt.Errorf("%w: parent's offer %s is indexed and missing", mman.ErrCorrupt, above)
		case p.Share < parent.Policy.Royalty:
			return nil, fmt.Errorf("offer %s: %w: its parent %s asks for %d basis points of each sale of a child, the offer gives %d", id, mman.ErrPolicy, p.Resource, parent.Policy.Royalty, p.Share)
		}
		return record.Royalties, nil
	})
}

// orphan forgets an offer that goes as a parent.
func orphan(w state.Writer, id mman.CID, o market.Offer) error {
	key := parentKey(o.Resource, o.Provider)
	if now, ok, err := parents().Get(w, key); err != nil || !ok || now != id {
		return err
	}
	return parents().Delete(w, key)
}
