package market

import (
	"fmt"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
)

// RequestMaxBytes bounds an encoded Request.
const RequestMaxBytes = 8 << 10

// maxPurpose bounds a purpose.
const maxPurpose = 32

// Role is a leg's part in a bundle.
type Role string

// The roles: what runs, what it sees, where it runs; or a service that is called.
const (
	RoleAlgorithm Role = "algorithm"
	RoleData      Role = "data"
	RoleCompute   Role = "compute"
	RoleEndpoint  Role = "endpoint"
	// RoleEnvironment takes the algorithm's place.
	RoleEnvironment Role = "environment"
)

// Kind returns the kind of Resource that fills the role.
func (r Role) Kind() resources.Kind {
	switch r {
	case RoleAlgorithm:
		return resources.KindAlgorithm
	case RoleData:
		return resources.KindDataset
	case RoleCompute:
		return resources.KindCompute
	case RoleEndpoint:
		return resources.KindEndpoint
	case RoleEnvironment:
		return resources.KindEnvironment
	default:
		return ""
	}
}

// LegRequest is what one leg of a Request asks for.
type LegRequest struct {
	Role  Role            `cbor:"role"     json:"role"`
	Facet resources.Facet `cbor:"facet"    json:"facet"`
	// Resource is the manifest wanted; for a supplied leg the content itself;
	// the zero CID means any of the kind and facet: of compute, or where Where
	// says which.
	Resource mman.CID `cbor:"resource,omitzero" json:"resource,omitzero"`
	// Supplied: the consumer brings the content; no offer, no price.
	Supplied bool `cbor:"supplied" json:"supplied,omitempty"`
	// Offers are candidates that the consumer found; none means the chain looks
	// into its own index.
	Offers []mman.CID `cbor:"offers"   json:"offers,omitempty"`
	// Where is a condition over the words of policy.Where that the offer must meet; an
	// empty one is met by all.
	Where string `cbor:"where,omitempty" json:"where,omitempty"`
}

// ListedAs returns the CID under which a policy's list of algorithms knows the leg:
// that of the manifest, which says how the algorithm is written, or of a module that
// the consumer supplies. Of a script that is supplied, no list can say which
// interpreter may read it, and the same bytes may mean something to several: it has
// none, the zero CID, and must be published to be listed.
func (l LegRequest) ListedAs() mman.CID { return listedAs(l.Facet, l.Resource, l.Supplied) }

func listedAs(facet resources.Facet, resource mman.CID, supplied bool) mman.CID {
	if _, script := resources.InterpreterOf(facet); script && supplied {
		return mman.CID{}
	}
	return resource
}

// Request says what is wanted, for how much and until when.
type Request struct {
	Version  uint64       `cbor:"v"        json:"version"`
	Consumer mman.Address `cbor:"consumer" json:"consumer"`
	// LeaseKey is the ed25519 key that will sign handshakes and receipts of the
	// lease; new for each request.
	LeaseKey mman.LeaseKey `cbor:"lease_key" json:"lease_key"`
	// Legs: one algorithm or environment, up to 8 data, one compute, in this order,
	// or one endpoint alone. All are filled or none.
	Legs []LegRequest `cbor:"legs"     json:"legs"`
	// Cap is the most that the lease can cost, held in escrow.
	Cap mman.Amount `cbor:"cap"      json:"cap_uman"`
	// Blocks is how long the lease shall last.
	Blocks uint64 `cbor:"blocks"   json:"blocks"`
	// Deadline is the last height at which the request may be matched.
	Deadline uint64 `cbor:"deadline" json:"deadline"`
	// Limits are the bounds of each run that the consumer wants.
	Limits resources.Limits `cbor:"limits"   json:"limits"`
	// Purpose says what for, as policies may ask: 1 to 32 of a-z, 0-9, - and _,
	// for example research. It is a claim, nobody checks it.
	Purpose string `cbor:"purpose,omitempty" json:"purpose,omitempty"`
	// Accepts are the obligations that the consumer takes on by signing. A match
	// needs every obligation of every leg's policy among them.
	Accepts []policy.Obligation `cbor:"accepts,omitempty" json:"accepts,omitempty"`
	// Network says that the work cannot do without a network. No policy of this version
	// allows one.
	Network bool `cbor:"network,omitempty" json:"network,omitempty"`
}

// Encode returns the Request's bytes. The Request must be valid.
func (r Request) Encode() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return dagcbor.Marshal(r)
}

