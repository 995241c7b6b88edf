package match

import (
	"encoding/base64"
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
)

// Entry is an Offer as it stands in the book.
type Entry struct {
	ID    mman.CID
	Offer market.Offer
	// Program is the offer's policy, compiled; nil when the book has not done
	// that.
	Program *policy.Program
	// Royalties are owed of what the offer earns; see market.Lineage.
	Royalties []market.Royalty
	// Arrival is the number of the offer's latest arrival: it was posted, or a
	// place on it became free.
	Arrival uint64
}

// Class names the offers that one leg of a request looks among: those of a
// resource when it is not zero, otherwise of the kind and facet.
type Class struct {
	Kind     resources.Kind
	Facet    resources.Facet
	Resource mman.CID
}

// Spot is an offer's place in the order of a class.
type Spot struct {
	ID mman.CID
	// Key sorts by price.Index, then by id. It stays where it is when other
	// offers come and go.
	Key []byte
}

// Arrival is an offer that came into a class.
type Arrival struct {
	Number uint64
	ID     mman.CID
}

// Records are what a decision reads beside the request and the offers. Answers
// must not depend on anything but committed state and the requests matched
// before in the same block.
type Records interface {
	// Open counts the offer's leases that are open.
	Open(e Entry) (uint64, error)
	// Usage counts the consumer's leases on the offer. It is asked only when
	// the offer's policy reads it.
	Usage(e Entry, consumer mman.Address) (policy.Usage, error)
	// Grant returns what the offer's holder granted the consumer. It is asked
	// only when a rule of the offer's policy denies.
	Grant(e Entry, consumer mman.Address) (Grant, bool, error)
}

// Book is what a match may look into.
type Book interface {
	Records

	// Offer returns a standing offer; false when there is none under the id or
	// it has expired.
	Offer(id mman.CID) (Entry, bool, error)
	// Scan returns at most limit offers of the class whose key comes after the
	// given one, nil for the first, in ascending order of keys.
	Scan(class Class, after []byte, limit int) ([]Spot, error)
	// Arrivals returns at most limit arrivals in the class with a number above
	// the given one, in ascending order, and the number up to which these are
	// all.
	Arrivals(class Class, after uint64, limit int) (list []Arrival, upTo uint64, err error)
	// Arrived returns the number of the latest arrival in any class.
	Arrived() uint64
}

// Grant is what a holder allows one account beyond the offer's own rules.
type Grant struct {
	// Policy stands in the place of the offer's rules and default; see
	// policy.Policy.Granted.
	Policy policy.Policy `cbor:"policy" json:"policy"`
	// Revoked: it no longer counts.
	Revoked bool `cbor:"revoked" json:"revoked,omitempty"`
}

// Bounds of one attempt to fill a request.
const (
	// MaxScan is the number of offers that it newly looks at, for each leg.
	MaxScan = 64
	// MaxSteps bounds what the policies of the candidates may cost to evaluate,
	// by Program.Cost. It is some hundred times what ordinary policies need; a
	// scan that reaches half of it goes on in the next attempt.
	MaxSteps = 1 << 18
	// MaxKept is the number of candidates that it leaves to the next one, over
	// all legs.
	MaxKept = 16
)

// Progress is how far the attempts to fill a request have come. The ledger keeps
// it between blocks.
type Progress struct {
	// Left is how many more offers may be looked at; they are paid for.
	Left uint64 `cbor:"left"`
	// Scanned is how many were looked at.
	Scanned uint64 `cbor:"scanned"`
	// Legs has a place for each leg of the request.
	Legs []Place `cbor:"legs"`
	// Woken: enough time has passed to ask policies again that depend on it. The
	// ledger sets it, an attempt takes it back.
	Woken bool `cbor:"woken,omitempty"`
}

// Place is how far the offers for one leg have been looked at.
type Place struct {
	// After is the key of the latest offer in the order of prices.
	After []byte `cbor:"after,omitempty"`
	// Done: all of that order was seen; from now on arrivals are.
	Done bool `cbor:"done"`
	// Seen is the number of the latest arrival that was looked at.
	Seen uint64 `cbor:"seen"`
	// Looked counts the offers that were looked at.
	Looked uint64 `cbor:"looked"`
	// Kept are offers to look at again: those that fit by themselves, best
	// first, then Later of them whose policies time alone can change.
	Kept  []mman.CID `cbor:"kept,omitempty"`
	Later uint64     `cbor:"later"`
}

// Begin returns the progress of a request that nobody has looked at, which may
// look at so many offers. What arrived up to the number arrived is found in the
// order of prices.
func Begin(r market.Request, looks, arrived uint64) Progress {
	p := Progress{Left: looks, Legs: make([]Place, len(r.Legs))}
	for i := range p.Legs {
		p.Legs[i].Seen = arrived
	}
	return p
}

// Sleeps reports whether time alone could change the answer.
func (p Progress) Sleeps() bool {
	for _, l := range p.Legs {
		if l.Later > 0 {
			return true
		}
	}
	return false
}

// Goes reports whether there are offers that stood when the request was made and
// that it has not looked at yet.
func (p Progress) Goes(r market.Request) bool {
	for i, l := range p.Legs {
		if !r.Legs[i].Supplied && !l.Done {
			return p.Left > 0
		}
	}
	return false
}

// clone copies what an attempt changes.
func (p Progress) clone() Progress {
	p.Legs = append([]Place(nil), p.Legs...)
	return p
}

// Look is one candidate as an attempt saw it, with the facts that are neither in
// the request nor in the offer. The looks of an attempt are its whole input: who
// has them and the offers can decide again.
type Look struct {
	Leg   uint64   `cbor:"leg"`
	Offer mman.CID `cbor:"offer"`
	// Gone: it no longer stood.
	Gone bool `cbor:"gone,omitempty"`
	// What was read of it; absent when it was not asked.
	Open  uint64        `cbor:"open,omitempty"`
	Usage *policy.Usage `cbor:"usage,omitempty"`
	Grant *Grant        `cbor:"grant,omitempty"`
}

// Inputs are what an attempt decided upon, in the order in which it looked.
type Inputs struct {
	Looks []Look `cbor:"looks"`
	// Empty are the legs for which nothing stood.
	Empty []uint64 `cbor:"empty,omitempty"`
	// Before are the rejections of earlier attempts that still tell something.
	Before []Rejection `cbor:"before,omitempty"`
}

// inputsMaxBytes bounds encoded inputs: all looks of an attempt with every grant
// as large as it can be.
const inputsMaxBytes = 16 << 20

// DecodeInputs reads what the ledger tells of an attempt, in base64, and checks
// it against the hash in the decision; mman.ErrContent.
func DecodeInputs(text string, want mman.Hash) (Inputs, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || mman.Sum256(b) != want {
		return Inputs{}, fmt.Errorf("inputs of a decision: %w: they are not those that it names, %s", mman.ErrContent, want)
	}
	return dagcbor.Unmarshal[Inputs](b, inputsMaxBytes)
}
