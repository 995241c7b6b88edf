package storage

import (
	"fmt"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market/storage"
)

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// offer takes the place of what the provider lent of the tier. Replicas that it has
// keep their terms.
func (m Module) offer(ctx *block.Context, msg tx.MsgStorageOffer) error {
	before, _, err := LookupOffer(ctx.State, msg.Provider, msg.Tier)
	if err != nil {
		return err
	}
	after := storage.Offer{
		Provider: msg.Provider, Peer: msg.Peer, Tier: msg.Tier, Region: msg.Region, Price: msg.Price, Retrieve: msg.Retrieve,
		LatencyMs: msg.Latency, Capacity: msg.Capacity, Used: before.Used,
	}
	if err := after.Validate(); err != nil {
		return err
	}
	account, ok, err := m.nodes.Bound(ctx.State, msg.Peer)
	if err != nil {
		return err
	}
	if !ok || account != msg.Provider {
		return fmt.Errorf("%w: node %s is not bound to %s: bind it first", mman.ErrDenied, msg.Peer, msg.Provider)
	}
	ctx.Emit("mman.storage_offer", "provider", msg.Provider.String(), "tier", string(msg.Tier), "capacity_mib", number(msg.Capacity))
	if after.Capacity == 0 && after.Used == 0 {
		if before.Open() {
			if err := byPrice().Remove(ctx.State, priceKey(before)); err != nil {
				return err
			}
		}
		return offers().Delete(ctx.State, offerKey(msg.Provider, msg.Tier))
	}
	return putOffer(ctx.State, before, after)
}

// store makes a lease; every replica finds a provider now, or none is made.
func (m Module) store(ctx *block.Context, msg tx.MsgStore) error {
	rules := m.rules(ctx)
	id := mman.NewStorageID(ctx.ChainID, ctx.TxHash, ctx.Message)
	l, err := storage.New(id, msg.Wanted(), ctx.Height, rules)
	if err != nil {
		return err
	}
	if err := m.bank.Keep(ctx, l.Consumer, l.Escrow); err != nil {
		return err
	}
	for i := range l.Replicas {
		placed, err := m.place(ctx, &l, i, storage.NoSource, rules)
		if err != nil {
			return err
		}
		if !placed {
			return fmt.Errorf("%w: %d of %d replicas of %d bytes find a provider of tier %s at up to %d uman per MiB and epoch: ask for fewer, pay more, or see /mman/storage-offers",
				mman.ErrCapacity, i, len(l.Replicas), l.Bytes, l.Tier, uint64(l.MaxPrice))
		}
	}
	ctx.Emit("mman.store", "lease", id.String(), "consumer", l.Consumer.String(), "escrow_uman", number(uint64(l.Escrow)))
	if err := byAccount().Add(ctx.State, append(l.Consumer[:len(l.Consumer):len(l.Consumer)], id[:]...)); err != nil {
		return err
	}
	if !l.Content.IsZero() {
		if err := byContent().Add(ctx.State, append(l.Content.Bytes(), id[:]...)); err != nil {
			return err
		}
	}
	return putLease(ctx.State, storage.Lease{}, l)
}

// place gives a replica to the cheapest provider that fits, among the first Looks.
func (m Module) place(ctx *block.Context, l *storage.Lease, replica int, source uint8, rules storage.Rules) (bool, error) {
	prefix := tierKey(l.Tier)
	keys, err := byPrice().Page(ctx.State, prefix, nil, storage.Looks)
	if err != nil {
		return false, err
	}
	providers := l.Providers
	if len(providers) == 0 {
		for _, key := range keys {
			providers = append(providers, mman.Address(key[len(key)-mman.AddressSize:]))
		}
	}
	for _, provider := range providers {
		o, ok, err := LookupOffer(ctx.State, provider, l.Tier)
		if err != nil {
			return false, err
		}
		if !ok || !l.Fits(replica, o) {
			continue
		}
		used := o
		used.Used += storage.MiB(l.Bytes)
		if err := putOffer(ctx.State, o, used); err != nil {
			return false, err
		}
		l.Assign(replica, o, source, ctx.Height, rules)
		ctx.Emit("mman.storage_assign", "lease", l.ID.String(), "replica", strconv.Itoa(replica), "provider", o.Provider.String(), "peer", o.Peer.String(), "source", number(uint64(source)))
		return true, nil
	}
	return false, nil
}

// free gives a provider the room of a replica back; one that failed takes no more.
func free(ctx *block.Context, l storage.Lease, provider mman.Address, failed bool) error {
	before, ok, err := LookupOffer(ctx.State, provider, l.Tier)
	if err != nil {
		return err
	}
	if !ok || before.Used < storage.MiB(l.Bytes) {
		return fmt.Errorf("%w: the storage of %s holds less than lease %s needs", mman.ErrInvariant, provider, l.ID)
	}
	after := before
	after.Used -= storage.MiB(l.Bytes)
	after.Suspended = after.Suspended || failed
	if after.Capacity == 0 && after.Used == 0 {
		return offers().Delete(ctx.State, offerKey(provider, l.Tier))
	}
	return putOffer(ctx.State, before, after)
}

