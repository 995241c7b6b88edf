package endpoint

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/endpoint/call"
)

// Settings say what an endpoint lends. Only the provider's node knows them.
type Settings struct {
	// Upstream is the address of the API, http or https, to whose path that of a call
	// is added.
	Upstream string `cbor:"upstream" yaml:"upstream"`
	// API is openai, http, or "" to ask the upstream for /v1/models and see.
	API string `cbor:"api,omitempty" yaml:"api"`
	// SecretFile holds the provider's key, which is sent in SecretHeader after
	// SecretPrefix. Default header Authorization with "Bearer ".
	SecretFile   string `cbor:"secret_file,omitempty" yaml:"secret_file"`
	SecretHeader string `cbor:"secret_header,omitempty" yaml:"secret_header"`
	SecretPrefix string `cbor:"secret_prefix,omitempty" yaml:"secret_prefix"`
	// Allow lists what may be called, each a method and a path: "GET /v1/models",
	// "* /files/*". Only a last segment may be *. Default for openai: models,
	// chat/completions, completions and embeddings; others name theirs.
	Allow []string `cbor:"allow,omitempty" yaml:"allow"`
	// RequestHeaders and ResponseHeaders pass beside those that always do.
	RequestHeaders  []string `cbor:"request_headers,omitempty" yaml:"request_headers"`
	ResponseHeaders []string `cbor:"response_headers,omitempty" yaml:"response_headers"`
	// Websockets lets calls go on as websockets.
	Websockets bool `cbor:"websockets,omitempty" yaml:"websockets"`
	// MaxBody bounds the body of a call in bytes. Default 8 MiB.
	MaxBody uint64 `cbor:"max_body,omitempty" yaml:"max_body"`
	// MaxTokens is the most that a call may ask to be generated; 0 bounds nothing.
	MaxTokens uint64 `cbor:"max_tokens,omitempty" yaml:"max_tokens"`
	// AnswerMs is how long the upstream may take until its answer begins, PauseMs how
	// long it may pause in it. Defaults 60 s and 2 min.
	AnswerMs uint64 `cbor:"answer_ms,omitempty" yaml:"answer_ms"`
	PauseMs  uint64 `cbor:"pause_ms,omitempty" yaml:"pause_ms"`
	// Calls is how many calls go on at once. Default 64.
	Calls uint64 `cbor:"calls,omitempty" yaml:"calls"`
	// PerMinute is how many calls a lease may make in a minute, as many at once as
	// Burst, which defaults to PerMinute; 0 bounds nothing. The provider counts.
	PerMinute uint64 `cbor:"per_minute,omitempty" yaml:"per_minute"`
	Burst     uint64 `cbor:"burst,omitempty" yaml:"burst"`
}

// Bounds of Settings.
const (
	maxList      = 64
	maxWord      = 512
	maxBody      = 1 << 30
	maxMs        = 3_600_000
	maxCalls     = 4096
	maxPerMinute = 1_000_000
	// secretMin is the shortest secret that can be searched for, secretMax the longest.
	secretMin = 8
	secretMax = 4 << 10
)

