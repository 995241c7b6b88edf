package sdk

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/p2p/protocol/bids"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk/keyring"
)

// BidTerms are what an RFP says beside the request.
type BidTerms struct {
	// Bond is what each bidder has at stake, 1 uman to the request's cap.
	Bond mman.Amount
	// Blocks is how long commitments are taken, at least 3.
	Blocks uint64
	// Takeovers is for how many bidders who do not serve there is time. The
	// request's Patience is not used.
	Takeovers uint64
}

// DefaultBidTerms returns a bond of 0.01 MAN, 6 blocks, and time for 4 takeovers.
func DefaultBidTerms() BidTerms {
	return BidTerms{Bond: 10_000, Blocks: 6, Takeovers: 4}
}

const minBidBlocks = 3

// ownRFP is what a consumer keeps of an RFP, so that another process can go on.
type ownRFP struct {
	ChainID string         `cbor:"chain"`
	Request mman.RequestID `cbor:"request"`
	Asked   market.Request `cbor:"asked"`
	Wanted  mman.Hash      `cbor:"wanted"`
	// Sealed are the commitments that were acknowledged, as they came.
	Sealed []market.SignedCommitment `cbor:"sealed,omitempty"`
}

const (
	ownRFPMax = 64 << 10
	rfpFolder = "rfps"
)

func (b *LeaseBook) rfpFile(id mman.RequestID) string {
	return filepath.Join(b.dir, rfpFolder, id.String())
}

func (b *LeaseBook) saveRFP(o ownRFP) error {
	enc, err := dagcbor.Marshal(o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(b.dir, rfpFolder), 0o700); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return replace(b.rfpFile(o.Request), enc)
}

