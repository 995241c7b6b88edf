package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/market/storage"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/p2p/protocol/replicas"
	"github.com/limboid/massive-man/sdk"
	"github.com/limboid/massive-man/sdk/chain"
	"github.com/limboid/massive-man/sdk/submit"
)

// cellar is a network of holders, and a person who stores with them.
type cellar struct {
	t       *testing.T
	net     *testnet.Net
	chain   *chain.Client
	me      person
	stopped map[mman.Address]bool
	rules   storage.Rules
}

func newCellar(t *testing.T, holders ...string) *cellar {
	t.Helper()
	params := genesis.Defaults(genesis.Local)
	params.StorageEpochBlocks, params.StorageWindowBlocks, params.StorageAcceptBlocks = 24, 16, 200
	net := testnet.NewWith(t, params, 1, holders...)
	c := &cellar{
		rules: storage.Rules{EpochBlocks: params.StorageEpochBlocks, WindowBlocks: params.StorageWindowBlocks},
		t:     t, net: net, chain: net.Validators[0].RPC(t), stopped: map[mman.Address]bool{},
		me: person{home: filepath.Join(t.TempDir(), "me"), node: net.Validators[0].Running.RPC},
	}
	made := c.me.json(t, 0, "keys", "new", "me", "--unencrypted")
	for i, n := range net.Providers {
		require.NoError(t, n.Running.Write(n.Home))
		operator := person{home: n.Home}
		if i == 0 {
			operator.json(t, 0, "send", word(t, made, "address"), "20MAN")
		}
		lent := operator.json(t, 0, "offer", "storage", "--capacity", "1GiB", "--price", "0.0005MAN", "--region", n.Name)
		require.InDelta(t, 1024, lent["capacity_mib"], 0)
	}
	return c
}

func (c *cellar) lease(id string) (storage.Lease, bool) {
	c.t.Helper()
	var lease mman.LeaseID
	require.NoError(c.t, lease.UnmarshalText([]byte(id)))
	l, err := c.chain.StorageLease(c.t.Context(), lease)
	if mman.CodeOf(err) == mman.ErrNotFound.Code {
		return l, false
	}
	require.NoError(c.t, err)
	return l, true
}

// holder returns the node of an account.
func (c *cellar) holder(of mman.Address) *testnet.Node {
	c.t.Helper()
	for _, n := range c.net.Providers {
		if n.Address == of {
			return n
		}
	}
	require.FailNow(c.t, "nobody is "+of.String())
	return nil
}

// submit signs a message with a holder's own key, as a program of its own would, and
// returns what it made happen.
func (c *cellar) submit(n *testnet.Node, msg tx.Msg) (events []string) {
	c.t.Helper()
	ring, err := node.OpenKeyring(n.Home, true)
	require.NoError(c.t, err)
	key, err := ring.Get("node", nil)
	require.NoError(c.t, err)
	result, err := submit.New(c.chain, c.net.Genesis.ChainID, key, ring.Lock, time.After).Submit(c.t.Context(), msg)
	require.NoError(c.t, err)
	for _, e := range result.Events {
		events = append(events, e.Type)
	}
	return events
}

