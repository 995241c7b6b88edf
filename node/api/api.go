package api

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/node/keeper"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk/chain"
)

// Config is what the API stands on.
type Config struct {
	// Listen is a loopback host:port; port 0 takes a free one.
	Listen   string
	Token    string
	Chain    *chain.Client
	Provider *provider.Provider
	// Keeper keeps replicas of storage leases.
	Keeper *keeper.Keeper
	// Drain ends the node in order; see provider.Provider.Drain.
	Drain func(notice time.Duration)
	// Metrics answers GET /metrics.
	Metrics http.Handler
	// Gateway answers GET /ipfs/.
	Gateway http.Handler
	// Library answers /v1/content.
	Library Library
	Logger  *slog.Logger
}

// Server serves the API.
type Server struct {
	cfg  Config
	ln   net.Listener
	http *http.Server
}

const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 30 * time.Second
	stopTimeout   = 2 * time.Second
	maxBody       = 64 << 10
)

// New listens. It serves nothing before Run.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Token == "" || cfg.Metrics == nil || cfg.Gateway == nil || cfg.Library == nil {
		return nil, fmt.Errorf("%w: api: a token, a library and handlers of metrics and of content are needed", mman.ErrInvalid)
	}
	ap, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil || !ap.Addr().IsLoopback() {
		return nil, fmt.Errorf("%w: --api %.64q: it listens on loopback only, write 127.0.0.1:8642", mman.ErrInvalid, cfg.Listen)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: %s: stop what listens there or choose another port with --api", mman.ErrPortInUse, cfg.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: --api %s: %w", mman.ErrInvalid, cfg.Listen, err)
	}
	s := &Server{cfg: cfg, ln: ln}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/listings", s.listings)
	mux.HandleFunc("POST /v1/listings", s.own(s.publish))
	mux.HandleFunc("POST /v1/checkpoints", s.own(s.checkpoint))
	mux.HandleFunc("POST /v1/storage", s.own(s.lend))
	mux.HandleFunc("DELETE /v1/listings/{resource}", s.own(s.withdraw))
	mux.HandleFunc("GET /v1/content", s.given)
	mux.HandleFunc("POST /v1/content", s.own(s.give))
	mux.HandleFunc("DELETE /v1/content/{root}", s.own(s.takeBack))
	mux.HandleFunc("GET /v1/runs", s.own(s.runs))
	mux.HandleFunc("GET /v1/access", s.own(s.accesses))
	mux.HandleFunc("POST /v1/drain", s.own(s.drain))
	mux.HandleFunc("GET /v1/", s.query)
	mux.Handle("GET /metrics", cfg.Metrics)
	mux.Handle("GET /ipfs/", cfg.Gateway)
	s.http = &http.Server{Handler: s.local(mux), ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, MaxHeaderBytes: 16 << 10}
	return s, nil
}

// Addr returns the host:port that was chosen.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if s.http.Shutdown(last) != nil {
			_ = s.http.Close() // whatever is still open has had its time
		}
	})
	defer stop()
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("api: %w", err)
	}
	return nil
}

// Close stops listening at once.
func (s *Server) Close() error { return s.http.Close() }

// local refuses requests that a web page of somebody else's could make.
func (s *Server) local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback(r.Host) {
			s.fail(w, http.StatusForbidden, fmt.Errorf("%w: host %.64q: this API is for 127.0.0.1 and localhost", mman.ErrDenied, r.Host))
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" {
			u, err := url.Parse(origin)
			if err != nil || u.Host != r.Host {
				s.fail(w, http.StatusForbidden, fmt.Errorf("%w: origin %.64q is another site", mman.ErrDenied, origin))
				return
			}
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.Trim(host, "[]")
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

// own asks for the token.
func (s *Server) own(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(s.cfg.Token)) != 1 {
			s.fail(w, http.StatusUnauthorized, fmt.Errorf("%w: the bearer token of this node's run.json is needed", mman.ErrDenied))
			return
		}
		next(w, r)
	}
}

// query answers GET /v1/<path> with the ledger's /mman/<path>.
func (s *Server) query(w http.ResponseWriter, r *http.Request) {
	path := "/mman/" + strings.TrimPrefix(r.URL.EscapedPath(), "/v1/")
	if r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	var answer json.RawMessage
	if _, err := s.cfg.Chain.Query(r.Context(), path, &answer); err != nil {
		s.fail(w, status(err), err)
		return
	}
	s.answer(w, http.StatusOK, answer)
}

// Lent is what a node lends.
type Lent struct {
	Items []provider.Published `json:"items"`
	// Reach is from where the node can be reached: machine, public, private or
	// unknown.
	Reach string `json:"reach"`
}

func (s *Server) listings(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, http.StatusOK, Lent{s.cfg.Provider.Published(), string(s.cfg.Provider.Reach())})
}

// Runs is what a node's provider does.
type Runs struct {
	Items []provider.RunInfo `json:"items"`
	// Lost are the latest that ended in the middle because the node did.
	Lost []provider.LostRun `json:"lost,omitempty"`
}

func (s *Server) runs(w http.ResponseWriter, _ *http.Request) {
	now, lost := s.cfg.Provider.Runs()
	s.answer(w, http.StatusOK, Runs{now, lost})
}

// accesses answers with the owner's log: ?limit=, &lease=, &resource= and &folded=.
func (s *Server) accesses(w http.ResponseWriter, r *http.Request) {
	f, err := accessFilter(r.URL.Query())
	if err != nil {
		s.fail(w, status(err), err)
		return
	}
	items, err := s.cfg.Provider.Accesses(f)
	if err != nil {
		s.fail(w, status(err), err)
		return
	}
	s.answer(w, http.StatusOK, struct {
		Items []provider.Access `json:"items"`
	}{items})
}

