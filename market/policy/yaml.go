package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Bounds of a policy in YAML.
const (
	// YAMLMaxBytes bounds the text.
	YAMLMaxBytes = 16 << 10
	// maxYAMLNesting bounds how deep flow collections, and sequences within one
	// line, may nest; a policy needs four.
	maxYAMLNesting = 16
)

// The YAML form. Durations and sizes are text with a unit, so that nobody
// wonders what 60 means.
type (
	envelope struct {
		Policy *yamlPolicy `yaml:"policy"`
	}
	yamlPolicy struct {
		Default     Effect           `yaml:"default"`
		Rules       []yamlRule       `yaml:"rules"`
		Limits      yamlLimits       `yaml:"limits"`
		Obligations []yamlObligation `yaml:"obligations"`
		Algorithms  []string         `yaml:"algorithms"`
		Royalty     natural          `yaml:"royalty"`
		Release     *yamlRelease     `yaml:"release"`
	}
	yamlRelease struct {
		Gate      string   `yaml:"gate"`
		Args      []string `yaml:"args"`
		Bits      natural  `yaml:"bits"`
		Output    string   `yaml:"output"`
		Pad       string   `yaml:"pad"`
		FuelSteps natural  `yaml:"fuel_steps"`
		Slot      string   `yaml:"slot"`
	}
	yamlRule struct {
		ID       string   `yaml:"id"`
		Effect   Effect   `yaml:"effect"`
		Phase    Phase    `yaml:"phase"`
		Accounts []string `yaml:"accounts"`
		When     string   `yaml:"when"`
	}
	yamlLimits struct {
		Wall       string  `yaml:"wall"`
		Memory     string  `yaml:"memory"`
		Input      string  `yaml:"input"`
		Output     string  `yaml:"output"`
		Concurrent natural `yaml:"concurrent"`
		Network    string  `yaml:"network"`
	}
	yamlObligation struct{ Obligation }
	natural        uint64
)

// UnmarshalYAML reads decimal digits; the library would cut 1.5 to 1.
func (n *natural) UnmarshalYAML(b []byte) error {
	v, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		return fmt.Errorf("%.40q: a whole number is needed", b)
	}
	*n = natural(v)
	return nil
}

// UnmarshalYAML reads a name, or one name with its value.
func (o *yamlObligation) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&o.Name) == nil {
		return nil
	}
	var pair map[string]string
	if err := unmarshal(&pair); err != nil || len(pair) != 1 {
		return errors.New("an obligation is a name, or one name with a value")
	}
	o.Name = slices.Sorted(maps.Keys(pair))[0]
	o.Value = pair[o.Name]
	return nil
}

// ParseYAML reads a policy as people write it, under the one top key "policy",
// and validates it. Unknown and doubled keys, anchors, aliases, merge keys,
// tags and a second document are refused; an absent default means deny, an
// absent phase means match. Errors wrap mman.ErrInvalid, ErrTooLarge, or
// ErrUnsupported for what this version does not enforce.
func ParseYAML(b []byte) (p Policy, err error) {
	// The text is a person's own file, but it may come from a stranger's
	// mail, and the parser is not ours.
	defer func() {
		if r := recover(); r != nil {
			p, err = Policy{}, fmt.Errorf("%w: policy: the text cannot be read as YAML", mman.ErrInvalid)
		}
	}()
	if len(b) > YAMLMaxBytes {
		return Policy{}, fmt.Errorf("%w: policy of %d bytes, at most %d are allowed", mman.ErrTooLarge, len(b), YAMLMaxBytes)
	}
	if err := plain(b); err != nil {
		return Policy{}, err
	}
	var e envelope
	dec := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict())
	if err := dec.Decode(&e); err != nil && !errors.Is(err, io.EOF) {
		return Policy{}, badYAML(err)
	}
	if e.Policy == nil {
		return Policy{}, fmt.Errorf("%w: policy: the text must have the one top key \"policy\"", mman.ErrInvalid)
	}
	if p, err = e.Policy.policy(); err != nil {
		return Policy{}, err
	}
	return p, p.Validate()
}

// badYAML cuts the library's message, which quotes the text, to its first line.
func badYAML(err error) error {
	line, _, _ := strings.Cut(strings.TrimSpace(yaml.FormatError(err, false, false)), "\n")
	return fmt.Errorf("%w: policy: %.200s", mman.ErrInvalid, line)
}

// plain refuses what makes YAML more than a notation for trees: several
// documents, references within one, tags, and nesting without end.
func plain(b []byte) error {
	if err := shallow(b); err != nil {
		return err
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return badYAML(err)
	}
	if len(file.Docs) != 1 {
		return fmt.Errorf("%w: policy: %d documents, exactly one is allowed", mman.ErrInvalid, len(file.Docs))
	}
	if file.Docs[0].Body == nil {
		return fmt.Errorf("%w: policy: the text is empty", mman.ErrInvalid)
	}
	v := &treeVisitor{}
	ast.Walk(v, file.Docs[0].Body)
	if v.found != "" {
		return fmt.Errorf("%w: policy: %s at line %d is not allowed, write the value out", mman.ErrInvalid, v.found, v.line)
	}
	return nil
}

