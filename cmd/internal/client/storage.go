package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market/storage"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/resources/folder"
	"github.com/limboid/massive-man/sdk"
	"github.com/limboid/massive-man/sdk/chain"
	"github.com/limboid/massive-man/sdk/spool"
)

// blockTime is how long a block lasts on an idle chain, by which a duration becomes
// epochs.
const blockTime = time.Second

// storageVerbs are the verbs of mman request that store and fetch files.
func (a *app) storageVerbs() []*cobra.Command {
	return []*cobra.Command{a.store(), a.fetchStored(), a.listStored(), a.renewStored(), a.endStored()}
}

func (a *app) store() *cobra.Command {
	w, price, duration, resume := sdk.StoreWanted{Replicas: 3, Tier: storage.Fast}, "0.001MAN", "30d", ""
	tier, latency := string(w.Tier), time.Duration(0)
	cmd := &cobra.Command{
		Use: "store FILE|FOLDER", Short: "Store a file or folder with providers that prove that they have it",
		Long: `Store a file or folder with providers that prove that they have it.

The file is encrypted here, once for each replica and each time under another key, in
the format of age; --public leaves it readable for everybody who pays to fetch it. The
ledger gives each replica to another provider, takes a deposit from it, and pays it for
each epoch in which it proved to have a part that nobody could foresee. A replica that
is not proved is given to another provider, who copies it from one that is.

What each tier costs and how soon its providers claim to serve is in 'mman offer list
--kind storage'. The most that it may cost is held until the end, and the rest comes back. The keys are
in the folder storage of this home: without it a private file cannot be read again.
An upload that broke goes on with --resume LEASE. A folder is stored as one archive,
without names that begin with a dot, and fetched as a folder again.`,
		Example: "  mman request store photos.tar --replicas 3 --tier fast --for 30d\n  mman request store book.txt --public --max-price 0.0005MAN\n  mman request store --resume 4f1d…",
		Args:    console.Args(0, 1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := a.signer(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // what was sent is sent
			if resume != "" {
				return a.resumeStore(ctx, c, resume)
			}
			if len(args) == 0 {
				return console.Wrong("name the FILE to store, or --resume LEASE")
			}
			if err := readable(args[0]); err != nil {
				return err
			}
			w.File, w.Name, w.Tier = args[0], filepath.Base(args[0]), storage.Tier(tier)
			if w.MaxPrice, err = mman.ParseAmount(price); err != nil {
				return console.Wrong("--max-price: %w", err)
			}
			if w.Epochs, err = a.epochs(ctx, c, "--for", duration); err != nil {
				return err
			}
			if latency > 0 {
				if err := prompt(ctx, c, &w, latency); err != nil {
					return err
				}
			}
			a.tick("encrypting …")
			s, err := c.Store(ctx, w, a.moving())
			if err != nil {
				return err
			}
			return a.showStored(ctx, c, s)
		},
	}
	f := cmd.Flags()
	f.IntVar(&w.Replicas, "replicas", w.Replicas, "how many, each with another provider")
	f.StringVar(&tier, "tier", tier, "fast, or slow: one replica after another is served, for less")
	f.StringVar(&duration, "for", duration, "how long, for example 12h or 30d; renew with mman request renew")
	f.StringVar(&price, "max-price", price, "the most for a MiB and epoch")
	f.DurationVar(&latency, "max-latency", 0, "only with providers that claim that the first byte takes no longer (default any)")
	f.BoolVar(&w.Spread, "regions", false, "each replica in another region")
	f.BoolVar(&w.Public, "public", false, "do not encrypt: everybody may fetch it")
	f.StringVar(&resume, "resume", "", "go on with the upload of this lease")
	return cmd
}

// epochs turns the duration of a flag into epochs of the chain, rounded up.
func (a *app) epochs(ctx context.Context, c *sdk.Client, flag, text string) (uint64, error) {
	days, isDays := strings.CutSuffix(text, "d")
	var d time.Duration
	if n, err := strconv.ParseUint(days, 10, 16); isDays && err == nil {
		d = time.Duration(n) * 24 * time.Hour
	} else if d, err = time.ParseDuration(text); err != nil || d <= 0 {
		return 0, console.Wrong("%s %.32q: write 12h or 30d", flag, text)
	}
	params, err := c.Chain().Params(ctx)
	if err != nil {
		return 0, err
	}
	blocks := uint64((d + blockTime - 1) / blockTime)
	return (blocks + params.StorageEpochBlocks - 1) / params.StorageEpochBlocks, nil
}

// moving shows how far all replicas together are, how fast they go and how long they
// still take.
func (a *app) moving() func(sdk.Moving) { return together(content.NewMeter(a.now, a.progress)) }

// together tells a meter of all replicas.
func together(meter *content.Meter) func(sdk.Moving) {
	var mu sync.Mutex
	of := map[int]sdk.Moving{}
	return func(m sdk.Moving) {
		mu.Lock()
		defer mu.Unlock()
		of[m.Replica] = m
		var done, total uint64
		for _, one := range of {
			done, total = done+one.Done, total+one.Total
		}
		meter.SetTotal(total)
		meter.At(done)
	}
}

func parseLease(word string) (id mman.LeaseID, err error) {
	if err := id.UnmarshalText([]byte(word)); err != nil {
		return id, console.Wrong("%w", err)
	}
	return id, nil
}

// stored returns what this home keeps of a storage lease, also when the store that made
// it was cut off.
func stored(ctx context.Context, c *sdk.Client, id mman.LeaseID) (sdk.Stored, error) {
	s, err := c.Stored(id)
	if !errors.Is(err, mman.ErrNotFound) {
		return s, err
	}
	adopting := c.Adopt(ctx)
	if s, err = c.Stored(id); err != nil {
		return s, errors.Join(err, adopting)
	}
	return s, nil
}

func (a *app) resumeStore(ctx context.Context, c *sdk.Client, word string) error {
	id, err := parseLease(word)
	if err != nil {
		return err
	}
	s, err := stored(ctx, c, id)
	if err != nil {
		return err
	}
	if err := c.Resume(ctx, s, a.moving()); err != nil {
		return err
	}
	return a.showStored(ctx, c, s)
}

// storedEntry is a storage lease and what this home knows of it.
type storedEntry struct {
	Name    string        `json:"name,omitempty"`
	Content mman.CID      `json:"content,omitzero"`
	Lease   storage.Lease `json:"lease"`
	// Ends is the height at which it ends, Left about how long that is from now, in
	// seconds, at a block each second. Expiring says that its last epoch began.
	Ends     uint64 `json:"ends"`
	Left     uint64 `json:"left_s"`
	Expiring bool   `json:"expiring"`
}

// newStoredEntry says when a lease ends.
func newStoredEntry(l storage.Lease, now clock) storedEntry {
	e := storedEntry{Lease: l, Content: l.Content, Ends: (l.Last + 1) * now.epochBlocks, Expiring: l.Noticed}
	e.Left = (e.Ends - min(e.Ends, now.height)) * uint64(blockTime/time.Second)
	return e
}

// clock is the chain's height, and how many blocks an epoch of storage has.
type clock struct{ height, epochBlocks uint64 }

func readClock(ctx context.Context, c *sdk.Client) (clock, error) {
	params, err := c.Chain().Params(ctx)
	if err != nil {
		return clock{}, err
	}
	st, err := c.Chain().Status(ctx)
	return clock{st.Height, params.StorageEpochBlocks}, err
}

// ownLeases returns the storage leases of the account that signs.
func ownLeases(ctx context.Context, c *sdk.Client) ([]storage.Lease, clock, error) {
	s, err := c.Submitter()
	if err != nil {
		return nil, clock{}, err
	}
	leases, err := c.Chain().StorageLeases(ctx, s.Address(), maxListed)
	if err != nil {
		return nil, clock{}, err
	}
	now, err := readClock(ctx, c)
	return leases, now, err
}

func (a *app) showStored(ctx context.Context, c *sdk.Client, s sdk.Stored) error {
	l, err := c.Chain().StorageLease(ctx, s.Lease)
	if err != nil {
		return err
	}
	now, err := readClock(ctx, c)
	if err != nil {
		return err
	}
	e := newStoredEntry(l, now)
	e.Name, e.Content = s.Name, s.Content
	lines := facts("lease", l.ID.String(), "content", s.Content.String(), "held", l.Escrow.String(), "ends", endLine(e), "next", "mman request fetch "+l.ID.String()+" --out FILE")
	for i, r := range l.Replicas {
		lines = append(lines, fmt.Sprintf("replica %d  %s at %s", i, r.State, r.Provider))
	}
	return a.answer(e, lines...)
}

func (a *app) fetchStored() *cobra.Command {
	out, price := "", "0.01MAN"
	cmd := &cobra.Command{
		Use: "fetch LEASE|CID", Short: "Fetch a stored file: one's own by its lease, a public one by its CID",
		Long: `Fetch a stored file and check that it is the one that was stored.

An own file is fetched by its lease, for nothing. A public file is fetched by its CID;
what its holder asks is set aside on the ledger, at most --max-price a MiB, and paid as
it comes. A fetch that broke goes on where it stopped when it is typed again.`,
		Example: "  mman request fetch 4f1d… --out photos.tar\n  mman request fetch baf… --out book.txt",
		Args:    console.Args(1, 1, "LEASE or CID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return console.Wrong("--out: name the file to write")
			}
			most, err := mman.ParseAmount(price)
			if err != nil {
				return console.Wrong("--max-price: %w", err)
			}
			return a.runFetch(cmd.Context(), args[0], out, most)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write; replaced when it is whole")
	cmd.Flags().StringVar(&price, "max-price", price, "the most for a MiB of a public file")
	return cmd
}

func (a *app) runFetch(ctx context.Context, word, out string, most mman.Amount) error {
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // what was sent is sent
	n, err := a.saveWord(ctx, c, word, out, most)
	if err != nil {
		return err
	}
	a.tick("")
	return a.answer(map[string]any{"file": out, "bytes": n}, fmt.Sprintf("%s  %d bytes", out, n))
}

// saveWord fetches what a lease or a CID names and returns its bytes.
func (a *app) saveWord(ctx context.Context, c *sdk.Client, word, out string, most mman.Amount) (uint64, error) {
	if id, err := mman.ParseCID(word); err == nil {
		return a.save(out, false, func(w io.Writer) error { return c.RetrievePublic(ctx, id, most, w, a.moving()) })
	}
	id, err := parseLease(word)
	if err != nil {
		return 0, console.Wrong("%.80q is neither a lease nor a CID", word)
	}
	s, err := stored(ctx, c, id)
	if err != nil {
		return 0, err
	}
	return a.saveStored(ctx, c, s, out)
}

// saveStored fetches what was stored to a file or folder and returns its bytes.
func (a *app) saveStored(ctx context.Context, c *sdk.Client, s sdk.Stored, out string) (uint64, error) {
	return a.save(out, s.Folder, func(w io.Writer) error { return c.Retrieve(ctx, s, w, a.moving()) })
}

// save lets get write a file, or the pack of what becomes a new folder, and returns the
// bytes that it wrote.
func (a *app) save(out string, packed bool, get func(w io.Writer) error) (_ uint64, err error) {
	if !packed {
		to, err := a.newOutput(out)
		if err != nil {
			return 0, err
		}
		defer to.discard()
		if err := get(to); err != nil {
			return 0, err
		}
		if err := to.deliver(true); err != nil {
			return 0, err
		}
		return regular(out)
	}
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		return 0, console.Wrong("--out %s is there already: name a new folder", out)
	}
	f, err := spool.Nameless("mman-folder-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := get(f); err != nil {
		return 0, err
	}
	end, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return 0, diskError("read what was fetched", err)
	}
	size := uint64(end) //nolint:gosec // a length is not negative
	return size, unpack(f, size, out)
}

