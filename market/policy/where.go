package policy

import (
	"fmt"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy/condition"
	"github.com/limboid/massive-man/resources"
)

// Bounds of a consumer's condition.
const (
	// MaxWhereBytes bounds its text.
	MaxWhereBytes = 1 << 10
	// MaxWhereCost bounds the cost of its worst evaluation, in the steps of
	// MaxCost.
	MaxWhereCost = 4_000
)

// offerWords are what a consumer's condition may read of an offer, sorted by
// name.
//
//nolint:gochecknoglobals // an immutable table
var offerWords = []condition.Word{
	{Name: "offer.attributes", Kind: condition.Texts, Bytes: attributeBytes, Count: maxAttributes, About: "its attributes, each as key=value"},
	{Name: "offer.capacity", Kind: condition.Int, About: "leases that may be open at once"},
	{Name: "offer.facet", Kind: condition.Text, Bytes: shortBytes, About: "for example wasm or file"},
	{Name: "offer.kind", Kind: condition.Text, Bytes: shortBytes, About: "algorithm, dataset or compute"},
	{Name: "offer.obligations", Kind: condition.Texts, Bytes: obligationBytes, Count: MaxObligations, About: "what its policy asks of the consumer, each as name or name=value"},
	{Name: "offer.peer", Kind: condition.Text, Bytes: idBytes, About: "node that serves it"},
	{Name: "offer.per_lease_uman", Kind: condition.Int, About: "its price per lease, in uman"},
	{Name: "offer.provider", Kind: condition.Text, Bytes: idBytes, About: "account that offers it"},
	{Name: "offer.region", Kind: condition.Text, Bytes: idBytes, About: "where it is (claimed), empty when unsaid"},
	{Name: "offer.resource", Kind: condition.Text, Bytes: idBytes, About: "CID of its manifest"},
	{Name: "offer.sealed", Kind: condition.Bool, About: "whether it may not leave its node"},
	{Name: "offer.share_bp", Kind: condition.Int, About: "its share of the run's price, in basis points"},
}

// Listed is an offer as a consumer's condition sees it.
type Listed struct {
	Kind        resources.Kind
	Facet       resources.Facet
	Resource    mman.CID
	Provider    mman.Address
	Peer        mman.PeerID
	Region      string
	Sealed      bool
	Attributes  []resources.Attribute
	Obligations []Obligation
	PerLease    mman.Amount
	Share       uint64
	Capacity    uint64
}

// Where is a consumer's condition on an offer, in the language of a rule's when
// over the words of an offer. It is immutable and may be shared.
type Where struct{ condition *condition.Condition }

// CompileWhere checks a consumer's condition and its bounds; mman.ErrInvalid,
// ErrTooLarge or ErrUnsupported.
func CompileWhere(text string) (*Where, error) {
	if len(text) > MaxWhereBytes {
		return nil, fmt.Errorf("%w: a condition of %d bytes, at most %d are allowed", mman.ErrTooLarge, len(text), MaxWhereBytes)
	}
	c, err := condition.Compile(text, offerWords)
	if err != nil {
		return nil, err
	}
	if c.Cost() > MaxWhereCost {
		return nil, fmt.Errorf("%w: an evaluation may take %d steps, at most %d are allowed; loop over fewer lists, or shorter ones", mman.ErrTooLarge, c.Cost(), uint64(MaxWhereCost))
	}
	return &Where{c}, nil
}

// Cost returns the worst cost of an evaluation, at most MaxWhereCost.
func (w *Where) Cost() uint64 { return w.condition.Cost() }

// Holds reports whether the condition is true of the offer. One that fails, by
// an overflow for example, does not hold.
func (w *Where) Holds(l Listed) bool {
	return w.condition.Eval(l.read).Truth == condition.True
}

func (l *Listed) read(i int) condition.Value {
	switch name := offerWords[i].Name; name {
	case "offer.capacity":
		return condition.OfUint(l.Capacity)
	case "offer.kind":
		return condition.OfText(string(l.Kind))
	case "offer.obligations":
		list := make([]string, len(l.Obligations))
		for i, o := range l.Obligations {
			list[i] = o.String()
		}
		return condition.OfTexts(list)
	case "offer.per_lease_uman":
		return condition.OfUint(uint64(l.PerLease))
	case "offer.sealed":
		return condition.OfBool(l.Sealed)
	case "offer.share_bp":
		return condition.OfUint(l.Share)
	default:
		leg := Leg{Resource: l.Resource, Facet: l.Facet, Provider: l.Provider, Peer: l.Peer, Region: l.Region, Attributes: l.Attributes}
		return leg.read(field(name))
	}
}

// Purposes returns the words in quotes in a condition that reads
// request.purpose, each of which could be one: what a consumer might say to
// please it.
func Purposes(when string) []string {
	if !strings.Contains(when, "request.purpose") {
		return nil
	}
	var out []string
	for i, part := range strings.FieldsFunc(when, func(r rune) bool { return r == '"' || r == '\'' }) {
		if i%2 == 1 && strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-_") == "" {
			out = append(out, part)
		}
	}
	return out
}