// accept notes who has which replicas. Those that are not assigned to the sender any
// more are skipped, so that one does not hold up the others.
func (m Module) accept(ctx *block.Context, msg tx.MsgAcceptStorage) error {
	rules := m.rules(ctx)
	for _, name := range msg.Replicas {
		before, ok, err := LookupLease(ctx.State, name.Lease)
		if err != nil {
			return err
		}
		if !ok || int(name.Replica) >= len(before.Replicas) {
			skip(ctx, name, fmt.Errorf("%w: lease %s", mman.ErrNotFound, name.Lease))
			continue
		}
		after := clone(before)
		deposit, err := after.Accept(int(name.Replica), msg.Provider, ctx.Height, rules)
		if err != nil {
			skip(ctx, name, err)
			continue
		}
		if err := m.bank.Keep(ctx, msg.Provider, deposit); err != nil {
			return fmt.Errorf("the deposit of replica %d of lease %s: %w", name.Replica, name.Lease, err)
		}
		ctx.Emit("mman.storage_accept", "lease", name.Lease.String(), "replica", number(uint64(name.Replica)), "provider", msg.Provider.String())
		if err := count(ctx.State, func(n uint64) uint64 { return n + 1 }); err != nil {
			return err
		}
		if err := putLease(ctx.State, before, after); err != nil {
			return err
		}
	}
	return nil
}

func skip(ctx *block.Context, name tx.ReplicaName, err error) {
	ctx.Emit("mman.storage_skip", "lease", name.Lease.String(), "replica", number(uint64(name.Replica)), "code", number(uint64(mman.CodeOf(err))), "reason", err.Error())
}

func clone(l storage.Lease) storage.Lease {
	l.Replicas = append([]storage.Replica{}, l.Replicas...)
	return l
}

// prove takes proofs and pays for each that holds; the others are skipped.
func (m Module) prove(ctx *block.Context, msg tx.MsgProveStorage) error {
	rules := m.rules(ctx)
	d, ok, err := LookupDrawn(ctx.State)
	if err != nil {
		return err
	}
	if !ok || d.Epoch != msg.Epoch {
		return fmt.Errorf("%w: epoch %d is not the one that is proved now, %d", mman.ErrUnproved, msg.Epoch, d.Epoch)
	}
	if m.off.window {
		rules.WindowBlocks = rules.EpochBlocks
	}
	for i, raw := range msg.Proofs {
		p, err := storage.DecodeProof(raw)
		if err != nil {
			return fmt.Errorf("proof %d: %w", i, err)
		}
		if err := m.take(ctx, msg.Provider, p, d, rules); err != nil {
			return err
		}
	}
	return nil
}

func (m Module) take(ctx *block.Context, by mman.Address, p storage.Proof, d storage.Drawn, rules storage.Rules) error {
	name := tx.ReplicaName{Lease: p.Lease, Replica: p.Replica}
	before, ok, err := LookupLease(ctx.State, p.Lease)
	if err != nil {
		return err
	}
	if !ok {
		skip(ctx, name, fmt.Errorf("%w: lease %s", mman.ErrNotFound, p.Lease))
		return nil
	}
	after := clone(before)
	if !m.off.verify {
		err = after.Verify(p, d)
	}
	var earned storage.Earned
	if err == nil {
		earned, err = after.Prove(by, p.Replica, d, ctx.Height, rules)
	}
	if err != nil {
		skip(ctx, name, err)
		return nil
	}
	if err := m.bank.Destroy(ctx, earned.Burn); err != nil {
		return err
	}
	if err := m.bank.Give(ctx, earned.Provider, earned.Paid-earned.Burn); err != nil {
		return err
	}
	ctx.Emit("mman.storage_paid", "lease", p.Lease.String(), "replica", number(uint64(p.Replica)), "provider", by.String(), "epoch", number(d.Epoch), "uman", number(uint64(earned.Paid)))
	return putLease(ctx.State, before, after)
}

// own returns a lease of the consumer that sent a message.
func own(r state.Reader, id mman.LeaseID, consumer mman.Address) (storage.Lease, error) {
	l, ok, err := LookupLease(r, id)
	switch {
	case err != nil:
		return l, err
	case !ok:
		return l, fmt.Errorf("%w: storage lease %s", mman.ErrNotFound, id)
	case l.Consumer != consumer:
		return l, fmt.Errorf("storage lease %s: %w", id, mman.ErrNotYourLease)
	}
	return l, nil
}

// bring gives a replica that nobody has to a provider, to whom the consumer brings it.
func (m Module) bring(ctx *block.Context, msg tx.MsgPlaceStorage) error {
	before, err := own(ctx.State, msg.Lease, msg.Consumer)
	if err != nil {
		return err
	}
	if int(msg.Replica) >= len(before.Replicas) {
		return fmt.Errorf("%w: storage lease %s has no replica %d", mman.ErrNotFound, msg.Lease, msg.Replica)
	}
	rules := m.rules(ctx)
	l := clone(before)
	r := &l.Replicas[msg.Replica]
	if r.State != storage.Unplaced && r.State != storage.Lost {
		return fmt.Errorf("replica %d of lease %s: %w: it is %s", msg.Replica, msg.Lease, mman.ErrLeaseState, r.State)
	}
	r.Root, r.Copy = msg.Root, false
	placed, err := m.place(ctx, &l, int(msg.Replica), storage.NoSource, rules)
	if err != nil {
		return err
	}
	if !placed {
		return fmt.Errorf("%w: no provider fits replica %d of lease %s now: try again later", mman.ErrCapacity, msg.Replica, msg.Lease)
	}
	return putLease(ctx.State, before, l)
}

