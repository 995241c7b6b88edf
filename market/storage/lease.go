package storage

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/bits"

	mman "github.com/limboid/massive-man"
)

// Bounds of leases and offers.
const (
	// MaxReplicas bounds the replicas of a lease.
	MaxReplicas = 8
	// MaxProviders bounds the providers that a lease may name.
	MaxProviders = 16
	// MaxRegion bounds a region's name in bytes.
	MaxRegion = 32
	// MaxLatencyMs bounds the latency that an offer names: an hour.
	MaxLatencyMs = 3_600_000
	// MaxCapacity bounds an offer's capacity in MiB: 1 EiB.
	MaxCapacity = 1 << 40
	// MaxPrice bounds a price in uman per MiB.
	MaxPrice = 1 << 40
	// Looks is how many offers are looked at for one replica.
	Looks = 64

	mib     = 1 << 20
	million = 1_000_000
)

// Tier is how soon a holder serves.
type Tier string

// The tiers.
const (
	// Fast is served at once, many at a time.
	Fast Tier = "fast"
	// Slow is served one replica after another.
	Slow Tier = "slow"
)

// Valid reports whether the tier is one.
func (t Tier) Valid() bool { return t == Fast || t == Slow }

// Rules are the parameters in force.
type Rules struct {
	// EpochBlocks is the length of an epoch, WindowBlocks how long after its
	// challenge proofs are taken, AcceptBlocks how long a provider has to get and
	// accept a replica.
	EpochBlocks, WindowBlocks, AcceptBlocks uint64
	// DepositEpochs is a holder's deposit, in epochs of its pay.
	DepositEpochs uint64
	// BurnPPM is the part of each payment that is burned, in millionths.
	BurnPPM uint64
	// MaxEpochs bounds a lease.
	MaxEpochs uint64
}

// Epoch returns the epoch of a height, Start the first height of an epoch.
func (r Rules) Epoch(height uint64) uint64 { return height / r.EpochBlocks }

// Start returns the first height of an epoch.
func (r Rules) Start(epoch uint64) uint64 { return epoch * r.EpochBlocks }

// ProofsInBlock is how many proofs come with a block when there are many: some 220 KB of
// replicas of a GiB, a fifth of a block.
const ProofsInBlock = 128

// Turn returns the height from which on a provider proves an epoch while so many
// replicas are held by all. It is the challenge's as long as their proofs fit into a
// block of ProofsInBlock; else providers begin one after another, drawn by the
// challenge, over as many blocks as that takes and at most half of the window: proofs
// that all came at once would bid up each other's fees.
func (r Rules) Turn(d Drawn, provider mman.Address, held uint64) uint64 {
	blocks := min(held/ProofsInBlock, r.WindowBlocks/2)
	sum := mman.Sum256([]byte(turnDomain), []byte{0}, d.Value[:], provider[:])
	hi, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:8]), blocks+1)
	return d.Height + hi
}

const turnDomain = "mman/storage-turn/1"

// Pay returns what one replica of so many bytes costs at a price, in uman per MiB,
// rounded up; mman.ErrOverflow.
func Pay(bytes uint64, price mman.Amount) (mman.Amount, error) {
	return price.MulDivCeil(bytes, mib)
}

// Offer is what a provider has to lend of one tier.
type Offer struct {
	Provider mman.Address `cbor:"provider" json:"provider"`
	// Peer is the node that keeps and serves.
	Peer   mman.PeerID `cbor:"peer"   json:"peer"`
	Tier   Tier        `cbor:"tier"   json:"tier"`
	Region string      `cbor:"region" json:"region"`
	// Price is for each MiB and epoch, Retrieve for each MiB that somebody else than
	// the consumer fetches.
	Price    mman.Amount `cbor:"price"    json:"price_uman"`
	Retrieve mman.Amount `cbor:"retrieve" json:"retrieve_uman"`
	// LatencyMs is how long the first byte takes, as the provider claims.
	LatencyMs uint64 `cbor:"latency_ms" json:"latency_ms"`
	// Capacity and Used are in MiB, each replica rounded up.
	Capacity uint64 `cbor:"capacity" json:"capacity_mib"`
	Used     uint64 `cbor:"used"     json:"used_mib"`
	// Suspended: it let a replica go unproved or unaccepted and takes no new ones
	// until it is posted again.
	Suspended bool `cbor:"suspended,omitempty" json:"suspended"`
}