func (b *LeaseBook) loadRFP(id mman.RequestID) (ownRFP, error) {
	enc, err := os.ReadFile(b.rfpFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return ownRFP{}, fmt.Errorf("request %s: %w: it was not put out to bids from this home", id, mman.ErrNotFound)
	}
	if err != nil {
		return ownRFP{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	o, err := dagcbor.Unmarshal[ownRFP](enc, ownRFPMax)
	if err != nil {
		err = fmt.Errorf("%w: %s: %w", mman.ErrCorrupt, b.rfpFile(id), err)
	}
	return o, err
}

// OpenRFP puts what is wanted out to sealed bids and returns the request's id. Its
// cap goes into escrow.
func (c *Client) OpenRFP(ctx context.Context, w Wanted, t BidTerms) (mman.RequestID, error) {
	var none mman.RequestID
	if t.Blocks < minBidBlocks {
		return none, fmt.Errorf("%w: %d blocks for commitments, at least %d are needed to bring them to the ledger", mman.ErrInvalid, t.Blocks, minBidBlocks)
	}
	legs, _, err := c.legs(ctx, w)
	if err != nil {
		return none, err
	}
	submitter, err := c.Submitter()
	if err != nil {
		return none, err
	}
	st, err := c.chain.Status(ctx)
	if err != nil {
		return none, err
	}
	params, err := c.chain.Params(ctx)
	if err != nil {
		return none, err
	}
	own := ownRFP{ChainID: c.chainID}
	if own.Wanted, err = digest(legs, w); err != nil {
		return none, err
	}
	key, err := c.leases.newKey(rand.Reader)
	if err != nil {
		return none, err
	}
	commitBy := st.Height + 1 + t.Blocks
	own.Asked = market.Request{
		Version: 1, Consumer: submitter.Address(), LeaseKey: mman.LeaseKey(key.Public().Bytes()), Legs: legs,
		Cap: w.Cap, Blocks: w.Blocks, Limits: w.Limits, Purpose: w.Purpose, Accepts: w.Accepts, Network: w.Network,
		Deadline: commitBy + params.RFPPostBlocks + params.RFPRevealBlocks + t.Takeovers*params.AcceptBlocks,
	}
	raw, err := own.Asked.Encode()
	if err != nil {
		return none, err
	}
	done, err := submitter.Submit(ctx, tx.MsgOpenRFP{Consumer: submitter.Address(), Request: raw, Bond: t.Bond, CommitBy: commitBy})
	if err != nil {
		return none, fmt.Errorf("put out to bids: %w", err)
	}
	own.Request = mman.NewRequestID(c.chainID, done.Hash, 0)
	return own.Request, c.leases.saveRFP(own)
}

// Declined is a provider that was asked and did not bid.
type Declined struct {
	Provider mman.Address `json:"provider"`
	Why      string       `json:"why"`
}

// Collected is what came of asking for bids.
type Collected struct {
	// Asked is how many providers were asked, Bidders who bid.
	Asked    int            `json:"asked"`
	Bidders  []mman.Address `json:"bidders,omitempty"`
	Declined []Declined     `json:"declined,omitempty"`
}

// collector gathers the commitments of one RFP.
type collector struct {
	c   *Client
	key sig.PrivateKey

	mu  sync.Mutex
	own ownRFP
	out Collected
}

// CollectBids asks up to rfp.MaxBids providers whose offers fit for sealed bids,
// each over a stream of its own, acknowledges what comes, and brings the commitments
// to the ledger. It sees digests, never an amount. Without any bid the request is
// taken back and the error is mman.ErrNoBid.
func (c *Client) CollectBids(ctx context.Context, id mman.RequestID, discover bool) (Collected, error) {
	own, err := c.leases.loadRFP(id)
	if err != nil {
		return Collected{}, err
	}
	submitter, err := c.Submitter()
	if err != nil {
		return Collected{}, err
	}
	key, err := keyring.LoadLeaseKey(filepath.Join(c.leases.dir, keyFolder), keyring.LeaseKeyName(sig.Ed25519Key(own.Asked.LeaseKey)))
	if err != nil {
		return Collected{}, err
	}
	one, err := c.chain.RFP(ctx, id)
	if err != nil {
		return Collected{}, err
	}
	found, err := c.bidders(ctx, own.Asked, discover)
	if err != nil {
		return Collected{}, err
	}
	col := &collector{c: c, key: key, own: own, out: Collected{Asked: len(found)}}
	for _, s := range own.Sealed { // of a process that did not bring them
		col.out.Bidders = append(col.out.Bidders, s.Key.Address())
	}
	if err := col.gather(ctx, one, found); err != nil {
		return col.out, err
	}
	if len(col.own.Sealed) == 0 {
		return col.out, c.nobody(ctx, id, col.out)
	}
	msg := tx.MsgCommitBids{Consumer: submitter.Address(), Request: id}
	for _, s := range col.own.Sealed {
		msg.Bids = append(msg.Bids, tx.CommittedBid{Commitment: s.Bytes, Signature: s.Signature})
	}
	if _, err := submitter.Submit(ctx, msg); err != nil {
		return col.out, fmt.Errorf("bring %d commitments: %w", len(msg.Bids), err)
	}
	return col.out, nil
}

// nobody takes back a request on which nobody bid.
func (c *Client) nobody(ctx context.Context, id mman.RequestID, out Collected) error {
	if err := c.Cancel(ctx, id); err != nil && !errors.Is(err, mman.ErrLeaseState) {
		return err
	}
	var why []string
	for _, d := range out.Declined {
		why = append(why, fmt.Sprintf("%s: %s", d.Provider, d.Why))
	}
	if len(why) == 0 {
		why = []string{"no offer of compute that stands now fits it"}
	}
	return fmt.Errorf("request %s: %w: %s", id, mman.ErrNoBid, strings.Join(why, "; "))
}

// bidders returns the offers to ask for bids: those that fit by themselves, the
// cheapest as listed first, one of each provider.
func (c *Client) bidders(ctx context.Context, r market.Request, discover bool) ([]match.Entry, error) {
	last := len(r.Legs) - 1
	s, err := c.stall(ctx, r.Legs[last:], r.Consumer)
	if err != nil {
		return nil, err
	}
	if discover {
		if s.entries, err = c.discovered(ctx, r.Legs[last]); err != nil {
			return nil, err
		}
	}
	st, err := c.chain.Status(ctx)
	if err != nil {
		return nil, err
	}
	at := policy.Chain{Height: st.Height + 1, Time: c.cfg.Now().Unix()}
	type ranked struct {
		match.Entry
		cost mman.Amount
	}
	var fit []ranked
	for _, e := range s.entries {
		ok, _, err := match.Willing(r, e, s, at)
		if err != nil {
			return nil, err
		}
		cost, err := match.Rank(r.Limits, e.Offer)
		if err != nil {
			return nil, err
		}
		if ok && e.Offer.Provider != r.Consumer {
			fit = append(fit, ranked{e, cost})
		}
	}
	slices.SortFunc(fit, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost), bytes.Compare(a.ID.Bytes(), b.ID.Bytes()))
	})
	var out []match.Entry
	for _, f := range fit {
		if len(out) < rfp.MaxBids && !slices.ContainsFunc(out, func(e match.Entry) bool { return e.Offer.Provider == f.Offer.Provider }) {
			out = append(out, f.Entry)
		}
	}
	return out, nil
}

