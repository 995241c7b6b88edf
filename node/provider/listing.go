package provider

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/endpoint"
)

// listingMaxBytes bounds a listing file.
const listingMaxBytes = 64 << 10

// Listing is what a holder says about one resource: what it is, who may use it
// and for how much.
type Listing struct {
	Manifest resources.Manifest // without Content
	// Content is the path of the file behind it, "" for compute.
	Content string
	// Endpoint says what an endpoint lends, nil for another kind.
	Endpoint *endpoint.Settings
	// Private content is served within leases only; a private dataset is
	// sealed: it never leaves this node.
	Private bool
	// AnyAlgorithm says of a private dataset that its owner means it when the policy
	// chooses no algorithms: whoever leases it may run one that prints it whole.
	AnyAlgorithm bool
	// Reads is what reading parts of a dataset costs; nil for a public set, which is
	// read for nothing, and for one that is not read. With a price the content is kept
	// like private content, and sold by the block.
	Reads *Reads
	// Sample is how many rows of a dataset its manifest shows, at most 8; nil is 3
	// of public data and none of private.
	Sample   *uint64
	Policy   policy.Policy
	Price    price.Price
	Capacity uint64
	Region   string
	// Bids is the rule by which the node bids for requests with it; nil for none.
	Bids *Bidding

	root mman.CID // of which an endpoint sells parts
}

// listingFile is the YAML form of a Listing.
type listingFile struct {
	Resource struct {
		Kind       resources.Kind    `yaml:"kind"`
		Facet      resources.Facet   `yaml:"facet"`
		Name       string            `yaml:"name"`
		Summary    string            `yaml:"summary"`
		Licence    string            `yaml:"licence"`
		Source     string            `yaml:"source"`
		Content    string            `yaml:"content"`
		Private    bool              `yaml:"private"`
		Any        bool              `yaml:"any_algorithm"`
		Sample     *uint64           `yaml:"sample"`
		Attributes map[string]string `yaml:"attributes"`
		Parents    []struct {
			Resource string `yaml:"resource"`
			Owner    string `yaml:"owner"`
			ShareBP  uint64 `yaml:"share_bp"`
		} `yaml:"parents"`
	} `yaml:"resource"`
	Endpoint *endpoint.Settings `yaml:"endpoint"`
	Policy   yaml.MapSlice      `yaml:"policy"`
	Price    struct {
		PerLease string `yaml:"per_lease"`
		ShareBP  uint64 `yaml:"share_bp"`
		Units    []struct {
			Unit  resources.Unit `yaml:"unit"`
			Per   uint64         `yaml:"per"`
			Price string         `yaml:"price"`
		} `yaml:"units"`
	} `yaml:"price"`
	Reads *struct {
		Price string `yaml:"price"`
	} `yaml:"reads"`
	Bids *struct {
		DiscountBP uint64 `yaml:"discount_bp"`
		Floor      string `yaml:"floor"`
		MaxBond    string `yaml:"max_bond"`
	} `yaml:"bids"`
	Capacity uint64 `yaml:"capacity"`
	Region   string `yaml:"region"`
}

// ReadListing reads a listing file. A content path is relative to the file.
func ReadListing(path string) (_ Listing, err error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return Listing{}, fmt.Errorf("listing %s: %w: %w", path, mman.ErrNotFound, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, listingMaxBytes+1))
	if err != nil {
		return Listing{}, fmt.Errorf("listing %s: %w", path, err)
	}
	l, err := ParseListing(b)
	if err != nil {
		return Listing{}, fmt.Errorf("listing %s: %w", path, err)
	}
	if l.Content != "" && !filepath.IsAbs(l.Content) {
		l.Content = filepath.Join(filepath.Dir(path), l.Content)
	}
	if e := l.Endpoint; e != nil && e.SecretFile != "" && !filepath.IsAbs(e.SecretFile) {
		if e.SecretFile, err = filepath.Abs(filepath.Join(filepath.Dir(path), e.SecretFile)); err != nil {
			return Listing{}, fmt.Errorf("listing %s: %w: %w", path, mman.ErrInvalid, err)
		}
	}
	if err := l.check(); err != nil {
		return Listing{}, fmt.Errorf("listing %s: %w", path, err)
	}
	return l, nil
}

// suits reports whether what is behind a listing is of its facet: a folder is, all
// else is a file.
func (l Listing) suits(info fs.FileInfo) error {
	switch folder := l.Manifest.Facet == resources.FacetFolder; {
	case folder && !info.IsDir():
		return fmt.Errorf("%w: resource.content: %s is not a folder", mman.ErrInvalid, l.Content)
	case !folder && !info.Mode().IsRegular():
		return fmt.Errorf("%w: resource.content: %s is not a file; for a folder say facet: folder", mman.ErrInvalid, l.Content)
	default:
		return nil
	}
}

