package provider

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/node/worker"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/gate"
)

// The forms of an access.
const (
	AccessRun      = "run"      // an algorithm over it, or it as the algorithm
	AccessTransfer = "transfer" // its blocks, to the node that runs it
)

const (
	// accessKept is how many accesses that were allowed are listed one by one, and how
	// many that were refused: strangers can bring about the latter only. Older ones are
	// folded.
	accessKept    = 1 << 16
	refusalsKept  = 1 << 12
	accessMax     = 4 << 10
	accessMaxText = 512
	// AccessMaxList bounds one answer of Accesses.
	AccessMaxList = 1000
)

// Access is an entry of the owner's log: who came to private content, for what, and
// what left. It is for the owner alone.
type Access struct {
	Form string `cbor:"form" json:"form"`
	// Time is the node's clock in seconds since 1970, Height its ledger's.
	Time   int64  `cbor:"time"   json:"time"`
	Height uint64 `cbor:"height" json:"height"`
	// Consumer is the account of the lease; Peer the node that asked, of a transfer.
	Consumer mman.Address `cbor:"consumer" json:"consumer"`
	Peer     mman.PeerID  `cbor:"peer,omitzero" json:"peer,omitzero"`
	Lease    mman.LeaseID `cbor:"lease" json:"lease"`
	Lane     uint64       `cbor:"lane" json:"lane"`
	Run      uint64       `cbor:"run" json:"run"`
	// Resource is what was accessed, Algorithm the leased algorithm's CID, of its
	// manifest or, when the consumer brought it, of itself.
	Resource  mman.CID `cbor:"resource" json:"resource"`
	Name      string   `cbor:"name" json:"name"`
	Algorithm mman.CID `cbor:"algorithm,omitzero" json:"algorithm,omitzero"`
	// BytesIn were read, BytesOut left the node.
	BytesIn  uint64 `cbor:"bytes_in" json:"bytes_in"`
	BytesOut uint64 `cbor:"bytes_out" json:"bytes_out"`
	// Decision is allow or deny; Reason says why it was denied, or what went wrong.
	Decision policy.Effect `cbor:"decision" json:"decision"`
	Reason   string        `cbor:"reason,omitempty" json:"reason,omitempty"`
	// Gates are what output passed, Verdict what came of it; "" where output leaves as
	// it comes.
	Gates   []mman.CID   `cbor:"gates,omitempty" json:"gates,omitempty"`
	Verdict gate.Verdict `cbor:"verdict,omitempty" json:"verdict,omitempty"`
	// Code, ExitCode and Fuel are how the run really ended and what it used.
	Code     mman.Code `cbor:"code,omitempty" json:"code,omitempty"`
	ExitCode uint32    `cbor:"exit_code,omitempty" json:"exit_code,omitempty"`
	Fuel     uint64    `cbor:"fuel,omitempty" json:"fuel,omitempty"`
	// Bits is what the run may have told, BitsUsed what all runs of the lease may have
	// told with it, of BitsMost.
	Bits     uint64 `cbor:"bits,omitempty" json:"bits,omitempty"`
	BitsUsed uint64 `cbor:"bits_used,omitempty" json:"bits_used,omitempty"`
	BitsMost uint64 `cbor:"bits_most,omitempty" json:"bits_most,omitempty"`
	// Over is set when the access has ended; one that is not was cut off with the node.
	Over bool `cbor:"over" json:"over"`
	// Folded, if set, says that this is the first of several accesses, and what they
	// came to together.
	Folded *Folded `cbor:"folded,omitempty" json:"folded,omitempty"`
}

// accesses is the log, on disk.
type accesses struct {
	kv *store.KV

	mu   sync.Mutex
	next map[policy.Effect]uint64
	kept map[policy.Effect]uint64 // how many are listed one by one
}

