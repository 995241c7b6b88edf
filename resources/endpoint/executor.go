package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/endpoint/call"
)

// Config sets up an Executor.
type Config struct {
	// Clock is time.Now in a program.
	Clock func() time.Time
	// Dial reaches upstreams. Default: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Executor carries calls to the upstreams that it was told of. It is safe for
// concurrent use.
type Executor struct {
	clock     func() time.Time
	transport *http.Transport
	off       undefended

	mu    sync.Mutex
	sites map[mman.CID]*site
}

var _ resources.Executor = (*Executor)(nil)

// undefended switches defences off, one by one: tests show with it that each attack
// works without its defence. It is all false.
type undefended struct {
	search    bool // answers are not searched for the secret
	decode    bool // compressed answers are passed on as they are
	redirects bool // redirects are followed, with the secret
	routes    bool // everything may be called
	paths     bool // paths are not checked
	fields    bool // all header fields pass
	usage     bool // any usage of a server is believed
	pauses    bool // nothing is given up
	body      bool // bodies have no bound
}

// site is an endpoint that is served.
type site struct {
	Settings

	url    *url.URL
	from   http.RoundTripper // what answers in the place of the upstream; nil for itself
	routes []route
	secret string
	index  *index
	places chan struct{}
}

const (
	dialTimeout = 10 * time.Second
	// headWithin is how long a consumer may take to say what it calls, bodyWithin how
	// long it may pause in the body.
	headWithin = 15 * time.Second
	bodyWithin = 30 * time.Second
	// probeWithin and probeBytes bound the question what an upstream is.
	probeWithin = 10 * time.Second
	probeBytes  = 1 << 20
	maxModels   = 8
)

// New returns an executor that serves nothing yet.
func New(cfg Config) (*Executor, error) {
	if cfg.Clock == nil {
		return nil, fmt.Errorf("%w: endpoint: a clock is needed", mman.ErrInvalid)
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	return &Executor{
		clock: cfg.Clock, sites: map[mman.CID]*site{},
		transport: &http.Transport{
			DialContext: cfg.Dial, DisableCompression: true, MaxResponseHeaderBytes: call.MaxHead,
			TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 16,
		},
	}, nil
}

// Close drops the connections that wait. Safe twice.
func (e *Executor) Close() error {
	e.transport.CloseIdleConnections()
	return nil
}

// Serve serves calls to a resource from now on. It reads the secret's file.
func (e *Executor) Serve(id mman.CID, s Settings) error { return e.ServeFrom(id, s, nil) }

// ServeFrom is Serve for what this program answers itself: from is asked in the place
// of the upstream, which has no address then. It is called concurrently.
func (e *Executor) ServeFrom(id mman.CID, s Settings, from http.RoundTripper) error {
	one, err := newSite(s)
	if err != nil {
		return err
	}
	one.from = from
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sites[id] = one
	return nil
}

func newSite(s Settings) (*site, error) {
	s = s.Filled()
	if err := s.Validate(); err != nil {
		return nil, err
	}
	one := &site{Settings: s, places: make(chan struct{}, s.Calls)}
	var err error
	if one.url, err = s.upstream(); err != nil {
		return nil, err
	}
	for _, text := range s.Allow {
		r, err := parseRoute(text)
		if err != nil {
			return nil, err
		}
		one.routes = append(one.routes, r)
	}
	if s.SecretFile == "" {
		return one, nil
	}
	if one.secret, err = readSecret(s.SecretFile); err != nil {
		return nil, err
	}
	one.index = newIndex(one.secret)
	return one, nil
}

func readSecret(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return "", fmt.Errorf("%w: endpoint.secret_file: %w", mman.ErrNotFound, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, secretMax+2))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("%w: endpoint.secret_file: %w", mman.ErrDenied, err)
	}
	secret := strings.TrimSpace(string(b))
	if len(secret) < secretMin || len(secret) > secretMax {
		return "", fmt.Errorf("%w: endpoint.secret_file %s: a secret of %d bytes: %d to %d can be searched for in answers", mman.ErrInvalid, path, len(secret), secretMin, secretMax)
	}
	for _, c := range []byte(secret) {
		if c <= ' ' || c >= 0x7f {
			return "", fmt.Errorf("%w: endpoint.secret_file %s: the secret holds the byte %#x, which no header field carries", mman.ErrInvalid, path, c)
		}
	}
	return secret, nil
}

// Probe asks an upstream for its models. It returns the settings with the API that
// was found, and the models' names. Only an API that shall be of OpenAI must answer.
func (e *Executor) Probe(ctx context.Context, s Settings) (Settings, []string, error) {
	one, err := newSite(s)
	if err != nil || s.API == "http" {
		return s, nil, err
	}
	models, err := e.models(ctx, one)
	switch {
	case err == nil:
		s.API = call.OpenAI
	case s.API == "":
		s.API = "http"
	default:
		return s, nil, err
	}
	if err := s.Filled().Validate(); err != nil {
		return s, nil, err
	}
	return s, models, nil
}