// until lets blocks pass until the lease is as wanted. While a holder that runs has
// to prove, blocks come by themselves, once a second: nobody is hurried.
func (c *cellar) until(what, id string, ok func(l storage.Lease, there bool) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Minute)
	defer cancel()
	for l, there := c.lease(id); !ok(l, there); l, there = c.lease(id) {
		if there && !c.waits(l) {
			c.me.json(c.t, 0, "send", c.net.Providers[0].Address.String(), "1uman")
		}
		select {
		case <-ctx.Done():
			require.FailNow(c.t, what+" did not happen")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// waits reports whether a holder that runs has something to do.
func (c *cellar) waits(l storage.Lease) bool {
	var drawn storage.Drawn
	_, err := c.chain.Query(c.t.Context(), "/mman/storage-challenge", &drawn)
	for _, r := range l.Replicas {
		switch {
		case c.stopped[r.Provider]:
		case r.State == storage.Assigned, err == nil && r.State == storage.Held && r.Due == drawn.Epoch:
			return true
		}
	}
	return false
}

// TestStorage stores a file over real nodes: encrypted, proved, fetched back; one
// holder vanishes, and its replacement has proved within two epochs; then a public
// file, for whose retrieval somebody pays.
func TestStorage(t *testing.T) {
	c := newCellar(t, "north", "south", "east", "west")
	dir := t.TempDir()
	data := make([]byte, 900_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // it never fails
	file := filepath.Join(dir, "photos.tar")
	require.NoError(t, os.WriteFile(file, data, 0o600))

	require.Contains(t, c.me.fails(t, 4, "request", "store", file, "--replicas", "5", "--for", "1h"), "4 of 5 replicas")
	require.Contains(t, c.me.fails(t, 2, "request", "store", file, "--for", "soon"), "--for")
	require.Contains(t, c.me.says(t, "request", "ls"), "Nothing")
	stored := c.me.json(t, 0, "request", "store", file, "--replicas", "3", "--regions", "--for", "1h")
	lease := part(t, stored, "lease")
	id := word(t, lease, "id")
	l, _ := c.lease(id)
	require.Len(t, l.Replicas, 3)
	for _, r := range l.Replicas {
		require.Equal(t, storage.Held, r.State)
	}
	require.Contains(t, c.me.says(t, "request", "ls"), "3 held")
	// Encrypted in the format of age, each replica under a key of its own, which is here.
	keys, err := os.ReadFile(filepath.Join(c.me.home, "storage", id, "lease.json"))
	require.NoError(t, err)
	var own sdk.Stored
	require.NoError(t, json.Unmarshal(keys, &own))
	regions, roots := map[string]bool{}, map[mman.Hash]bool{}
	for i, r := range l.Replicas {
		regions[r.Region], roots[r.Root] = true, true
		sealed, err := os.ReadFile(filepath.Join(c.holder(r.Provider).Home, "replicas", fmt.Sprintf("%s-%d", id, i)))
		require.NoError(t, err)
		require.False(t, bytes.Contains(sealed, data[1000:1100]), "replica %d is encrypted", i)
		for k := range own.Replicas {
			identity, err := age.ParseX25519Identity(own.Replicas[k].Identity)
			require.NoError(t, err)
			plain, err := age.Decrypt(bytes.NewReader(sealed), identity)
			if k != i {
				require.Error(t, err, "replica %d opens with the key of replica %d", i, k)
				continue
			}
			require.NoError(t, err)
			opened, err := io.ReadAll(plain)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, opened))
		}
	}
	require.Len(t, regions, 3)
	require.Len(t, roots, 3)

	fetch := func(what string, args ...string) {
		t.Helper()
		out := filepath.Join(dir, "fetched")
		c.me.says(t, append([]string{"request", "fetch", what, "--out", out}, args...)...)
		got, err := os.ReadFile(out)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		require.NoError(t, os.Remove(out))
	}
	fetch(id)
	stranger := person{home: filepath.Join(dir, "stranger"), node: c.me.node}
	stranger.json(t, 0, "keys", "new", "stranger", "--unencrypted")
	require.Contains(t, stranger.fails(t, 4, "request", "fetch", id, "--out", filepath.Join(dir, "no")), "keeps no storage lease")

	proved := func(n uint64) func(storage.Lease, bool) bool {
		return func(l storage.Lease, _ bool) bool {
			for _, r := range l.Replicas {
				if r.Proved < n {
					return false
				}
			}
			return true
		}
	}
	c.until("a proof of each replica", id, proved(1))

	// A short lease is announced to end, and renewed with all that end soon.
	note := filepath.Join(dir, "note")
	require.NoError(t, os.WriteFile(note, data[:5000], 0o600))
	short := word(t, part(t, c.me.json(t, 0, "request", "store", note, "--replicas", "1", "--for", "30s"), "lease"), "id")
	require.NotContains(t, c.me.says(t, "request", "ls"), "soon")
	c.until("the notice of the end", short, func(l storage.Lease, there bool) bool {
		require.True(t, there, "it has not ended without a notice")
		return l.Noticed
	})
	require.Contains(t, c.me.says(t, "request", "ls"), "soon, at height")
	require.Contains(t, c.me.fails(t, 2, "request", "renew"), "--ending")
	require.Equal(t, []any{short}, c.me.json(t, 0, "request", "renew", "--ending", "10m", "--for", "1h")["renewed"])
	require.NotContains(t, c.me.says(t, "request", "ls"), "soon")
	require.Contains(t, c.me.says(t, "request", "renew", "--ending", "10m"), "Nothing ends")

	// One holder is killed.
	l, _ = c.lease(id)
	gone := l.Replicas[0]
	for _, n := range c.net.Providers {
		if n.Address == gone.Provider {
			n.Stop()
			c.stopped[n.Address] = true
		}
	}
	at := gone.Due
	c.until("a replacement that has proved", id, func(l storage.Lease, _ bool) bool {
		r := l.Replicas[0]
		return r.Provider != gone.Provider && r.State == storage.Held && r.Proved > gone.Proved
	})
	l, _ = c.lease(id)
	require.LessOrEqual(t, l.Replicas[0].Due, at+2, "the epoch that was missed and the next one")
	require.Equal(t, uint64(1), l.Replicas[0].Missed)
	for i, r := range l.Replicas[1:] {
		require.Zero(t, r.Missed, "replica %d is of an honest holder", i+1)
	}
	require.True(t, l.Replicas[0].Copy)
	require.Contains(t, c.me.says(t, "request", "ls"), "(1 of them copies)")
	fetch(id)

	// A public file, fetched by its CID by whoever pays.
	public := c.me.json(t, 0, "request", "store", file, "--replicas", "2", "--public", "--for", "1h")
	before, err := c.chain.Supply(t.Context())
	require.NoError(t, err)
	require.Contains(t, c.me.fails(t, 3, "request", "fetch", word(t, public, "content"), "--out", filepath.Join(dir, "no"), "--max-price", "1uman"), "price")
	fetch(word(t, public, "content"))
	fetch(word(t, public, "content"))
	c.until("the promise is redeemed", id, func(storage.Lease, bool) bool {
		now, err := c.chain.Supply(t.Context())
		require.NoError(t, err)
		return now.Burned > before.Burned+30
	})

	// One holder dropped the data and guesses: it is not paid, its deposit burns, and
	// nobody else loses anything.
	l, _ = c.lease(id)
	liar := l.Replicas[1]
	for _, n := range c.net.Providers {
		if n.Address == liar.Provider {
			kept := filepath.Join(n.Home, "replicas", id+"-1")
			info, err := os.Stat(kept)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(kept, make([]byte, info.Size()), 0o600))
			c.stopped[n.Address] = true // it answers once an epoch, and in vain
		}
	}
	before, err = c.chain.Supply(t.Context())
	require.NoError(t, err)
	c.until("the guesser is found out", id, func(l storage.Lease, _ bool) bool { return l.Replicas[1].Missed > 0 })
	l, _ = c.lease(id)
	require.Equal(t, liar.Proved, l.Replicas[1].Proved, "no guess was paid")
	require.NotEqual(t, liar.Provider, l.Replicas[1].Provider)
	require.Zero(t, l.Replicas[2].Missed)
	burned, err := c.chain.Supply(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, burned.Burned, before.Burned+liar.Deposit)

	// Another one dropped it, and answers when it has fetched the bytes back: too late, so
	// that its proof, which is right, is not paid, and its deposit burns.
	l, _ = c.lease(id)
	late := l.Replicas[2]
	n := c.holder(late.Provider)
	kept := filepath.Join(n.Home, "replicas", id+"-2")
	elsewhere, err := os.ReadFile(kept)
	require.NoError(t, err)
	require.NoError(t, errors.Join(os.Remove(kept), os.Remove(kept+".tree")))
	c.stopped[n.Address] = true
	before, err = c.chain.Supply(t.Context())
	require.NoError(t, err)
	var drawn storage.Drawn
	c.until("the window is over", id, func(l storage.Lease, _ bool) bool {
		if late.Proved = max(late.Proved, l.Replicas[2].Proved); l.Replicas[2].Provider == late.Provider {
			late.Due = l.Replicas[2].Due // it may just have proved
		}
		st, err := c.chain.Status(t.Context())
		require.NoError(t, err)
		_, err = c.chain.Query(t.Context(), "/mman/storage-challenge", &drawn)
		return err == nil && drawn.Epoch == late.Due && drawn.Late(st.Height+1, c.rules)
	})
	tree, err := storage.Plant(bytes.NewReader(elsewhere))
	require.NoError(t, err)
	proof, err := storage.Prove(tree, bytes.NewReader(elsewhere), l.ID, 2, drawn.Value)
	require.NoError(t, err)
	require.NoError(t, proof.Verify(late.Root, l.Bytes, drawn.Value))
	events := c.submit(n, tx.MsgProveStorage{Provider: n.Address, Epoch: drawn.Epoch, Proofs: [][]byte{proof.Encode()}})
	require.Contains(t, events, "mman.storage_skip")
	require.NotContains(t, events, "mman.storage_paid")
	c.until("the late one is found out", id, func(l storage.Lease, _ bool) bool { return l.Replicas[2].Missed > 0 })
	l, _ = c.lease(id)
	require.Equal(t, late.Proved, l.Replicas[2].Proved, "nothing late was paid")
	require.NotEqual(t, late.Provider, l.Replicas[2].Provider)
	require.Equal(t, uint64(1), l.Replicas[0].Missed, "nobody else lost anything")
	burned, err = c.chain.Supply(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, burned.Burned, before.Burned+late.Deposit)

	// It lasts longer, and then it ends.
	renewed := part(t, c.me.json(t, 0, "request", "renew", id, "--for", "1h"), "lease")
	require.Greater(t, renewed["last"], lease["last"])
	c.me.json(t, 0, "request", "rm", id)
	c.until("the end", id, func(_ storage.Lease, there bool) bool { return !there })
	supply, err := c.chain.Supply(t.Context())
	require.NoError(t, err)
	require.True(t, supply.Conserved())
}

