package policy

import (
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy/condition"
	"github.com/limboid/massive-man/resources"
)

// SchemaVersion numbers the set of words below. A word never changes its
// meaning; a new set is a new version of the Offer.
const SchemaVersion = 1

// Declared sizes of the words, on which the cost of a condition rests.
const (
	idBytes        = 64  // an address, CID, peer or region
	shortBytes     = 32  // a facet or purpose
	attributeBytes = 321 // key=value of a manifest's attribute
	maxLegs        = 8
	maxAttributes  = 32
)

// words are all that a condition may read, sorted by name.
//
//nolint:gochecknoglobals // an immutable table
var words = []condition.Word{
	{Name: "algorithm.attributes", Kind: condition.Texts, Bytes: attributeBytes, Count: maxAttributes, About: "its offer's attributes, each as key=value"},
	{Name: "algorithm.facet", Kind: condition.Text, Bytes: shortBytes, About: "how it is written, for example wasm"},
	{Name: "algorithm.provider", Kind: condition.Text, Bytes: idBytes, About: "account that brings it"},
	{Name: "algorithm.region", Kind: condition.Text, Bytes: idBytes, About: "where it is (claimed), empty when unsaid"},
	{Name: "algorithm.resource", Kind: condition.Text, Bytes: idBytes, About: "CID of its manifest, or of a supplied module"},
	{Name: "algorithm.supplied", Kind: condition.Bool, About: "whether the consumer brings it"},
	{Name: "chain.height", Kind: condition.Int, About: "height of the block"},
	{Name: "chain.time", Kind: condition.Int, About: "time of the block, seconds since 1970 UTC"},
	{Name: "compute.attributes", Kind: condition.Texts, Bytes: attributeBytes, Count: maxAttributes, About: "its offer's attributes, each as key=value"},
	{Name: "compute.facet", Kind: condition.Text, Bytes: shortBytes, About: "what it can run, for example wasm"},
	{Name: "compute.peer", Kind: condition.Text, Bytes: idBytes, About: "node that runs the work"},
	{Name: "compute.provider", Kind: condition.Text, Bytes: idBytes, About: "account that runs the work"},
	{Name: "compute.region", Kind: condition.Text, Bytes: idBytes, About: "where it is (claimed), empty when unsaid"},
	{Name: "compute.resource", Kind: condition.Text, Bytes: idBytes, About: "CID of its manifest"},
	{Name: "consumer.id", Kind: condition.Text, Bytes: idBytes, About: "account that asks"},
	{Name: "consumer.reputation", Kind: condition.Int, About: "0 for an account that has earned none"},
	{Name: "data.attributes", Kind: condition.Texts, Bytes: attributeBytes, Count: condition.MaxList, About: "attributes of all data, each as key=value"},
	{Name: "data.count", Kind: condition.Int, About: "number of data that the algorithm sees"},
	{Name: "data.providers", Kind: condition.Texts, Bytes: idBytes, Count: maxLegs, About: "accounts that bring the data, in the order of the request"},
	{Name: "data.regions", Kind: condition.Texts, Bytes: idBytes, Count: maxLegs, About: "where the data are (claimed), in the order of the request"},
	{Name: "data.resources", Kind: condition.Texts, Bytes: idBytes, Count: maxLegs, About: "CIDs of the data, in the order of the request"},
	{Name: "data.sealed", Kind: condition.Bool, About: "whether any of the data may not leave its node"},
	{Name: "request.accepts", Kind: condition.Texts, Bytes: obligationBytes, Count: MaxObligations, About: "obligations that the consumer accepts, each as name or name=value"},
	{Name: "request.blocks", Kind: condition.Int, About: "how long the lease lasts, in blocks"},
	{Name: "request.cap_uman", Kind: condition.Int, About: "the most that the lease may cost, in uman"},
	{Name: "request.input_bytes", Kind: condition.Int, About: "the most that a run may read"},
	{Name: "request.memory_bytes", Kind: condition.Int, About: "the most memory that a run may use"},
	{Name: "request.output_bytes", Kind: condition.Int, About: "the most that a run may write"},
	{Name: "request.purpose", Kind: condition.Text, Bytes: shortBytes, About: "what for (claimed), empty when unsaid"},
	{Name: "request.wall_ms", Kind: condition.Int, About: "the longest that a run may take"},
	{Name: "run.calls", Kind: condition.Int, About: "runs of this lease that began, with this one"},
	{Name: "run.egress_bytes", Kind: condition.Int, About: "bytes that the work sent into a network"},
	{Name: "run.input_bytes", Kind: condition.Int, About: "bytes that this lease's runs were given"},
	{Name: "run.output_bytes", Kind: condition.Int, About: "bytes that this lease's runs have released"},
	{Name: "run.wall_ms", Kind: condition.Int, About: "time that this lease's runs have taken"},
	{Name: "storage.attributes", Kind: condition.Texts, Bytes: attributeBytes, Count: condition.MaxList, About: "attributes of all storage, each as key=value"},
	{Name: "storage.count", Kind: condition.Int, About: "number of storage legs"},
	{Name: "storage.providers", Kind: condition.Texts, Bytes: idBytes, Count: maxLegs, About: "accounts that store"},
	{Name: "storage.regions", Kind: condition.Texts, Bytes: idBytes, Count: maxLegs, About: "where they store (claimed)"},
	{Name: "storage.resources", Kind: condition.Texts, Bytes: idBytes, Count: maxLegs, About: "CIDs of the storage"},
	{Name: "usage.leases_1d", Kind: condition.Int, About: "leases of this consumer on this offer today (UTC), without the one asked for"},
	{Name: "usage.leases_30d", Kind: condition.Int, About: "the same in the last 30 days, today among them"},
	{Name: "usage.leases_7d", Kind: condition.Int, About: "the same in the last 7 days, today among them"},
	{Name: "usage.open", Kind: condition.Int, About: "leases that are open on this offer now"},
}