// DecodeRequest reads and validates a Request.
func DecodeRequest(b []byte) (Request, error) {
	r, err := dagcbor.Unmarshal[Request](b, RequestMaxBytes)
	if err != nil {
		return Request{}, fmt.Errorf("request: %w", err)
	}
	return r, r.Validate()
}

// Validate checks everything about a Request that does not depend on the chain.
func (r Request) Validate() error {
	if r.Version != objectVersion {
		return fmt.Errorf("request: %w: version %d, this program reads %d", mman.ErrUnsupported, r.Version, objectVersion)
	}
	if r.Consumer.IsZero() || r.LeaseKey == (mman.LeaseKey{}) {
		return fmt.Errorf("request: %w: consumer and lease key are needed", mman.ErrInvalid)
	}
	if err := validLegs(r.Legs); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if r.Cap == 0 || r.Cap > mman.MaxSupply {
		return fmt.Errorf("request: %w: cap %d uman: name the most that it may cost", mman.ErrInvalid, r.Cap)
	}
	if r.Blocks == 0 || r.Deadline == 0 {
		return fmt.Errorf("request: %w: blocks and deadline are needed", mman.ErrInvalid)
	}
	if err := r.Limits.Validate(); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if len(r.Purpose) > maxPurpose || strings.Trim(r.Purpose, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return fmt.Errorf("request: %w: purpose %.40q: at most %d of a-z, 0-9, - and _", mman.ErrInvalid, r.Purpose, maxPurpose)
	}
	if err := policy.ValidObligations(r.Accepts); err != nil {
		return fmt.Errorf("request: accepts: %w", err)
	}
	return nil
}

func validLegs(legs []LegRequest) error {
	if len(legs) == 1 && legs[0].Role == RoleEndpoint {
		if len(legs[0].Offers) > MaxCandidates {
			return fmt.Errorf("%w: %d candidate offers, at most %d may be named", mman.ErrTooLarge, len(legs[0].Offers), MaxCandidates)
		}
		return legs[0].validate()
	}
	if len(legs) < 2 || len(legs) > maxDataLegs+2 {
		return fmt.Errorf("%w: %d legs: one algorithm, up to %d data, one compute, or an endpoint alone", mman.ErrInvalid, len(legs), maxDataLegs)
	}
	named := 0
	for i, leg := range legs {
		want := RoleData
		switch i {
		case 0:
			want = RoleAlgorithm
			if leg.Role == RoleEnvironment {
				want = RoleEnvironment
			}
		case len(legs) - 1:
			want = RoleCompute
		}
		if leg.Role != want {
			return fmt.Errorf("%w: legs[%d] is %.16q where %q is due; the order is algorithm, data, compute", mman.ErrInvalid, i, leg.Role, want)
		}
		if err := leg.validate(); err != nil {
			return fmt.Errorf("legs[%d]: %w", i, err)
		}
		named += len(leg.Offers)
	}
	if algorithm, compute := legs[0].Facet, legs[len(legs)-1].Facet; resources.RunsOn(algorithm) != compute {
		return fmt.Errorf("%w: an algorithm of facet %s runs on compute/%s, not on compute/%s", mman.ErrInvalid, algorithm, resources.RunsOn(algorithm), compute)
	}
	if named > MaxCandidates {
		return fmt.Errorf("%w: %d candidate offers, at most %d may be named", mman.ErrTooLarge, named, MaxCandidates)
	}
	return nil
}

func (l LegRequest) validate() error {
	if !resources.ValidFacet(l.Role.Kind(), l.Facet) {
		return fmt.Errorf("%w: facet %.32q for %s", mman.ErrUnsupported, l.Facet, l.Role)
	}
	switch {
	case l.Role.Kind().Serves() && l.Supplied:
		return fmt.Errorf("%w: %s cannot be supplied over a session", mman.ErrInvalid, l.Role)
	case l.Role != RoleCompute && l.Resource.IsZero() && (l.Where == "" || l.Supplied):
		return fmt.Errorf("%w: it names neither a resource nor what one must be like", mman.ErrInvalid)
	case l.Supplied && (len(l.Offers) > 0 || l.Where != ""):
		return fmt.Errorf("%w: a supplied leg has no offers and no condition", mman.ErrInvalid)
	}
	if l.Where != "" {
		if _, err := policy.CompileWhere(l.Where); err != nil {
			return fmt.Errorf("where: %w", err)
		}
	}
	for i, o := range l.Offers {
		if o.IsZero() {
			return fmt.Errorf("%w: offers[%d] names nothing", mman.ErrInvalid, i)
		}
	}
	return nil
}
