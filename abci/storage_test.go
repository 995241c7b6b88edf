package abci_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	vault "github.com/limboid/massive-man/abci/storage"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market/storage"
)

// fault is what a holder does from an epoch on.
type fault string

const (
	honest   fault = "honest"   // proves at some height of the window
	silent   fault = "silent"   // is gone
	guesses  fault = "guesses"  // dropped all, and answers with other bytes
	late     fault = "late"     // dropped all, and has the right answer when the window is over
	forgets  fault = "forgets"  // keeps the hashes, and not the bytes
	unkindly fault = "unkindly" // proves with what others hold
	returns  fault = "returns"  // dies, and is back and honest after restAfter epochs
)

// restAfter is how many epochs one that returns is away.
const restAfter = 2

// farmer is a provider of storage and what its disk holds.
type farmer struct {
	abcitest.Provider
	fault fault
	from  uint64 // the epoch from which on the fault shows
	disk  map[vault.Name][]byte
	trees map[vault.Name]storage.Tree
	told  uint64 // the epoch that it proved last, or tried to
	lends bool   // its offer stands again after it was away
}

func (f *farmer) bad(epoch uint64) bool {
	if f.fault == returns && epoch >= f.from+restAfter {
		return false
	}
	return f.fault != honest && epoch >= f.from
}

// back reports whether it was away and is there again.
func (f *farmer) back(epoch uint64) bool { return f.fault == returns && epoch >= f.from+restAfter }

// farm is a chain with holders, and what is true about them.
type farm struct {
	*abcitest.Chain
	t       *testing.T
	rng     *rand.Rand
	cleo    abcitest.Actor
	farmers []*farmer
	rules   storage.Rules
	brought map[vault.Name][]byte // by the consumer
	paid    map[string]int        // by farmer
	lost    map[string]int        // held replicas, by farmer
	owed    map[string]bool       // bad farmers that held a replica which was due while they were
	room    uint64                // that each lends, in MiB
	epochs  int                   // that were paid, over all replicas
	repairs int
	again   int // epochs that were paid to those who came back
}

// newFarm makes a chain whose epochs have so many blocks, all of which but six are in
// the window.
func newFarm(t *testing.T, seed, blocks uint64, holders int, behave func(i int) (fault, uint64)) *farm {
	t.Helper()
	f := &farm{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), cleo: abcitest.NewActor(t, "cleo"),
		brought: map[vault.Name][]byte{}, paid: map[string]int{}, lost: map[string]int{}, owed: map[string]bool{},
	}
	actors := []abcitest.Actor{f.cleo}
	for i := range holders {
		one := &farmer{Provider: abcitest.NewProvider(t, fmt.Sprint("farmer ", i)), disk: map[vault.Name][]byte{}, trees: map[vault.Name]storage.Tree{}}
		one.fault, one.from = behave(i)
		f.farmers, actors = append(f.farmers, one), append(actors, one.Actor)
	}
	doc := abcitest.Genesis(t, 1_000_000*mman.MAN, actors...)
	doc.Params.StorageEpochBlocks, doc.Params.StorageWindowBlocks, doc.Params.StorageAcceptBlocks = blocks, blocks-6, blocks/2-1
	doc.Params.BaseFeeMicro, doc.Params.MaxGasPerBlock = doc.Params.BaseFeeFloorMicro, 10_000_000_000
	f.Chain, f.rules = abcitest.New(t, doc), vault.Rules(doc.Params)
	return f
}

// lend lets every farmer offer room.
func (f *farm) lend(mib uint64) {
	f.t.Helper()
	f.room = mib
	var txs [][]byte
	for i, one := range f.farmers {
		txs = append(txs, f.Sign(one.Actor, []tx.Msg{one.Bind(chainID), f.offer(i)}))
	}
	f.block(txs...)
}

func (f *farm) offer(i int) tx.MsgStorageOffer {
	one := f.farmers[i]
	return tx.MsgStorageOffer{
		Provider: one.Address, Peer: one.Peer, Tier: storage.Fast, Region: fmt.Sprint("region-", i), Price: mman.Amount(1_000_000 + i), Capacity: f.room,
	}
}