func accessFilter(q url.Values) (f provider.AccessFilter, err error) {
	f.Limit = accessLimit
	if word := q.Get("limit"); word != "" {
		if f.Limit, err = strconv.Atoi(word); err != nil {
			return f, fmt.Errorf("%w: limit %.20q: a number from 1 to %d", mman.ErrInvalid, word, provider.AccessMaxList)
		}
	}
	if word := q.Get("folded"); word != "" {
		if f.Folded, err = strconv.ParseBool(word); err != nil {
			return f, fmt.Errorf("%w: folded %.20q: true or false", mman.ErrInvalid, word)
		}
	}
	if word := q.Get("lease"); word != "" {
		if err = f.Lease.UnmarshalText([]byte(word)); err != nil {
			return f, err
		}
	}
	if word := q.Get("resource"); word != "" {
		f.Resource, err = mman.ParseCID(word)
	}
	return f, err
}

// accessLimit is how many accesses are listed unless a number is asked for.
const accessLimit = 100

// drain begins to end the node, which goes on while its runs do.
func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	var body struct {
		NoticeMs uint64 `json:"notice_ms"`
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil || body.NoticeMs > maxNoticeMs || s.cfg.Drain == nil {
		s.fail(w, http.StatusBadRequest, fmt.Errorf(`%w: send {"notice_ms": 60000}, a day at most`, mman.ErrInvalid))
		return
	}
	s.cfg.Drain(time.Duration(body.NoticeMs) * time.Millisecond)
	w.WriteHeader(http.StatusAccepted)
}

// maxNoticeMs bounds the notice of a drain: a day.
const maxNoticeMs = 24 * 3_600_000

// publish reads a listing from a file of this machine and offers it.
func (s *Server) publish(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Path string `json:"path"`
	}
	if err := readBody(r, &body); err != nil || !filepath.IsAbs(body.Path) {
		s.fail(w, http.StatusBadRequest, fmt.Errorf(`%w: send {"path": "/absolute/path/of/listing.yaml"}`, mman.ErrInvalid))
		return
	}
	listing, err := provider.ReadListing(body.Path)
	if err != nil {
		s.fail(w, status(err), err)
		return
	}
	s.offer(w, r, listing)
}

// offer publishes a listing.
func (s *Server) offer(w http.ResponseWriter, r *http.Request, listing provider.Listing) {
	published, err := s.cfg.Provider.Publish(r.Context(), listing)
	if err != nil {
		s.fail(w, status(err), err)
		return
	}
	s.answer(w, http.StatusCreated, published)
}

// readBody reads one JSON object without unknown keys.
func readBody(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil && dec.More() {
		err = mman.ErrInvalid
	}
	return err
}

// Checkpoint is a version of a file that its owner pushes.
type Checkpoint struct {
	// Path is the file's, absolute, on the node's machine.
	Path    string `json:"path"`
	Name    string `json:"name"`
	Summary string `json:"summary,omitempty"`
	Licence string `json:"licence,omitempty"`
	// Parents are the versions and other resources that it derives from.
	Parents []resources.Parent `json:"parents,omitempty"`
}

// checkpoint offers a version of a file, public and free; what is to cost something
// has a listing.
func (s *Server) checkpoint(w http.ResponseWriter, r *http.Request) {
	var body Checkpoint
	if err := readBody(r, &body); err != nil || !filepath.IsAbs(body.Path) {
		s.fail(w, http.StatusBadRequest, fmt.Errorf(`%w: send {"path": "/absolute/path/of/file", "name": "…"}`, mman.ErrInvalid))
		return
	}
	s.offer(w, r, provider.Listing{
		Manifest: resources.Manifest{
			Version: 1, Kind: resources.KindDataset, Facet: resources.FacetCheckpoint,
			Name: body.Name, Summary: body.Summary, Licence: body.Licence, Parents: body.Parents,
		},
		Content: body.Path, Policy: policy.Policy{Default: policy.Allow}, Capacity: provider.DefaultCapacity,
	})
}

// lend offers room for replicas.
func (s *Server) lend(w http.ResponseWriter, r *http.Request) {
	var terms keeper.Terms
	if err := readBody(r, &terms); err != nil {
		s.fail(w, http.StatusBadRequest, fmt.Errorf(`%w: send {"tier": "fast", "price_uman": …, "capacity_mib": …}`, mman.ErrInvalid))
		return
	}
	if err := s.cfg.Keeper.Offer(r.Context(), terms); err != nil {
		s.fail(w, status(err), err)
		return
	}
	s.answer(w, http.StatusCreated, terms)
}

func (s *Server) withdraw(w http.ResponseWriter, r *http.Request) {
	id, err := mman.ParseCID(r.PathValue("resource"))
	if err == nil {
		err = s.cfg.Provider.Withdraw(r.Context(), id)
	}
	if err != nil {
		s.fail(w, status(err), err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.cfg.Logger.Debug("answer not sent", slog.Any("error", err))
	}
}

func (s *Server) fail(w http.ResponseWriter, code int, err error) {
	s.answer(w, code, map[string]any{"error": map[string]any{"code": mman.CodeOf(err), "text": err.Error()}})
}

func status(err error) int {
	switch {
	case errors.Is(err, mman.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, mman.ErrInvalid), errors.Is(err, mman.ErrTooLarge), errors.Is(err, mman.ErrUnsupported):
		return http.StatusBadRequest
	case errors.Is(err, mman.ErrFunds), errors.Is(err, mman.ErrDenied), errors.Is(err, mman.ErrPolicy):
		return http.StatusForbidden
	case errors.Is(err, mman.ErrUnreachable), errors.Is(err, mman.ErrBusy), errors.Is(err, mman.ErrTimeout):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