// Validate reports the first field out of its range, as mman.ErrInvalid.
func (o Offer) Validate() error {
	switch {
	case o.Provider.IsZero() || o.Peer == (mman.PeerID{}):
		return fmt.Errorf("%w: storage offer: it names no provider or no node", mman.ErrInvalid)
	case !o.Tier.Valid():
		return fmt.Errorf("%w: storage offer: tier %.16q: use fast or slow", mman.ErrInvalid, o.Tier)
	case len(o.Region) > MaxRegion || !printable(o.Region):
		return fmt.Errorf("%w: storage offer: region %.40q: at most %d printable ASCII characters", mman.ErrInvalid, o.Region, MaxRegion)
	case o.Price > MaxPrice || o.Retrieve > MaxPrice:
		return fmt.Errorf("%w: storage offer: prices %d and %d uman per MiB: at most 2^40", mman.ErrInvalid, uint64(o.Price), uint64(o.Retrieve))
	case o.LatencyMs > MaxLatencyMs:
		return fmt.Errorf("%w: storage offer: a latency of %d ms, at most %d", mman.ErrInvalid, o.LatencyMs, uint64(MaxLatencyMs))
	case o.Capacity > MaxCapacity:
		return fmt.Errorf("%w: storage offer: %d MiB, at most 2^40", mman.ErrInvalid, o.Capacity)
	}
	return nil
}

func printable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// Open reports whether the offer can take any replica.
func (o Offer) Open() bool { return !o.Suspended && o.Used < o.Capacity }

// MiB returns the capacity that a replica of so many bytes takes.
func MiB(bytes uint64) uint64 { return bytes/mib + (bytes%mib+mib-1)/mib }

// ReplicaState is how a replica stands.
type ReplicaState string

// The states of a replica.
const (
	// Assigned: a provider is to get it and accept it.
	Assigned ReplicaState = "assigned"
	// Held: a provider accepted it and proves it in every epoch.
	Held ReplicaState = "held"
	// Lost: nobody has it and no provider fits; the ledger tries again each epoch.
	Lost ReplicaState = "lost"
	// Unplaced: the consumer must bring it.
	Unplaced ReplicaState = "unplaced"
)

// NoSource is the Source of a replica that its consumer brings.
const NoSource = MaxReplicas

// Replica is one of a lease's.
type Replica struct {
	State    ReplicaState `cbor:"state"             json:"state"`
	Root     mman.Hash    `cbor:"root"              json:"root"`
	Provider mman.Address `cbor:"provider,omitzero" json:"provider,omitzero"`
	Peer     mman.PeerID  `cbor:"peer,omitzero"     json:"peer,omitzero"`
	Region   string       `cbor:"region,omitempty"  json:"region,omitempty"`
	// Price is that of the offer, in uman per MiB and epoch.
	Price mman.Amount `cbor:"price" json:"price_uman"`
	// Retrieve is that of the offer.
	Retrieve mman.Amount `cbor:"retrieve" json:"retrieve_uman"`
	// Deposit is locked while it is held.
	Deposit mman.Amount `cbor:"deposit" json:"deposit_uman"`
	// Source is the replica whose bytes the provider fetches, NoSource when the
	// consumer brings them.
	Source uint8 `cbor:"source" json:"source"`
	// Copy: its bytes are those of another replica, since a repair.
	Copy bool `cbor:"copy,omitempty" json:"copy"`
	// Due is the next epoch to prove.
	Due uint64 `cbor:"due" json:"due"`
	// Wait is the height at which the ledger looks at it next, 0 for never.
	Wait uint64 `cbor:"wait" json:"wait"`
	// Proved counts the epochs that were proved and paid, by whomever.
	Proved uint64 `cbor:"proved" json:"proved"`
	// Missed counts the epochs that ended unproved.
	Missed uint64 `cbor:"missed" json:"missed"`
}

// Lease is the record of a storage lease.
type Lease struct {
	ID       mman.LeaseID `cbor:"id"       json:"id"`
	Consumer mman.Address `cbor:"consumer" json:"consumer"`
	// Key is the lease key: it signs uploads and retrievals.
	Key []byte `cbor:"key" json:"key"`
	// Content is the CID of a public file, zero for a private one.
	Content mman.CID `cbor:"content,omitzero" json:"content,omitzero"`
	// Bytes is the length of each replica.
	Bytes uint64 `cbor:"bytes" json:"bytes"`
	Tier  Tier   `cbor:"tier"  json:"tier"`
	// MaxPrice is the most that a MiB and epoch may cost.
	MaxPrice mman.Amount `cbor:"max_price" json:"max_price_uman"`
	// Spread: no two replicas in one region.
	Spread bool `cbor:"spread" json:"spread"`
	// Providers, if there are any, are the only ones that may hold it.
	Providers []mman.Address `cbor:"providers,omitempty" json:"providers,omitempty"`
	// Opened is a height, Last the last epoch.
	Opened uint64 `cbor:"opened" json:"opened"`
	Last   uint64 `cbor:"last"   json:"last"`
	// Step is the height of the lease's own next step: the notice, then the end.
	Step     uint64      `cbor:"step"     json:"step"`
	Noticed  bool        `cbor:"noticed"  json:"noticed"`
	Escrow   mman.Amount `cbor:"escrow"   json:"escrow_uman"`
	Paid     mman.Amount `cbor:"paid"     json:"paid_uman"`
	Replicas []Replica   `cbor:"replicas" json:"replicas"`
}

