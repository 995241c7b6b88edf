package keeper

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"

	mman "github.com/limboid/massive-man"
	vault "github.com/limboid/massive-man/abci/storage"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market/storage"
	"github.com/limboid/massive-man/p2p/protocol/replicas"
)

// replica returns a replica that this account has or is to get, under the state that
// it must have.
func (k *Keeper) replica(a replicas.Ask, state storage.ReplicaState) (storage.Lease, storage.Replica, error) {
	l, err := k.ledger.StorageLease(a.Lease)
	if errors.Is(err, mman.ErrNotFound) {
		return l, storage.Replica{}, fmt.Errorf("%w: %w", mman.ErrLeaseUnknown, err)
	}
	if err != nil {
		return l, storage.Replica{}, err
	}
	if int(a.Replica) >= len(l.Replicas) {
		return l, storage.Replica{}, fmt.Errorf("%w: lease %s has no replica %d", mman.ErrNotFound, a.Lease, a.Replica)
	}
	r := l.Replicas[a.Replica]
	if r.Provider != k.submitter.Address() || r.Peer != k.host.ID() || r.State != state {
		return l, r, fmt.Errorf("replica %d of lease %s: %w: it is %s, and not %s here", a.Replica, a.Lease, mman.ErrLeaseState, r.State, state)
	}
	return l, r, nil
}

// Take implements replicas.Keeper: the lease key may bring what is assigned here.
func (k *Keeper) Take(_ context.Context, a replicas.Ask, _ mman.PeerID) (replicas.Upload, error) {
	l, r, err := k.replica(a, storage.Assigned)
	if err != nil {
		return nil, err
	}
	if !a.Verify(k.cfg.ChainID, ed25519.PublicKey(l.Key)) {
		return nil, fmt.Errorf("lease %s: %w: the lease key did not sign", a.Lease, mman.ErrNotYourLease)
	}
	n := vault.Name{Lease: a.Lease, Replica: a.Replica}
	if _, err := k.files.tree(n, r.Root); err == nil {
		return nil, fmt.Errorf("replica %d of lease %s: %w: it is here", a.Replica, a.Lease, mman.ErrExists)
	}
	if !k.claim(n) {
		return nil, fmt.Errorf("%w: replica %d of lease %s is being brought", mman.ErrBusy, a.Replica, a.Lease)
	}
	p, err := k.part(n, l, r)
	if err != nil {
		k.release(n)
		return nil, err
	}
	return &upload{part: p, k: k}, nil
}

// upload is a part that is claimed.
type upload struct {
	*part

	k      *Keeper
	closed bool
}

// Finish implements replicas.Upload.
func (u *upload) Finish(context.Context) error {
	if err := u.finish(); err != nil {
		return err
	}
	u.k.AtHeight(0) // it can be accepted now
	return nil
}

// Close implements replicas.Upload.
func (u *upload) Close() error {
	if u.closed {
		return nil
	}
	u.closed = true
	u.k.release(u.name)
	return u.part.Close()
}

// Give implements replicas.Keeper: the lease key may fetch what it brought, the node
// to which a lost replica was assigned may copy, and whoever pays may fetch what is
// public. The slow tier serves one after another.
func (k *Keeper) Give(ctx context.Context, a replicas.Ask, remote mman.PeerID) (replicas.Download, error) {
	l, r, err := k.replica(a, storage.Held)
	if err != nil {
		return nil, err
	}
	d := &download{k: k, size: l.Bytes}
	switch payload, perr := a.Payload(); {
	case perr != nil:
		return nil, perr
	case a.Verify(k.cfg.ChainID, ed25519.PublicKey(l.Key)):
	case repairs(l, a.Replica, remote) && verifyNode(k.cfg.ChainID, remote, payload, a.Signature):
	case !l.Content.IsZero():
		if d.consumer, d.price = a.Payer, r.Retrieve; r.Retrieve > 0 && a.Payer.IsZero() {
			return nil, fmt.Errorf("%w: fetching content %s costs %d uman a MiB: name who pays", mman.ErrUnpaid, l.Content, uint64(r.Retrieve))
		}
	default:
		return nil, fmt.Errorf("lease %s: %w: neither its consumer nor a holder asks", a.Lease, mman.ErrNotYourLease)
	}
	if l.Tier == storage.Slow {
		select {
		case k.slow <- struct{}{}:
			d.slow = true
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
		}
	}
	if d.File, err = os.Open(k.files.path(vault.Name{Lease: a.Lease, Replica: a.Replica})); err != nil {
		return nil, errors.Join(diskError(err), d.Close())
	}
	return d, nil
}

