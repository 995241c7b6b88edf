package bench

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/cometbft/cometbft/abci/types"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	vault "github.com/limboid/massive-man/abci/storage"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market/storage"
	"github.com/limboid/massive-man/node/store"
)

// StorageOptions size the benchmark of storage leases.
type StorageOptions struct {
	// Leases are the numbers of live leases, ascending, each at least 1000; the first
	// is the reference of the others.
	Leases []int
	// Replicas is how many each lease has, 2 to storage.MaxReplicas.
	Replicas int
	// Bytes is the length of a replica: it makes a proof's path longer. 1 MiB to 1 TiB.
	Bytes uint64
	// Progress is told in a few words what is being done; nil tells nobody.
	Progress func(doing string)
}

// The leases that are measured.
const (
	leastLeases = 1000
	mostLeases  = 1_000_000
	// replicasEach is about how many replicas a provider has.
	replicasEach = 100
	// storesInTx and proofsInTx are how many messages and proofs a transaction of
	// 64 KiB takes.
	storesInTx = 16
	proofsInTx = 32
	// storesInBlock is how many transactions with leases go into a block of the
	// setting up.
	storesInBlock = 8
	// silentEach says that one provider of so many proves nothing.
	silentEach = 100
	// storageIdle is how many blocks without anything are timed.
	storageIdle = 500
)

// Storage measures what storage leases cost the ledger: the whole application over the
// state on disk, with signed transactions that are checked, proposed, executed as a
// proposal, decided and committed, as on a validator, but for consensus itself. Epoch
// and window are those of a public network.
//
// For each number N of leases the setting up is followed by one epoch in which all
// providers but one of a hundred prove all that they have, at their turns. Metrics:
//
//	storage_N_proof        processor time of the ledger for each proof
//	storage_N_block        the same for each of the storage_N_blocks with proofs; the
//	                       median and the longest, as time passes, are
//	                       storage_N_block_p50 and _max
//	storage_N_epoch        the same for all blocks of the epoch, those without
//	                       anything too
//	storage_N_lease        storage_N_epoch for each lease
//	storage_N_share        storage_N_epoch of the time that an epoch lasts at one
//	                       block a second, in percent of one core
//	storage_N_idle         processor time of a block without anything; the reference
//	                       is the same without any lease
//	storage_N_lost         processor time for each replica that was not proved, and
//	                       is taken from its holder and given to another
//	storage_N_proof_bytes  bytes of transactions for each proof
//	storage_N_epoch_bytes  bytes of transactions of the epoch
//	storage_N_disk         bytes on disk for each lease, at the end of the epoch
//	storage_N_memory       bytes in memory for each lease, before it
//	storage_N_prove        processor time of a provider for each proof, without
//	                       reading from a disk
//
// The reference of most is the same with the first number of leases. A canceled ctx
// ends it between two blocks, mman.ErrCanceled, and nothing stays on disk.
func Storage(ctx context.Context, o StorageOptions) (_ *Report, err error) {
	last := leastLeases - 1
	for _, n := range o.Leases {
		if n <= last || n > mostLeases {
			return nil, fmt.Errorf("%w: bench storage: %d leases: numbers grow from %d to %d", mman.ErrInvalid, n, leastLeases, mostLeases)
		}
		last = n
	}
	if len(o.Leases) == 0 || o.Bytes < 1<<20 || o.Bytes > 1<<40 || o.Replicas < 2 || o.Replicas > storage.MaxReplicas {
		return nil, fmt.Errorf("%w: bench storage: name at least one number of leases, 2 to %d replicas for each, of 1 MiB to 1 TiB", mman.ErrInvalid, storage.MaxReplicas)
	}
	b := &storageBench{StorageOptions: o, report: newReport("storage")}
	b.report.told = o.Progress
	for i := range o.Replicas {
		b.report.tell("read replica %d of %d, of %d MiB, once", i+1, o.Replicas, o.Bytes>>20)
		g, err := grow(ctx, synthetic{o.Bytes, uint64(i)})
		if err != nil {
			return nil, err
		}
		b.replicas, b.roots = append(b.replicas, g), append(b.roots, g.tree.Root)
	}
	for _, n := range o.Leases {
		if err := b.measure(ctx, n); err != nil {
			return nil, fmt.Errorf("%d leases: %w", n, err)
		}
	}
	return b.report, nil
}

type storageBench struct {
	StorageOptions

	report *Report
	// The replicas of a lease. All leases have the same ones, so that a few are
	// enough; the ledger does not know.
	replicas []grown
	roots    []mman.Hash
}