// Wanted is what a consumer asks for.
type Wanted struct {
	Consumer  mman.Address
	Key       []byte
	Content   mman.CID
	Bytes     uint64
	Tier      Tier
	MaxPrice  mman.Amount
	Spread    bool
	Providers []mman.Address
	Epochs    uint64
	Roots     []mman.Hash
}

// New returns the lease for what is wanted, with no replica placed yet, and Escrow
// what must be held for it: every epoch of every replica at the highest price.
func New(id mman.LeaseID, w Wanted, height uint64, rules Rules) (Lease, error) {
	l := Lease{
		ID: id, Consumer: w.Consumer, Key: w.Key, Content: w.Content, Bytes: w.Bytes, Tier: w.Tier, MaxPrice: w.MaxPrice,
		Spread: w.Spread, Providers: w.Providers, Opened: height, Last: rules.Epoch(height) + w.Epochs,
	}
	switch {
	case w.Bytes == 0 || w.Bytes > MaxBytes:
		return l, fmt.Errorf("%w: replicas of %d bytes: 1 to 2^50", mman.ErrInvalid, w.Bytes)
	case !w.Tier.Valid():
		return l, fmt.Errorf("%w: tier %.16q: use fast or slow", mman.ErrInvalid, w.Tier)
	case w.MaxPrice > MaxPrice:
		return l, fmt.Errorf("%w: a price of %d uman per MiB: at most 2^40", mman.ErrInvalid, uint64(w.MaxPrice))
	case len(w.Roots) == 0 || len(w.Roots) > MaxReplicas:
		return l, fmt.Errorf("%w: %d replicas: 1 to %d", mman.ErrInvalid, len(w.Roots), MaxReplicas)
	case len(w.Providers) > MaxProviders:
		return l, fmt.Errorf("%w: %d providers are named, at most %d", mman.ErrInvalid, len(w.Providers), MaxProviders)
	case w.Epochs == 0 || w.Epochs > rules.MaxEpochs:
		return l, fmt.Errorf("%w: %d epochs: 1 to %d; renew later", mman.ErrInvalid, w.Epochs, rules.MaxEpochs)
	case len(w.Key) != ed25519.PublicKeySize:
		return l, fmt.Errorf("%w: a lease key of %d bytes", mman.ErrInvalid, len(w.Key))
	}
	for i, root := range w.Roots {
		for _, other := range w.Roots[:i] {
			if other == root && w.Content.IsZero() {
				return l, fmt.Errorf("%w: replica %d is equal to another: encrypt each under its own key", mman.ErrInvalid, i)
			}
		}
		l.Replicas = append(l.Replicas, Replica{State: Unplaced, Root: root, Source: NoSource})
	}
	l.Step = rules.Start(l.Last)
	var err error
	l.Escrow, err = l.Cost(w.Epochs)
	return l, err
}

// Cost returns what so many epochs of all replicas cost at most.
func (l *Lease) Cost(epochs uint64) (mman.Amount, error) {
	one, err := Pay(l.Bytes, l.MaxPrice)
	if err != nil {
		return 0, err
	}
	sum, err := one.MulDivCeil(epochs, 1)
	if err != nil {
		return 0, err
	}
	return sum.MulDivCeil(uint64(len(l.Replicas)), 1)
}

// Fits reports whether an offer may take a replica of the lease now: it is of its
// tier, has the room and the price, and neither its account, nor its node, nor,
// with Spread, its region has another.
func (l *Lease) Fits(replica int, o Offer) bool {
	if !o.Open() || o.Tier != l.Tier || o.Price > l.MaxPrice || o.Used+MiB(l.Bytes) > o.Capacity {
		return false
	}
	named := len(l.Providers) == 0
	for _, p := range l.Providers {
		named = named || p == o.Provider
	}
	if !named {
		return false
	}
	for i, r := range l.Replicas {
		if i == replica || (r.State != Assigned && r.State != Held) {
			continue
		}
		if r.Provider == o.Provider || r.Peer == o.Peer || (l.Spread && r.Region == o.Region) {
			return false
		}
	}
	return true
}