// discovered finds offers through the DHT.
func (c *Client) discovered(ctx context.Context, leg market.LegRequest) ([]match.Entry, error) {
	found, err := c.Find(ctx, resources.KindCompute, leg.Facet, leg.Resource, true)
	if err != nil {
		return nil, err
	}
	var out []match.Entry
	for _, f := range found {
		program, err := f.Offer.Policy.Compile()
		if err != nil {
			return nil, err
		}
		out = append(out, match.Entry{ID: f.ID, Offer: f.Offer, Program: program})
	}
	return out, nil
}

// collectMargin is how many blocks before the last height for commitments they are
// brought, whoever has not answered yet.
const collectMargin = 2

// gather asks all at once until each answered or time is up.
func (col *collector) gather(ctx context.Context, one rfp.RFP, found []match.Entry) error {
	until, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	var g errgroup.Group
	for _, e := range found {
		g.Go(func() error {
			if err := col.ask(until, e.Offer, one.Request); err != nil {
				col.mu.Lock()
				defer col.mu.Unlock()
				col.out.Declined = append(col.out.Declined, Declined{e.Offer.Provider, err.Error()})
			}
			return nil
		})
	}
	go func() {
		defer close(done)
		_ = g.Wait() // it returns no error
	}()
	for {
		select {
		case <-done:
			if ctx.Err() != nil {
				return fmt.Errorf("request %s: %w: go on with: mman rfp wait %s", one.Request, mman.ErrCanceled, one.Request)
			}
			slices.SortFunc(col.out.Declined, func(a, b Declined) int { return bytes.Compare(a.Provider[:], b.Provider[:]) })
			return nil
		case <-col.c.cfg.After(bidLook):
			st, err := col.c.chain.Status(ctx)
			if err != nil || st.Height+collectMargin >= one.CommitBy {
				stop() // what came counts
			}
		}
	}
}

// bidLook is the pause between two looks at an RFP, or two questions to one
// bidder.
const bidLook = 200 * time.Millisecond

// ask asks one provider, again while it does not know the request yet.
func (col *collector) ask(ctx context.Context, o market.Offer, id mman.RequestID) error {
	if err := col.c.introduce(ctx, o.Peer); err != nil {
		return err
	}
	n, err := col.c.join(ctx)
	if err != nil {
		return err
	}
	for {
		err := bids.Invite(ctx, n.host, o.Peer, id, bids.Default(), func(s bids.Sealed) ([]byte, error) { return col.acknowledge(o, s) })
		if err == nil || ctx.Err() != nil || !errors.Is(err, mman.ErrLeaseUnknown) && !errors.Is(err, mman.ErrBusy) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-col.c.cfg.After(bidLook):
		}
	}
}