// repairs reports whether a node is to copy this replica.
func repairs(l storage.Lease, source uint8, remote mman.PeerID) bool {
	for _, r := range l.Replicas {
		if r.State == storage.Assigned && r.Source == source && r.Peer == remote {
			return true
		}
	}
	return false
}

func verifyNode(chainID string, peer mman.PeerID, payload, signature []byte) bool {
	digest := mman.SignDigest(mman.SignStorage, chainID, payload)
	return sig.VerifyEd25519(peer, digest[:], signature)
}

// download is a replica that is being fetched.
type download struct {
	*os.File

	k        *Keeper
	size     uint64
	slow     bool
	consumer mman.Address
	price    mman.Amount
	base     mman.Amount // promised before this download
	begun    bool
}

// Size implements replicas.Download.
func (d *download) Size() uint64 { return d.size }

// Price implements replicas.Download.
func (d *download) Price() mman.Amount { return d.price }

// Close implements replicas.Download. It is safe twice.
func (d *download) Close() error {
	if d.slow {
		<-d.k.slow
		d.slow = false
	}
	if d.File == nil {
		return nil
	}
	if err := d.File.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return diskError(err)
	}
	return nil
}

// Paid implements replicas.Download: the promise must be signed by the key that the
// consumer named on the ledger, be covered there, and pay for the first n bytes of
// this download on top of what was promised before.
func (d *download) Paid(_ context.Context, p replicas.Promise, n uint64) error {
	me := d.k.submitter.Address()
	aside, err := d.k.ledger.StorageRetrieval(d.consumer, me)
	if err != nil {
		return fmt.Errorf("%w: %w: set money aside first", mman.ErrUnpaid, err)
	}
	cost, err := storage.Pay(n, d.price)
	if err != nil {
		return err
	}
	d.k.mu.Lock()
	defer d.k.mu.Unlock()
	known := d.k.promised[d.consumer]
	if known.Amount < aside.Redeemed {
		known = promise{Promise: replicas.Promise{Amount: aside.Redeemed}, redeemed: aside.Redeemed}
	}
	if !d.begun {
		d.base, d.begun = known.Amount, true
	}
	need, err := d.base.Add(cost)
	if err != nil {
		return err
	}
	if p.Amount < need || p.Amount > aside.Redeemed+aside.Held {
		return fmt.Errorf("%w: %d uman are promised, %d are needed and %d set aside", mman.ErrUnpaid, uint64(p.Amount), uint64(need), uint64(aside.Redeemed+aside.Held))
	}
	msg := tx.MsgRedeemRetrieval{Provider: me, Consumer: d.consumer, Amount: p.Amount}
	digest := mman.SignDigest(mman.SignRetrieval, d.k.cfg.ChainID, msg.Payload())
	if len(aside.Key) != sig.Ed25519Size || !sig.VerifyEd25519([sig.Ed25519Size]byte(aside.Key), digest[:], p.Signature) {
		return fmt.Errorf("%w: the promise is not by the key of %s", mman.ErrBadSignature, d.consumer)
	}
	if p.Amount > known.Amount {
		d.k.promised[d.consumer] = promise{p, known.redeemed}
	}
	return nil
}

// redeem takes what was promised since the last time.
func (k *Keeper) redeem(ctx context.Context) error {
	k.mu.Lock()
	var msgs []tx.Msg
	for consumer, p := range k.promised {
		if p.Amount > p.redeemed && len(msgs) < tx.MaxMessages {
			msgs = append(msgs, tx.MsgRedeemRetrieval{Provider: k.submitter.Address(), Consumer: consumer, Amount: p.Amount, Signature: p.Signature})
		}
	}
	k.mu.Unlock()
	var errs []error
	for _, m := range msgs { // one by one: one that fails does not hold up the others
		if _, err := k.submitter.Submit(ctx, m); err != nil {
			errs = append(errs, fmt.Errorf("redeem a promise: %w", err))
			continue
		}
		one, _ := m.(tx.MsgRedeemRetrieval)
		k.mu.Lock()
		p := k.promised[one.Consumer]
		p.redeemed = max(p.redeemed, one.Amount)
		k.promised[one.Consumer] = p
		k.mu.Unlock()
	}
	return errors.Join(errs...)
}