// Source returns a replica that is held, from which another one can be copied: the next
// one after that from which it was to be copied before, whose holder may have refused.
func (l *Lease) Source(replica int) (uint8, bool) {
	last := int(l.Replicas[replica].Source)
	for i := range l.Replicas {
		if next := (last + 1 + i) % len(l.Replicas); l.Replicas[next].State == Held {
			return uint8(next), true //nolint:gosec // of at most MaxReplicas
		}
	}
	return NoSource, false
}

// Assign gives a replica to an offer that fits. source is NoSource when the consumer
// brings it.
func (l *Lease) Assign(replica int, o Offer, source uint8, height uint64, rules Rules) {
	r := &l.Replicas[replica]
	r.State, r.Provider, r.Peer, r.Region, r.Price, r.Retrieve, r.Source = Assigned, o.Provider, o.Peer, o.Region, o.Price, o.Retrieve, source
	r.Deposit, r.Due, r.Wait = 0, 0, height+rules.AcceptBlocks
	if source != NoSource {
		r.Root, r.Copy = l.Replicas[source].Root, true
	}
}

// Accept notes that the provider has the replica. It is due from the next epoch on,
// whose challenge nobody knows yet. The deposit is what it must lock.
func (l *Lease) Accept(replica int, by mman.Address, height uint64, rules Rules) (deposit mman.Amount, err error) {
	r := &l.Replicas[replica]
	if r.State != Assigned || r.Provider != by {
		return 0, fmt.Errorf("replica %d of lease %s: %w: it is %s", replica, l.ID, mman.ErrLeaseState, r.State)
	}
	pay, err := Pay(l.Bytes, r.Price)
	if err != nil {
		return 0, err
	}
	if deposit, err = pay.MulDivCeil(rules.DepositEpochs, 1); err != nil {
		return 0, err
	}
	r.State, r.Deposit, r.Due = Held, deposit, rules.Epoch(height)+1
	l.await(r, rules)
	return deposit, nil
}

// await sets when the ledger looks at a held replica: when its proof is too late.
func (l *Lease) await(r *Replica, rules Rules) {
	if r.Wait = 0; r.Due <= l.Last {
		r.Wait = rules.Start(r.Due) + challengeDelay + rules.WindowBlocks + 1
	}
}

// challengeDelay is how many heights after its epoch's beginning a challenge comes
// at the earliest.
const challengeDelay = 2

// Drawn is the challenge of an epoch and the height at which it came.
type Drawn struct {
	Epoch  uint64    `cbor:"epoch"  json:"epoch"`
	Height uint64    `cbor:"height" json:"height"`
	Value  mman.Hash `cbor:"value"  json:"challenge"`
}

// Late reports whether the window of the challenge is over at the height.
func (d Drawn) Late(height uint64, rules Rules) bool { return height > d.Height+rules.WindowBlocks }

// Earned is what a proof pays.
type Earned struct {
	Provider   mman.Address
	Paid, Burn mman.Amount // out of the escrow; the provider gets Paid − Burn
}

// Verify checks a proof against what the lease commits to; mman.ErrProof.
func (l *Lease) Verify(p Proof, d Drawn) error {
	if int(p.Replica) >= len(l.Replicas) {
		return fmt.Errorf("%w: lease %s has no replica %d", mman.ErrProof, l.ID, p.Replica)
	}
	return p.Verify(l.Replicas[p.Replica].Root, l.Bytes, d.Value)
}

