package rfp

import (
	"bytes"
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
)

// Bounds of one RFP.
const (
	// MaxBids is how many commitments a consumer brings, and how many providers
	// it asks.
	MaxBids = 16
	// MaxPosted is how many more their bidders may bring themselves.
	MaxPosted = 16
)

// State is where an RFP stands.
type State string

// An RFP is open until a bid is awarded, awarded while the winner's lease waits to
// be accepted, and closed for ever.
const (
	Open    State = "open"
	Awarded State = "awarded"
	Closed  State = "closed"
)

// BidState is where one bid stands.
type BidState string

// The states of a bid. The bond is held in the first three.
const (
	// Committed: the digest is there, the bid is not known.
	Committed BidState = "committed"
	// Revealed: the bid is known and may be awarded.
	Revealed BidState = "revealed"
	// Won: its lease waits to be accepted.
	Won BidState = "won"

	// Served: its lease was accepted; the bond went back.
	Served BidState = "served"
	// Lost: another was awarded, or nothing came of the RFP; the bond went back.
	Lost BidState = "lost"
	// Withheld: it was not revealed in time; the bond was burned.
	Withheld BidState = "withheld"
	// Unfit: the bidder's own offer was gone or denied the request when it was the
	// bid's turn; the bond was burned.
	Unfit BidState = "unfit"
	// Absent: it was awarded and its lease was not accepted; the bond was burned.
	Absent BidState = "absent"
)

// held reports whether the bond is in escrow.
func (s BidState) held() bool { return s == Committed || s == Revealed || s == Won }

// Entry is one bidder's part in an RFP.
type Entry struct {
	Bidder mman.Address `cbor:"bidder" json:"bidder"`
	Digest mman.Hash    `cbor:"digest" json:"digest"`
	// Posted: the bidder brought the commitment, the consumer had left it out.
	Posted bool     `cbor:"posted,omitempty" json:"posted,omitempty"`
	State  BidState `cbor:"state"  json:"state"`
	// Bid are the bytes of the market.Bid, once it is revealed.
	Bid []byte `cbor:"bid,omitempty" json:"bid,omitempty"`
}

// RFP is the record of a request that was put out to bids.
type RFP struct {
	Version  uint64         `cbor:"v"        json:"version"`
	Request  mman.RequestID `cbor:"request"  json:"request"`
	Consumer mman.Address   `cbor:"consumer" json:"consumer"`
	// Bond is what each bidder has at stake.
	Bond mman.Amount `cbor:"bond" json:"bond_uman"`
	// Opened and the last heights for commitments, for those that were left out,
	// and for reveals.
	Opened   uint64 `cbor:"opened"    json:"opened"`
	CommitBy uint64 `cbor:"commit_by" json:"commit_by"`
	SealBy   uint64 `cbor:"seal_by"   json:"seal_by"`
	RevealBy uint64 `cbor:"reveal_by" json:"reveal_by"`
	State    State  `cbor:"state"     json:"state"`
	// Brought: the consumer's commitments came; they come once.
	Brought bool `cbor:"brought,omitempty" json:"brought,omitempty"`
	// Root commits to all commitments, from SealBy on; see Entries.
	Root mman.Hash `cbor:"root,omitzero" json:"root,omitzero"`
	// Bids are sorted by bidder, each has one.
	Bids []Entry `cbor:"bids" json:"bids,omitempty"`
	// Awards counts the leases made; Lease is the latest, and ServeBy the height
	// at which its provider must have accepted it.
	Awards  uint64       `cbor:"awards,omitempty" json:"awards,omitempty"`
	Lease   mman.LeaseID `cbor:"lease,omitzero"   json:"lease,omitzero"`
	ServeBy uint64       `cbor:"serve_by,omitempty" json:"serve_by,omitempty"`
	// Left says who ended that lease before it was accepted; zero for nobody.
	Left mman.Address `cbor:"left,omitzero" json:"left,omitzero"`
	// Due is the height at whose end the ledger looks at it again.
	Due uint64 `cbor:"due,omitempty" json:"due,omitempty"`

	off undefended
}

// undefended switches defences off, one by one: tests show with it that each
// attack works without its defence. It is all false.
type undefended struct {
	opening bool // a reveal need not open its commitment
	windows bool // heights do not matter
	twice   bool // a bidder may commit again, a consumer bring again
	remedy  bool // nobody can bring what the consumer left out
	bond    bool // a bidder who fails gets its bond back
	ack     bool // a commitment needs no acknowledgement
}

// Terms are what the ledger's parameters say of every RFP, in blocks.
type Terms struct {
	// Post and Reveal are the lengths of the second and the third window.
	Post, Reveal uint64
	// Accept is how long a winner has to accept its lease.
	Accept uint64
}

