package gateway

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
)

// Path is where the gateway's paths begin.
const Path = "/ipfs/"

const (
	// maxRequests is how many requests are answered at a time.
	maxRequests = 64
	// maxBytes bounds a file and a CAR file: 1 TiB.
	maxBytes = 1 << 40
	// maxListed bounds the entries of a folder's page.
	maxListed = 10_000
	index     = "index.html"
)

// Gateway answers GET and HEAD of /ipfs/<cid>[/<path>]. With ?format=raw it gives
// the block alone, with ?format=car everything below as a CAR file.
type Gateway struct {
	content *content.Service
	log     *slog.Logger
	room    chan struct{}
}

// New makes a gateway to a service of public content.
func New(service *content.Service, log *slog.Logger) *Gateway {
	return &Gateway{service, log, make(chan struct{}, maxRequests)}
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	select {
	case g.room <- struct{}{}:
		defer func() { <-g.room }()
	default:
		g.fail(w, r, fmt.Errorf("%w: %d requests are being answered", mman.ErrBusy, maxRequests))
		return
	}
	if err := g.answer(w, r); err != nil {
		g.fail(w, r, err)
	}
}

func (g *Gateway) answer(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return fmt.Errorf("%w: the gateway only reads: use GET", mman.ErrUnsupported)
	}
	// Another site may link here, but not look for what this machine has.
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return fmt.Errorf("%w: another site may not embed this", mman.ErrDenied)
	}
	format, err := formatOf(r)
	if err != nil {
		return err
	}
	rest, ok := strings.CutPrefix(r.URL.Path, Path)
	word, inside, _ := strings.Cut(rest, "/")
	if !ok || word == "" {
		return fmt.Errorf("%w: write %s<cid>", mman.ErrNotFound, Path)
	}
	root, err := mman.ParseCID(word)
	if err != nil {
		return err
	}
	var names []string
	for name := range strings.SplitSeq(inside, "/") {
		if name != "" {
			names = append(names, name)
		}
	}
	ctx := r.Context()
	if len(names) == 0 && root.Codec() == mman.CodecDagCBOR {
		format = formatRaw // a manifest
	}
	entry := content.Entry{CID: root}
	if format == formatFile || len(names) > 0 {
		if entry, err = g.content.Folders().Walk(ctx, root, names); err != nil {
			return err
		}
	}
	h := w.Header()
	h.Set("Etag", `"`+entry.CID.String()+format+`"`)
	h.Set("Cache-Control", "public, max-age=29030400, immutable")
	h.Set("X-Ipfs-Roots", entry.CID.String())
	switch {
	case format == formatRaw:
		return g.block(w, r, entry.CID)
	case format == formatCAR:
		return g.car(w, r, entry.CID)
	case entry.Folder:
		return g.folder(w, r, entry)
	default:
		return g.file(w, r, entry)
	}
}

// What a request asks for; a file is also a folder's page.
const (
	formatFile = ""
	formatRaw  = "raw"
	formatCAR  = "car"
)

func formatOf(r *http.Request) (string, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", fmt.Errorf("%w: query %.80q: %w", mman.ErrInvalid, r.URL.RawQuery, err)
	}
	for key := range q {
		if key != "format" {
			return "", fmt.Errorf("%w: query key %.40q: the gateway knows format only", mman.ErrInvalid, key)
		}
	}
	word := q.Get("format")
	if word == "" {
		switch accept, _, _ := strings.Cut(r.Header.Get("Accept"), ";"); accept {
		case typeRaw:
			word = formatRaw
		case typeCAR:
			word = formatCAR
		}
	}
	switch word {
	case formatFile, formatRaw, formatCAR:
		return word, nil
	default:
		return "", fmt.Errorf("%w: format %.40q: use raw or car", mman.ErrInvalid, word)
	}
}

const (
	typeRaw = "application/vnd.ipld.raw"
	typeCAR = "application/vnd.ipld.car"
)

