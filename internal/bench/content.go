package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
)

// ContentOptions size the benchmark of content.
type ContentOptions struct {
	// Bytes is the size of the file that moves.
	Bytes uint64
	// Files is how many files of 4 KiB are added.
	Files int
	// Finds is how often something is announced and found.
	Finds int
	// Rounds are made of each way to move the file, in turns, of which the median
	// counts; at least 1.
	Rounds int
	// Dir is where the files and databases are; they are removed.
	Dir string
	// Memory moves the file once, in bulk over TCP, and measures nothing else but the
	// memory of both processes in each quarter of it.
	Memory bool
	// Kubo is the program ipfs to compare with; empty takes the PATH's, if there is one.
	Kubo string
}

// The hidden verbs of the two processes.
const (
	VerbHold  = "hold"
	VerbFetch = "fetch"
)

// How a file moves.
const (
	howBulk    = "bulk"
	howBitswap = "bitswap"
	howFetch   = "fetch"
	howStock   = "stock"
	howRaw     = "raw"
)

const (
	benchNetwork  = "mman-bench"
	smallFile     = 4 << 10
	rawProtocol   = "/mman/bench/raw/1"
	manyBytes     = 1 << 50
	waitForBlocks = time.Minute
	// What Bitswap has on its way to a peer, and puts in a message, unless it is told
	// otherwise, as in kubo.
	stockOutstanding, stockMessage = 1 << 20, 16 << 10
)