// New opens an RFP at a height. The request was found valid.
func New(id mman.RequestID, r market.Request, bond mman.Amount, height, commitBy uint64, t Terms) (RFP, error) {
	out := RFP{
		Version: 1, Request: id, Consumer: r.Consumer, Bond: bond, Opened: height, State: Open,
		CommitBy: commitBy, SealBy: commitBy + t.Post, RevealBy: commitBy + t.Post + t.Reveal,
	}
	out.Due = out.SealBy
	switch role := r.Legs[len(r.Legs)-1].Role; {
	case role != market.RoleCompute:
		return RFP{}, fmt.Errorf("rfp: %w: bids fill the compute leg, this request asks for an %s alone", mman.ErrUnsupported, role)
	case bond == 0 || bond > r.Cap:
		return RFP{}, fmt.Errorf("rfp: %w: a bond of %d uman, choose 1 to the cap of %d", mman.ErrInvalid, bond, r.Cap)
	case commitBy <= height:
		return RFP{}, fmt.Errorf("rfp: %w: commitments until height %d, this is %d", mman.ErrDeadline, commitBy, height)
	case r.Deadline < out.RevealBy:
		return RFP{}, fmt.Errorf("rfp: %w: the request's deadline %d is before the last reveal at %d", mman.ErrInvalid, r.Deadline, out.RevealBy)
	case r.Blocks <= t.Accept:
		return RFP{}, fmt.Errorf("rfp: %w: a lease of %d blocks, more than the %d in which it may be accepted are needed", mman.ErrInvalid, r.Blocks, t.Accept)
	}
	return out, nil
}

// Find returns the place of a bidder, and whether it has one.
func (r RFP) Find(bidder mman.Address) (int, bool) {
	return slices.BinarySearchFunc(r.Bids, bidder, func(e Entry, a mman.Address) int { return bytes.Compare(e.Bidder[:], a[:]) })
}

// Bring takes the consumer's whole list, whose signatures were verified: it comes
// once, up to CommitBy. Who brought its commitment itself keeps that one. It
// returns the bidders whose bonds must be held now; what Drop takes out again was
// never there.
func (r RFP) Bring(height uint64, list []market.Commitment) (RFP, []mman.Address, error) {
	switch {
	case r.Brought && !r.off.twice:
		return r, nil, fmt.Errorf("rfp %s: %w: its commitments were brought already, they cannot be changed", r.Request, mman.ErrExists)
	case height > r.CommitBy && !r.off.windows:
		return r, nil, fmt.Errorf("rfp %s: %w: commitments were due at height %d, this is %d", r.Request, mman.ErrDeadline, r.CommitBy, height)
	case len(list) > MaxBids:
		return r, nil, fmt.Errorf("rfp %s: %w: %d commitments, at most %d are allowed", r.Request, mman.ErrTooLarge, len(list), MaxBids)
	}
	var added []mman.Address
	r.Bids, r.Brought = slices.Clone(r.Bids), true
	for i, c := range list {
		if c.Request != r.Request || c.Bidder == r.Consumer {
			return r, nil, fmt.Errorf("rfp %s: commitments[%d]: %w: it is of %s for request %s", r.Request, i, mman.ErrInvalid, c.Bidder, c.Request)
		}
		if slices.Contains(added, c.Bidder) {
			return r, nil, fmt.Errorf("rfp %s: commitments[%d]: %w: %s has one already", r.Request, i, mman.ErrExists, c.Bidder)
		}
		at, ok := r.Find(c.Bidder)
		if ok && r.off.twice {
			r.Bids[at].Digest = c.Digest
		}
		if !ok {
			r.Bids = slices.Insert(r.Bids, at, Entry{Bidder: c.Bidder, Digest: c.Digest, State: Committed})
			added = append(added, c.Bidder)
		}
	}
	return r, added, nil
}

// Drop takes out a bidder whose bond could not be held.
func (r RFP) Drop(bidder mman.Address) RFP {
	if at, ok := r.Find(bidder); ok {
		r.Bids = slices.Delete(slices.Clone(r.Bids), at, at+1)
	}
	return r
}

