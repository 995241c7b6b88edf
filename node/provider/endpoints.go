package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/node/worker"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/endpoint"
	"github.com/limboid/massive-man/resources/endpoint/call"
)

// The attributes that tell consumers what an endpoint speaks.
const (
	attributeAPI    = "api"
	attributeModels = "models"
)

// recognise asks an endpoint's upstream what it is, and says so in the listing.
func (p *Provider) recognise(ctx context.Context, l Listing) (Listing, error) {
	if l.Endpoint == nil {
		return l, nil
	}
	if p.endpoints == nil {
		return l, fmt.Errorf("%w: this node lends no endpoints", mman.ErrUnsupported)
	}
	settings, models, err := p.endpoints.Probe(ctx, *l.Endpoint)
	if err != nil {
		return l, err
	}
	if l.Price.Asks(resources.UnitTokens) && settings.API != call.OpenAI {
		return l, fmt.Errorf("%w: price.units: tokens are counted of APIs of OpenAI, and %s did not answer GET /v1/models as one", mman.ErrUnsupported, settings.Upstream)
	}
	about := make(map[string]string)
	for _, a := range l.Manifest.Attributes {
		about[a.Key] = a.Value
	}
	about[attributeAPI] = settings.API
	if list := strings.Join(models, " "); list != "" && len(list) <= 256 {
		about[attributeModels] = list
	}
	l.Endpoint, l.Manifest.Attributes = &settings, resources.SortedAttributes(about)
	return l, nil
}

// serveEndpoints takes up again what was lent before the node ended.
func (p *Provider) serveEndpoints(ctx context.Context) {
	for _, h := range p.holdings.all() {
		if h.Endpoint == nil || p.endpoints == nil {
			continue
		}
		if err := p.serveEndpoint(h); err != nil {
			p.log.LogAttrs(ctx, slog.LevelWarn, "endpoint not served, add it again", slog.String("name", h.Name), slog.Any("error", err))
		}
	}
}

// isEndpoint reports whether the lease's runs are calls: nothing of them is kept.
func isEndpoint(l market.Lease) bool { return l.Compute().Role == market.RoleEndpoint }

// isEnvironment reports whether the lease's runs are reset and stepped.
func isEnvironment(l market.Lease) bool { return l.Algorithm().Role == market.RoleEnvironment }

// sum names what a call answered, and keeps nothing of it.
func sum(ctx context.Context, r io.Reader) (mman.CID, uint64, error) {
	return content.SumUnixFS(ctx, r)
}

// rates bounds the calls of leases, each by the generic cell rate algorithm (ITU-T
// I.371): a lease's next call is due at a time, and may come so much earlier.
type rates struct {
	mu  sync.Mutex
	due map[mman.LeaseID]time.Time
}

// maxRated is how many leases are remembered; those that are due are forgotten first.
const maxRated = 1 << 16

// take counts a call, or says when the next may come.
func (r *rates) take(id mman.LeaseID, s endpoint.Settings, now time.Time) error {
	if s.PerMinute == 0 {
		return nil
	}
	each := time.Minute / time.Duration(s.PerMinute) //nolint:gosec // bounded
	early := each * time.Duration(s.Burst-1)         //nolint:gosec // bounded, and filled
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.due) >= maxRated {
		for k, due := range r.due {
			if !due.After(now) {
				delete(r.due, k)
			}
		}
	}
	due := r.due[id]
	if due.Before(now) {
		due = now
	}
	if wait := due.Add(-early).Sub(now); wait > 0 {
		return fmt.Errorf("lease %s: %w: %d calls a minute are allowed here, %d at once; the next in %d ms", id, mman.ErrBusy, s.PerMinute, s.Burst, wait.Milliseconds()+1)
	}
	if r.due == nil {
		r.due = make(map[mman.LeaseID]time.Time)
	}
	r.due[id] = due.Add(each)
	return nil
}

// metered holds a lease of an endpoint to its rate.
func (v *visit) metered() error {
	if !isEndpoint(v.lease) || v.p.cfg.Now == nil {
		return nil
	}
	h, ok := v.p.holdings.get(v.lease.Compute().Resource)
	if !ok || h.Endpoint == nil {
		return nil // Prepare says that it is not here
	}
	return v.p.rates.take(v.lease.ID, h.Endpoint.Filled(), v.p.cfg.Now())
}

// stated is what the latest statement says of the run that began at base.
func (v *visit) stated(base resources.Usage) resources.Usage {
	rec := v.account.snapshot(v.lane)
	last := rec.Receipted
	if n := len(rec.Open); n > 0 {
		last = rec.Open[n-1].Usage
	}
	return last.Since(base)
}

// maxReason bounds the sentence that says why a call was not carried out, in bytes.
const maxReason = 512

// declined turns the refusal of a call or a conversation, or its failure, into a result that costs
// nothing beyond what was stated: what was paid ahead goes back, and the session goes
// on. The reason goes to standard error.
func (v *visit) declined(ctx context.Context, done worker.Done, base resources.Usage, why error, released uint64, keep worker.Keep, out session.Output) (worker.Done, error) {
	ctx = context.WithoutCancel(ctx) // its end may be the reason
	v.p.log.LogAttrs(ctx, slog.LevelDebug, "run declined", slog.String("lease", v.lease.ID.String()), slog.Any("error", why))
	if errors.Is(why, mman.ErrPolicy) {
		if err := v.denied(released); err != nil {
			return done, errors.Join(why, err)
		}
	}
	text := why.Error()
	text = strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
	if !isEndpoint(v.lease) {
		text += "\n" // for a person
	}
	if err := out.Stderr([]byte(text)); err != nil {
		return done, errors.Join(why, err)
	}
	done.Code, done.Usage = mman.CodeOf(why), v.stated(base)
	if !done.Output.IsZero() {
		return done, nil
	}
	var err error
	done.Output, done.OutputBytes, err = keep(ctx, strings.NewReader("")) // it did not begin
	return done, err
}

// payable lowers the usage of a call to what the lease can still pay: of what a
// server tells only at its end, the provider bears the rest.
func (b bill) payable(used, stated resources.Usage) (resources.Usage, error) {
	v := b.v
	err := v.account.reserve(v.lane, func(others mman.Amount) (most mman.Amount, err error) {
		left := v.lease.Cap - min(v.lease.Cap, others)
		fits := func() bool {
			usage, err := b.total(used)
			if err != nil {
				return false
			}
			gross, err := v.lease.Gross(v.lane, usage)
			most = gross
			return err == nil && gross <= left
		}
		for _, f := range []struct {
			field *uint64
			least uint64
		}{{&used.Tokens, stated.Tokens}, {&used.OutBytes, stated.OutBytes}, {&used.WallMs, stated.WallMs}, {&used.InBytes, stated.InBytes}, {&used.CallCount, stated.CallCount}} {
			if fits() {
				return most, nil
			}
			low, high := f.least, max(*f.field, f.least) // high does not fit
			for high-low > 1 {
				if *f.field = low + (high-low)/2; fits() {
					low = *f.field
				} else {
					high = *f.field
				}
			}
			*f.field = low
		}
		if !fits() {
			return left, fmt.Errorf("%w: nothing is left of its cap of %s", mman.ErrCapExceeded, v.lease.Cap)
		}
		return most, nil
	})
	return used, err
}