// Content measures how fast public content is added, found and moved between two
// processes over loopback, each with its own database on disk. Metrics:
//
//	bulk_tcp, bulk_quic         MB/s of /mman/blocks/1 into a database on disk,
//	                            hashed and synced within the time; the reference
//	                            is Bitswap in the same run
//	bitswap_tcp, bitswap_quic   MB/s of Bitswap through a DagReader into the same,
//	                            with our settings; the reference is the raw stream
//	bitswap_fetch_tcp, …        the same block by block, as nodes fetch, without a
//	                            reader; the reference is Bitswap through one
//	stock_tcp, stock_quic       the same with Bitswap's own settings, as in kubo
//	bulk_tcp_of_stock, …        bulk beside these
//	raw_tcp, raw_quic           MB/s of bytes that nobody hashes or stores
//	bulk_tcp_of_raw, …          bulk beside the raw stream
//	rss_tcp, rss_quic           MiB that the receiver's process took at most while
//	                            it fetched in bulk, files mapped not counted
//	rss_tcp_quarter_1 to _4, …  the same in each quarter of the file
//	sender_rss_tcp_quarter_1, … and of the sender's process
//	add                         MB/s of one file added and synced; the reference
//	                            is the same file copied and synced
//	add_files                   files of 4 KiB a second added as a folder, and
//	                            synced; the reference is their being copied
//	kubo_tcp, kubo_quic         MB/s of a stock kubo from another one, as Kubo says,
//	                            if there is one; the reference is the raw stream
//	bulk_tcp_of_kubo, …         bulk beside these
//	publish_findable            ms from adding a file until another peer, who knows
//	                            a third only, found who has it; the median
//
// With Memory there are the first and the quarters over TCP only, and the report comes
// with mman.ErrMemory when a side took more than 1.25 times as much in the last quarter
// as in the first.
func Content(ctx context.Context, o ContentOptions) (_ *Report, err error) {
	if o.Bytes < 1<<20 || o.Files < 1 || o.Finds < 1 || o.Rounds < 1 {
		return nil, fmt.Errorf("%w: bench content: at least 1 MiB, 1 file, 1 search and 1 round are needed", mman.ErrInvalid)
	}
	program, missing, err := kuboProgram(o.Kubo)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "mman-bench-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := newReport("content")
	h, err := startHolder(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	if o.Memory {
		got, err := h.fetch(ctx, filepath.Join(dir, "memory"), "tcp", howBulk)
		if err != nil {
			return nil, err
		}
		r.set("bulk_tcp", "MB/s", got.Rate, 0)
		r.memory("tcp", got)
		return r, got.grown()
	}
	r.set("add", "MB/s", h.told.Add, h.told.Copy)
	r.set("add_files", "1/s", h.told.AddFiles, h.told.CopyFiles)
	rates := map[string]map[string]fetched{}
	for _, wire := range []string{overTCP, overQUIC} {
		if rates[wire], err = r.moved(ctx, h, dir, wire, o.Rounds); err != nil {
			return nil, err
		}
	}
	if missing != "" {
		r.Notes = append(r.Notes, missing)
	} else if err := r.beside(ctx, program, dir, o.Bytes, rates); err != nil {
		return nil, err
	}
	found, err := findable(ctx, o.Finds)
	if err != nil {
		return nil, err
	}
	r.set("publish_findable", "ms", quantile(found, 0.5), 0)
	r.set("publish_findable_p99", "ms", quantile(found, 0.99), 0)
	return r, nil
}

// moved measures the ways over one kind of line. What it returns has the median rates,
// and the memory of the last round.
func (r *Report) moved(ctx context.Context, h *holder, dir, wire string, rounds int) (map[string]fetched, error) {
	rate, all := map[string]fetched{}, map[string][]float64{}
	for range rounds {
		for _, how := range []string{howRaw, howBulk, howBitswap, howFetch, howStock} {
			into := filepath.Join(dir, "fetcher")
			got, err := h.fetch(ctx, into, wire, how)
			if err := errors.Join(err, os.RemoveAll(into)); err != nil {
				return nil, fmt.Errorf("%s over %s: %w", how, wire, err)
			}
			all[how] = append(all[how], got.Rate)
			got.Rate = median(all[how])
			rate[how] = got
		}
	}
	r.set("bulk_"+wire, "MB/s", rate[howBulk].Rate, rate[howBitswap].Rate)
	r.set("bitswap_"+wire, "MB/s", rate[howBitswap].Rate, rate[howRaw].Rate)
	r.set("bitswap_fetch_"+wire, "MB/s", rate[howFetch].Rate, rate[howBitswap].Rate)
	r.set("stock_"+wire, "MB/s", rate[howStock].Rate, rate[howRaw].Rate)
	r.set("bulk_"+wire+"_of_stock", "MB/s", rate[howBulk].Rate, rate[howStock].Rate)
	r.set("raw_"+wire, "MB/s", rate[howRaw].Rate, 0)
	r.set("bulk_"+wire+"_of_raw", "MB/s", rate[howBulk].Rate, rate[howRaw].Rate)
	r.memory(wire, rate[howBulk])
	return rate, nil
}

// beside measures kubo for comparison with what moved.
func (r *Report) beside(ctx context.Context, program, dir string, size uint64, rates map[string]map[string]fetched) error {
	others, err := Kubo(ctx, program, dir, size)
	if err != nil {
		return err
	}
	for wire, other := range others {
		r.set("kubo_"+wire, "MB/s", other, rates[wire][howRaw].Rate)
		r.set("bulk_"+wire+"_of_kubo", "MB/s", rates[wire][howBulk].Rate, other)
	}
	return nil
}

// told is what a holder prints when it is ready.
type told struct {
	Addrs []string `json:"addrs"`
	// Stock is where the same is served by Bitswap with its own settings.
	Stock []string `json:"stock"`
	Root  mman.CID `json:"root"`

	Add       float64 `json:"add"`
	Copy      float64 `json:"copy"`
	AddFiles  float64 `json:"add_files"`
	CopyFiles float64 `json:"copy_files"`
}

// fetched is what a fetcher prints.
type fetched struct {
	Rate float64 `json:"rate"`
	// Here and There are the most memory of the receiver and the sender in each quarter
	// of what moved in bulk, in MiB.
	Here  [quarters]float64 `json:"here"`
	There [quarters]float64 `json:"there"`
}

// watch notes the memory of this process and another one.
func (f *fetched) watch(p content.Progress, other int) {
	if p.Total == 0 {
		return
	}
	i := min(int(quarters*p.Done/p.Total), quarters-1) //nolint:gosec // at most quarters
	f.Here[i] = max(f.Here[i], anonymousMiB(os.Getpid()))
	f.There[i] = max(f.There[i], anonymousMiB(other))
}

// mostGrowth is how much the last quarter of a transfer may take, over the first.
const mostGrowth = 1.25

// grown reports a side whose memory grew with what moved, as mman.ErrMemory.
func (f *fetched) grown() error {
	for _, side := range []struct {
		name string
		took [quarters]float64
	}{{"receiver", f.Here}, {"sender", f.There}} {
		first, last := side.took[0], side.took[quarters-1]
		switch {
		case first == 0 || last == 0:
			return fmt.Errorf("%w: nobody saw the %s's memory in the first or the last quarter: move more with --size, on Linux", mman.ErrInvalid, side.name)
		case last > mostGrowth*first:
			return fmt.Errorf("%w: the %s took %.0f MiB in the last quarter and %.0f in the first: at most %.2f times as much is flat", mman.ErrMemory, side.name, last, first, mostGrowth)
		}
	}
	return nil
}

// memory tells what both sides took.
func (r *Report) memory(wire string, got fetched) {
	r.set("rss_"+wire, "MiB", slices.Max(got.Here[:]), 0)
	for i := range quarters {
		nth := "_quarter_" + strconv.Itoa(i+1)
		r.set("rss_"+wire+nth, "MiB", got.Here[i], got.Here[0])
		r.set("sender_rss_"+wire+nth, "MiB", got.There[i], got.There[0])
	}
}

type holder struct {
	program string
	bytes   uint64
	told    told
	cmd     *exec.Cmd
	stdin   io.Closer
}

func startHolder(ctx context.Context, dir string, o ContentOptions) (*holder, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	h := &holder{program: program, bytes: o.Bytes}
	h.cmd = exec.CommandContext(ctx, program, "bench", VerbHold, "--dir", filepath.Join(dir, "holder"), "--size", strconv.FormatUint(o.Bytes, 10), "--files", strconv.Itoa(o.Files), "--memory="+strconv.FormatBool(o.Memory)) //nolint:gosec // this very program
	h.cmd.Stderr = os.Stderr
	stdin, err := h.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	h.stdin = stdin
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: start the holder: %w", mman.ErrInternal, err)
	}
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&h.told); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: the holder says nothing: %w", mman.ErrInternal, err), h.stop())
	}
	return h, nil
}