// TestResume: an upload whose holder is away ends with a sentence that says how to go
// on, and so it goes on; of an upload and of a fetch that were cut, only the rest moves.
func TestResume(t *testing.T) {
	c := newCellar(t, "north", "south")
	dir := t.TempDir()
	data := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data) // it never fails
	file := filepath.Join(dir, "photos.tar")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	away := c.net.Providers[1]
	away.Stop()
	me := c.client()
	type made struct {
		own sdk.Stored
		err error
	}
	second := make(chan made, 1)
	go func() {
		own, err := me.Store(t.Context(), sdk.StoreWanted{File: file, Name: "photos.tar", Replicas: 2, Tier: storage.Fast, MaxPrice: 1000, Epochs: 100}, nil)
		second <- made{own, err}
	}()
	said := regexp.MustCompile(`go on with mman request store --resume ([0-9a-f]+)`).
		FindStringSubmatch(c.me.fails(t, 4, "request", "store", file, "--replicas", "2", "--for", "1h"))
	require.Len(t, said, 2)
	one, broken := said[1], <-second
	require.ErrorIs(t, broken.err, mman.ErrUnreachable)
	own, two := broken.own, broken.own.Lease.String()
	require.NotEqual(t, one, two)

	// Of the second one the holder has got a half, as an upload that is cut leaves it.
	l, _ := c.lease(two)
	at := slices.IndexFunc(l.Replicas, func(r storage.Replica) bool { return r.Provider == away.Address })
	half := l.Bytes / 2
	sealed, err := os.ReadFile(filepath.Join(c.me.home, "storage", two, fmt.Sprintf("replica-%d", at)))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(away.Home, "replicas", fmt.Sprintf("%s-%d.part", two, at)), sealed[:half], 0o600))
	away.Start(t)
	away.Await(t)

	resumed := part(t, c.me.json(t, 0, "request", "store", "--resume", one), "lease")
	require.Equal(t, one, word(t, resumed, "id"))
	l, _ = c.lease(one)
	require.Equal(t, []storage.ReplicaState{storage.Held, storage.Held}, []storage.ReplicaState{l.Replicas[0].State, l.Replicas[1].State})
	for i := range l.Replicas {
		require.NoFileExists(t, filepath.Join(c.me.home, "storage", one, fmt.Sprintf("replica-%d", i)), "what was encrypted is needed no more")
	}

	rest := newRest(t)
	require.NoError(t, me.Resume(t.Context(), own, rest.notes))
	rest.began(at, half)
	l, _ = c.lease(two)
	require.Equal(t, storage.Held, l.Replicas[at].State)

	// Of the file a half is here, as a fetch that is cut leaves it.
	fetched := filepath.Join(c.me.home, "storage", two, "fetched-"+l.Replicas[0].Root.String())
	kept, err := os.ReadFile(filepath.Join(c.holder(l.Replicas[0].Provider).Home, "replicas", two+"-0"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(fetched, kept[:half], 0o600))
	var got bytes.Buffer
	rest = newRest(t)
	require.NoError(t, me.Retrieve(t.Context(), own, &got, rest.notes))
	rest.began(0, half)
	require.True(t, bytes.Equal(data, got.Bytes()))
	require.NoFileExists(t, fetched)

	// What is not of the file is found out and thrown away, and another holder serves.
	require.NoError(t, os.WriteFile(fetched, data[:half], 0o600))
	out := filepath.Join(dir, "fetched")
	c.me.says(t, "request", "fetch", two, "--out", out)
	again, err := os.ReadFile(out)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, again))
	require.NoFileExists(t, fetched)
}