// shallow bounds nesting before the parser, which recurses, sees it. It counts
// brackets wherever they stand, also within text.
func shallow(b []byte) error {
	depth, dashes := 0, 0
	for i, c := range b {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		case '\n', ',':
			dashes = 0
		case ' ', '\t':
			if i > 0 && (b[i-1] == '-' || b[i-1] == '?' || b[i-1] == ':') {
				dashes++
			}
		default:
		}
		if depth > maxYAMLNesting || dashes > maxYAMLNesting {
			return fmt.Errorf("%w: policy: it nests deeper than %d", mman.ErrTooLarge, maxYAMLNesting)
		}
	}
	return nil
}

// treeVisitor remembers the first node that is not a plain part of a tree.
type treeVisitor struct {
	found string
	line  int
}

// Visit implements ast.Visitor.
func (v *treeVisitor) Visit(n ast.Node) ast.Visitor {
	if v.found != "" {
		return nil
	}
	//exhaustive:ignore
	switch n.Type() {
	case ast.AnchorType:
		v.found = "an anchor"
	case ast.AliasType:
		v.found = "an alias"
	case ast.MergeKeyType:
		v.found = "a merge key"
	case ast.TagType:
		v.found = "a tag"
	case ast.DirectiveType:
		v.found = "a directive"
	default:
		return v
	}
	if tok := n.GetToken(); tok != nil {
		v.line = tok.Position.Line
	}
	return nil
}

func (y yamlPolicy) policy() (Policy, error) {
	p := Policy{Default: y.Default, Royalty: uint64(y.Royalty)}
	if p.Default == "" {
		p.Default = Deny
	}
	for i, r := range y.Rules {
		rule, err := r.rule()
		if err != nil {
			return Policy{}, fmt.Errorf("policy.rules[%d]: %w", i, err)
		}
		p.Rules = append(p.Rules, rule)
	}
	for i, s := range y.Algorithms {
		id, err := mman.ParseCID(s)
		if err != nil {
			return Policy{}, fmt.Errorf("policy.algorithms[%d]: %w", i, err)
		}
		p.Algorithms = append(p.Algorithms, id)
	}
	for _, o := range y.Obligations {
		p.Obligations = append(p.Obligations, o.canonical())
	}
	var err error
	if p.Limits, err = y.Limits.limits(); err == nil && y.Release != nil {
		p.Release, err = y.Release.release()
	}
	return p, err
}

// release fills what is not said with the defaults.
func (y yamlRelease) release() (*resources.Release, error) {
	r := resources.DefaultRelease()
	r.Args = y.Args
	if y.Gate != "" {
		var err error
		if r.Gate, err = mman.ParseCID(y.Gate); err != nil {
			return nil, fmt.Errorf("policy.release.gate: %w", err)
		}
	}
	if y.Bits > 0 {
		r.Bits = uint64(y.Bits)
	}
	if y.FuelSteps > 0 {
		r.FuelSteps = uint64(y.FuelSteps)
	}
	return &r, quantities("policy.release", []quantity{
		{"output", y.Output, &r.OutputBytes, parseBytes},
		{"pad", y.Pad, &r.PadBytes, parseBytes},
		{"slot", y.Slot, &r.SlotMs, parseMillis},
	})
}

// quantity is a number with its unit.
type quantity struct {
	name, text string
	dst        *uint64
	parse      func(string) (uint64, error)
}

// quantities reads those that are said.
func quantities(under string, all []quantity) error {
	for _, q := range all {
		if q.text == "" {
			continue
		}
		n, err := q.parse(q.text)
		if err != nil {
			return fmt.Errorf("%w: %s.%s %.40q: %w", mman.ErrInvalid, under, q.name, q.text, err)
		}
		*q.dst = n
	}
	return nil
}

func (y yamlRule) rule() (Rule, error) {
	r := Rule{ID: y.ID, Effect: y.Effect, Phase: y.Phase, When: y.When}
	if r.Phase == "" {
		r.Phase = PhaseMatch
	}
	for i, s := range y.Accounts {
		a, err := mman.ParseAddress(s)
		if err != nil {
			return Rule{}, fmt.Errorf("accounts[%d]: %w", i, err)
		}
		r.Accounts = append(r.Accounts, a)
	}
	return r, nil
}

func (y yamlLimits) limits() (Limits, error) {
	l := Limits{Concurrent: uint64(y.Concurrent), Network: y.Network}
	return l, quantities("policy.limits", []quantity{
		{"wall", y.Wall, &l.WallMs, parseMillis},
		{"memory", y.Memory, &l.MemoryBytes, parseBytes},
		{"input", y.Input, &l.InputBytes, parseBytes},
		{"output", y.Output, &l.OutputBytes, parseBytes},
	})
}

func parseMillis(s string) (uint64, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d%time.Millisecond != 0 {
		return 0, errors.New("write a duration of whole milliseconds with its unit, for example 60s, 1m30s or 500ms")
	}
	return uint64(d / time.Millisecond), nil
}

func parseBytes(s string) (uint64, error) {
	bad := errors.New("write a whole number of B, KiB, MiB or GiB, for example 256MiB")
	for _, u := range []struct {
		suffix string
		factor uint64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}} {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(digits, " "), 10, 64)
		hi, lo := bits.Mul64(n, u.factor)
		if err != nil || n == 0 || hi != 0 {
			return 0, bad
		}
		return lo, nil
	}
	return 0, bad
}