// account is one that signs.
type account struct {
	key      sig.PrivateKey
	address  mman.Address
	peer     mman.PeerID
	number   uint64
	sequence uint64
}

// lone is an application whose blocks this program decides.
type lone struct {
	app     *abci.Application
	doc     genesis.Document
	owner   *account // the validator's, who also stores
	holders []*account
	prover  sig.VRFKey
	height  int64
	bytes   uint64 // of transactions in blocks
	lost    int
}

func newAccount(i int) (*account, error) {
	seed := mman.Sum256([]byte("bench storage"), []byte(strconv.Itoa(i)))
	key, err := sig.FromSeed(sig.Ed25519, seed[:])
	if err != nil {
		return nil, err
	}
	return &account{key: key, address: key.Public().Address(), peer: mman.PeerID(key.Public().Bytes())}, nil
}

// Prove implements abci.Prover.
func (l *lone) Prove(input []byte) []byte { return l.prover.Prove(input) }

func newLone(ctx context.Context, db state.DB, holders int) (*lone, error) {
	l := &lone{}
	params := genesis.Defaults(genesis.Public)
	l.doc = genesis.Document{ChainID: "mman-local-00000001", Network: genesis.Local, InitialHeight: 1, Params: genesis.Defaults(genesis.Local)}
	l.doc.Params.MaxGasPerBlock = plentyOfGas
	l.doc.Params.StorageEpochBlocks, l.doc.Params.StorageWindowBlocks, l.doc.Params.StorageAcceptBlocks = params.StorageEpochBlocks, params.StorageWindowBlocks, params.StorageAcceptBlocks
	for i := range holders + 1 {
		a, err := newAccount(i)
		if err != nil {
			return nil, err
		}
		if l.owner == nil {
			l.owner = a
		} else {
			l.holders = append(l.holders, a)
		}
		l.doc.Accounts = append(l.doc.Accounts, genesis.Account{Address: a.address, Balance: 100_000 * mman.MAN})
	}
	var err error
	if l.prover, err = sig.DeriveVRF(l.owner.key); err != nil {
		return nil, err
	}
	beacon := l.prover.Public()
	l.doc.Validators = []genesis.Validator{{
		Operator: l.owner.address, Name: "bench", ConsensusKey: l.owner.key.Public().Bytes()[:sig.Ed25519Size], BeaconKey: beacon[:], Power: 10,
	}}
	if l.app, err = abci.New(abci.Config{DB: db, Beacon: l}); err != nil {
		return nil, err
	}
	raw, err := l.doc.Encode()
	if err != nil {
		return nil, err
	}
	if _, err := l.app.InitChain(ctx, &types.RequestInitChain{ChainId: l.doc.ChainID, InitialHeight: 1, AppStateBytes: raw}); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrGenesis, err)
	}
	if err := l.block(ctx); err != nil {
		return nil, err
	}
	for _, a := range append([]*account{l.owner}, l.holders...) {
		answer, err := l.app.Query(ctx, &types.RequestQuery{Path: "/mman/account/" + a.address.String()})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
		}
		var known struct {
			Number   uint64 `json:"number"`
			Sequence uint64 `json:"sequence"`
		}
		if err := json.Unmarshal(answer.Value, &known); err != nil {
			return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
		}
		a.number, a.sequence = known.Number, known.Sequence
	}
	return l, nil
}

// sign makes a transaction of an account.
func (l *lone) sign(a *account, msgs ...tx.Msg) ([]byte, error) {
	draft := tx.Draft{Msgs: msgs, Sequence: a.sequence, GasLimit: l.doc.Params.MaxGasPerTx, Fee: 100 * mman.MAN}
	t, err := tx.Sign(a.key, l.doc.ChainID, a.number, draft)
	if err != nil {
		return nil, err
	}
	a.sequence++
	return t.Raw(), nil
}

