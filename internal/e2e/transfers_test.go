package e2e_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goblocks "github.com/ipfs/go-block-format"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
)

// moving is a network whose two providers give files to a consumer on an island.
type moving struct {
	*network

	isle     *island
	one, two *cable // to the providers
	home     string // of the consumer
	entry    string // where it enters the peer-to-peer network
	size     int64  // of each file
	cut      time.Duration
}

// TestTransfers: what processes fetch from processes comes whole when a cable is cut, a
// provider lies or is killed, a disk is full, or many come at once. A file has 48 MiB, or
// MMAN_TRANSFER_MIB; a cut lasts 3 s, or MMAN_CUT.
func TestTransfers(t *testing.T) { //nolint:tparallel // one after the other on one network
	t.Parallel()
	s := &moving{isle: newIsland(t), cut: 3 * time.Second, size: int64(abcitest.Setting(t, "MMAN_TRANSFER_MIB", 48)) << 20}
	if text := os.Getenv("MMAN_CUT"); text != "" {
		var err error
		s.cut, err = time.ParseDuration(text)
		require.NoError(t, err, "MMAN_CUT")
	}
	s.network = raise(t, localnet.Spec{Validators: 1, Providers: []string{"one", "two"}, Consumers: []string{"me"}}, 1000)
	s.home = s.Consumers[0].Home
	first := s.running[s.Validators[0]].Running
	s.entry = overTCP(t, first.Peers)
	s.isle.connect(t, strings.TrimPrefix(first.RPC, "http://"))
	s.isle.connect(t, dialled(t, s.entry))
	s.one = s.isle.connect(t, dialled(t, overTCP(t, s.running[s.Providers[0]].Running.Peers)))
	s.two = s.isle.connect(t, dialled(t, overTCP(t, s.running[s.Providers[1]].Running.Peers)))
	t.Run("cut", func(t *testing.T) { s.isCut(t, false) })
	t.Run("cut for good", func(t *testing.T) { s.isCut(t, true) })
	t.Run("liar", s.isLiedTo)
	t.Run("full disk", s.fillsItsDisk)
	t.Run("crowd", s.crowd)
	t.Run("killed", s.losesAProvider) // last: it stays dead
}

// overTCP is the address of a node over TCP.
func overTCP(t *testing.T, addrs []string) string {
	t.Helper()
	i := slices.IndexFunc(addrs, func(a string) bool { return strings.Contains(a, "/tcp/") })
	require.GreaterOrEqual(t, i, 0, "%v", addrs)
	return addrs[i]
}

// dialled is the host and port of such an address.
func dialled(t *testing.T, addr string) string {
	t.Helper()
	part := strings.Split(addr, "/") // /ip4/HOST/tcp/PORT/p2p/ID
	require.Greater(t, len(part), 4, addr)
	return part[2] + ":" + part[4]
}

// randomFile makes a file of random bytes.
func randomFile(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	require.NoError(t, err)
	seed := [32]byte{}
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	_, err = io.CopyN(f, rand.NewChaCha8(seed), size)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return path
}

// give has a provider give a file to everybody, and returns its CID.
func (s *moving) give(t *testing.T, from *localnet.Node, path string) string {
	t.Helper()
	added, ok := ask(t, from.Home, 0, "add", path)["added"].([]any)
	require.True(t, ok)
	item, ok := added[0].(map[string]any)
	require.True(t, ok)
	root, ok := item["root"].(string)
	require.True(t, ok)
	return root
}

// get begins to fetch on the island, in a home.
func (s *moving) get(t *testing.T, home, root, out string) *job {
	t.Helper()
	return s.isle.start(t, s.getting(t, home, root, out))
}

// getting is a fetch that has not begun.
func (s *moving) getting(t *testing.T, home, root, out string) *job {
	t.Helper()
	j := prepare(t, home, "client", "get", root, "--out", out)
	j.cmd.Env = append(j.cmd.Env, "MMAN_PEER="+s.entry)
	return j
}