// stop ends the holder, which lives as long as its standard input.
func (h *holder) stop() error {
	if err := errors.Join(h.stdin.Close(), h.cmd.Wait()); err != nil {
		return fmt.Errorf("%w: the holder: %w", mman.ErrInternal, err)
	}
	return nil
}

// fetch runs one fetcher, a process and a database of its own.
func (h *holder) fetch(ctx context.Context, dir, wire, how string) (fetched, error) {
	addr, addrs := "", h.told.Addrs
	if how == howStock {
		addrs = h.told.Stock
	}
	for _, a := range addrs {
		if strings.Contains(a, "/"+wire) {
			addr = a
		}
	}
	cmd := exec.CommandContext(ctx, h.program, "bench", VerbFetch, "--dir", dir, "--from", addr, "--root", h.told.Root.String(), "--how", how, "--size", strconv.FormatUint(h.bytes, 10), "--sender", strconv.Itoa(h.cmd.Process.Pid)) //nolint:gosec // this very program
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fetched{}, fmt.Errorf("%w: the fetcher: %w", mman.ErrInternal, err)
	}
	var got fetched
	if err := json.Unmarshal(out, &got); err != nil {
		return fetched{}, fmt.Errorf("%w: the fetcher: %w", mman.ErrInternal, err)
	}
	return got, os.RemoveAll(dir)
}