// Post takes the commitment of one bidder from itself, with the signature of the
// lease key that it came in time, up to SealBy. Its bond must be held then.
func (r RFP) Post(chainID string, height uint64, key mman.LeaseKey, commitment, ack []byte) (RFP, market.Commitment, error) {
	c, err := market.DecodeCommitment(commitment)
	if err != nil {
		return r, c, err
	}
	at, ok := r.Find(c.Bidder)
	posted := 0
	for _, e := range r.Bids {
		if e.Posted {
			posted++
		}
	}
	switch {
	case r.off.remedy:
		return r, c, fmt.Errorf("rfp %s: %w: only the consumer brings commitments", r.Request, mman.ErrDenied)
	case c.Request != r.Request || c.Bidder == r.Consumer:
		return r, c, fmt.Errorf("rfp %s: %w: the commitment is of %s for request %s", r.Request, mman.ErrInvalid, c.Bidder, c.Request)
	case ok && !r.off.twice:
		return r, c, fmt.Errorf("rfp %s: %w: %s has a commitment there", r.Request, mman.ErrExists, c.Bidder)
	case height > r.SealBy && !r.off.windows:
		return r, c, fmt.Errorf("rfp %s: %w: commitments that were left out were due at height %d, this is %d", r.Request, mman.ErrDeadline, r.SealBy, height)
	case !r.off.ack && !market.Acknowledged(chainID, key, commitment, ack):
		return r, c, fmt.Errorf("rfp %s: %w: the consumer's lease key did not acknowledge the commitment of %s", r.Request, mman.ErrBadSignature, c.Bidder)
	case posted == MaxPosted:
		return r, c, fmt.Errorf("rfp %s: %w: %d bidders brought theirs themselves already", r.Request, mman.ErrTooLarge, MaxPosted)
	}
	r.Bids = slices.Clone(r.Bids)
	if ok {
		r.Bids[at].Digest = c.Digest
		return r, c, nil
	}
	r.Bids = slices.Insert(r.Bids, at, Entry{Bidder: c.Bidder, Digest: c.Digest, State: Committed, Posted: true})
	return r, c, nil
}

// Sealed ends the windows of commitments: from now on Root says what they are.
// Without any the RFP closes.
func (r RFP) Sealed() (RFP, error) {
	if len(r.Bids) == 0 {
		r.State, r.Due = Closed, 0
		return r, nil
	}
	r.Due = r.RevealBy
	var err error
	r.Root, err = Root(r.Bids)
	return r, err
}

// Root is SHA-256 over (bidder, digest) of the entries in their order.
func Root(list []Entry) (mman.Hash, error) {
	sum := mman.NewSum256()
	for _, e := range list {
		for _, part := range [][]byte{e.Bidder[:], e.Digest[:]} {
			if _, err := sum.Write(part); err != nil {
				return mman.Hash{}, err
			}
		}
	}
	return sum.Hash(), nil
}

// Reveal opens one commitment, after SealBy and up to RevealBy.
func (r RFP) Reveal(chainID string, height uint64, req market.Request, bidder mman.Address, bid []byte, salt mman.Hash) (RFP, market.Bid, error) {
	b, err := market.DecodeBid(bid)
	if err != nil {
		return r, b, err
	}
	at, ok := r.Find(bidder)
	switch {
	case !ok:
		return r, b, fmt.Errorf("rfp %s: %w: %s has no commitment there", r.Request, mman.ErrNotFound, bidder)
	case (height <= r.SealBy || height > r.RevealBy) && !r.off.windows:
		return r, b, fmt.Errorf("rfp %s: %w: bids are opened from height %d to %d, this is %d", r.Request, mman.ErrDeadline, r.SealBy+1, r.RevealBy, height)
	case r.Bids[at].State != Committed:
		return r, b, fmt.Errorf("rfp %s: %w: the bid of %s is %s", r.Request, mman.ErrExists, bidder, r.Bids[at].State)
	case !r.off.opening && (b.Bidder != bidder || market.Seal(chainID, r.Request, bidder, bid, salt) != r.Bids[at].Digest):
		return r, b, fmt.Errorf("rfp %s: %w: bid and salt of %s do not open its commitment %s", r.Request, mman.ErrBid, bidder, r.Bids[at].Digest)
	}
	if err := b.Answers(r.Request, req); err != nil {
		return r, b, err
	}
	r.Bids = slices.Clone(r.Bids)
	r.Bids[at].State, r.Bids[at].Bid = Revealed, bid
	if !slices.ContainsFunc(r.Bids, func(e Entry) bool { return e.State == Committed }) {
		r.Due = height // nothing more can come
	}
	return r, b, nil
}

// Held returns what all bids have in escrow.
func (r RFP) Held(fn func(bidder mman.Address, bond mman.Amount) error) error {
	for _, e := range r.Bids {
		if e.State.held() {
			if err := fn(e.Bidder, r.Bond); err != nil {
				return err
			}
		}
	}
	return nil
}

// Winner returns the bidder whose lease waits to be accepted.
func (r RFP) Winner() (mman.Address, bool) {
	i := slices.IndexFunc(r.Bids, func(e Entry) bool { return e.State == Won })
	if i < 0 {
		return mman.Address{}, false
	}
	return r.Bids[i].Bidder, true
}
