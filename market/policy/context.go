package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// The YAML form of a Context: the situation in which somebody tries a policy.
type (
	yamlContext struct {
		Phase      Phase            `yaml:"phase"`
		Consumer   string           `yaml:"consumer"`
		Reputation natural          `yaml:"reputation"`
		Request    *yamlRequest     `yaml:"request"`
		Algorithm  *yamlLeg         `yaml:"algorithm"`
		Compute    *yamlLeg         `yaml:"compute"`
		Data       *[]yamlLeg       `yaml:"data"`
		Storage    *[]yamlLeg       `yaml:"storage"`
		Chain      *yamlChain       `yaml:"chain"`
		Usage      *yamlUsage       `yaml:"usage"`
		Run        *yamlRun         `yaml:"run"`
		Match      *map[string]bool `yaml:"match"`
	}
	yamlRequest struct {
		Purpose string           `yaml:"purpose"`
		Cap     string           `yaml:"cap"`
		Blocks  natural          `yaml:"blocks"`
		Wall    string           `yaml:"wall"`
		Memory  string           `yaml:"memory"`
		Input   string           `yaml:"input"`
		Output  string           `yaml:"output"`
		Accepts []yamlObligation `yaml:"accepts"`
		Network bool             `yaml:"network"`
	}
	yamlLeg struct {
		Resource   string            `yaml:"resource"`
		Facet      string            `yaml:"facet"`
		Provider   string            `yaml:"provider"`
		Peer       string            `yaml:"peer"`
		Region     string            `yaml:"region"`
		Supplied   bool              `yaml:"supplied"`
		Sealed     bool              `yaml:"sealed"`
		Attributes map[string]string `yaml:"attributes"`
	}
	yamlChain struct {
		Height natural `yaml:"height"`
		Time   string  `yaml:"time"`
	}
	yamlUsage struct {
		Open      natural `yaml:"open"`
		Leases1d  natural `yaml:"leases_1d"`
		Leases7d  natural `yaml:"leases_7d"`
		Leases30d natural `yaml:"leases_30d"`
	}
	yamlRun struct {
		Calls       natural `yaml:"calls"`
		EgressBytes natural `yaml:"egress_bytes"`
		InputBytes  natural `yaml:"input_bytes"`
		OutputBytes natural `yaml:"output_bytes"`
		WallMs      natural `yaml:"wall_ms"`
	}
)

// Situation is a Context as a person writes it.
type Situation struct {
	yaml yamlContext
}

// ParseSituation reads a situation in YAML. What it leaves out is not known.
// Under match stand, for the run phase, the ids of the rules that held (true) or
// were left unknown (false) when the lease was matched. The same forms of YAML
// are refused as by ParseYAML, and errors are alike.
func ParseSituation(b []byte) (s Situation, err error) {
	defer func() {
		if r := recover(); r != nil {
			s, err = Situation{}, fmt.Errorf("%w: situation: the text cannot be read as YAML", mman.ErrInvalid)
		}
	}()
	if len(b) > YAMLMaxBytes {
		return s, fmt.Errorf("%w: situation of %d bytes, at most %d are allowed", mman.ErrTooLarge, len(b), YAMLMaxBytes)
	}
	if err := plain(b); err != nil {
		return s, err
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&s.yaml); err != nil && !errors.Is(err, io.EOF) {
		return Situation{}, badYAML(err)
	}
	_, err = s.Context(Policy{})
	return s, err
}

// Context returns the situation for a policy, whose rules Match names.
func (s Situation) Context(p Policy) (Context, error) {
	y := s.yaml
	c := Context{Phase: y.Phase, Reputation: uint64(y.Reputation)}
	if c.Phase == "" {
		c.Phase = PhaseMatch
	}
	if c.Phase != PhaseMatch && c.Phase != PhaseRun {
		return c, fmt.Errorf("%w: phase %.16q: use match or run", mman.ErrInvalid, c.Phase)
	}
	var err error
	if y.Consumer != "" {
		if c.Consumer, err = mman.ParseAddress(y.Consumer); err != nil {
			return c, fmt.Errorf("consumer: %w", err)
		}
	}
	if err := s.legs(&c); err != nil {
		return c, err
	}
	if y.Request != nil {
		if c.Request, err = y.Request.request(); err != nil {
			return c, fmt.Errorf("request: %w", err)
		}
	}
	if y.Chain != nil {
		c.Chain = &Chain{Height: uint64(y.Chain.Height)}
		if c.Chain.Time, err = parseInstant(y.Chain.Time); err != nil {
			return c, fmt.Errorf("chain.time: %w", err)
		}
	}
	if u := y.Usage; u != nil {
		c.Open, c.Usage = uint64(u.Open), &Usage{uint64(u.Leases1d), uint64(u.Leases7d), uint64(u.Leases30d)}
	}
	if r := y.Run; r != nil {
		c.Run = &Run{uint64(r.Calls), uint64(r.EgressBytes), uint64(r.InputBytes), uint64(r.OutputBytes), uint64(r.WallMs)}
	}
	if y.Match != nil {
		c.Match = record(*y.Match, p)
	}
	return c, nil
}