// Prove pays the epoch for a proof by an account that came at a height and was
// verified. mman.ErrUnproved when it is not due, or too late, or not the account's.
func (l *Lease) Prove(by mman.Address, replica uint8, d Drawn, height uint64, rules Rules) (Earned, error) {
	if int(replica) >= len(l.Replicas) {
		return Earned{}, fmt.Errorf("%w: lease %s has no replica %d", mman.ErrUnproved, l.ID, replica)
	}
	r := &l.Replicas[replica]
	switch {
	case r.State != Held || r.Provider != by:
		return Earned{}, fmt.Errorf("%w: replica %d of lease %s is not held by %s", mman.ErrUnproved, replica, l.ID, by)
	case r.Due != d.Epoch || r.Due > l.Last:
		return Earned{}, fmt.Errorf("%w: replica %d of lease %s is due in epoch %d, this is %d", mman.ErrUnproved, replica, l.ID, r.Due, d.Epoch)
	case d.Late(height, rules):
		return Earned{}, fmt.Errorf("%w: the window of epoch %d ended at height %d", mman.ErrUnproved, d.Epoch, d.Height+rules.WindowBlocks)
	}
	pay, err := Pay(l.Bytes, r.Price)
	if err != nil {
		return Earned{}, err
	}
	burn, err := pay.MulDivCeil(rules.BurnPPM, million)
	if err != nil {
		return Earned{}, err
	}
	if l.Escrow, err = l.Escrow.Sub(pay); err != nil {
		return Earned{}, fmt.Errorf("%w: lease %s cannot pay for epoch %d", mman.ErrInvariant, l.ID, d.Epoch)
	}
	l.Paid += pay // at most what was held
	r.Due, r.Proved = r.Due+1, r.Proved+1
	l.await(r, rules)
	return Earned{by, pay, burn}, nil
}

// Verdict is what becomes of a replica at whose time the ledger looks.
type Verdict struct {
	// Freed is the provider that has it no more, zero when it still has.
	Freed mman.Address
	// Burn is the deposit that is lost.
	Burn mman.Amount
	// Place: another provider is to be found.
	Place bool
}

// Look says what becomes of a replica whose Wait has come. Whoever proved in time
// has a later one.
func (l *Lease) Look(replica int, d Drawn, height uint64, rules Rules) Verdict {
	r := &l.Replicas[replica]
	switch r.State {
	case Held:
		switch {
		case d.Epoch != r.Due: // there was no challenge: nobody is to blame
			r.Due++
			l.await(r, rules)
			return Verdict{}
		case !d.Late(height, rules): // it came late
			r.Wait = d.Height + rules.WindowBlocks + 1
			return Verdict{}
		}
		v := Verdict{Freed: r.Provider, Burn: r.Deposit, Place: true}
		l.lose(r)
		r.Missed++
		return v
	case Assigned:
		v := Verdict{Freed: r.Provider, Place: r.Source != NoSource}
		l.lose(r)
		if !v.Place {
			r.State, r.Wait = Unplaced, 0
		}
		return v
	case Lost:
		return Verdict{Place: true}
	case Unplaced:
	}
	r.Wait = 0
	return Verdict{}
}

func (l *Lease) lose(r *Replica) {
	r.State, r.Provider, r.Peer, r.Region, r.Deposit, r.Due, r.Wait = Lost, mman.Address{}, mman.PeerID{}, "", 0, 0, 0
}

// Postpone leaves a lost replica for the next epoch, or for its consumer when no
// other replica is held.
func (l *Lease) Postpone(replica int, height uint64, rules Rules) {
	r := &l.Replicas[replica]
	if _, ok := l.Source(replica); !ok {
		r.State, r.Wait, r.Source = Unplaced, 0, NoSource
		return
	}
	r.State, r.Wait = Lost, rules.Start(rules.Epoch(height)+1)
}

// Extend adds epochs. cost is what must be held for them.
func (l *Lease) Extend(epochs, height uint64, rules Rules) (cost mman.Amount, err error) {
	if epochs == 0 || epochs > rules.MaxEpochs || l.Last+epochs > rules.Epoch(height)+rules.MaxEpochs {
		return 0, fmt.Errorf("%w: %d more epochs: a lease ends within %d epochs", mman.ErrInvalid, epochs, rules.MaxEpochs)
	}
	if cost, err = l.Cost(epochs); err != nil {
		return 0, err
	}
	if l.Escrow, err = l.Escrow.Add(cost); err != nil {
		return 0, err
	}
	l.Last += epochs
	l.Noticed, l.Step = false, rules.Start(l.Last)
	for i := range l.Replicas {
		if r := &l.Replicas[i]; r.State == Held && r.Wait == 0 {
			l.await(r, rules)
		}
	}
	return cost, nil
}

// Shorten lets the lease end with the epoch that runs: holders are paid for it if
// they prove it.
func (l *Lease) Shorten(height uint64, rules Rules) {
	if now := rules.Epoch(height); now < l.Last {
		l.Last, l.Noticed, l.Step = now, true, rules.Start(now+1)
	}
	for i := range l.Replicas {
		if r := &l.Replicas[i]; r.State == Held && r.Due > l.Last {
			r.Wait = 0
		}
	}
}

// Notice notes that the last epoch began; the next step is the end.
func (l *Lease) Notice(rules Rules) {
	l.Noticed, l.Step = true, rules.Start(l.Last+1)
}
