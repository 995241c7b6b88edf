package sdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/endpoint/call"
)

// FindReads returns what sells parts of a dataset, the best first; mman.ErrNotFound when
// nobody does.
func (c *Client) FindReads(ctx context.Context, set mman.CID) (Found, error) {
	found, err := c.Find(ctx, resources.KindEndpoint, resources.FacetHTTP, mman.CID{}, false)
	if err != nil {
		return Found{}, err
	}
	for _, f := range found {
		if attribute(f.Offer.Attributes, resources.AttributeReads) == set.String() {
			return f, nil
		}
	}
	return Found{}, fmt.Errorf("%w: nobody sells parts of %s; a public set without a price is read with mman resource read", mman.ErrNotFound, set)
}

func attribute(all []resources.Attribute, key string) string {
	for _, a := range all {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// Bought is a file of which parts are read within a lease, and paid by the byte that
// comes. Each block is a call of the lease with a receipt of its own, and is compared
// with its CID. It is an io.ReaderAt, one read at a time.
type Bought struct {
	ctx   context.Context //nolint:containedctx // it lives as long as what is read
	calls *Calls
	at    *content.At

	mu    sync.Mutex
	moved uint64
	cost  Cost
}

// Cost is what reading parts of a file within a lease took.
type Cost struct {
	// Came is how many bytes came, blocks and the heads of their answers.
	Came uint64
	// Usage is what was billed, of which OutBytes are those that came; Paid is for it.
	Usage resources.Usage
	Paid  mman.Amount
	// Receipts name what paid for each call, in their order.
	Receipts []mman.CID
}

// OpenBought opens the file whose parts the lease's endpoint sells, as its offer says.
// ctx bounds every later read.
func (c *Client) OpenBought(ctx context.Context, lease *Lease, offer Found) (*Bought, error) {
	root, err := mman.ParseCID(attribute(offer.Offer.Attributes, resources.AttributeContent))
	if err != nil {
		return nil, fmt.Errorf("offer %s does not say of what it sells parts: %w", offer.ID, err)
	}
	calls, err := c.Calls(lease, 1)
	if err != nil {
		return nil, err
	}
	b := &Bought{ctx: ctx, calls: calls}
	if b.at, err = content.AtFrom(ctx, root, maxExport, b.block); err != nil {
		bye, stop := context.WithTimeout(context.WithoutCancel(ctx), callBye)
		defer stop()
		return nil, errors.Join(err, calls.Close(bye))
	}
	return b, nil
}

// block makes one call.
func (b *Bought) block(ctx context.Context, c mman.CID, off uint64) ([]byte, error) {
	var head, out, why bytes.Buffer
	ask := call.Request{Method: http.MethodGet, Path: "/" + strconv.FormatUint(off, 10) + "/" + c.String(), Header: []call.Field{}, Sized: true}
	if err := call.WriteHead(&head, ask); err != nil {
		return nil, err
	}
	o, err := b.calls.Do(ctx, Work{Input: &head, Stdout: &out, Stderr: &why})
	if err != nil {
		return nil, err
	}
	if err := b.count(uint64(out.Len()), o); err != nil { //nolint:gosec // a length
		return nil, err
	}
	if o.Result.Code != 0 {
		return nil, mman.RemoteError(o.Result.Code, mman.RetryNever, why.String())
	}
	answer, err := call.ReadResponse(&out)
	switch {
	case err != nil:
		return nil, err
	case o.Result.ExitCode != 0:
		return nil, fmt.Errorf("%w: block %s broke off at the provider; what came is paid", mman.ErrUnreachable, c)
	case answer.Status != http.StatusOK:
		return nil, fmt.Errorf("%w: the provider answers %d for block %s", mman.ErrNotFound, answer.Status, c)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moved += uint64(out.Len()) //nolint:gosec // a length
	return out.Bytes(), nil
}

// count adds up what a call brought and cost.
func (b *Bought) count(came uint64, o Outcome) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cost.Came += came
	if !o.Receipt.IsZero() {
		b.cost.Receipts = append(b.cost.Receipts, o.Receipt)
	}
	if b.cost.Usage, err = b.cost.Usage.Add(o.Usage); err != nil {
		return err
	}
	b.cost.Paid, err = b.cost.Paid.Add(o.Paid)
	return err
}

// Size returns the file's length in bytes.
func (b *Bought) Size() uint64 { return b.at.Size() }

// Moved returns how many bytes of blocks came.
func (b *Bought) Moved() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.moved
}

// Cost returns what was read until now took. Its receipts are not to be changed.
func (b *Bought) Cost() Cost {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cost
}

// ReadAt implements io.ReaderAt.
func (b *Bought) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || uint64(off) >= b.at.Size() {
		return 0, io.EOF
	}
	return b.at.Read(b.ctx, p, uint64(off))
}

// Close ends the session. The lease stays open.
func (b *Bought) Close(ctx context.Context) error { return b.calls.Close(ctx) }