// store makes leases and returns their names.
func (f *farm) store(count, replicas int, epochs uint64) []mman.LeaseID {
	f.t.Helper()
	var ids []mman.LeaseID
	for made := 0; made < count; {
		var msgs []tx.Msg
		var data [][][]byte
		for ; made < count && len(msgs) < 16; made++ {
			size := 1 + f.rng.Uint64N(6<<10)
			msg := tx.MsgStore{Consumer: f.cleo.Address, Key: [ed25519.PublicKeySize]byte{1}, Bytes: size, Tier: storage.Fast, MaxPrice: 2_000_000, Epochs: epochs}
			var own [][]byte
			for range replicas {
				b := make([]byte, size)
				for i := range b {
					b[i] = byte(f.rng.Uint32())
				}
				tree, err := storage.Plant(bytes.NewReader(b))
				require.NoError(f.t, err)
				own, msg.Roots = append(own, b), append(msg.Roots, tree.Root)
			}
			msgs, data = append(msgs, msg), append(data, own)
		}
		b := f.step(f.Sign(f.cleo, msgs)) // holders accept those before meanwhile
		require.NotNil(f.t, b.Results[0])
		require.Zero(f.t, b.Results[0].Code, b.Results[0].Log)
		made := stored(f.t, b.Results[0].Events)
		require.Len(f.t, made, len(msgs))
		for n, id := range made {
			for i, b := range data[n] {
				f.brought[vault.Name{Lease: id, Replica: uint8(i)}] = b
			}
		}
		ids = append(ids, made...)
	}
	return ids
}

// stored returns the leases that events tell of.
func stored(t *testing.T, events []types.Event) (ids []mman.LeaseID) {
	t.Helper()
	for _, e := range events {
		if e.Type == "mman.store" {
			var id mman.LeaseID
			require.NoError(t, id.UnmarshalText([]byte(attribute(e, "lease"))))
			ids = append(ids, id)
		}
	}
	return ids
}