// Filled returns the settings with their defaults.
func (s Settings) Filled() Settings {
	if s.SecretFile != "" && s.SecretHeader == "" {
		s.SecretHeader, s.SecretPrefix = "Authorization", "Bearer "
	}
	s.SecretHeader = strings.ToLower(s.SecretHeader)
	if s.API == call.OpenAI && len(s.Allow) == 0 {
		s.Allow = []string{"GET /v1/models", "GET /v1/models/*", "POST /v1/chat/completions", "POST /v1/completions", "POST /v1/embeddings"}
	}
	for _, d := range []struct {
		field *uint64
		value uint64
	}{{&s.MaxBody, 8 << 20}, {&s.AnswerMs, 60_000}, {&s.PauseMs, 120_000}, {&s.Calls, 64}, {&s.Burst, s.PerMinute}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return s
}

// Validate reports the first setting that is not usable, wrapping mman.ErrInvalid.
func (s Settings) Validate() error {
	u, err := s.upstream()
	if err != nil {
		return err
	}
	if s.API != "" && s.API != call.OpenAI && s.API != "http" {
		return fmt.Errorf("%w: endpoint.api %.32q: use openai or http, or leave it out", mman.ErrInvalid, s.API)
	}
	if s.API == "http" && len(s.Allow) == 0 {
		return fmt.Errorf("%w: endpoint.allow: name what may be called on %s, such as \"GET /*\"", mman.ErrInvalid, u.Host)
	}
	if (s.SecretHeader != "" || s.SecretPrefix != "") && s.SecretFile == "" {
		return fmt.Errorf("%w: endpoint.secret_header without secret_file", mman.ErrInvalid)
	}
	if err := (call.Request{Method: "GET", Path: "/", Header: []call.Field{{Name: "x", Value: s.SecretPrefix}}}).Validate(); err != nil {
		return fmt.Errorf("endpoint.secret_prefix: %w", err)
	}
	for _, one := range s.Allow {
		if _, err := parseRoute(one); err != nil {
			return err
		}
	}
	if err := s.validLists(); err != nil {
		return err
	}
	for _, f := range []struct {
		name       string
		value, max uint64
	}{
		{"max_body", s.MaxBody, maxBody},
		{"answer_ms", s.AnswerMs, maxMs},
		{"pause_ms", s.PauseMs, maxMs},
		{"calls", s.Calls, maxCalls},
		{"per_minute", s.PerMinute, maxPerMinute},
		{"burst", s.Burst, maxPerMinute},
		{"max_tokens", s.MaxTokens, 1 << 32},
	} {
		if f.value > f.max {
			return fmt.Errorf("%w: endpoint.%s %d: at most %d", mman.ErrInvalid, f.name, f.value, f.max)
		}
	}
	return nil
}

func (s Settings) validLists() error {
	for _, l := range []struct {
		name string
		list []string
	}{{"allow", s.Allow}, {"request_headers", s.RequestHeaders}, {"response_headers", s.ResponseHeaders}} {
		if len(l.list) > maxList {
			return fmt.Errorf("%w: endpoint.%s: %d entries, at most %d are allowed", mman.ErrTooLarge, l.name, len(l.list), maxList)
		}
	}
	for _, name := range append(slices.Clone(s.RequestHeaders), s.ResponseHeaders...) {
		lower := strings.ToLower(name)
		if err := (call.Request{Method: "GET", Path: "/", Header: []call.Field{{Name: lower, Value: ""}}}).Validate(); err != nil {
			return fmt.Errorf("endpoint: %w", err)
		}
		if slices.Contains(never(), lower) || lower == strings.ToLower(s.SecretHeader) {
			return fmt.Errorf("%w: endpoint: header field %.64q is never passed on", mman.ErrInvalid, name)
		}
	}
	return nil
}

func (s Settings) upstream() (*url.URL, error) {
	u, err := url.Parse(s.Upstream)
	if err != nil || len(s.Upstream) > maxWord || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w: endpoint.upstream %.80q: write http://host:port or https://host/path, without user, query or fragment", mman.ErrInvalid, s.Upstream)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if u.Path != "" {
		if err := call.ValidPath(u.Path); err != nil {
			return nil, fmt.Errorf("endpoint.upstream: %w", err)
		}
	}
	return u, nil
}

// route is one entry of Allow.
type route struct {
	method, path string
	below        bool // and all that is below path
}

func parseRoute(text string) (route, error) {
	method, path, ok := strings.Cut(text, " ")
	r := route{method: method, path: path}
	if r.path, r.below = strings.CutSuffix(path, "*"); r.below && !strings.HasSuffix(r.path, "/") {
		ok = false
	}
	if !ok || len(text) > maxWord || (method != "*" && strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") || method == "" || call.ValidPath(r.path) != nil {
		return r, fmt.Errorf("%w: endpoint.allow %.80q: write a method and a path, such as \"GET /v1/models\" or \"* /files/*\"", mman.ErrInvalid, text)
	}
	return r, nil
}

func (r route) allows(method, path string) bool {
	if r.method != "*" && r.method != method && (r.method != "GET" || method != "HEAD") {
		return false
	}
	return path == r.path || r.below && strings.HasPrefix(path, r.path)
}

// requestFields always reach the upstream.
func requestFields() []string {
	return []string{
		"accept", "accept-language", "content-type", "content-language", "idempotency-key", "if-match", "if-modified-since",
		"if-none-match", "if-range", "if-unmodified-since", "openai-beta", "range", "user-agent", "x-request-id",
	}
}

// responseFields always reach the consumer.
func responseFields() []string {
	return []string{
		"accept-ranges", "cache-control", "content-disposition", "content-language", "content-range", "content-security-policy", "content-type",
		"cross-origin-embedder-policy", "cross-origin-opener-policy", "cross-origin-resource-policy", "etag", "expires", "last-modified", "location",
		"openai-model", "openai-processing-ms", "openai-version", "permissions-policy", "referrer-policy", "retry-after", "vary",
		"x-content-type-options", "x-frame-options", "x-request-id",
	}
}

// never lists what only the two ends of one connection may say, or would speak for
// somebody else.
func never() []string {
	return []string{
		"accept-encoding", "connection", "content-encoding", "content-length", "expect", "forwarded", "host", "keep-alive", "proxy-authenticate",
		"proxy-authorization", "proxy-connection", "sec-websocket-extensions", "te", "trailer", "transfer-encoding", "upgrade", "via",
		"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-http-method-override", "x-original-url", "x-rewrite-url",
	}
}