func openAccesses(kv *store.KV) (*accesses, error) {
	l := &accesses{kv: kv, next: map[policy.Effect]uint64{}, kept: map[policy.Effect]uint64{policy.Allow: accessKept, policy.Deny: refusalsKept}}
	for _, e := range []policy.Effect{policy.Allow, policy.Deny} {
		it, err := kv.Iterate(accessKey(e, 0), accessKey(e, 1<<63), true)
		if err != nil {
			return nil, err
		}
		if it.Valid() {
			key := it.Key()
			l.next[e] = binary.BigEndian.Uint64(key[len(key)-8:]) + 1
		}
		err = it.Err()
		it.Close()
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

func accessKey(e policy.Effect, n uint64) []byte {
	prefix := prefixAccess
	if e == policy.Deny {
		prefix = prefixRefusal
	}
	return binary.BigEndian.AppendUint64([]byte{prefix}, n)
}

// add brings an entry to disk, and folds the oldest of its kind when there are too
// many.
func (l *accesses) add(a Access) (n uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = l.next[a.Decision]
	batch := l.kv.NewBatch()
	if err := setAccess(batch, accessKey(a.Decision, n), a); err != nil {
		return 0, err
	}
	if old := n - l.kept[a.Decision]; old < n {
		if err := l.fold(batch, accessKey(a.Decision, old), old); err != nil {
			return 0, err
		}
	}
	if err := batch.Write(); err != nil {
		return 0, fmt.Errorf("log of accesses: %w", err)
	}
	l.next[a.Decision] = n + 1
	return n, nil
}

// change writes entry n again, which was before, in the list or where it was folded.
func (l *accesses) change(before, a Access, n uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := l.kv.NewBatch()
	var err error
	if n+l.kept[a.Decision] < l.next[a.Decision] {
		err = l.changeFolded(batch, before, a, n)
	} else {
		err = setAccess(batch, accessKey(a.Decision, n), a)
	}
	if err != nil {
		return err
	}
	if err := batch.Write(); err != nil {
		return fmt.Errorf("log of accesses: %w", err)
	}
	return nil
}

func setAccess(batch *store.Batch, key []byte, a Access) error {
	a.Reason = a.Reason[:min(len(a.Reason), accessMaxText)]
	b, err := dagcbor.Marshal(a)
	if err != nil {
		return err
	}
	return batch.Set(key, b)
}

// AccessFilter says which entries are listed; zero fields let all through.
type AccessFilter struct {
	Lease    mman.LeaseID
	Resource mman.CID
	// Limit is 1 to AccessMaxList.
	Limit int
	// Folded lists those alone that stand for several accesses each.
	Folded bool
}

// takes reports whether an entry is listed.
func (f AccessFilter) takes(a Access) bool {
	return (f.Lease == (mman.LeaseID{}) || a.Lease == f.Lease) && (f.Resource.IsZero() || a.Resource == f.Resource)
}

// Accesses lists the log, the newest first.
func (p *Provider) Accesses(f AccessFilter) ([]Access, error) {
	if f.Limit < 1 || f.Limit > AccessMaxList {
		return nil, fmt.Errorf("%w: a limit of %d: 1 to %d", mman.ErrInvalid, f.Limit, AccessMaxList)
	}
	out, err := p.folded(f)
	if err != nil {
		return nil, err
	}
	if !f.Folded {
		for _, e := range []policy.Effect{policy.Allow, policy.Deny} {
			listed, err := p.listed(e, f)
			if err != nil {
				return nil, err
			}
			out = append(out, listed...)
		}
	}
	return append([]Access{}, newest(out, f.Limit)...), nil
}

// listed returns the newest entries that stand for one access each.
func (p *Provider) listed(e policy.Effect, f AccessFilter) (out []Access, err error) {
	it, err := p.records.Iterate(accessKey(e, 0), accessKey(e, 1<<63), true)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ; it.Valid() && len(out) < f.Limit; it.Next() {
		a, err := dagcbor.Unmarshal[Access](it.Value(), accessMax)
		if err != nil {
			return nil, fmt.Errorf("%w: access under key %x: %w", mman.ErrCorrupt, it.Key(), err)
		}
		if f.takes(a) {
			out = append(out, a)
		}
	}
	return out, it.Err()
}

// privateLegs are the legs of a lease that are private content of this node.
func (p *Provider) privateLegs(lease market.Lease) (out []holding) {
	for _, leg := range lease.Legs {
		if leg.Supplied || leg.Peer != p.peer {
			continue
		}
		if h, ok := p.holdings.get(leg.Resource); ok && h.Private {
			out = append(out, h)
		}
	}
	return out
}

func (p *Provider) newAccess(form string, lease market.Lease, h holding) Access {
	a := Access{
		Form: form, Height: p.ledger.Height(), Consumer: lease.Consumer, Lease: lease.ID,
		Resource: h.Resource, Name: h.Name, Algorithm: lease.Algorithm().Resource, Decision: policy.Allow,
	}
	if p.cfg.Now != nil {
		a.Time = p.cfg.Now().Unix()
	}
	return a
}

// noted are the entries of one access.
type noted struct {
	p   *Provider
	all []Access
	at  []uint64
}

// note brings an access to the private legs of a lease to disk.
func (p *Provider) note(form string, lease market.Lease, legs []holding, fill func(*Access)) (*noted, error) {
	n := &noted{p: p}
	for _, h := range legs {
		a := p.newAccess(form, lease, h)
		fill(&a)
		at, err := p.accesses.add(a)
		if err != nil {
			return nil, err
		}
		n.all, n.at = append(n.all, a), append(n.at, at)
	}
	return n, nil
}

// end says how it ended.
func (n *noted) end(fill func(*Access)) error {
	for i := range n.all {
		before := n.all[i]
		n.all[i].Over = true
		fill(&n.all[i])
		if err := n.p.accesses.change(before, n.all[i], n.at[i]); err != nil {
			return err
		}
	}
	return nil
}

// begun notes a run over private content before it begins.
func (v *visit) begun(number uint64, o resources.Outlet) (*noted, error) {
	return v.p.note(AccessRun, v.lease, v.p.privateLegs(v.lease), func(a *Access) {
		a.Lane, a.Run, a.BitsMost = v.lane, number, o.Bits
		for _, g := range o.Gates {
			a.Gates = append(a.Gates, g.Module)
		}
	})
}

// refused notes an access that was turned down, if the lease is about private content
// of this node. It does the same whatever was asked for.
func (p *Provider) refused(ctx context.Context, form string, lease market.Lease, peer mman.PeerID, why error) {
	_, err := p.note(form, lease, p.privateLegs(lease), func(a *Access) {
		a.Peer, a.Decision, a.Reason, a.Over = peer, policy.Deny, why.Error(), true
	})
	if err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "a refused access is not in the log", slog.String("lease", lease.ID.String()), slog.Any("error", err))
	}
}