// block lets the application check, propose, execute, decide and commit a block of
// these transactions, all of which must succeed.
func (l *lone) block(ctx context.Context, txs ...[]byte) error {
	if err := given(ctx); err != nil { // the application does not ask
		return err
	}
	for _, raw := range txs {
		check, err := l.app.CheckTx(ctx, &types.RequestCheckTx{Tx: raw})
		if err != nil {
			return fmt.Errorf("%w: %w", mman.ErrInternal, err)
		}
		if check.Code != 0 {
			return mman.RemoteError(mman.Code(check.Code), mman.RetryNever, check.Log)
		}
		l.bytes += uint64(len(raw))
	}
	l.height++
	at := time.Unix(1_800_000_000+l.height, 0).UTC()
	address := block.NewConsensusAddress(l.doc.Validators[0].ConsensusKey)
	const room = 1 << 20
	prepared, err := l.app.PrepareProposal(ctx, &types.RequestPrepareProposal{MaxTxBytes: room, Txs: txs, Height: l.height, Time: at, ProposerAddress: address[:]})
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	if len(prepared.Txs) < len(txs) {
		return fmt.Errorf("%w: %d of %d transactions fit into a block", mman.ErrInvariant, len(prepared.Txs), len(txs))
	}
	hash := mman.Sum256(append(prepared.Txs, binary.BigEndian.AppendUint64(nil, uint64(l.height)))...) //nolint:gosec // a few thousand
	req := &types.RequestFinalizeBlock{Txs: prepared.Txs, Height: l.height, Hash: hash[:], Time: at, ProposerAddress: address[:]}
	if l.height > 1 {
		const signed = 2
		req.DecidedLastCommit.Votes = []types.VoteInfo{{Validator: types.Validator{Address: address[:], Power: 10}, BlockIdFlag: signed}}
	}
	processed, err := l.app.ProcessProposal(ctx, &types.RequestProcessProposal{
		Txs: req.Txs, Hash: req.Hash, Height: req.Height, Time: req.Time, ProposedLastCommit: req.DecidedLastCommit, ProposerAddress: req.ProposerAddress,
	})
	if err != nil || !processed.IsAccepted() {
		return fmt.Errorf("%w: the application rejects its own proposal at height %d: %w", mman.ErrInvariant, l.height, err)
	}
	answer, err := l.app.FinalizeBlock(ctx, req)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	if _, err := l.app.Commit(ctx, &types.RequestCommit{}); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	return l.judge(answer)
}

// judge looks for what failed, and counts what was lost.
func (l *lone) judge(answer *types.ResponseFinalizeBlock) error {
	for _, r := range answer.TxResults {
		if r.Code != 0 {
			return mman.RemoteError(mman.Code(r.Code), mman.RetryNever, r.Log)
		}
		for _, e := range r.Events {
			if e.Type == "mman.storage_skip" {
				return fmt.Errorf("%w: height %d: %v", mman.ErrInvariant, l.height, e.Attributes)
			}
		}
	}
	for _, e := range answer.Events {
		if e.Type == "mman.storage_lost" {
			l.lost++
		}
	}
	return nil
}

// idle decides n blocks without transactions and returns the processor time of one.
func (l *lone) idle(ctx context.Context, n int) (time.Duration, error) {
	begun := processor()
	for range n {
		if err := l.block(ctx); err != nil {
			return 0, err
		}
	}
	return (processor() - begun) / time.Duration(n), nil
}

// measure sets up n leases on a new ledger and lets an epoch pass.
func (b *storageBench) measure(ctx context.Context, n int) (err error) {
	dir, err := os.MkdirTemp("", "mman-bench-")
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	name := "storage_" + strconv.Itoa(n)
	if err := b.live(ctx, dir, name, n); err != nil {
		return err
	}
	disk, err := folderBytes(dir)
	if err != nil {
		return err
	}
	b.report.set(name+"_disk", "B", float64(disk)/float64(n), 0)
	return nil
}