// TestCutOff: of a store that was cut off after its transaction was handed over, the next
// one finds the lease; what cannot become a lease any more is deleted, and what another
// process is at work on is left to it.
func TestCutOff(t *testing.T) {
	c := newCellar(t, "north", "south")
	dir := t.TempDir()
	data := make([]byte, 300_000)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(data) // it never fails
	file := filepath.Join(dir, "photos.tar")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	began := func() []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(c.me.home, "storage", "new-*"))
		require.NoError(t, err)
		return found
	}
	front := newFront(t, c.me.node)
	behind := *c
	behind.me.node = front.url
	me := behind.client()
	wanted := sdk.StoreWanted{File: file, Name: "photos.tar", Replicas: 2, Tier: storage.Fast, MaxPrice: 1000, Epochs: 100}

	// A lease that the ledger refuses leaves nothing.
	require.Contains(t, c.me.fails(t, 4, "request", "store", file, "--replicas", "3", "--for", "1h"), "2 of 3 replicas")
	require.Empty(t, began())

	// The process hands its transaction over and hears nothing of it any more.
	asked := make(chan struct{}, 1)
	front.on("tx", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	})
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ended := make(chan error, 1)
	go func() {
		_, err := me.Store(ctx, wanted, nil)
		ended <- err
	}()
	<-asked
	sub, err := me.Submitter()
	require.NoError(t, err)
	var leases []storage.Lease
	require.Eventually(t, func() bool {
		leases, err = c.chain.StorageLeases(t.Context(), sub.Address(), 10)
		return err == nil && len(leases) == 1
	}, time.Minute, 10*time.Millisecond)
	id, out := leases[0].ID.String(), filepath.Join(dir, "fetched")

	// While it lives, nobody touches its folder.
	require.Contains(t, c.me.says(t, "request", "ls"), id)
	require.Contains(t, c.me.fails(t, 4, "request", "fetch", id, "--out", out), "keeps no storage lease")
	require.Len(t, began(), 1)
	kept, err := os.ReadFile(filepath.Join(began()[0], "lease.json"))
	require.NoError(t, err)
	end()
	err = <-ended
	require.ErrorIs(t, err, mman.ErrCanceled)
	require.ErrorContains(t, err, "--resume "+id)
	again, err := os.ReadFile(filepath.Join(began()[0], "lease.json"))
	require.NoError(t, err)
	require.Equal(t, kept, again, "it ended as if it was killed")

	// Then the lease is found, uploaded and fetched.
	resumed := part(t, c.me.json(t, 0, "request", "store", "--resume", id), "lease")
	require.Equal(t, id, word(t, resumed, "id"))
	require.Empty(t, began())
	require.NoFileExists(t, filepath.Join(c.me.home, "storage", id, "lock"))
	for _, r := range c.mustLease(id).Replicas {
		require.Equal(t, storage.Held, r.State)
	}
	require.Contains(t, c.me.says(t, "request", "ls"), "photos.tar")
	c.me.says(t, "request", "fetch", id, "--out", out)
	got, err := os.ReadFile(out)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))

	// One that only fails to hear that its lease was made says which one it is.
	front.on("tx", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if all, err := c.chain.StorageLeases(r.Context(), sub.Address(), 10); err != nil || len(all) == 2 {
				break
			}
		}
		http.Error(w, "lost", http.StatusBadGateway)
	})
	own, err := me.Store(t.Context(), wanted, nil)
	require.ErrorContains(t, err, "go on with mman request store --resume "+own.Lease.String())
	require.Empty(t, began())
	c.me.json(t, 0, "request", "store", "--resume", own.Lease.String())

	// So is one found that was cut off just before its folder got the lease's name.
	folder := filepath.Join(c.me.home, "storage", own.Lease.String())
	require.NoError(t, os.Rename(folder, filepath.Join(filepath.Dir(folder), "new-0")))
	c.me.says(t, "request", "fetch", own.Lease.String(), "--out", out)
	require.DirExists(t, folder)

	// A transaction that got lost may land until another one has its sequence.
	front.on("broadcast_tx_sync", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "lost", http.StatusBadGateway) })
	_, err = me.Store(t.Context(), wanted, nil)
	require.ErrorContains(t, err, "the keys are kept")
	lost := began()
	require.Len(t, lost, 1)
	c.me.says(t, "request", "ls")
	require.Equal(t, lost, began())

	// One was cut off while it encrypted, one is of another chain: the next store deletes
	// the first.
	early, other := filepath.Join(c.me.home, "storage", "new-1"), filepath.Join(c.me.home, "storage", "new-2")
	require.NoError(t, errors.Join(os.Mkdir(early, 0o700), os.Mkdir(other, 0o700)))
	require.NoError(t, os.WriteFile(filepath.Join(early, "replica-0"), data, 0o600))
	kept, err = os.ReadFile(filepath.Join(lost[0], "lease.json"))
	require.NoError(t, err)
	kept = bytes.Replace(kept, []byte(c.net.Genesis.ChainID), []byte("elsewhere"), 1)
	require.NoError(t, os.WriteFile(filepath.Join(other, "lease.json"), kept, 0o600))
	c.me.json(t, 0, "request", "store", file, "--replicas", "1", "--for", "1h")
	require.ElementsMatch(t, []string{lost[0], other}, began())
	c.me.says(t, "request", "ls")
	require.Equal(t, []string{other}, began())
}