func attribute(e types.Event, key string) string {
	for _, a := range e.Attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// block decides a block and holds what it says against what is true.
func (f *farm) block(txs ...[]byte) abcitest.Block {
	f.t.Helper()
	b := f.Block(txs...)
	for i, check := range b.Checks {
		require.Zero(f.t, check.Code, check.Log)
		if b.Results[i] == nil {
			continue // the block was full: whoever sent it tries again
		}
		for _, e := range b.Results[i].Events {
			if e.Type == "mman.storage_paid" {
				f.pays(e)
			}
		}
	}
	for _, e := range b.Events {
		if e.Type == "mman.storage_lost" {
			f.loses(e)
		}
	}
	return b
}

func (f *farm) named(e types.Event) (*farmer, vault.Name) {
	f.t.Helper()
	var name vault.Name
	require.NoError(f.t, name.Lease.UnmarshalText([]byte(attribute(e, "lease"))))
	n, err := strconv.ParseUint(attribute(e, "replica"), 10, 8)
	require.NoError(f.t, err)
	name.Replica = uint8(n)
	i := slices.IndexFunc(f.farmers, func(one *farmer) bool { return one.Address.String() == attribute(e, "provider") })
	require.GreaterOrEqual(f.t, i, 0)
	return f.farmers[i], name
}

// pays: no epoch is paid without possession.
func (f *farm) pays(e types.Event) {
	f.t.Helper()
	one, name := f.named(e)
	epoch, err := strconv.ParseUint(attribute(e, "epoch"), 10, 64)
	require.NoError(f.t, err)
	require.False(f.t, one.bad(epoch), "%s is %s and was paid for epoch %d", one.Name, one.fault, epoch)
	require.NotEmpty(f.t, one.disk[name], "%s was paid for what it has not got", one.Name)
	f.paid[one.Name]++
	f.epochs++
	if one.back(epoch) {
		f.again++
	}
}

// loses: no provider is slashed that is honest, or honest again.
func (f *farm) loses(e types.Event) {
	f.t.Helper()
	one, name := f.named(e)
	if attribute(e, "was") == string(storage.Held) {
		require.True(f.t, one.bad(f.rules.Epoch(f.Height())), "%s is %s and lost replica %d of %s", one.Name, one.fault, name.Replica, name.Lease)
		require.NotEqual(f.t, "0", attribute(e, "burned_uman"))
		f.lost[one.Name]++
	}
	delete(one.disk, name)
	f.repairs++
}

// step lets every farmer do what it does at this height, and decides the block with
// that and these transactions.
func (f *farm) step(txs ...[]byte) abcitest.Block {
	f.t.Helper()
	view := f.App.View()
	epoch := f.rules.Epoch(f.Height())
	drawn, _, err := view.StorageDrawn()
	require.NoError(f.t, err)
	for i, one := range f.farmers {
		if one.back(epoch) && !one.lends {
			one.lends = true
			txs = append(txs, f.Sign(one.Actor, []tx.Msg{f.offer(i)}))
		}
		names, err := view.StorageReplicas(one.Address, nil, 4000)
		require.NoError(f.t, err)
		accept := tx.MsgAcceptStorage{Provider: one.Address}
		var due []storage.Proof
		for _, name := range names {
			l, ok, err := view.StorageLease(name.Lease)
			require.NoError(f.t, err)
			require.True(f.t, ok)
			r := l.Replicas[name.Replica]
			if r.State == storage.Held && r.Due == drawn.Epoch && one.bad(drawn.Epoch) {
				f.owed[one.Name] = true
			}
			switch {
			case r.State == storage.Assigned && !one.bad(epoch):
				if f.fetch(one, name, l, r) {
					accept.Replicas = append(accept.Replicas, tx.ReplicaName(name))
				}
			case r.State == storage.Held && r.Due == drawn.Epoch && one.told < drawn.Epoch:
				if p, ok := f.answer(one, name, drawn); ok {
					due = append(due, p)
				}
			}
		}
		if n := min(len(accept.Replicas), 200); n > 0 {
			accept.Replicas = accept.Replicas[:n]
			txs = append(txs, f.Sign(one.Actor, []tx.Msg{accept}))
		}
		txs = append(txs, f.prove(one, due, drawn)...)
	}
	return f.block(txs...)
}

// fetch brings a replica to a farmer, from the consumer or from another holder.
func (f *farm) fetch(one *farmer, name vault.Name, l storage.Lease, r storage.Replica) bool {
	f.t.Helper()
	b := f.brought[name]
	if r.Source != storage.NoSource {
		source := l.Replicas[r.Source]
		i := slices.IndexFunc(f.farmers, func(other *farmer) bool { return other.Address == source.Provider })
		if i < 0 || f.farmers[i].bad(f.rules.Epoch(f.Height())) {
			return false // it is not served
		}
		b = f.farmers[i].disk[vault.Name{Lease: name.Lease, Replica: r.Source}]
	}
	tree, err := storage.Plant(bytes.NewReader(b))
	if err != nil || tree.Root != r.Root {
		return false
	}
	one.disk[name], one.trees[name] = b, tree
	return true
}

// answer is a farmer's proof, or what it has in its place.
func (f *farm) answer(one *farmer, name vault.Name, d storage.Drawn) (storage.Proof, bool) {
	f.t.Helper()
	data, tree := one.disk[name], one.trees[name]
	if one.bad(d.Epoch) {
		switch one.fault {
		case silent, honest, returns:
			return storage.Proof{}, false
		case late:
			if !d.Late(f.Height()+1, f.rules) {
				return storage.Proof{}, false
			}
		case guesses:
			data = make([]byte, len(data))
			p, err := storage.Prove(storage.Tree{Bytes: tree.Bytes, Root: tree.Root}, bytes.NewReader(data), name.Lease, name.Replica, d.Value)
			require.NoError(f.t, err)
			return p, true
		case forgets:
			data = make([]byte, len(data))
		case unkindly:
			for _, other := range f.farmers {
				for n, b := range other.disk {
					if other != one && n.Lease == name.Lease && len(b) == len(data) && !bytes.Equal(b, data) {
						data, tree = b, other.trees[n]
					}
				}
			}
			if bytes.Equal(data, one.disk[name]) {
				return storage.Proof{}, false
			}
		}
	} else if f.rng.IntN(3) == 0 && !d.Late(f.Height()+2, f.rules) {
		return storage.Proof{}, false // another block will do
	}
	p, err := storage.Prove(tree, bytes.NewReader(data), name.Lease, name.Replica, d.Value)
	require.NoError(f.t, err)
	return p, true
}

// prove batches proofs into transactions.
func (f *farm) prove(one *farmer, due []storage.Proof, d storage.Drawn) [][]byte {
	f.t.Helper()
	if one.bad(d.Epoch) && len(due) > 0 {
		one.told = d.Epoch // it tries once
	}
	var txs [][]byte
	for batch := range slices.Chunk(due, 30) {
		msg := tx.MsgProveStorage{Provider: one.Address, Epoch: d.Epoch}
		for _, p := range batch {
			msg.Proofs = append(msg.Proofs, p.Encode())
		}
		txs = append(txs, f.Sign(one.Actor, []tx.Msg{msg}))
	}
	return txs
}

// TestStorageWithFaults keeps leases for epochs in which holders vanish, drop what
// they hold, guess, come too late, die and come back: no epoch is paid without possession, no honest
// provider is slashed, everybody else is who owed a proof, and what was lost is placed again. .ci/long
// takes 1,000 leases over 50 epochs.
func TestStorageWithFaults(t *testing.T) {
	t.Parallel()
	leases, epochs := abcitest.Setting(t, "MMAN_STORAGE_LEASES", 40), uint64(abcitest.Setting(t, "MMAN_STORAGE_EPOCHS", 8))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const holders = 20
	// So many proofs must fit into the blocks of a window.
	blocks := max(10, uint64(leases)/50)
	kinds := []fault{silent, returns, guesses, late, forgets, unkindly}
	f := newFarm(t, seed, blocks, holders, func(i int) (fault, uint64) {
		if i%2 == 0 {
			return honest, 0
		}
		// The cheapest are bad, one after another.
		return kinds[i/2%len(kinds)], 3 + uint64(i)*(epochs-2)/holders
	})
	f.lend(uint64(leases)/3 + 1) // half of all room will do
	ids := f.store(leases, 3, epochs+uint64(leases)/100)
	last := f.rules.Start(f.rules.Epoch(f.Height()) + epochs)
	for f.Height() < last {
		f.step()
	}
	alive := 0
	for _, id := range ids {
		l, ok, err := f.App.View().StorageLease(id)
		require.NoError(t, err)
		if !ok {
			continue
		}
		for _, r := range l.Replicas {
			if r.State == storage.Held {
				alive++
			}
		}
	}
	caught := 0
	for _, one := range f.farmers {
		if !f.owed[one.Name] {
			require.Zero(t, f.lost[one.Name], "%s is %s from epoch %d on and owed no proof since", one.Name, one.fault, one.from)
			continue
		}
		require.Positive(t, f.lost[one.Name], "%s is %s from epoch %d on and was not slashed", one.Name, one.fault, one.from)
		caught++
	}
	t.Logf("%d leases, %d epochs, %d honest holders and %d that vanish, guess, are late, forget, cheat or die and come back: %d epochs of replicas paid, 0 of them without possession; 0 honest holders slashed, %d of %d bad ones, each that owed a proof while it was; %d times a replica was taken from its holder; %d epochs paid to those who came back; %d of %d replicas held at the end",
		leases, epochs, holders/2, holders/2, f.epochs, caught, holders/2, f.repairs, f.again, alive, 3*leases)
	require.Positive(t, f.epochs)
	require.Greater(t, caught, holders/4)
	require.Positive(t, f.again)
	require.Greater(t, alive, 2*leases)
}

// TestStorageRepair follows one lease from its offers to its end: three replicas,
// one holder vanishes, and another has proved within two epochs.
func TestStorageRepair(t *testing.T) {
	t.Parallel()
	f := newFarm(t, 7, 10, 4, func(i int) (fault, uint64) {
		if i == 0 {
			return silent, 3
		}
		return honest, 0
	})
	f.lend(64)
	id := f.store(1, 3, 6)[0]
	before := f.Balance(f.cleo)
	for f.rules.Epoch(f.Height()) < 5 {
		f.step()
	}
	l, ok, err := f.App.View().StorageLease(id)
	require.NoError(t, err)
	require.True(t, ok)
	i := slices.IndexFunc(l.Replicas, func(r storage.Replica) bool { return r.Missed > 0 })
	require.GreaterOrEqual(t, i, 0)
	require.Equal(t, storage.Held, l.Replicas[i].State)
	require.True(t, l.Replicas[i].Copy, "it says that it is a copy")
	require.Equal(t, 1, f.lost["farmer 0"])
	require.Equal(t, f.farmers[3].Address, l.Replicas[i].Provider)
	require.Positive(t, f.paid["farmer 3"], "silent from epoch 3 on, replaced and proved in 4")
	o, _, err := f.App.View().StorageOffer(f.farmers[0].Address, storage.Fast)
	require.NoError(t, err)
	require.True(t, o.Suspended)

	// Renewed, then ended: the rest of the escrow comes back.
	f.Do(f.cleo, tx.MsgRenewStorage{Consumer: f.cleo.Address, Lease: id, Epochs: 5})
	f.Fail(mman.ErrNotYourLease, f.farmers[0].Actor, tx.MsgEndStorage{Consumer: f.farmers[0].Address, Lease: id})
	f.Do(f.cleo, tx.MsgEndStorage{Consumer: f.cleo.Address, Lease: id})
	for {
		f.step()
		if _, ok, err = f.App.View().StorageLease(id); !ok {
			require.NoError(t, err)
			break
		}
	}
	require.Greater(t, f.Balance(f.cleo), before)
	next := reborn(t, f.Chain)
	next.Pass(2)
}

// TestRetrievalMoney: a provider takes what the consumer's key signed for, once, and
// the rest comes back.
func TestRetrievalMoney(t *testing.T) {
	t.Parallel()
	f := newFarm(t, 7, 10, 1, func(int) (fault, uint64) { return honest, 0 })
	one := f.farmers[0]
	pub, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	f.Pass(1)
	before := f.Balance(f.cleo)
	fund := tx.MsgFundRetrieval{Consumer: f.cleo.Address, Provider: one.Address, Key: [ed25519.PublicKeySize]byte(pub), Amount: 1000 * mman.MAN}
	f.Do(f.cleo, fund)
	other := fund
	other.Key[0] ^= 1
	f.Fail(mman.ErrExists, f.cleo, other)
	promise := func(amount mman.Amount) tx.MsgRedeemRetrieval {
		m := tx.MsgRedeemRetrieval{Provider: one.Address, Consumer: f.cleo.Address, Amount: amount}
		digest := mman.SignDigest(mman.SignRetrieval, chainID, m.Payload())
		m.Signature = ed25519.Sign(key, digest[:])
		return m
	}
	forged := promise(5)
	forged.Amount = 6
	f.Fail(mman.ErrBadSignature, one.Actor, forged)
	f.Do(one.Actor, promise(300*mman.MAN))
	f.Fail(mman.ErrExists, one.Actor, promise(300*mman.MAN))
	f.Do(one.Actor, promise(400*mman.MAN))
	f.Pass(4 * f.rules.EpochBlocks)
	f.Fail(mman.ErrNotFound, one.Actor, promise(500*mman.MAN))
	spent := before - f.Balance(f.cleo)
	require.InDelta(t, 400*uint64(mman.MAN), uint64(spent), float64(mman.MAN), "what was taken, and fees")
}