// check looks at the file behind a listing: a WASM algorithm that cannot run
// would only disappoint.
func (l Listing) check() (err error) {
	if l.Content == "" {
		return nil
	}
	info, err := os.Stat(l.Content)
	if err != nil {
		return fmt.Errorf("%w: resource.content: %w", mman.ErrNotFound, err)
	}
	if err := l.suits(info); err != nil {
		return err
	}
	if l.Manifest.Facet != resources.FacetWasm {
		return nil
	}
	f, err := os.Open(l.Content)
	if err != nil {
		return fmt.Errorf("%w: resource.content: %w", mman.ErrDenied, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, len(wasmHead))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != wasmHead {
		return fmt.Errorf("%w: resource.content: %s does not begin like a WASM module; compile it for WASI preview 1", mman.ErrModule, l.Content)
	}
	return nil
}

// wasmHead is how every WASM module of version 1 begins.
const wasmHead = "\x00asm\x01\x00\x00\x00"

// ParseListing reads a listing; unknown keys are refused.
func ParseListing(b []byte) (Listing, error) {
	if len(b) > listingMaxBytes {
		return Listing{}, fmt.Errorf("%w: at most %d bytes are allowed", mman.ErrTooLarge, listingMaxBytes)
	}
	var f listingFile
	dec := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict())
	if err := dec.Decode(&f); errors.Is(err, io.EOF) {
		return Listing{}, fmt.Errorf("%w: it is empty; write what is lent under resource", mman.ErrInvalid)
	} else if err != nil {
		return Listing{}, fmt.Errorf("%w: %s", mman.ErrInvalid, yaml.FormatError(err, false, false))
	}
	if err := dec.Decode(&f); !errors.Is(err, io.EOF) {
		return Listing{}, fmt.Errorf("%w: a listing is one YAML document, with nothing after it", mman.ErrInvalid)
	}
	l := Listing{
		Manifest: resources.Manifest{
			Version: 1, Kind: f.Resource.Kind, Facet: f.Resource.Facet, Name: f.Resource.Name,
			Summary: f.Resource.Summary, Licence: f.Resource.Licence, Source: f.Resource.Source,
		},
		Content: f.Resource.Content, Endpoint: f.Endpoint, Private: f.Resource.Private, AnyAlgorithm: f.Resource.Any, Sample: f.Resource.Sample, Capacity: f.Capacity, Region: f.Region,
	}
	l.Manifest.Attributes = resources.SortedAttributes(f.Resource.Attributes)
	policyYAML, err := yaml.Marshal(yaml.MapSlice{{Key: "policy", Value: f.Policy}})
	if err != nil {
		return Listing{}, fmt.Errorf("%w: policy: %w", mman.ErrInvalid, err)
	}
	if l.Policy, err = policy.ParseYAML(policyYAML); err != nil {
		return Listing{}, err
	}
	if l.Price, err = f.price(); err != nil {
		return Listing{}, err
	}
	if f.Reads != nil {
		l.Reads = &Reads{}
		if l.Reads.Price, err = mman.ParseAmount(f.Reads.Price); err != nil {
			return Listing{}, fmt.Errorf("reads.price: %w", err)
		}
	}
	if l.Bids, err = f.bidding(); err != nil {
		return Listing{}, err
	}
	if l.Manifest.Parents, err = f.parents(); err != nil {
		return Listing{}, err
	}
	if l.Capacity == 0 {
		l.Capacity = DefaultCapacity
	}
	return l, l.validate()
}

// DefaultCapacity is the number of open leases of an offer that names none.
const DefaultCapacity = 64

func (f listingFile) price() (price.Price, error) {
	p := price.Price{Share: f.Price.ShareBP}
	var err error
	if f.Price.PerLease != "" {
		if p.PerLease, err = mman.ParseAmount(f.Price.PerLease); err != nil {
			return p, fmt.Errorf("price.per_lease: %w", err)
		}
	}
	for i, u := range f.Price.Units {
		amount, err := mman.ParseAmount(u.Price)
		if err != nil {
			return p, fmt.Errorf("price.units[%d]: %w", i, err)
		}
		p.Units = append(p.Units, price.UnitPrice{Unit: u.Unit, Per: u.Per, UMan: amount})
	}
	return p, nil
}