// Words returns the words that a condition may read, sorted by name.
func Words() []condition.Word { return slices.Clone(words) }

// Request is what the consumer signed.
type Request struct {
	// Purpose is a claim; "" when none is made.
	Purpose string
	Cap     mman.Amount
	Blocks  uint64
	Limits  resources.Limits
	// Accepts are the obligations that the consumer takes on.
	Accepts []Obligation
	// Network says that the work cannot do without a network.
	Network bool
}

// Leg is a part of the bundle as the other parts' policies see it.
type Leg struct {
	Resource mman.CID
	Facet    resources.Facet
	// Provider is the account that brings it: the consumer when it is supplied.
	Provider   mman.Address
	Peer       mman.PeerID
	Region     string
	Supplied   bool
	Sealed     bool
	Attributes []resources.Attribute
}

// Legs are the parts of one role, in the order of the request.
type Legs []Leg

// Chain is the block in which the decision falls.
type Chain struct {
	Height uint64
	// Time in seconds since 1970, UTC.
	Time int64
}

// Usage counts the consumer's leases on an offer by UTC days.
type Usage struct {
	Leases1d, Leases7d, Leases30d uint64
}

// Run counts what a lease's work has done so far, on all lanes.
type Run struct {
	Calls, EgressBytes, InputBytes, OutputBytes, WallMs uint64
}

// Context is what a decision may depend on. What is nil is not known yet, and
// so is each word that needs it. The rest is always known.
type Context struct {
	// Phase is when the decision falls: PhaseMatch, which "" stands for, or
	// PhaseRun.
	Phase Phase
	// Consumer is the account that asks.
	Consumer mman.Address
	// Reputation is the consumer's; 0 until the ledger keeps one.
	Reputation uint64
	// Algorithm is the algorithm leg: its manifest's CID, or the module's own when
	// the consumer supplies it; zero for a script that it supplies.
	Algorithm mman.CID
	// Open is the number of the offer's leases that are open now.
	Open uint64

	Request *Request
	// Code is the algorithm leg, Compute the leg that runs it.
	Code, Compute *Leg
	// Data and Storage are the other legs.
	Data, Storage *Legs
	Chain         *Chain
	Usage         *Usage
	Run           *Run
	// Match is what was decided of this policy when the lease was matched, for
	// a decision in PhaseRun. Without it, the match-phase rules are evaluated
	// again.
	Match *Record
}

// Digest returns SHA-256 of all words in order, each as NAME=VALUE and a line's
// end, with what is not known as "unknown": two contexts in which every policy
// decides alike have the same.
func (c *Context) Digest() mman.Hash {
	sum := mman.NewSum256()
	for i := range words {
		_, _ = sum.Write([]byte(words[i].Name + "=" + c.read(i).String() + "\n")) // never fails
	}
	return sum.Hash()
}

// reading remembers the words that were read for one decision, so that a loop
// over one list does not build another anew at each turn. Few words are read.
type reading struct {
	context *Context
	done    []word
}

type word struct {
	index int
	value condition.Value
}

func (r *reading) read(i int) condition.Value {
	for j := range r.done {
		if r.done[j].index == i {
			return r.done[j].value
		}
	}
	v := r.context.read(i)
	r.done = append(r.done, word{i, v})
	return v
}

