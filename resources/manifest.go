package resources

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
)

// Kind is the family of a Resource.
type Kind string

// The kinds that can be offered.
const (
	KindAlgorithm Kind = "algorithm"
	KindCompute   Kind = "compute"
	KindDataset   Kind = "dataset"
	KindEndpoint  Kind = "endpoint"
	// KindEnvironment is a program that is reset and stepped; see the package
	// environment.
	KindEnvironment Kind = "environment"
)

// Facet is the form that a kind takes: how an algorithm is written, what a
// compute resource can run, how a dataset is laid out.
type Facet string

// The facets of the kinds above.
const (
	FacetWasm   Facet = "wasm"   // algorithm, environment, compute: a WASI preview 1 command
	FacetJS     Facet = "js"     // algorithm: a script for its Interpreter
	FacetPython Facet = "python" // algorithm: a script for its Interpreter
	FacetFile   Facet = "file"   // dataset: one file
	FacetFolder Facet = "folder" // dataset: a folder, as its pack
	// FacetCheckpoint is a dataset: one version of a large file that changes, cut into
	// leaves by its content; its parents are the versions before it.
	FacetCheckpoint Facet = "checkpoint"
	// FacetContainer is an image of a container, as an archive of docker save or of
	// an OCI layout, and the compute that runs it.
	FacetContainer Facet = "container"
	// FacetHTTP is of an endpoint: an API or a site behind its provider's proxy.
	FacetHTTP Facet = "http"
)

// ContainerCPUs is how many processors a container may use.
const ContainerCPUs = 1

// What a container runs in, as the attribute "sandbox" of its compute says: gVisor,
// or what the engine has by itself.
const (
	SandboxGVisor = "gvisor"
	SandboxEngine = "runc"
)

// RunsOn returns the facet of the compute that runs algorithms of a facet.
func RunsOn(algorithm Facet) Facet {
	if algorithm == FacetContainer {
		return FacetContainer
	}
	return FacetWasm
}

// Serves reports whether resources of the kind carry out work themselves, so that
// they see its session and are priced by what it uses.
func (k Kind) Serves() bool { return k == KindCompute || k == KindEndpoint }

// ValidFacet reports whether kind has the facet.
func ValidFacet(kind Kind, facet Facet) bool {
	switch kind {
	case KindAlgorithm:
		return facet == FacetWasm || facet == FacetJS || facet == FacetPython || facet == FacetContainer
	case KindCompute:
		return facet == FacetWasm || facet == FacetContainer
	case KindDataset:
		return facet == FacetFile || facet == FacetFolder || facet == FacetCheckpoint
	case KindEndpoint:
		return facet == FacetHTTP
	case KindEnvironment:
		return facet == FacetWasm
	default:
		return false
	}
}

// The attributes of an endpoint that sells parts of a dataset: the dataset's resource, and
// the root of its content.
const (
	AttributeReads   = "reads"
	AttributeContent = "content"
)

// MaxName bounds the name of a resource, in bytes.
const MaxName = 64

// Bounds of a manifest. They keep every manifest small enough to be fetched
// from a stranger before anything else is known of it.
const (
	ManifestMaxBytes = 16 << 10
	maxText          = 1024
	maxPorts         = 16
	maxShape         = 8
	maxAttributes    = 32
	maxParents       = 16

	// BasisPoints is the whole in the unit of every share: 10⁴.
	BasisPoints = 10_000
)

// Manifest describes a Resource. Its DAG-CBOR bytes are small and public; their
// CID is the Resource's identity.
type Manifest struct {
	// Version of the format, 1.
	Version uint64 `cbor:"v"          json:"version"`
	Kind    Kind   `cbor:"kind"       json:"kind"`
	Facet   Facet  `cbor:"facet"      json:"facet"`
	// Name is a short title, 1 to 64 bytes of printable text.
	Name string `cbor:"name"       json:"name"`
	// Summary, Licence (an SPDX id where there is one) and Source are free
	// text of at most 1024 bytes each.
	Summary string `cbor:"summary"    json:"summary,omitempty"`
	Licence string `cbor:"licence"    json:"licence,omitempty"`
	Source  string `cbor:"source"     json:"source,omitempty"`
	// Content says where the bytes are; compute and endpoints have none.
	Content Content `cbor:"content"    json:"content"`
	Inputs  []Port  `cbor:"inputs"     json:"inputs,omitempty"`
	Outputs []Port  `cbor:"outputs"    json:"outputs,omitempty"`
	// Attributes are sorted by key, without doubles.
	Attributes []Attribute `cbor:"attributes" json:"attributes,omitempty"`
	// Parents are the resources that this one derives from, with the owner's
	// share of each sale in basis points.
	Parents []Parent `cbor:"parents"    json:"parents,omitempty"`
	// Table says what a dataset of rows holds; nil for everything else.
	Table *Table `cbor:"table,omitempty" json:"table,omitempty"`
}