func (f listingFile) bidding() (*Bidding, error) {
	if f.Bids == nil {
		return nil, nil //nolint:nilnil // the node does not bid with it
	}
	b := Bidding{DiscountBP: f.Bids.DiscountBP}
	for _, one := range []struct {
		name, text string
		to         *mman.Amount
	}{{"floor", f.Bids.Floor, &b.Floor}, {"max_bond", f.Bids.MaxBond, &b.MaxBond}} {
		if one.text == "" {
			continue
		}
		amount, err := mman.ParseAmount(one.text)
		if err != nil {
			return nil, fmt.Errorf("bids.%s: %w", one.name, err)
		}
		*one.to = amount
	}
	return &b, nil
}

// parents reads the resources that this one derives from.
func (f listingFile) parents() ([]resources.Parent, error) {
	var out []resources.Parent
	for i, y := range f.Resource.Parents {
		p := resources.Parent{Share: y.ShareBP}
		var err error
		if p.Resource, err = mman.ParseCID(y.Resource); err != nil {
			return nil, fmt.Errorf("resource.parents[%d].resource: %w", i, err)
		}
		if y.Owner != "" {
			if p.Owner, err = mman.ParseAddress(y.Owner); err != nil {
				return nil, fmt.Errorf("resource.parents[%d].owner: %w", i, err)
			}
		}
		out = append(out, p)
	}
	return out, resources.ValidParents(out)
}

func (l Listing) validate() error {
	if !resources.ValidFacet(l.Manifest.Kind, l.Manifest.Facet) {
		return fmt.Errorf("%w: resource.kind %.32q with facet %.32q; there are algorithm/wasm, algorithm/js, algorithm/python, algorithm/container, compute/wasm, compute/container, dataset/file, dataset/checkpoint, endpoint/http and environment/wasm", mman.ErrUnsupported, l.Manifest.Kind, l.Manifest.Facet)
	}
	if l.Manifest.Kind.Serves() && l.Content != "" {
		return fmt.Errorf("%w: resource.content: %s has none", mman.ErrInvalid, l.Manifest.Kind)
	}
	if l.Sample != nil && (l.Manifest.Kind != resources.KindDataset || *l.Sample > resources.TableMaxSample) {
		return fmt.Errorf("%w: resource.sample: %d rows: a dataset shows at most %d", mman.ErrInvalid, *l.Sample, resources.TableMaxSample)
	}
	if err := l.validEndpoint(); err != nil {
		return err
	}
	if err := l.validReads(); err != nil {
		return err
	}
	if !l.Manifest.Kind.Serves() && l.Content == "" {
		return fmt.Errorf("%w: resource.content: name the file behind the %s", mman.ErrInvalid, l.Manifest.Kind)
	}
	if err := l.Policy.Validate(); err != nil {
		return err
	}
	if err := l.chosen(); err != nil {
		return err
	}
	if l.Bids != nil {
		if err := l.Bids.validate(l.Manifest.Kind); err != nil {
			return err
		}
	}
	return l.Price.Validate(l.Manifest.Kind, l.Manifest.Facet)
}

// sealed reports whether it is a dataset that is computed on where it lies.
func (l Listing) sealed() bool { return l.Private && l.Manifest.Kind == resources.KindDataset }

// capped returns the listing with a bound of what a run over a private dataset may
// print, by default what any run may: a request could ask for more.
func (l Listing) capped() Listing {
	if l.sealed() && !l.AnyAlgorithm && l.Policy.Limits.OutputBytes == 0 {
		l.Policy.Limits.OutputBytes = resources.DefaultLimits().OutputBytes
	}
	return l
}

// chosen refuses a private dataset whose policy lets everything be computed on it, which
// is to hand it out: cat is an algorithm.
func (l Listing) chosen() error {
	switch {
	case !l.sealed() && l.AnyAlgorithm:
		return fmt.Errorf("%w: resource.any_algorithm: only a private dataset is computed on where it lies", mman.ErrInvalid)
	case !l.sealed() || l.AnyAlgorithm:
		return nil
	}
	program, err := l.Policy.Compile()
	if err != nil {
		return err
	}
	if !program.ChoosesAlgorithms() {
		return fmt.Errorf("%w: %q is private and its policy lets any algorithm see it, one that prints it whole too: list those that may under policy.algorithms, describe them by default: deny and rules on algorithm.* that allow, hold output back by policy.release, or say resource.any_algorithm: true", mman.ErrPolicy, l.Manifest.Name)
	}
	return nil
}

func (l Listing) validEndpoint() error {
	switch {
	case (l.Manifest.Kind == resources.KindEndpoint) != (l.Endpoint != nil):
		return fmt.Errorf("%w: endpoint: an endpoint says under this key what it lends, and %s does not", mman.ErrInvalid, l.Manifest.Kind)
	case l.Endpoint == nil:
		return nil
	case l.Private:
		return fmt.Errorf("%w: resource.private: an endpoint has no content to keep", mman.ErrInvalid)
	}
	return l.Endpoint.Filled().Validate()
}