// read returns the value of a word.
func (c *Context) read(i int) condition.Value {
	name := words[i].Name
	switch name {
	case "consumer.id":
		return condition.OfText(c.Consumer.String())
	case "consumer.reputation":
		return condition.OfUint(c.Reputation)
	case "usage.open":
		return condition.OfUint(c.Open)
	}
	group := name[:len(name)-len(field(name))-1]
	switch {
	case group == "algorithm" && c.Code != nil:
		return c.Code.read(field(name))
	case group == "compute" && c.Compute != nil:
		return c.Compute.read(field(name))
	case group == "data" && c.Data != nil:
		return c.Data.read(field(name))
	case group == "storage" && c.Storage != nil:
		return c.Storage.read(field(name))
	case group == "request" && c.Request != nil:
		return c.Request.read(field(name))
	case group == "chain" && c.Chain != nil:
		return c.Chain.read(field(name))
	case group == "usage" && c.Usage != nil:
		return c.Usage.read(field(name))
	case group == "run" && c.Run != nil:
		return c.Run.read(field(name))
	default:
		return condition.Unknown()
	}
}

// field returns what stands behind the point of a word's name.
func field(name string) string {
	for i := range len(name) {
		if name[i] == '.' {
			return name[i+1:]
		}
	}
	return ""
}

func (l *Leg) read(field string) condition.Value {
	switch field {
	case "attributes":
		return condition.OfTexts(l.attributes(nil))
	case "facet":
		return condition.OfText(string(l.Facet))
	case "peer":
		return condition.OfText(l.Peer.String())
	case "provider":
		return condition.OfText(l.Provider.String())
	case "region":
		return condition.OfText(l.Region)
	case "resource":
		return condition.OfText(l.Resource.String())
	case "supplied":
		return condition.OfBool(l.Supplied)
	default:
		return condition.Unknown()
	}
}

func (l *Leg) attributes(list []string) []string {
	for _, a := range l.Attributes {
		list = append(list, a.Key+"="+a.Value)
	}
	return list
}

func (l Legs) read(field string) condition.Value {
	var list []string
	switch field {
	case "count":
		return condition.OfInt(int64(len(l)))
	case "sealed":
		return condition.OfBool(slices.ContainsFunc(l, func(leg Leg) bool { return leg.Sealed }))
	case "attributes":
		for i := range l {
			list = l[i].attributes(list)
		}
	case "providers":
		for i := range l {
			list = append(list, l[i].Provider.String())
		}
	case "regions":
		for i := range l {
			list = append(list, l[i].Region)
		}
	case "resources":
		for i := range l {
			list = append(list, l[i].Resource.String())
		}
	default:
		return condition.Unknown()
	}
	return condition.OfTexts(list)
}

func (r *Request) read(field string) condition.Value {
	switch field {
	case "accepts":
		list := make([]string, len(r.Accepts))
		for i, o := range r.Accepts {
			list[i] = o.String()
		}
		return condition.OfTexts(list)
	case "blocks":
		return condition.OfUint(r.Blocks)
	case "cap_uman":
		return condition.OfUint(uint64(r.Cap))
	case "input_bytes":
		return condition.OfUint(r.Limits.InputBytes)
	case "memory_bytes":
		return condition.OfUint(r.Limits.MemoryBytes)
	case "output_bytes":
		return condition.OfUint(r.Limits.OutputBytes)
	case "purpose":
		return condition.OfText(r.Purpose)
	case "wall_ms":
		return condition.OfUint(r.Limits.WallMs)
	default:
		return condition.Unknown()
	}
}

func (c *Chain) read(field string) condition.Value {
	switch field {
	case "height":
		return condition.OfUint(c.Height)
	case "time":
		return condition.OfInt(c.Time)
	default:
		return condition.Unknown()
	}
}

func (u *Usage) read(field string) condition.Value {
	switch field {
	case "leases_1d":
		return condition.OfUint(u.Leases1d)
	case "leases_7d":
		return condition.OfUint(u.Leases7d)
	case "leases_30d":
		return condition.OfUint(u.Leases30d)
	default:
		return condition.Unknown()
	}
}

func (r *Run) read(field string) condition.Value {
	switch field {
	case "calls":
		return condition.OfUint(r.Calls)
	case "egress_bytes":
		return condition.OfUint(r.EgressBytes)
	case "input_bytes":
		return condition.OfUint(r.InputBytes)
	case "output_bytes":
		return condition.OfUint(r.OutputBytes)
	case "wall_ms":
		return condition.OfUint(r.WallMs)
	default:
		return condition.Unknown()
	}
}
