package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Bounds of obligations.
const (
	MaxObligations = 16
	// obligationBytes bounds an obligation written as name=value.
	obligationBytes = maxObligationName + 1 + 64

	maxObligationName = 32
)

// Obligations with a meaning that the program knows. Any other name is between
// the parties.
const (
	// Attribution: name the source wherever the result appears.
	Attribution = "attribution"
	// NoTraining: do not train a model with it.
	NoTraining = "no_training"
	// DeleteAfter: delete the result after the time in the value.
	DeleteAfter = "delete_after"
)

// Obligation is a named duty, with a value where it needs one. A consumer takes
// it on by signing a request that names it; nobody can enforce it by machine.
type Obligation struct {
	Name  string `cbor:"name"  json:"name"`
	Value string `cbor:"value" json:"value,omitempty"`
}

// String returns name or name=value.
func (o Obligation) String() string {
	if o.Value == "" {
		return o.Name
	}
	return o.Name + "=" + o.Value
}

// ParseObligation reads what String writes and brings the value into its one
// form: delete_after=1440m becomes delete_after=24h.
func ParseObligation(s string) (Obligation, error) {
	name, value, _ := strings.Cut(s, "=")
	o := Obligation{name, value}.canonical()
	return o, o.validate()
}

// canonical brings a duration into its shortest form; everything else is left
// for validate to judge.
func (o Obligation) canonical() Obligation {
	if o.Name == DeleteAfter {
		if d, err := time.ParseDuration(o.Value); err == nil {
			o.Value = durationText(d)
		}
	}
	return o
}

// durationText writes a positive duration of whole seconds in its largest unit
// that is exact, "" for any other.
func durationText(d time.Duration) string {
	switch {
	case d <= 0 || d%time.Second != 0:
		return ""
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return fmt.Sprintf("%ds", d/time.Second)
	}
}

func (o Obligation) validate() error {
	if o.Name == "" || len(o.Name) > maxObligationName || strings.Trim(o.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return fmt.Errorf("%w: obligation %.40q: a name has 1 to %d of a-z, 0-9 and _", mman.ErrInvalid, o.Name, maxObligationName)
	}
	switch o.Name {
	case Attribution, NoTraining:
		if o.Value != "" {
			return fmt.Errorf("%w: obligation %s has no value, %.40q was given", mman.ErrInvalid, o.Name, o.Value)
		}
	case DeleteAfter:
		d, err := time.ParseDuration(o.Value)
		if err != nil || o.Value == "" || durationText(d) != o.Value {
			return fmt.Errorf("%w: obligation %s %.40q: write a duration in whole seconds, minutes or hours, for example 24h", mman.ErrInvalid, o.Name, o.Value)
		}
	}
	if o.Value == "" {
		return nil
	}
	return resources.ValidName("obligation "+o.Name, o.Value)
}

// ValidObligations checks each of them, their number, and that no name stands
// twice.
func ValidObligations(list []Obligation) error {
	if len(list) > MaxObligations {
		return fmt.Errorf("%w: %d obligations, at most %d are allowed", mman.ErrTooLarge, len(list), MaxObligations)
	}
	for i, o := range list {
		if err := o.validate(); err != nil {
			return err
		}
		if slices.ContainsFunc(list[:i], func(earlier Obligation) bool { return earlier.Name == o.Name }) {
			return fmt.Errorf("%w: obligation %s is named twice", mman.ErrInvalid, o.Name)
		}
	}
	return nil
}