// came waits until a fetch has ended well and compares the files.
func (s *moving) came(t *testing.T, j *job, file, out string) {
	t.Helper()
	require.Zero(t, j.end(t, s.cut+3*within), "%s\n%s", &j.out, &j.errs)
	require.Equal(t, sum(t, file), sum(t, out))
}

func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	h := sha256.New()
	_, err = io.Copy(h, f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return hex.EncodeToString(h.Sum(nil))
}

// stored is how many bytes a fetch has on its disk.
func stored(home, root string) (n int64, err error) {
	err = filepath.WalkDir(filepath.Join(home, "fetching", root), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// mib is a number of bytes as people say it.
func mib(n int64) string { return strconv.FormatInt(n>>20, 10) + " MiB" }

// isCut pulls every cable in the middle of a transfer that somebody watches at a terminal,
// and plugs them in again; what
// was under way still comes then, or the connections are gone.
func (s *moving) isCut(t *testing.T, lost bool) {
	t.Helper()
	file, out := randomFile(t, s.size), filepath.Join(t.TempDir(), "out")
	root := s.give(t, s.Providers[0], file)
	s.one.allow(s.size / 2)
	person, screen := openTerminal(t, 80, 24)
	j := s.getting(t, s.home, root, out)
	j.cmd.Stderr = screen
	s.isle.start(t, j)
	s.one.full(t)
	for _, c := range s.isle.cables {
		c.hold()
	}
	<-time.After(s.cut) // it is the time itself that is to be survived
	require.False(t, j.ended(), "%s", &j.errs)
	require.NoFileExists(t, out)
	for _, c := range s.isle.cables {
		if lost {
			c.drop()
		}
		c.release()
	}
	s.came(t, j, file, out)
	person.hears(fmt.Sprintf(" of %d.0 MiB, ", s.size>>20))
	person.hears("iB/s, ")
	person.hears("s left")
	require.Less(t, s.one.brought(), s.size+s.size/4+16<<20, "what had come is not fetched again")
	t.Logf("transfers: cut for %s at half of %s, connections lost: %t; byte-equal, %s moved", s.cut, mib(s.size), lost, mib(s.one.brought()))
}

// fibber serves a file in which every leaf has one bit changed.
type fibber struct {
	content.Reader

	asked atomic.Int64
	once  sync.Once
	lied  chan struct{}
}

// Authorize lets everybody have what is public.
func (f *fibber) Authorize(_ context.Context, r blocks.Request, _ mman.PeerID) (blocks.Grant, error) {
	f.asked.Add(1)
	return blocks.Grant{Store: f, Root: r.Root}, nil
}

// Unchecked reads a leaf and changes it.
func (f *fibber) Unchecked(ctx context.Context, c mman.CID) ([]byte, error) {
	data, err := f.Reader.Unchecked(ctx, c)
	if err != nil {
		return nil, err
	}
	data = slices.Clone(data)
	data[len(data)/2] ^= 1
	f.once.Do(func() { close(f.lied) })
	return data, nil
}

// isLiedTo has a peer of the network announce a file and send it with changed bytes,
// while the honest one has sent a quarter.
func (s *moving) isLiedTo(t *testing.T) {
	file, out := randomFile(t, s.size), filepath.Join(t.TempDir(), "out")
	root := s.give(t, s.Providers[0], file)
	id, err := mman.ParseCID(root)
	require.NoError(t, err)

	cfg := p2p.Default()
	cfg.NetworkID, cfg.Mode, cfg.Now = s.running[s.Validators[0]].Running.ChainID, p2p.ModeServer, time.Now
	cfg.Listen, cfg.Bootstrap = []string{"/ip4/127.0.0.1/tcp/0"}, []string{s.entry}
	host, err := p2p.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, host.Close()) })
	require.NoError(t, host.Start(t.Context()))
	store := content.NewPrivateStore(content.Memory())
	f, err := os.Open(file)
	require.NoError(t, err)
	same, _, err := content.AddTo(t.Context(), store, f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, id, same)
	liar := &fibber{Reader: store, lied: make(chan struct{})}
	require.NoError(t, blocks.Serve(t.Context(), host, liar, blocks.Default()))
	dcfg := discovery.Default()
	dcfg.After, dcfg.Now = time.After, time.Now
	disc, err := discovery.New(host, dcfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, disc.Close()) })
	require.NoError(t, disc.Bootstrap(t.Context()))
	require.NoError(t, disc.WaitReady(t.Context()))
	require.NoError(t, disc.Provide(t.Context(), id))

	s.isle.connect(t, dialled(t, overTCP(t, host.Addrs())))
	s.one.allow(s.size / 4)
	j := s.get(t, s.home, root, out)
	s.one.full(t)
	select {
	case <-liar.lied:
	case <-j.done:
		require.FailNow(t, "it ended before it was lied to", "%s", &j.errs)
	case <-time.After(within):
		require.FailNow(t, "the liar was not asked", "%s", &j.errs)
	}
	s.one.release()
	s.came(t, j, file, out)
	require.Equal(t, int64(1), liar.asked.Load(), "who lied is not asked again")
	t.Logf("transfers: a peer sent %s with changed bytes; it was asked once and dropped, another finished, byte-equal", mib(s.size))
}