// unpack makes a folder of its pack.
func unpack(pack *os.File, size uint64, out string) error {
	entries, err := folder.Read(pack, size)
	if err != nil {
		return err
	}
	return newFolder(out, func(top *os.Root) error {
		for _, e := range entries {
			if e.Folder {
				err = diskError("make folder "+e.Path, top.Mkdir(e.Path, 0o777))
			} else {
				err = saveIn(top, e.Path, io.NewSectionReader(pack, int64(e.Offset), int64(e.Size))) //nolint:gosec // within the pack
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// dataFolder of a home holds what --data names and is not here: files and folders by
// CID, and those of storage leases.
const dataFolder = "data"

// bring fetches what is wanted as data and is no resource, once: it cannot change.
func (a *app) bring(ctx context.Context, c *sdk.Client, w *sdk.Wanted) error {
	for i := range w.Data {
		d := &w.Data[i]
		if !d.Foreign() {
			continue
		}
		name := d.Stored.String()
		if !d.Resource.IsZero() {
			name = d.Resource.String()
		}
		path := filepath.Join(a.home, dataFolder, name)
		if _, err := os.Stat(path); err != nil {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return fmt.Errorf("%w: %w", mman.ErrHome, err)
			}
			if err := a.bringOne(ctx, c, *d, path, w.Limits.InputBytes); err != nil {
				return err
			}
			a.tick("")
		}
		*d = sdk.Content{File: path}
	}
	return nil
}

func (a *app) bringOne(ctx context.Context, c *sdk.Client, d sdk.Content, path string, most uint64) error {
	if !d.Resource.IsZero() {
		return a.fetched(ctx, d.Resource, most, func(content.Entry) error { return nil }, func(f *sdk.Fetched) error {
			if f.Root.Folder {
				return saveFolder(ctx, f, path)
			}
			return a.saveFile(ctx, f, path)
		})
	}
	s, err := stored(ctx, c, d.Stored)
	if err != nil {
		return err
	}
	_, err = a.saveStored(ctx, c, s, path)
	return err
}

func (a *app) listStored() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List own storage leases, how their replicas stand and when they end",
		Example: "  mman request ls -o json",
		Args:    console.Args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := a.signer(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			if err := c.Adopt(ctx); err != nil {
				a.note("%v", err) // what is listed is right without it
			}
			leases, now, err := ownLeases(ctx, c)
			if err != nil {
				return err
			}
			entries, rows := []storedEntry{}, [][]string{}
			for _, l := range leases {
				e := newStoredEntry(l, now)
				if own, err := c.Stored(l.ID); err == nil {
					e.Name, e.Content = own.Name, own.Content
				}
				entries = append(entries, e)
				rows = append(rows, []string{l.ID.String(), e.Name, strconv.FormatUint(l.Bytes, 10), replicaLine(l), endLine(e)})
			}
			answer := struct {
				Stored []storedEntry `json:"stored"`
			}{entries}
			if len(entries) == 0 {
				return a.answer(answer, "Nothing is stored.")
			}
			return a.answer(answer, table([]string{"LEASE", "NAME", "BYTES", "REPLICAS", "ENDS"}, rows)...)
		},
	}
}

// replicaLine counts the replicas by state; copies since a repair are said.
func replicaLine(l storage.Lease) string {
	var words []string
	for _, state := range []storage.ReplicaState{storage.Held, storage.Assigned, storage.Lost, storage.Unplaced} {
		n, copies := 0, 0
		for _, r := range l.Replicas {
			if r.State == state {
				n++
				if r.Copy {
					copies++
				}
			}
		}
		switch {
		case n > 0 && copies > 0:
			words = append(words, fmt.Sprintf("%d %s (%d of them copies)", n, state, copies))
		case n > 0:
			words = append(words, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(words, ", ")
}

func endLine(e storedEntry) string {
	left := time.Duration(e.Left) * time.Second //nolint:gosec // at most storage_max_epochs
	if e.Expiring {
		return fmt.Sprintf("soon, at height %d, in about %s: renew it", e.Ends, left)
	}
	return fmt.Sprintf("at height %d, in about %s", e.Ends, left)
}

func (a *app) endStored() *cobra.Command {
	return &cobra.Command{
		Use: "rm LEASE", Short: "End a storage lease with the epoch that runs",
		Long:    "End a storage lease with the epoch that runs: holders who prove it are paid for it, and the rest of what was held comes back.",
		Example: "  mman request rm 4f1d…",
		Args:    console.Args(1, 1, "LEASE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseLease(args[0])
			if err != nil {
				return err
			}
			return a.changeStored(cmd.Context(), id, func(ctx context.Context, c *sdk.Client) error { return c.EndStorage(ctx, id) })
		},
	}
}

func (a *app) renewStored() *cobra.Command {
	duration, ending := "30d", ""
	cmd := &cobra.Command{
		Use: "renew [LEASE]", Short: "Let a storage lease last longer",
		Long: `Let a storage lease last longer, or with --ending all of one's own that end within a
time: a line for cron, so that nothing ends because nobody looked.`,
		Example: "  mman request renew 4f1d… --for 30d\n  mman request renew --ending 3d --for 30d",
		Args:    console.Args(0, 1, "LEASE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && ending == "":
				return console.Wrong("name a LEASE, or with --ending those that end within a time")
			case len(args) == 0:
				return a.renewEnding(cmd.Context(), ending, duration)
			case ending != "":
				return console.Wrong("--ending is for all leases: leave out %q", args[0])
			}
			id, err := parseLease(args[0])
			if err != nil {
				return err
			}
			return a.changeStored(cmd.Context(), id, func(ctx context.Context, c *sdk.Client) error {
				epochs, err := a.epochs(ctx, c, "--for", duration)
				if err != nil {
					return err
				}
				return c.RenewStorage(ctx, id, epochs)
			})
		},
	}
	cmd.Flags().StringVar(&duration, "for", duration, "how much longer, for example 12h or 30d")
	cmd.Flags().StringVar(&ending, "ending", "", "renew all that end within this time, for example 3d")
	return cmd
}

// renewEnding renews all leases that end within a time. One that cannot be renewed does
// not keep the others from it.
func (a *app) renewEnding(ctx context.Context, ending, duration string) error {
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // what was sent is sent
	within, err := a.epochs(ctx, c, "--ending", ending)
	if err != nil {
		return err
	}
	epochs, err := a.epochs(ctx, c, "--for", duration)
	if err != nil {
		return err
	}
	leases, now, err := ownLeases(ctx, c)
	if err != nil {
		return err
	}
	answer := struct {
		Renewed []mman.LeaseID `json:"renewed"`
	}{[]mman.LeaseID{}}
	var errs []error
	var lines []string
	for _, l := range leases {
		if l.Last > now.height/now.epochBlocks+within {
			continue
		}
		if err := c.RenewStorage(ctx, l.ID, epochs); err != nil {
			errs = append(errs, fmt.Errorf("renew lease %s: %w", l.ID, err))
			continue
		}
		answer.Renewed = append(answer.Renewed, l.ID)
		lines = append(lines, l.ID.String()+" is renewed")
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if len(lines) == 0 {
		lines = []string{"Nothing ends within " + ending + "."}
	}
	return a.answer(answer, lines...)
}

// changeStored does something to a storage lease and shows when it ends.
func (a *app) changeStored(ctx context.Context, id mman.LeaseID, do func(context.Context, *sdk.Client) error) error {
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // what was sent is sent
	if err := do(ctx, c); err != nil {
		return err
	}
	err = a.showStored(ctx, c, sdk.Stored{Lease: id})
	if chain.Gone(err) { // on a fast chain its last epoch is over by now
		return a.answer(struct {
			ID    mman.LeaseID `json:"id"`
			Ended bool         `json:"ended"`
		}{id, true}, facts("lease", id.String(), "ended", "what was held and not paid is back")...)
	}
	return err
}

// lentRoom is what the own node's API takes and answers.
type lentRoom struct {
	Tier      string      `json:"tier"`
	Region    string      `json:"region"`
	Price     mman.Amount `json:"price_uman"`
	Retrieve  mman.Amount `json:"retrieve_uman"`
	LatencyMs uint64      `json:"latency_ms"`
	Capacity  uint64      `json:"capacity_mib"`
}

func (a *app) offerStorage() *cobra.Command {
	room, price, retrieve, capacity, latency := lentRoom{}, "0.0005MAN", "0.001MAN", size(10<<30), time.Duration(0)
	cmd := &cobra.Command{
		Use: "storage", Short: "Lend room for replicas of others' files, through the own node",
		Long: `Lend room for replicas of others' files, through the node that runs from this home.

The node keeps what the ledger gives it, proves it in every epoch and serves it. For
each replica a deposit of some epochs' pay is locked, and burned with the first epoch
that is not proved: a node that is off for longer than storage_window_blocks loses it.
A capacity of 0 takes no more.`,
		Example: "  mman offer storage --tier fast --capacity 100GiB --price 0.0005MAN --region eu\n  mman offer storage --tier slow --capacity 0",
		Args:    console.Args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if room.Price, err = mman.ParseAmount(price); err != nil {
				return console.Wrong("--price: %w", err)
			}
			if room.Retrieve, err = mman.ParseAmount(retrieve); err != nil {
				return console.Wrong("--retrieve: %w", err)
			}
			room.Capacity, room.LatencyMs = uint64(capacity)>>20, uint64(latency.Milliseconds()) //nolint:gosec // the node refuses what is absurd
			n, err := a.ownNode()
			if err != nil {
				return err
			}
			var done lentRoom
			if err := n.call(cmd.Context(), http.MethodPost, "/v1/storage", room, &done); err != nil {
				return err
			}
			return a.answer(done, facts("tier", done.Tier, "region", done.Region, "price", done.Price.String()+" for a MiB and epoch", "capacity", fmt.Sprintf("%d MiB", done.Capacity))...)
		},
	}
	f := cmd.Flags()
	f.StringVar(&room.Tier, "tier", string(storage.Fast), "fast, or slow: one replica after another is served")
	f.StringVar(&room.Region, "region", "", "where it is, as you claim")
	f.StringVar(&price, "price", price, "for each MiB and epoch")
	f.StringVar(&retrieve, "retrieve", retrieve, "for each MiB of a public file that others fetch")
	f.DurationVar(&latency, "latency", 0, "how long the first byte takes, as you claim")
	f.Var(&capacity, "capacity", "how much room")
	return cmd
}