// Content names the bytes of a Resource: either a public CID, or the salted
// name of private content, SHA-256(32-byte salt ‖ binary CID), which nobody can
// check a guess against. Neither for a Resource without bytes.
type Content struct {
	Public  mman.CID  `cbor:"public,omitzero"  json:"public,omitzero"`
	Private mman.Hash `cbor:"private,omitzero" json:"private,omitzero"`
	// Bytes is the size of the file, not of its blocks.
	Bytes uint64 `cbor:"bytes"            json:"bytes"`
}

// SaltedName returns the public name of private content.
func SaltedName(salt mman.Hash, content mman.CID) mman.Hash {
	return mman.Sum256(salt[:], content.Bytes())
}

// Port is a typed input or output.
type Port struct {
	Name string `cbor:"name"      json:"name"`
	// Structure is bytes, text, table or tensor.
	Structure string `cbor:"structure" json:"structure"`
	// DType names the element type, for example u8 or f32; free text.
	DType string `cbor:"dtype"     json:"dtype,omitempty"`
	// Shape lists the sizes of a tensor, 0 for "any".
	Shape []uint64 `cbor:"shape"     json:"shape,omitempty"`
}

// Attribute is one searchable fact of a Resource.
type Attribute struct {
	Key   string `cbor:"key"   json:"key"`
	Value string `cbor:"value" json:"value"`
}

// Parent is a Resource from which another derives.
type Parent struct {
	Resource mman.CID `cbor:"resource" json:"resource"`
	// Share of each sale, in basis points.
	Share uint64 `cbor:"share"    json:"share"`
	// Owner is the account that is paid; without one nobody is.
	Owner mman.Address `cbor:"owner,omitzero" json:"owner,omitzero"`
}

// Encode returns the manifest's bytes and its CID. The manifest must be valid.
func (m Manifest) Encode() ([]byte, mman.CID, error) {
	if err := m.Validate(); err != nil {
		return nil, mman.CID{}, err
	}
	b, err := dagcbor.Marshal(m)
	if err != nil {
		return nil, mman.CID{}, err
	}
	return b, mman.SumCID(mman.CodecDagCBOR, b), nil
}

// DecodeManifest reads and validates a manifest; id is the CID that it was asked
// for under.
func DecodeManifest(id mman.CID, b []byte) (Manifest, error) {
	if got := mman.SumCID(mman.CodecDagCBOR, b); got != id {
		return Manifest{}, fmt.Errorf("manifest %s: %w: the bytes hash to %s", id, mman.ErrContent, got)
	}
	m, err := dagcbor.Unmarshal[Manifest](b, ManifestMaxBytes)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest %s: %w", id, err)
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, fmt.Errorf("manifest %s: %w", id, err)
	}
	return m, nil
}

// Validate reports the first field that breaks a rule, wrapping mman.ErrInvalid
// or mman.ErrUnsupported.
func (m Manifest) Validate() error {
	if m.Version != 1 {
		return fmt.Errorf("%w: version %d of the manifest format, this program reads 1", mman.ErrUnsupported, m.Version)
	}
	if !ValidFacet(m.Kind, m.Facet) {
		return fmt.Errorf("%w: kind %.32q with facet %.32q; there are algorithm/wasm, algorithm/js, algorithm/python, algorithm/container, compute/wasm, compute/container, dataset/file, dataset/checkpoint, endpoint/http and environment/wasm", mman.ErrUnsupported, m.Kind, m.Facet)
	}
	if err := ValidName("name", m.Name); err != nil {
		return err
	}
	for _, t := range []struct{ field, text string }{{"summary", m.Summary}, {"licence", m.Licence}, {"source", m.Source}} {
		if err := validText(t.field, t.text, maxText); err != nil {
			return err
		}
	}
	if err := m.Content.validate(!m.Kind.Serves()); err != nil {
		return err
	}
	if err := validPorts("inputs", m.Inputs); err != nil {
		return err
	}
	if err := validPorts("outputs", m.Outputs); err != nil {
		return err
	}
	if err := ValidAttributes(m.Attributes); err != nil {
		return err
	}
	if m.Table != nil {
		if m.Kind != KindDataset {
			return fmt.Errorf("%w: table: only a dataset has one", mman.ErrInvalid)
		}
		if err := m.Table.validate(); err != nil {
			return err
		}
	}
	return ValidParents(m.Parents)
}