// party is one side with its database on disk.
type party struct {
	store  *store.Store
	host   *p2p.Host
	public *content.PublicStore
	swap   *content.Service
}

func newParty(ctx context.Context, dir string, ccfg content.Config, listen ...string) (*party, error) {
	p := &party{}
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		p.store, err = store.Open(store.DefaultConfig(dir, slog.New(slog.DiscardHandler)))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	p.public = content.NewPublicStore(p.store.Data().PublicBlocks())
	if err := p.join(ctx, ccfg, listen...); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// join enters the network with the party's store.
func (p *party) join(ctx context.Context, ccfg content.Config, listen ...string) (err error) {
	cfg := p2p.Default()
	cfg.NetworkID, cfg.Listen, cfg.Now, cfg.Mode = benchNetwork, listen, time.Now, p2p.ModeServer
	if len(listen) == 0 {
		cfg.Mode = p2p.ModeClient
	}
	if p.host, err = p2p.New(cfg); err != nil {
		return err
	}
	if err := p.host.Start(ctx); err != nil {
		return err
	}
	p.swap, err = content.New(ctx, p.host, p.public, nil, ccfg)
	return err
}

// swaps returns the settings of Bitswap: ours, or those that it has by itself.
func swaps(stock bool) content.Config {
	cfg := content.Default()
	cfg.After, cfg.BlockTimeout = time.After, waitForBlocks
	if stock {
		cfg.Outstanding, cfg.Message = stockOutstanding, stockMessage
	}
	return cfg
}

func (p *party) close() error {
	var errs []error
	if p.swap != nil {
		errs = append(errs, p.swap.Close())
	}
	if p.host != nil {
		errs = append(errs, p.host.Close())
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	return errors.Join(errs...)
}

func transfers() blocks.Config {
	cfg := blocks.Default()
	cfg.Now, cfg.After = time.Now, time.After
	return cfg
}

// everybody may have what is public.
type everybody struct{ store content.Reader }

func (e everybody) Authorize(_ context.Context, r blocks.Request, _ mman.PeerID) (blocks.Grant, error) {
	if !r.IsPublic() {
		return blocks.Grant{}, mman.ErrDenied
	}
	return blocks.Grant{Store: e.store, Root: r.Root}, nil
}

// Hold is the holder's process: it adds what Content asks for, prints what it has
// as one JSON object, and serves it until stdin ends.
func Hold(ctx context.Context, o ContentOptions, stdin io.Reader, stdout io.Writer) (err error) {
	listen := []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
	p, err := newParty(ctx, filepath.Join(o.Dir, "db"), swaps(false), listen...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	stock := &party{public: p.public} // its store is p's to close
	defer func() { err = errors.Join(stock.close(), err) }()
	if err := stock.join(ctx, swaps(true), listen...); err != nil {
		return err
	}
	t := told{Addrs: p.host.Addrs(), Stock: stock.host.Addrs()}
	if err := p.add(ctx, o, &t); err != nil {
		return err
	}
	if err := blocks.Serve(ctx, p.host, everybody{p.public}, transfers()); err != nil {
		return err
	}
	p.host.Handle(ctx, rawProtocol, func(_ context.Context, s p2p.Stream) { sendRaw(s, o.Bytes) })
	if err := json.NewEncoder(stdout).Encode(t); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// sendRaw writes so many bytes to whoever opens the raw protocol.
func sendRaw(s p2p.Stream, n uint64) {
	buf := make([]byte, 1<<20)
	for ; n > 0; n -= min(n, uint64(len(buf))) {
		if _, err := s.Write(buf[:min(n, uint64(len(buf)))]); err != nil {
			return // the fetcher sees it
		}
	}
	_ = s.Close() // the fetcher counts the bytes
}

func rate(n uint64, took time.Duration) float64 { return float64(n) / 1e6 / took.Seconds() }

// add adds the file and the many small ones. For a look at memory no file is needed.
func (p *party) add(ctx context.Context, o ContentOptions, t *told) error {
	if !o.Memory {
		return errors.Join(p.addFile(ctx, o, t), p.addFiles(ctx, o, t))
	}
	data, err := random(o.Bytes)
	if err != nil {
		return err
	}
	if t.Root, _, err = p.swap.AddPublic(ctx, data); err != nil {
		return err
	}
	return p.public.Sync()
}

func (p *party) addFile(ctx context.Context, o ContentOptions, t *told) (err error) {
	path := filepath.Join(o.Dir, "file")
	if err := writeRandom(path, o.Bytes); err != nil {
		return err
	}
	begin := time.Now()
	if err := copyFile(path, path+".copy"); err != nil {
		return err
	}
	t.Copy = rate(o.Bytes, time.Since(begin))
	f, err := os.Open(path) //nolint:gosec // made above
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	begin = time.Now()
	if t.Root, _, err = p.swap.AddPublic(ctx, f); err == nil {
		err = p.public.Sync()
	}
	t.Add = rate(o.Bytes, time.Since(begin))
	return errors.Join(err, f.Close(), os.Remove(path), os.Remove(path+".copy"))
}

// writeRandom makes a file of random bytes.
func writeRandom(path string, n uint64) (err error) {
	f, err := os.Create(path) //nolint:gosec // in our own folder
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := random(n)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, data); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return nil
}

// random returns so many random bytes.
func random(n uint64) (io.Reader, error) {
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	return io.LimitReader(mathrand.NewChaCha8(seed), int64(n)), nil //nolint:gosec // sizes of files
}

// copyFile copies a file and syncs it.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from) //nolint:gosec // in our own folder
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.Create(to) //nolint:gosec // in our own folder
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	// Through a buffer: some systems copy a file by noting that it is the same.
	if _, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return out.Sync()
}

func (p *party) addFiles(ctx context.Context, o ContentOptions, t *told) error {
	from, to := filepath.Join(o.Dir, "files"), filepath.Join(o.Dir, "copies")
	for _, dir := range []string{from, to} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
	}
	for i := range o.Files {
		if err := writeRandom(filepath.Join(from, strconv.Itoa(i)), smallFile); err != nil {
			return err
		}
	}
	begin := time.Now()
	if err := os.CopyFS(filepath.Join(to, "all"), os.DirFS(from)); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	t.CopyFiles = float64(o.Files) / time.Since(begin).Seconds()
	begin = time.Now()
	tree, err := p.swap.AddPublicFolder(ctx, os.DirFS(from))
	if err == nil {
		err = p.public.Sync()
	}
	if err != nil {
		return err
	}
	t.AddFiles = float64(tree.Files) / time.Since(begin).Seconds()
	return errors.Join(os.RemoveAll(from), os.RemoveAll(to))
}

// FetchOptions say what a fetcher's process fetches.
type FetchOptions struct {
	Dir, From, Root, How string
	Bytes                uint64
	// Sender is the holder's process.
	Sender int
}

// Fetch is the fetcher's process: it fetches what Content asks for, and prints how
// fast, as one JSON object.
func Fetch(ctx context.Context, o FetchOptions, stdout io.Writer) (err error) {
	p, err := newParty(ctx, o.Dir, swaps(o.How == howStock))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	root, err := mman.ParseCID(o.Root)
	if err != nil {
		return err
	}
	from, err := p.host.Connect(ctx, []string{o.From})
	if err != nil {
		return err
	}
	var got fetched
	begin := time.Now()
	switch o.How {
	case howRaw:
		err = p.fetchRaw(ctx, from, o.Bytes)
	case howBulk:
		_, err = blocks.Fetch(ctx, p.host, blocks.Job{
			Sources: []blocks.Source{{Peer: from, Request: blocks.Public(p.host.ID(), root)}}, Into: p.public, MaxBytes: manyBytes,
			Progress: func(p content.Progress) { got.watch(p, o.Sender) },
		}, transfers())
	case howBitswap, howStock:
		err = p.fetchBitswap(ctx, root)
	case howFetch:
		if _, err = p.swap.Fetch(ctx, root, manyBytes); err == nil {
			err = p.public.Sync()
		}
	default:
		err = fmt.Errorf("%w: --how %.20q", mman.ErrInvalid, o.How)
	}
	if err != nil {
		return err
	}
	got.Rate = rate(o.Bytes, time.Since(begin))
	return json.NewEncoder(stdout).Encode(got)
}

func (p *party) fetchRaw(ctx context.Context, from mman.PeerID, n uint64) error {
	s, err := p.host.Open(ctx, from, rawProtocol)
	if err != nil {
		return err
	}
	got, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{s}, make([]byte, 1<<20))
	if err == nil && uint64(got) != n { //nolint:gosec // a count
		err = fmt.Errorf("%w: %d of %d raw bytes", mman.ErrPeerVanished, got, n)
	}
	return err
}