func (m Module) renew(ctx *block.Context, msg tx.MsgRenewStorage) error {
	before, err := own(ctx.State, msg.Lease, msg.Consumer)
	if err != nil {
		return err
	}
	l := clone(before)
	cost, err := l.Extend(msg.Epochs, ctx.Height, m.rules(ctx))
	if err != nil {
		return err
	}
	if err := m.bank.Keep(ctx, l.Consumer, cost); err != nil {
		return err
	}
	ctx.Emit("mman.storage_renew", "lease", l.ID.String(), "last_epoch", number(l.Last))
	return putLease(ctx.State, before, l)
}

func (m Module) shorten(ctx *block.Context, msg tx.MsgEndStorage) error {
	before, err := own(ctx.State, msg.Lease, msg.Consumer)
	if err != nil {
		return err
	}
	l := clone(before)
	l.Shorten(ctx.Height, m.rules(ctx))
	ctx.Emit("mman.storage_shorten", "lease", l.ID.String(), "last_epoch", number(l.Last))
	return putLease(ctx.State, before, l)
}

// fund sets money aside, or adds to it; a new key takes the place of the one before
// only when nothing is left.
func (m Module) fund(ctx *block.Context, msg tx.MsgFundRetrieval) error {
	r, ok, err := LookupRetrieval(ctx.State, msg.Consumer, msg.Provider)
	if err != nil {
		return err
	}
	switch {
	case msg.Amount == 0:
		return fmt.Errorf("%w: 0 uman for retrievals", mman.ErrInvalid)
	case ok && string(r.Key) != string(msg.Key[:]):
		return fmt.Errorf("%w: money for retrievals from %s is held for another key until height %d", mman.ErrExists, msg.Provider, r.Expires)
	}
	if err := m.bank.Keep(ctx, msg.Consumer, msg.Amount); err != nil {
		return err
	}
	if ok {
		if err := queue().Remove(ctx.State, retrievalDueKey(r)); err != nil {
			return err
		}
	} else {
		r = Retrieval{Consumer: msg.Consumer, Provider: msg.Provider, Key: msg.Key[:]}
	}
	if r.Held, err = r.Held.Add(msg.Amount); err != nil {
		return err
	}
	r.Expires = ctx.Height + ctx.Params.StorageEpochBlocks*retrievalEpochs
	ctx.Emit("mman.retrieval_fund", "consumer", msg.Consumer.String(), "provider", msg.Provider.String(), "held_uman", number(uint64(r.Held)))
	return putRetrieval(ctx.State, r)
}

// retrievalEpochs is how long money stays aside after it was added to.
const retrievalEpochs = 4

func putRetrieval(w state.Writer, r Retrieval) error {
	if err := queue().Add(w, retrievalDueKey(r)); err != nil {
		return err
	}
	return retrievals().Set(w, pairKey(r.Consumer, r.Provider), r)
}

func (m Module) redeem(ctx *block.Context, msg tx.MsgRedeemRetrieval) error {
	r, ok, err := LookupRetrieval(ctx.State, msg.Consumer, msg.Provider)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: %s holds nothing for retrievals from %s", mman.ErrNotFound, msg.Consumer, msg.Provider)
	}
	digest := mman.SignDigest(mman.SignRetrieval, ctx.ChainID, msg.Payload())
	if len(r.Key) != sig.Ed25519Size || !sig.VerifyEd25519([sig.Ed25519Size]byte(r.Key), digest[:], msg.Signature) {
		return fmt.Errorf("%w: the promise of %d uman to %s is not by the key of %s", mman.ErrBadSignature, uint64(msg.Amount), msg.Provider, msg.Consumer)
	}
	if msg.Amount <= r.Redeemed {
		return fmt.Errorf("%w: %d uman are redeemed already", mman.ErrExists, uint64(r.Redeemed))
	}
	pay := min(msg.Amount-r.Redeemed, r.Held)
	burn, err := pay.MulDivCeil(ctx.Params.BurnPPM, 1_000_000)
	if err != nil {
		return err
	}
	if err := m.bank.Destroy(ctx, burn); err != nil {
		return err
	}
	if err := m.bank.Give(ctx, msg.Provider, pay-burn); err != nil {
		return err
	}
	r.Held, r.Redeemed = r.Held-pay, r.Redeemed+pay
	ctx.Emit("mman.retrieval_paid", "consumer", msg.Consumer.String(), "provider", msg.Provider.String(), "uman", number(uint64(pay)))
	return retrievals().Set(ctx.State, pairKey(r.Consumer, r.Provider), r)
}
