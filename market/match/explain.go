package match

import (
	"fmt"
	"strings"

	mman "github.com/limboid/massive-man"
)

// Explain says in plain sentences why a decision came out as it did, and what
// would have to change.
func (d Decision) Explain() string {
	switch d.Outcome {
	case Matched:
		return fmt.Sprintf("it was matched at height %d; %d candidates were looked at", d.Height, d.Scanned)
	case Expired:
		return "its deadline passed before anything fitted" + d.because()
	case Canceled:
		return "its consumer took it back" + d.because()
	case Queued:
		return "nothing fits yet" + d.because()
	default:
		return "its state is not known to this program"
	}
}

func (d Decision) because() string {
	if len(d.Rejections) == 0 {
		return ""
	}
	parts := make([]string, len(d.Rejections))
	for i, r := range d.Rejections {
		parts[i] = r.Explain()
	}
	return ": " + strings.Join(parts, "; ")
}

// Explain says in a sentence why one candidate was turned down.
func (r Rejection) Explain() string {
	what := fmt.Sprintf("leg %d", r.Leg)
	if !r.Offer.IsZero() {
		what = fmt.Sprintf("leg %d, offer %s", r.Leg, r.Offer)
	}
	switch r.Code {
	case mman.ErrPolicy.Code:
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
	case "limits.concurrent":
		return " (too many leases are open on it, try again later)"
	default:
		return ""
	}
}