func (e *Executor) models(ctx context.Context, s *site) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	fail := func(err error) ([]string, error) {
		return nil, fmt.Errorf("%w: endpoint.upstream %s does not answer GET /v1/models as an API of OpenAI does: %w", mman.ErrUnreachable, s.Upstream, err)
	}
	req, err := s.request(ctx, call.Request{Method: http.MethodGet, Path: "/v1/models", Sized: true}, http.NoBody, e.off)
	if err != nil {
		return nil, err
	}
	resp, err := e.transport.RoundTrip(req)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	var list struct {
		Object string `json:"object"`
		Data   []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if resp.StatusCode != http.StatusOK {
		return fail(fmt.Errorf("%w: %s", mman.ErrProtocol, resp.Status))
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, probeBytes)).Decode(&list); err != nil {
		return fail(err)
	}
	if list.Object != "list" {
		return fail(fmt.Errorf("%w: object %.32q", mman.ErrProtocol, list.Object))
	}
	for _, m := range list.Data {
		if len(names) < maxModels && resources.ValidName("model", m.ID) == nil && !strings.ContainsAny(m.ID, " \n") && (s.index == nil || !s.index.holds(m.ID)) {
			names = append(names, m.ID)
		}
	}
	return names, nil
}

type ready struct {
	site *site
	task resources.Task
}

// Close frees nothing.
func (*ready) Close() error { return nil }

// Prepare admits calls to an endpoint that is served here, named by the algorithm.
func (e *Executor) Prepare(_ context.Context, task resources.Task) (resources.Prepared, error) {
	if err := task.Validate(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.sites[task.Algorithm]
	if !ok {
		return nil, fmt.Errorf("endpoint %s: %w: this node does not serve it now", task.Algorithm, mman.ErrNotFound)
	}
	return &ready{s, task}, nil
}

// request makes what is sent upstream.
func (s *site) request(ctx context.Context, r call.Request, body io.Reader, off undefended) (*http.Request, error) {
	u := *s.url
	u.Path += r.Path
	u.RawQuery = r.Query
	if off.paths {
		u.Opaque = "//" + u.Host + s.url.Path + r.Path // as it came
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInvalid, err)
	}
	if off.paths {
		req.URL = &u
	}
	req.ContentLength = -1
	if r.Sized {
		req.ContentLength = int64(r.Bytes) //nolint:gosec // bounded by MaxBody
	}
	pass := append(requestFields(), lower(s.RequestHeaders)...)
	if r.Upgrade {
		pass = append(pass, "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol")
	}
	req.Header = http.Header{"User-Agent": {"massive-man"}, "Accept-Encoding": {"identity"}}
	for _, f := range r.Header {
		if off.fields || slices.Contains(pass, f.Name) {
			req.Header.Set(f.Name, f.Value)
		}
	}
	if r.Upgrade {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
		req.Header.Set("Origin", s.url.Scheme+"://"+s.url.Host)
	}
	if s.secret != "" {
		req.Header.Set(s.SecretHeader, s.SecretPrefix+s.secret)
	}
	return req, nil
}

func lower(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ToLower(n)
	}
	return out
}

// response makes what the consumer gets of an answer's head.
func (s *site) response(resp *http.Response, off undefended) (call.Response, error) {
	out := call.Response{Status: uint64(resp.StatusCode), Header: []call.Field{}} //nolint:gosec // three digits
	pass := append(responseFields(), lower(s.ResponseHeaders)...)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		pass = append(pass, "sec-websocket-accept", "sec-websocket-protocol")
	}
	names := make([]string, 0, len(resp.Header))
	for name := range resp.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		low := strings.ToLower(name)
		if !off.fields && !slices.Contains(pass, low) && !strings.HasPrefix(low, "x-ratelimit-") {
			continue
		}
		for _, value := range resp.Header[name] {
			if low == "location" {
				if value = s.location(value); value == "" {
					continue
				}
			}
			if s.index != nil && !off.search && s.index.holds(value) {
				return out, errSecret()
			}
			out.Header = append(out.Header, call.Field{Name: low, Value: value})
		}
	}
	if err := out.Validate(); err != nil {
		return out, fmt.Errorf("%w: the upstream's answer: %w", mman.ErrUnreachable, err)
	}
	return out, nil
}

// location keeps a redirection within the endpoint and names no host; "" drops one
// that leads elsewhere. The consumer follows it, or not, by another call.
func (s *site) location(value string) string {
	u, err := url.Parse(value)
	if err != nil {
		return ""
	}
	if u.Host != "" {
		if u.Host != s.url.Host || u.Scheme != s.url.Scheme || u.User != nil {
			return ""
		}
		path, ok := strings.CutPrefix(u.EscapedPath(), s.url.Path)
		if !ok {
			return ""
		}
		u = &url.URL{RawQuery: u.RawQuery, Fragment: u.Fragment}
		return "/" + strings.TrimLeft(path, "/") + strings.TrimPrefix(u.String(), "/")
	}
	if u.Scheme != "" || strings.HasPrefix(strings.ReplaceAll(value, `\`, "/"), "//") {
		return ""
	}
	return value
}