// fillsItsDisk fetches onto a disk with too little room, and then with enough.
func (s *moving) fillsItsDisk(t *testing.T) {
	room := s.size >> 21 // half of it, in MiB
	disk := small(t, int(room))
	home := filepath.Join(disk, "home")
	require.NoError(t, os.Mkdir(home, 0o700))
	config, err := os.ReadFile(filepath.Join(s.home, "config.yaml"))
	require.NoError(t, err)
	write(t, home, "config.yaml", config)
	file, out := randomFile(t, s.size), filepath.Join(t.TempDir(), "out")
	root := s.give(t, s.Providers[1], file)
	j := s.get(t, home, root, out)
	require.NotZero(t, j.end(t, 2*within), "%s", &j.out)
	said := oneSentence(t, j.errs.String(), "disk full", "free some space")
	require.NoFileExists(t, out)
	require.Empty(t, beside(t, out), "nothing of it is left beside")
	has, err := stored(home, root)
	require.NoError(t, err)

	require.NoError(t, syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%dm", 4*room)))
	s.two.allow(endless)
	s.came(t, s.get(t, home, root, out), file, out)
	require.Less(t, s.two.brought(), s.size-has/2, "it goes on from what had come")
	t.Logf("transfers: %s onto a disk of %d MiB: %q; with room %s more, byte-equal", mib(s.size), room, said, mib(s.two.brought()))
}

// beside lists what is in a file's folder.
func beside(t *testing.T, path string) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	return list
}

// losesAProvider kills one of two when half is there.
func (s *moving) losesAProvider(t *testing.T) {
	file, out := randomFile(t, s.size), filepath.Join(t.TempDir(), "out")
	root := s.give(t, s.Providers[0], file)
	require.Equal(t, root, s.give(t, s.Providers[1], file))
	s.one.allow(s.size * 3 / 8)
	s.two.allow(s.size / 8)
	j := s.get(t, s.home, root, out)
	s.one.full(t)
	s.two.full(t)
	has := int64(0)
	eventually(t, within, "half on the disk", func(context.Context) (_ bool, err error) {
		has, err = stored(s.home, root)
		return has >= s.size*2/5, err
	})
	begin := time.Now()
	s.kill(t, s.Providers[0])
	s.two.release()
	s.came(t, j, file, out)
	require.Less(t, has, s.size*3/5)
	t.Logf("transfers: a provider killed with signal 9 when %d %% of %s were there; another finished in %s, byte-equal", has*100/s.size, mib(s.size), time.Since(begin).Round(time.Millisecond))
}