// live is the life of a ledger in a folder.
func (b *storageBench) live(ctx context.Context, dir, name string, n int) (err error) {
	runtime.GC()
	memory := heap()
	db, err := store.Open(store.DefaultConfig(dir, slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	l, err := newLone(ctx, db.State(), (n*b.Replicas+replicasEach-1)/replicasEach)
	if err != nil {
		return err
	}
	empty, err := l.idle(ctx, storageIdle)
	if err != nil {
		return err
	}
	if err := b.fill(ctx, l, n); err != nil {
		return err
	}
	runtime.GC()
	b.report.set(name+"_memory", "B", float64(heap()-min(memory, heap()))/float64(n), 0)
	return b.epoch(ctx, l, name, n, empty)
}

// fill puts offers and leases on the ledger, and lets the holders accept.
func (b *storageBench) fill(ctx context.Context, l *lone, n int) error {
	room := storage.MiB(b.Bytes) * (replicasEach + replicasEach/10)
	for i, h := range l.holders {
		if i%tellEach == 0 {
			b.report.tell("%d of %d holders lend room", i, len(l.holders))
		}
		raw, err := l.sign(h, tx.MsgBindNode{Account: h.address, Peer: h.peer}.SignNode(h.key, l.doc.ChainID), tx.MsgStorageOffer{
			Provider: h.address, Peer: h.peer, Tier: storage.Fast, Price: mman.Amount(1 + i%2), Capacity: room,
		})
		if err == nil {
			err = l.block(ctx, raw)
		}
		if err != nil {
			return err
		}
	}
	for made := 0; made < n; {
		var txs [][]byte
		for len(txs) < storesInBlock && made < n {
			var msgs []tx.Msg
			for ; len(msgs) < storesInTx && made < n; made++ {
				msgs = append(msgs, tx.MsgStore{
					Consumer: l.owner.address, Key: [ed25519.PublicKeySize]byte{1}, Bytes: b.Bytes, Tier: storage.Fast, MaxPrice: 2, Epochs: 10, Roots: b.roots,
				})
			}
			raw, err := l.sign(l.owner, msgs...)
			if err != nil {
				return err
			}
			txs = append(txs, raw)
		}
		if err := l.block(ctx, txs...); err != nil {
			return err
		}
		if made%(1<<13) == 0 || made == n {
			b.report.tell("%d of %d leases are made", made, n)
		}
	}
	return b.accept(ctx, l)
}

func (b *storageBench) accept(ctx context.Context, l *lone) error {
	for i, h := range l.holders {
		if i%tellEach == 0 {
			b.report.tell("%d of %d holders have accepted", i, len(l.holders))
		}
		names, err := l.app.View().StorageReplicas(h.address, nil, 2*replicasEach)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			continue
		}
		msg := tx.MsgAcceptStorage{Provider: h.address}
		for _, name := range names {
			msg.Replicas = append(msg.Replicas, tx.ReplicaName(name))
		}
		raw, err := l.sign(h, msg)
		if err == nil {
			err = l.block(ctx, raw)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// duty is what one holder proves in an epoch.
type duty struct {
	holder   *account
	replicas []vault.Name
}

// duties are those of an epoch by the heights of their turns. The replicas of one
// holder in silentEach are nobody's duty.
type duties struct {
	drawn          storage.Drawn
	turns          map[uint64][]duty
	proved, missed int
}

func (b *storageBench) duties(l *lone) (duties, error) {
	view, all := l.app.View(), duties{turns: map[uint64][]duty{}}
	d, ok, err := view.StorageDrawn()
	if err != nil || !ok {
		return all, fmt.Errorf("%w: there is no challenge: %w", mman.ErrInvariant, err)
	}
	held, err := view.StorageHeld()
	if err != nil {
		return all, err
	}
	params, err := view.Params()
	if err != nil {
		return all, err
	}
	all.drawn = d
	rules := vault.Rules(params)
	for i, h := range l.holders {
		names, err := view.StorageReplicas(h.address, nil, 2*replicasEach)
		if err != nil {
			return all, err
		}
		if i%silentEach == 0 {
			all.missed += len(names)
			continue
		}
		all.proved += len(names)
		at := max(rules.Turn(d, h.address, held), d.Height+1)
		all.turns[at] = append(all.turns[at], duty{h, names})
	}
	return all, nil
}

// sampleProofs is how many proofs are made as a holder makes them, to time that.
const sampleProofs = 200

// sample returns the processor time of one proof that a holder makes.
func (b *storageBench) sample(ctx context.Context, d duties) (time.Duration, error) {
	begun, made := processor(), 0
	for _, turn := range slices.Sorted(maps.Keys(d.turns)) {
		for _, name := range d.turns[turn][0].replicas {
			if made == sampleProofs {
				return (processor() - begun) / sampleProofs, nil
			}
			if err := given(ctx); err != nil {
				return 0, err
			}
			of := b.replicas[name.Replica]
			if _, err := storage.Prove(of.tree, of, name.Lease, name.Replica, d.drawn.Value); err != nil {
				return 0, err
			}
			made++
		}
	}
	return (processor() - begun) / time.Duration(max(made, 1)), nil
}

// answers signs the transactions with which a holder does its duty.
func (b *storageBench) answers(l *lone, one duty, d storage.Drawn) ([][]byte, error) {
	var out [][]byte
	for names := range slices.Chunk(one.replicas, proofsInTx) {
		msg := tx.MsgProveStorage{Provider: one.holder.address, Epoch: d.Epoch}
		for _, name := range names {
			p, err := b.replicas[name.Replica].prove(name.Lease, name.Replica, d.Value)
			if err != nil {
				return nil, err
			}
			msg.Proofs = append(msg.Proofs, p.Encode())
		}
		raw, err := l.sign(one.holder, msg)
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}

// epoch goes to the next challenge, and from it to the end of its epoch.
func (b *storageBench) epoch(ctx context.Context, l *lone, name string, n int, empty time.Duration) error {
	rules := vault.Rules(l.doc.Params)
	first := rules.Start(rules.Epoch(uint64(l.height)) + 1) //nolint:gosec // a few thousand
	b.report.tell("on to height %d, where an epoch begins", first)
	ahead := int(first) - int(l.height) + 2 //nolint:gosec // the challenge comes two blocks later
	idle, err := l.idle(ctx, ahead)
	if err != nil {
		return err
	}
	b.report.set(name+"_idle", "us", micros(idle), micros(empty))
	due, err := b.duties(l)
	if err != nil {
		return err
	}
	prove, err := b.sample(ctx, due)
	if err != nil {
		return err
	}
	b.report.set(name+"_prove", "us", micros(prove), 0)
	l.bytes = 0
	f := figures{duties: due, blocks: rules.EpochBlocks}
	var pool [][]byte
	for at := uint64(l.height) + 1; at < first+rules.EpochBlocks; at++ { //nolint:gosec // a few thousand
		for _, one := range due.turns[at] {
			raw, err := b.answers(l, one, due.drawn)
			if err != nil {
				return err
			}
			pool = append(pool, raw...)
		}
		txs := fitting(pool)
		since, used, lost := time.Now(), processor(), l.lost
		if err := l.block(ctx, txs...); err != nil {
			return err
		}
		pool = pool[len(txs):]
		f.add(processor()-used, time.Since(since), len(txs) > 0, l.lost > lost)
		if at%tellEach == 0 {
			b.report.tell("block %d of %d of the epoch", at-first, rules.EpochBlocks)
		}
	}
	if len(pool) > 0 || l.lost != due.missed {
		return fmt.Errorf("%w: %d transactions were not sent, %d of %d replicas that nobody proved were lost", mman.ErrInvariant, len(pool), l.lost, due.missed)
	}
	return b.say(name, l, f, n)
}

// tellEach says after how many blocks of an epoch, and holders, progress is told.
const tellEach = 400

// fitting returns how many of the transactions a block takes.
func fitting(pool [][]byte) [][]byte {
	const most = 1000 << 10 // less than a MiB by what else is in a block
	size := 0
	for i, raw := range pool {
		if size += len(raw); size > most {
			return pool[:i]
		}
	}
	return pool
}

// figures are what an epoch took.
type figures struct {
	duties

	blocks               uint64
	proving, losing, all time.Duration
	times                []time.Duration // of the blocks with proofs
}

// add counts a block that took so much of a processor, and so long.
func (f *figures) add(used, took time.Duration, proofs, losses bool) {
	f.all += used
	switch {
	case proofs:
		f.proving += used
		f.times = append(f.times, took)
	case losses:
		f.losing += used
	}
}

func (b *storageBench) say(name string, l *lone, f figures, n int) error {
	if f.proved+f.missed != n*b.Replicas {
		return fmt.Errorf("%w: %d replicas were proved and %d missed, there are %d", mman.ErrInvariant, f.proved, f.missed, n*b.Replicas)
	}
	// compare sets a figure beside that of the first number of leases.
	compare := func(what, unit string, value float64) {
		reference := value
		if first := "storage_" + strconv.Itoa(b.Leases[0]); first != name {
			reference = b.report.Metrics[first+what].Value
		}
		b.report.set(name+what, unit, value, reference)
	}
	blocks := float64(len(f.times))
	compare("_proof", "us", micros(f.proving)/float64(f.proved))
	compare("_lease", "us", micros(f.all)/float64(n))
	compare("_block", "ms", micros(f.proving)/1000/blocks)
	compare("_block_p50", "ms", quantile(f.times, 0.5))
	compare("_block_max", "ms", quantile(f.times, 1))
	b.report.set(name+"_blocks", "blocks", blocks, 0)
	compare("_epoch", "s", f.all.Seconds())
	compare("_share", "%", 100*f.all.Seconds()/float64(f.blocks))
	compare("_lost", "us", micros(f.losing)/float64(max(f.missed, 1)))
	compare("_proof_bytes", "B", float64(l.bytes)/float64(f.proved))
	b.report.set(name+"_epoch_bytes", "MiB", float64(l.bytes)/(1<<20), 0)
	return l.app.Invariants()
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