func (c Content) validate(needed bool) error {
	set := 0
	if !c.Public.IsZero() {
		set++
	}
	if !c.Private.IsZero() {
		set++
	}
	switch {
	case !needed && (set > 0 || c.Bytes > 0):
		return fmt.Errorf("%w: content: compute and endpoints have none", mman.ErrInvalid)
	case needed && set != 1:
		return fmt.Errorf("%w: content: name either a public cid or the salted name of private content", mman.ErrInvalid)
	case c.Bytes > 1<<53-1:
		return fmt.Errorf("%w: content: %d bytes", mman.ErrTooLarge, c.Bytes)
	}
	return nil
}

func validPorts(field string, ports []Port) error {
	if len(ports) > maxPorts {
		return fmt.Errorf("%w: %s: %d ports, at most %d are allowed", mman.ErrTooLarge, field, len(ports), maxPorts)
	}
	for i, p := range ports {
		if err := ValidName(fmt.Sprintf("%s[%d].name", field, i), p.Name); err != nil {
			return err
		}
		if !slices.Contains([]string{"bytes", "text", "table", "tensor"}, p.Structure) {
			return fmt.Errorf("%w: %s[%d].structure %.32q: use bytes, text, table or tensor", mman.ErrInvalid, field, i, p.Structure)
		}
		if err := validText(fmt.Sprintf("%s[%d].dtype", field, i), p.DType, MaxName); err != nil {
			return err
		}
		if len(p.Shape) > maxShape {
			return fmt.Errorf("%w: %s[%d].shape has %d dimensions, at most %d are allowed", mman.ErrTooLarge, field, i, len(p.Shape), maxShape)
		}
	}
	return nil
}

// ValidAttributes checks bounds, order and doubles.
func ValidAttributes(attributes []Attribute) error {
	if len(attributes) > maxAttributes {
		return fmt.Errorf("%w: attributes: %d of them, at most %d are allowed", mman.ErrTooLarge, len(attributes), maxAttributes)
	}
	for i, a := range attributes {
		if err := ValidName(fmt.Sprintf("attributes[%d].key", i), a.Key); err != nil {
			return err
		}
		if err := validText(fmt.Sprintf("attributes[%d].value", i), a.Value, 256); err != nil {
			return err
		}
		if i > 0 && attributes[i-1].Key >= a.Key {
			return fmt.Errorf("%w: attributes: %q must come before %q, each once", mman.ErrInvalid, a.Key, attributes[i-1].Key)
		}
	}
	return nil
}

// ValidParents checks that each parent names a resource and that their shares are
// at most half together.
func ValidParents(parents []Parent) error {
	if len(parents) > maxParents {
		return fmt.Errorf("%w: parents: %d of them, at most %d are allowed", mman.ErrTooLarge, len(parents), maxParents)
	}
	total := uint64(0)
	for i, p := range parents {
		if p.Resource.IsZero() {
			return fmt.Errorf("%w: parents[%d]: it names no resource", mman.ErrInvalid, i)
		}
		if p.Share > BasisPoints || total+p.Share > BasisPoints/2 {
			return fmt.Errorf("%w: parents[%d].share: the shares of all parents may not exceed 5000 basis points", mman.ErrInvalid, i)
		}
		total += p.Share
	}
	return nil
}

// ValidName accepts 1 to 64 bytes of printable text without leading or trailing
// space. It serves every short name that a stranger may send.
func ValidName(field, s string) error {
	if s == "" || len(s) > MaxName || strings.TrimSpace(s) != s {
		return fmt.Errorf("%w: %s %.80q: 1 to %d bytes without space around them are needed", mman.ErrInvalid, field, s, MaxName)
	}
	return validText(field, s, MaxName)
}

func validText(field, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%w: %s: %d bytes, at most %d are allowed", mman.ErrTooLarge, field, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s: not UTF-8", mman.ErrInvalid, field)
	}
	for _, r := range s {
		if r != '\n' && !unicode.IsPrint(r) {
			return fmt.Errorf("%w: %s: it holds the unprintable character %U", mman.ErrInvalid, field, r)
		}
	}
	return nil
}

// SortedAttributes returns the pairs of m as a manifest wants them.
func SortedAttributes(m map[string]string) []Attribute {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := make([]Attribute, 0, len(m))
	for _, k := range keys {
		out = append(out, Attribute{k, m[k]})
	}
	return out
}