// acknowledge checks a commitment, writes it down, and signs that it came in time.
func (col *collector) acknowledge(o market.Offer, s bids.Sealed) ([]byte, error) {
	key, err := sig.ParsePublicKey(string(s.Key))
	if err != nil {
		return nil, err
	}
	signed := market.SignedCommitment{Bytes: s.Commitment, Key: key, Signature: s.Signature}
	made, err := signed.Open(col.c.chainID)
	if err != nil {
		return nil, err
	}
	col.mu.Lock()
	defer col.mu.Unlock()
	if made.Request != col.own.Request || made.Bidder != o.Provider {
		return nil, fmt.Errorf("%w: provider %s answers with the commitment of %s for request %s", mman.ErrProtocol, o.Provider, made.Bidder, made.Request)
	}
	has := slices.IndexFunc(col.own.Sealed, func(other market.SignedCommitment) bool { return other.Key == signed.Key })
	switch {
	case has < 0:
		next := col.own
		next.Sealed = append(slices.Clone(col.own.Sealed), signed)
		if err := col.c.leases.saveRFP(next); err != nil {
			return nil, err
		}
		col.own = next
		col.out.Bidders = append(col.out.Bidders, made.Bidder)
	case !bytes.Equal(col.own.Sealed[has].Bytes, s.Commitment):
		return nil, fmt.Errorf("%w: provider %s has committed to another bid already", mman.ErrExists, o.Provider)
	}
	payload := mman.SignDigest(mman.SignBidAck, col.c.chainID, s.Commitment)
	col.c.log.Debug("bid acknowledged", slog.String("bidder", made.Bidder.String()))
	return col.key.Sign(payload[:]), nil
}

// AwaitAward follows an RFP until a lease is made and accepted, and keeps that
// lease. Progress, which may be nil, is called with every change. When nothing
// comes of it the error is mman.ErrNoBid.
func (c *Client) AwaitAward(ctx context.Context, id mman.RequestID, progress func(rfp.RFP)) (*Lease, error) {
	own, err := c.leases.loadRFP(id)
	if err != nil {
		return nil, err
	}
	begun := c.cfg.Now()
	var before rfp.RFP
	for {
		one, err := c.chain.RFP(ctx, id)
		if err != nil {
			return nil, err
		}
		if progress != nil && (one.State != before.State || one.Root != before.Root || one.Awards != before.Awards || len(one.Bids) != len(before.Bids)) {
			progress(one)
		}
		if before = one; one.State == rfp.Closed {
			return c.awarded(ctx, own, one, begun)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("request %s: %w: the ledger goes on without you; see: mman rfp wait %s", id, mman.ErrCanceled, id)
		case <-c.cfg.After(bidLook):
		}
	}
}

// awarded keeps the lease of an RFP that is over.
func (c *Client) awarded(ctx context.Context, own ownRFP, one rfp.RFP, begun time.Time) (*Lease, error) {
	if !slices.ContainsFunc(one.Bids, func(e rfp.Entry) bool { return e.State == rfp.Served }) {
		return nil, fmt.Errorf("request %s: %w: %s", one.Request, mman.ErrNoBid, strings.Join(one.Explain(), "; "))
	}
	lease, err := c.chain.Lease(ctx, one.Lease)
	if err != nil {
		return nil, err
	}
	kept, err := c.leases.Get(lease.ID)
	if errors.Is(err, mman.ErrNotFound) {
		add := OwnLease{ChainID: c.chainID, Lease: lease, Wanted: own.Wanted}
		if add.InBytes, err = c.leasedBytes(ctx, lease); err != nil {
			return nil, err
		}
		kept, err = c.leases.add(add)
	}
	if err != nil {
		return nil, err
	}
	return &Lease{OwnLease: kept, Request: one.Request, Match: c.cfg.Now().Sub(begun)}, nil
}

// RFP returns a request that was put out to bids, after checking that the
// commitments shown are those that its root names.
func (c *Client) RFP(ctx context.Context, id mman.RequestID) (rfp.RFP, error) {
	one, err := c.chain.RFP(ctx, id)
	if err != nil || one.Root.IsZero() {
		return one, err
	}
	root, err := rfp.Root(one.Bids)
	if err == nil && root != one.Root {
		err = fmt.Errorf("request %s: %w: node %s shows commitments that do not make the root %s", id, mman.ErrContent, c.chain.URL(), one.Root)
	}
	return one, err
}
