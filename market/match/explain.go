package match

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	mman "github.com/limboid/massive-man"
)

// Explain says in plain sentences why a decision came out as it did, and what
// would have to change.
func (d Decision) Explain() string {
	if d.Outcome == Matched {
		return d.Outline()
	}
	return d.Outline() + d.because()
}

// Outline is Explain without the reasons.
func (d Decision) Outline() string {
	switch d.Outcome {
	case Matched:
		return fmt.Sprintf("it was matched at height %d; %s looked at", d.Height, count(d.Scanned, "offer was", "offers were"))
	case Expired:
		return "its deadline passed before anything fitted"
	case Canceled:
		return "its consumer took it back"
	case Exhausted:
		return fmt.Sprintf("it looked at the %d offers that were paid for and none fits; ask for more with --looks", d.Scanned)
	case Unawarded:
		return "no bid was left that fits and serves"
	case Queued:
		if d.More {
			return fmt.Sprintf("nothing fits among the first %d offers, the next ones are looked at in the next block", d.Scanned)
		}
		return "nothing fits yet"
	default:
		return "its state is not known to this program"
	}
}

func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Reasons groups the rejections that say the same, those that concern most
// offers first.
func (d Decision) Reasons() []Reason {
	var out []Reason
	for _, r := range d.Rejections {
		i := slices.IndexFunc(out, func(o Reason) bool { return o.Leg == r.Leg && o.Code == r.Code && o.Rule == r.Rule })
		if i < 0 {
			i = len(out)
			out = append(out, Reason{Rejection: r})
		}
		out[i].Offers++
	}
	slices.SortStableFunc(out, func(a, b Reason) int { return cmp.Compare(b.Offers, a.Offers) })
	return out
}

// Reason is what one or more offers were turned down for; its Offer is the first
// of them.
type Reason struct {
	Rejection

	Offers uint64 `json:"offers"`
}

func (d Decision) because() string {
	reasons := d.Reasons()
	if len(reasons) == 0 {
		return ""
	}
	parts := make([]string, len(reasons))
	for i, r := range reasons {
		parts[i] = r.Explain()
	}
	return ": " + strings.Join(parts, "; ")
}

// Explain says in a sentence why offers were turned down.
func (r Reason) Explain() string {
	if r.Offers == 1 {
		return r.Rejection.Explain()
	}
	return fmt.Sprintf("%s, and %s likewise", r.Rejection.Explain(), count(r.Offers-1, "other offer", "other offers"))
}

// Explain says in a sentence why one candidate was turned down.
func (r Rejection) Explain() string {
	what := fmt.Sprintf("leg %d", r.Leg)
	if !r.Offer.IsZero() {
		what = fmt.Sprintf("leg %d, offer %s", r.Leg, r.Offer)
	}
	switch r.Code {
	case mman.ErrPolicy.Code:
		if r.Rule == "revoked" {
			return what + " was shared with you and the share was revoked, ask its holder"
		}
		return fmt.Sprintf("%s is denied by the provider's policy, rule %q%s", what, r.Rule, remedy(r.Rule))
	case mman.ErrCapacity.Code:
		return what + " has no free capacity, try again later"
	case mman.ErrPrice.Code:
		return what + " costs more per lease than the cap, raise --max"
	case mman.ErrOfferGone.Code:
		return what + " has expired or was withdrawn, look for another"
	case mman.ErrResourceGone.Code:
		return fmt.Sprintf("%s: nobody offers this %s now", what, r.Rule)
	case mman.ErrTooLarge.Code:
		return what + " was not asked: the policies of the candidates before it took all the steps that a request has, name fewer candidates"
	default:
		if r.Rule == RuleWhere {
			return what + " does not meet your own --where (a --sandbox is one, too)"
		}
		return fmt.Sprintf("%s does not fit in its %s", what, r.Rule)
	}
}

func remedy(rule string) string {
	switch rule {
	case "algorithms":
		return " (use an algorithm that the data's owner has listed)"
	case "obligations":
		return " (accept its obligations with --accept, 'mman offer show' lists them)"
	case "sealed":
		return " (the data never leaves its node: its owner must offer compute there too)"
	case "release":
		return " (what is computed on it is held back: WebAssembly only)"
	case "limits.concurrent":
		return " (too many leases are open on it, try again later)"
	default:
		return ""
	}
}