// record turns the ids of rules into bits.
func record(decided map[string]bool, p Policy) *Record {
	r := &Record{}
	for i, rule := range p.Rules {
		switch held, ok := decided[rule.ID]; {
		case !ok:
		case held:
			r.Held |= 1 << i
		default:
			r.Left |= 1 << i
		}
	}
	return r
}

func (s Situation) legs(c *Context) error {
	var err error
	if c.Code, err = s.yaml.Algorithm.leg(c.Consumer); err != nil {
		return fmt.Errorf("algorithm: %w", err)
	}
	if c.Code != nil {
		c.Algorithm = c.Code.Resource
	}
	if c.Compute, err = s.yaml.Compute.leg(c.Consumer); err != nil {
		return fmt.Errorf("compute: %w", err)
	}
	for _, many := range []struct {
		name string
		list *[]yamlLeg
		to   **Legs
	}{{"data", s.yaml.Data, &c.Data}, {"storage", s.yaml.Storage, &c.Storage}} {
		if many.list == nil {
			continue
		}
		legs := Legs{}
		for i := range *many.list {
			leg, err := (*many.list)[i].leg(c.Consumer)
			if err != nil {
				return fmt.Errorf("%s[%d]: %w", many.name, i, err)
			}
			legs = append(legs, *leg)
		}
		*many.to = &legs
	}
	return nil
}

func (y *yamlLeg) leg(consumer mman.Address) (*Leg, error) {
	if y == nil {
		return nil, nil //nolint:nilnil // a leg that is not known
	}
	l := &Leg{Facet: resources.Facet(y.Facet), Region: y.Region, Supplied: y.Supplied, Sealed: y.Sealed}
	var err error
	if y.Resource != "" {
		if l.Resource, err = mman.ParseCID(y.Resource); err != nil {
			return nil, fmt.Errorf("resource: %w", err)
		}
	}
	if l.Provider = consumer; y.Provider != "" {
		if l.Provider, err = mman.ParseAddress(y.Provider); err != nil {
			return nil, fmt.Errorf("provider: %w", err)
		}
	}
	if y.Peer != "" {
		if l.Peer, err = mman.ParsePeerID(y.Peer); err != nil {
			return nil, fmt.Errorf("peer: %w", err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(y.Attributes)) {
		l.Attributes = append(l.Attributes, resources.Attribute{Key: key, Value: y.Attributes[key]})
	}
	return l, resources.ValidAttributes(l.Attributes)
}

func (y *yamlRequest) request() (*Request, error) {
	r := &Request{Purpose: y.Purpose, Network: y.Network, Blocks: uint64(y.Blocks)}
	limits, err := yamlLimits{Wall: y.Wall, Memory: y.Memory, Input: y.Input, Output: y.Output}.limits()
	if err != nil {
		return nil, err
	}
	std := resources.DefaultLimits()
	r.Limits = resources.Limits{
		WallMs: cmp.Or(limits.WallMs, std.WallMs), MemoryBytes: cmp.Or(limits.MemoryBytes, std.MemoryBytes),
		InputBytes: cmp.Or(limits.InputBytes, std.InputBytes), OutputBytes: cmp.Or(limits.OutputBytes, std.OutputBytes),
	}
	if y.Cap != "" {
		if r.Cap, err = mman.ParseAmount(y.Cap); err != nil {
			return nil, fmt.Errorf("cap: %w", err)
		}
	}
	for _, o := range y.Accepts {
		r.Accepts = append(r.Accepts, o.canonical())
	}
	return r, ValidObligations(r.Accepts)
}

// parseInstant reads seconds since 1970, or a date and time in UTC written as
// 2026-01-05T10:00:00Z.
func parseInstant(s string) (int64, error) {
	bad := fmt.Errorf("%w: %.40q: write seconds since 1970, or a time in UTC such as 2026-01-05T10:00:00Z", mman.ErrInvalid, s)
	if s == "" {
		return 0, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	date, clock, ok := strings.Cut(strings.TrimSuffix(s, "Z"), "T")
	if !ok || !strings.HasSuffix(s, "Z") || len(date) != len("2026-01-05") || len(clock) != len("10:00:00") {
		return 0, bad
	}
	var n []int64
	for _, part := range append(strings.Split(date, "-"), strings.Split(clock, ":")...) {
		v, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return 0, bad
		}
		n = append(n, int64(v))
	}
	if len(n) != 6 { //nolint:mnd // year to second
		return 0, bad
	}
	year, month, day := n[0], n[1], n[2]
	if year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || n[3] > 23 || n[4] > 59 || n[5] > 59 {
		return 0, bad
	}
	const perMinute, perHour = 60, 60 * 60
	return daysBefore(year, month, day)*int64(24*time.Hour/time.Second) + n[3]*perHour + n[4]*perMinute + n[5], nil
}

// daysBefore counts the days from 1970 to a date of the Gregorian calendar. The
// year begins in March, so that the leap day is its last.
func daysBefore(year, month, day int64) int64 {
	const perYear, to1970 = 365, 719_468
	if month <= 2 { //nolint:mnd // January and February
		year, month = year-1, month+12
	}
	months := (153*(month-3) + 2) / 5 //nolint:mnd // days before the month: 31, 30, 31, 30, 31 repeat
	return year*perYear + year/4 - year/100 + year/400 + months + day - 1 - to1970
}