// file sends a file, or the ranges of it that were asked for, as it comes.
func (g *Gateway) file(w http.ResponseWriter, r *http.Request, e content.Entry) (err error) {
	f, err := g.content.Stream(r.Context(), e.CID, maxBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	http.ServeContent(w, r, e.Name, time.Time{}, f) // it writes its own errors
	return nil
}

// folder sends the folder's index page, or a list of what is in it.
func (g *Gateway) folder(w http.ResponseWriter, r *http.Request, e content.Entry) error {
	if !strings.HasSuffix(r.URL.Path, "/") {
		http.Redirect(w, r, (&url.URL{Path: r.URL.Path + "/"}).String(), http.StatusMovedPermanently)
		return nil
	}
	ctx := r.Context()
	if page, err := g.content.Folders().Walk(ctx, e.CID, []string{index}); err == nil && !page.Folder {
		w.Header().Set("Etag", `"`+page.CID.String()+`"`)
		return g.file(w, r, page)
	}
	page := &strings.Builder{}
	_, _ = fmt.Fprintf(page, "<!doctype html>\n<meta charset=utf-8>\n<title>%[1]s</title>\n<h1>%[1]s</h1>\n<ul>\n", html.EscapeString(r.URL.Path))
	left := maxListed
	err := g.content.Folders().List(ctx, e.CID, func(child content.Entry) error {
		if left--; left < 0 {
			return errFull
		}
		_, _ = fmt.Fprintf(page, "<li><a href=\"%s\">%s</a>\n", html.EscapeString((&url.URL{Path: "./" + child.Name}).String()), html.EscapeString(child.Name))
		return nil
	})
	switch {
	case errors.Is(err, errFull):
		_, _ = fmt.Fprintf(page, "</ul>\n<p>and more: this page ends after %d names; ?format=car has all\n", maxListed)
	case err != nil:
		return err
	default:
		page.WriteString("</ul>\n")
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(page.String()))
	return nil
}

// errFull ends a list.
var errFull = errors.New("the page is full")

func (g *Gateway) block(w http.ResponseWriter, r *http.Request, c mman.CID) error {
	b, err := g.content.Block(r.Context(), c)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", typeRaw)
	w.Header().Set("Content-Disposition", `attachment; filename="`+c.String()+`.bin"`)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(b.Data())))
	return nil
}

func (g *Gateway) car(w http.ResponseWriter, r *http.Request, c mman.CID) error {
	h := w.Header()
	h.Set("Content-Type", typeCAR+"; version=1; order=dfs; dups=n")
	h.Set("Content-Disposition", `attachment; filename="`+c.String()+`.car"`)
	if r.Method == http.MethodHead {
		return nil
	}
	out := &counter{Writer: w}
	err := g.content.ExportCAR(r.Context(), c, maxBytes, out)
	if err != nil && out.n > 0 {
		g.log.LogAttrs(r.Context(), slog.LevelDebug, "CAR file not sent whole", slog.String("root", c.String()), slog.Any("error", err))
		panic(http.ErrAbortHandler) // the reader must not take it for whole
	}
	return err
}

// counter counts what was written.
type counter struct {
	io.Writer

	n int
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += n
	return n, err
}

func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, err error) {
	h := w.Header()
	for _, key := range []string{"Etag", "Cache-Control", "X-Ipfs-Roots", "Content-Disposition"} {
		h.Del(key)
	}
	if r.Context().Err() == nil && !errors.Is(err, context.Canceled) {
		http.Error(w, err.Error(), status(err))
	}
}

func status(err error) int {
	switch {
	case errors.Is(err, mman.ErrUnsupported):
		return http.StatusNotImplemented
	case errors.Is(err, mman.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, mman.ErrDenied):
		return http.StatusForbidden
	case errors.Is(err, mman.ErrInvalid), errors.Is(err, mman.ErrTooLarge):
		return http.StatusBadRequest
	case errors.Is(err, mman.ErrTimeout):
		return http.StatusGatewayTimeout
	case errors.Is(err, mman.ErrBusy):
		return http.StatusServiceUnavailable
	case errors.Is(err, mman.ErrContent):
		return http.StatusBadGateway
	default:
		return http.StatusInternalServerError
	}
}