func (c *cellar) mustLease(id string) storage.Lease {
	c.t.Helper()
	l, there := c.lease(id)
	require.True(c.t, there)
	return l
}

// front is a node between a client and an honest one, which answers some calls itself.
type front struct {
	url string

	mu      sync.Mutex
	answers map[string]http.HandlerFunc
}

func newFront(t *testing.T, honest string) *front {
	t.Helper()
	to, err := url.Parse(honest)
	require.NoError(t, err)
	f := &front{answers: map[string]http.HandlerFunc{}}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, err := io.ReadAll(r.Body)
		var call struct {
			Method string `json:"method"`
		}
		if err := errors.Join(err, json.Unmarshal(asked, &call)); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(asked))
		f.mu.Lock()
		answer := f.answers[call.Method]
		f.mu.Unlock()
		if answer == nil {
			answer = proxy.ServeHTTP
		}
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

// on has a call answered by do.
func (f *front) on(method string, do http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[method] = do
}

// client is a program of the person who stores.
func (c *cellar) client() *sdk.Client {
	c.t.Helper()
	ring, err := node.OpenKeyring(c.me.home, true)
	require.NoError(c.t, err)
	key, err := ring.Get("me", nil)
	require.NoError(c.t, err)
	me, err := sdk.Connect(c.t.Context(), sdk.Config{
		Node: c.me.node, Leases: filepath.Join(c.me.home, "leases"), Key: key, Lock: ring.Lock, Now: time.Now, After: time.After,
	})
	require.NoError(c.t, err)
	c.t.Cleanup(func() { require.NoError(c.t, me.Close()) })
	return me
}

// rest notes where the transfer of each replica began.
type rest struct {
	t     *testing.T
	mu    sync.Mutex
	first map[int]uint64
}

func newRest(t *testing.T) *rest {
	t.Helper()
	return &rest{t: t, first: map[int]uint64{}}
}

func (r *rest) notes(m sdk.Moving) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first, ok := r.first[m.Replica]; !ok || m.Done < first {
		r.first[m.Replica] = m.Done
	}
}

// began holds that a replica's transfer began where it was cut: what is told first is
// how much there is after the first piece.
func (r *rest) began(replica int, at uint64) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Contains(r.t, r.first, replica, "something moved")
	require.Greater(r.t, r.first[replica], at)
	require.LessOrEqual(r.t, r.first[replica], at+replicas.Piece)
}