// watched grants a transfer with an entry in the log, which is there before the first
// block leaves.
func (p *Provider) watchedGrant(ctx context.Context, lease market.Lease, h holding, remote mman.PeerID, g blocks.Grant) (blocks.Grant, error) {
	n, err := p.note(AccessTransfer, lease, []holding{h}, func(a *Access) { a.Peer = remote })
	if err != nil {
		return blocks.Grant{}, err
	}
	why := "" // it was cut off
	if still := g.Still; still != nil {
		g.Still = func() error {
			err := still()
			if err != nil {
				why = err.Error()
			}
			return err
		}
	}
	g.Over = func(sent uint64) {
		err := n.end(func(a *Access) { a.BytesIn, a.BytesOut, a.Reason = sent, sent, why })
		if err != nil {
			p.log.LogAttrs(ctx, slog.LevelWarn, "the end of a transfer is not in the log", slog.String("lease", lease.ID.String()), slog.Any("error", err))
		}
	}
	return g, nil
}

// over says how a run ended whose output left as it came: sent bytes of it.
func (n *noted) over(done worker.Done, sent uint64, err error) error {
	return n.end(func(a *Access) {
		a.BytesIn, a.BytesOut, a.Code, a.ExitCode, a.Fuel = done.Usage.InBytes, sent, done.Code, done.ExitCode, done.Usage.Fuel
		if err != nil {
			a.Code, a.Reason = mman.CodeOf(err), err.Error()
		}
	})
}