// sink counts what it is given.
type sink struct {
	content.Blockstore

	bytes atomic.Int64
}

// PutMany forgets blocks, which are compared with their CIDs by then.
func (s *sink) PutMany(_ context.Context, list []goblocks.Block) error {
	for _, b := range list {
		s.bytes.Add(int64(len(b.RawData())))
	}
	return nil
}

// crowd has MMAN_FETCHERS peers fetch a file at once from one node, again and again for
// MMAN_FETCHING.
func (s *moving) crowd(t *testing.T) {
	const size = 4<<20 + 11
	fetchers, life := abcitest.Setting(t, "MMAN_FETCHERS", 200), time.Duration(0)
	if text := os.Getenv("MMAN_FETCHING"); text != "" {
		var err error
		life, err = time.ParseDuration(text)
		require.NoError(t, err, "MMAN_FETCHING")
	}
	giver := s.running[s.Providers[1]]
	addr := overTCP(t, giver.Running.Peers)
	root, err := mman.ParseCID(s.give(t, s.Providers[1], randomFile(t, size)))
	require.NoError(t, err)
	before := anonymous(t, giver.PID())

	hosts, ids := make([]*p2p.Host, fetchers), make([]mman.PeerID, fetchers)
	for i := range hosts {
		cfg := p2p.Client()
		cfg.NetworkID, cfg.Now, cfg.Limits.DialTimeout = giver.Running.ChainID, time.Now, within
		hosts[i], err = p2p.New(cfg)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, hosts[i].Close()) })
	}
	var connecting errgroup.Group
	connecting.SetLimit(16)
	for i, h := range hosts {
		connecting.Go(func() (err error) {
			ids[i], err = h.Connect(t.Context(), []string{addr})
			return err
		})
	}
	require.NoError(t, connecting.Wait())

	most := int64(0)
	watching, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for tick := time.NewTicker(poll); watching.Err() == nil; <-tick.C {
			most = max(most, anonymous(t, giver.PID()))
		}
	}()
	begin := time.Now()
	took, times := make([]time.Duration, fetchers), atomic.Int64{}
	var fetching errgroup.Group
	for i, h := range hosts {
		fetching.Go(func() error {
			for again := true; again; again = time.Since(begin) < life {
				into := &sink{Blockstore: content.Memory()}
				job := blocks.Job{
					Sources: []blocks.Source{{Peer: ids[i], Request: blocks.Public(h.ID(), root)}},
					Into:    content.NewPublicStore(into), MaxBytes: size,
				}
				cfg := blocks.Default()
				cfg.FrameTimeout, cfg.After = within, time.After // as a client's
				if _, err := blocks.Fetch(t.Context(), h, job, cfg); err != nil {
					return fmt.Errorf("fetcher %d after %s: %w", i, time.Since(begin), err)
				}
				if got := into.bytes.Load(); got < size {
					return fmt.Errorf("fetcher %d: %d bytes of %d", i, got, size)
				}
				if times.Add(1); took[i] == 0 {
					took[i] = time.Since(begin)
				}
			}
			return nil
		})
	}
	err = fetching.Wait()
	stop()
	<-watched
	require.NoError(t, err)
	slices.Sort(took)
	require.Less(t, most-before, int64(400), "MiB that the node needs more for them: a block for each, and garbage")
	t.Logf("transfers: %d fetchers at once, %d fetches of 4 MiB, none failed; all had it after %s, the first after %s, half after %s; the node had %d MiB before and %d MiB at most",
		fetchers, times.Load(), took[fetchers-1].Round(time.Millisecond), took[0].Round(time.Millisecond), took[fetchers/2].Round(time.Millisecond), before, most)
}

// anonymous is the memory of a process that is no mapped file, in MiB; 0 when it is gone.
func anonymous(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			var kib int64
			_, err := fmt.Sscan(rest, &kib)
			assert.NoError(t, err)
			return kib >> 10
		}
	}
	return 0
}