func (p *party) fetchBitswap(ctx context.Context, root mman.CID) error {
	f, err := p.swap.Stream(ctx, root, manyBytes)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		return err
	}
	return errors.Join(f.Close(), p.public.Sync())
}

// neighbours are peers that all know the first only.
type neighbours struct {
	hosts []*p2p.Host
	found []*discovery.Discovery
}

func (n *neighbours) close() error {
	var errs []error
	for _, d := range n.found {
		errs = append(errs, d.Close())
	}
	for _, h := range n.hosts {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}

// join adds a peer.
func (n *neighbours) join(ctx context.Context) error {
	cfg := p2p.Default()
	cfg.NetworkID, cfg.Listen, cfg.Now, cfg.Mode = benchNetwork, []string{"/ip4/127.0.0.1/tcp/0"}, time.Now, p2p.ModeServer
	if len(n.hosts) > 0 {
		cfg.Bootstrap = n.hosts[0].Addrs()
	}
	h, err := p2p.New(cfg)
	if err != nil {
		return err
	}
	n.hosts = append(n.hosts, h)
	if err := h.Start(ctx); err != nil {
		return err
	}
	dcfg := discovery.Default()
	dcfg.After = time.After
	d, err := discovery.New(h, dcfg)
	if err != nil {
		return err
	}
	n.found = append(n.found, d)
	return d.Bootstrap(ctx)
}

// findable times announcements: one peer adds and announces, another finds it;
// both know a third only.
func findable(ctx context.Context, times int) (_ []time.Duration, err error) {
	n := &neighbours{}
	defer func() { err = errors.Join(err, n.close()) }()
	for range 3 {
		if err := n.join(ctx); err != nil {
			return nil, err
		}
	}
	for _, d := range n.found {
		if err := d.WaitReady(ctx); err != nil {
			return nil, err
		}
	}
	ccfg := content.Default()
	ccfg.After = time.After
	adder, err := content.New(ctx, n.hosts[1], content.NewPublicStore(content.Memory()), n.found[1], ccfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, adder.Close()) }()
	took := make([]time.Duration, times)
	for i := range took {
		if took[i], err = n.find(ctx, adder); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// find times one announcement of the second peer, which the third looks for.
func (n *neighbours) find(ctx context.Context, adder *content.Service) (time.Duration, error) {
	data := make([]byte, smallFile)
	if _, err := rand.Read(data); err != nil {
		return 0, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	begin := time.Now()
	c, _, err := adder.AddPublic(ctx, bytes.NewReader(data))
	if err != nil {
		return 0, err
	}
	if err := n.found[1].Provide(ctx, c); err != nil {
		return 0, err
	}
	who, err := n.found[2].FindProviders(ctx, c, 1)
	if err != nil {
		return 0, err
	}
	if len(who) != 1 || who[0].ID != n.hosts[1].ID() {
		return 0, fmt.Errorf("%w: %s was announced and nobody found it", mman.ErrNotFound, c)
	}
	return time.Since(begin), nil
}
