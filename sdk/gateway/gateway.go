package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/endpoint/call"
	"github.com/limboid/massive-man/sdk"
)

// Config is what a Gateway stands on.
type Config struct {
	// Listen is a loopback host:port; port 0 takes a free one.
	Listen string
	// Token is asked of every request, at least 16 bytes.
	Token string
	// API is what the endpoint speaks: call.OpenAI or another.
	API string
	// Run carries out a call, as sdk.Calls.Do does.
	Run func(ctx context.Context, w sdk.Work) (sdk.Outcome, error)
	// Now is the clock.
	Now func() time.Time
	// Done, when set, is told of every call that ended, from several goroutines.
	Done func(Call)
	// Logger takes the log. Default: discard.
	Logger *slog.Logger
}

// Call is a call that ended.
type Call struct {
	Method, Path string
	// Status is what the program was answered.
	Status int
	// Usage and Paid are what the call cost, zero when it was not carried out.
	Usage resources.Usage
	Paid  mman.Amount
	// Told reports whether the tokens are what the server says.
	Told bool
	Err  error
}

// Gateway serves programs of this machine.
type Gateway struct {
	cfg    Config
	ln     net.Listener
	port   string
	cookie string
	http   *http.Server
	places chan struct{}
	off    undefended
}

const (
	headerTimeout = 10 * time.Second
	restTimeout   = 2 * time.Minute
	stopTimeout   = 2 * time.Second
	// bodyPause is how long a program may pause in a body.
	bodyPause = 30 * time.Second
	// maxHeader bounds a request's header, maxCounted a body that is read whole.
	maxHeader  = 32 << 10
	maxCounted = 16 << 20
	// maxOpen bounds the requests that wait or are under way.
	maxOpen = 256
	// talkIdle is how long a websocket may rest.
	talkIdle = time.Hour
	minToken = 16
)

// New listens. It serves nothing before Run.
func New(ctx context.Context, cfg Config) (*Gateway, error) {
	ap, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil || !ap.Addr().IsLoopback() {
		return nil, fmt.Errorf("%w: --listen %.64q: it listens on loopback only, write 127.0.0.1:8080", mman.ErrInvalid, cfg.Listen)
	}
	if len(cfg.Token) < minToken || cfg.Run == nil || cfg.Now == nil {
		return nil, fmt.Errorf("%w: gateway: a token of %d bytes, a clock and somebody who runs calls are needed", mman.ErrInvalid, minToken)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: %s: choose another with --listen", mman.ErrPortInUse, cfg.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: --listen %s: %w", mman.ErrInvalid, cfg.Listen, err)
	}
	g := &Gateway{cfg: cfg, ln: ln, places: make(chan struct{}, maxOpen)}
	_, g.port, _ = net.SplitHostPort(ln.Addr().String())
	g.cookie = "mman" + g.port
	g.http = &http.Server{Handler: http.HandlerFunc(g.serve), ReadHeaderTimeout: headerTimeout, IdleTimeout: restTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug)}
	return g, nil
}

// Addr returns the host:port that was chosen.
func (g *Gateway) Addr() string { return g.ln.Addr().String() }

// Run serves until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if g.http.Shutdown(last) != nil {
			_ = g.http.Close() // whatever is still open has had its time
		}
	})
	defer stop()
	g.http.BaseContext = func(net.Listener) context.Context { return ctx }
	if err := g.http.Serve(g.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}

// Close stops listening at once.
func (g *Gateway) Close() error { return g.http.Close() }

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	select {
	case g.places <- struct{}{}:
		defer func() { <-g.places }()
	default:
		g.fail(w, fmt.Errorf("%w: %d requests wait here already", mman.ErrBusy, maxOpen))
		return
	}
	if err := g.local(r); err != nil {
		g.fail(w, err)
		return
	}
	if g.welcome(w, r) {
		return
	}
	if !g.known(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		g.say(w, http.StatusUnauthorized, fmt.Errorf("%w: the token that was printed at the start is the API key here", mman.ErrDenied))
		return
	}
	g.call(w, r)
}

// fail answers with an error in the form of the endpoint's API.
func (g *Gateway) fail(w http.ResponseWriter, err error) int {
	status := Status(err)
	g.say(w, status, err)
	return status
}

func (g *Gateway) say(w http.ResponseWriter, status int, err error) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if g.cfg.API == call.OpenAI {
		h.Set("Content-Type", "application/json")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	if status == http.StatusTooManyRequests {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_, _ = w.Write(g.problem(status, err)) // who asked may be gone
}

func (g *Gateway) problem(status int, err error) []byte {
	var v any = map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": err.Error(), "code": mman.CodeOf(err)}
	if g.cfg.API == call.OpenAI {
		v = map[string]any{"error": map[string]any{"message": err.Error(), "type": kind(status), "param": nil, "code": kind(status)}}
	}
	b, merr := json.Marshal(v)
	if merr != nil {
		return []byte("{}")
	}
	return append(b, '\n')
}

// kind is OpenAI's word for a status.
func kind(status int) string {
	switch status {
	case http.StatusPaymentRequired:
		return "insufficient_quota"
	case http.StatusTooManyRequests:
		return "rate_limit_exceeded"
	case http.StatusUnauthorized:
		return "invalid_api_key"
	case http.StatusForbidden:
		return "permission_denied"
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return "invalid_request_error"
	default:
		return "api_error"
	}
}

// Status is the HTTP status of a call that was not carried out.
func Status(err error) int {
	for _, s := range []struct {
		status int
		errs   []error
	}{
		{http.StatusPaymentRequired, []error{mman.ErrCapExceeded, mman.ErrUnpaid, mman.ErrFunds, mman.ErrLeaseState}},
		{http.StatusTooManyRequests, []error{mman.ErrBusy, mman.ErrCapacity, mman.ErrRunConflict}},
		{http.StatusForbidden, []error{mman.ErrDenied, mman.ErrPolicy}},
		{http.StatusRequestEntityTooLarge, []error{mman.ErrTooLarge, mman.ErrInputLimit}},
		{http.StatusGatewayTimeout, []error{mman.ErrTimeout, mman.ErrWall, mman.ErrIdle}},
		{http.StatusBadRequest, []error{mman.ErrInvalid}},
	} {
		if slices.ContainsFunc(s.errs, func(e error) bool { return errors.Is(err, e) }) {
			return s.status
		}
	}
	return http.StatusBadGateway
}

// head makes the call's head of a request.
func (g *Gateway) head(r *http.Request) (call.Request, error) {
	encoded, query, _ := strings.Cut(r.RequestURI, "?")
	path, err := call.DecodePath(encoded)
	if err != nil {
		return call.Request{}, err
	}
	h := call.Request{Method: r.Method, Path: path, Query: query, Header: []call.Field{}, Upgrade: upgrades(r)}
	if r.ContentLength >= 0 {
		h.Sized, h.Bytes = true, uint64(r.ContentLength)
	}
	stays := []string{"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "expect", "cookie", "origin", "referer", "accept-encoding", "sec-websocket-extensions"}
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		low := strings.ToLower(name)
		if !slices.Contains(stays, low) && !strings.HasPrefix(low, "sec-fetch-") {
			h.Header = append(h.Header, call.Field{Name: low, Value: strings.Join(r.Header[name], ", ")})
		}
	}
	if cookies := g.outgoing(r); cookies != "" {
		h.Header = append(h.Header, call.Field{Name: "cookie", Value: cookies})
	}
	return h, h.Validate()
}

func upgrades(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade")
}

// paused is a body whose reader does not wait for ever.
type paused struct {
	io.Reader

	control *http.ResponseController
	now     func() time.Time
}

// Read reads on.
func (p paused) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(p.now().Add(bodyPause)) // the server supports it
	return p.Reader.Read(b)
}

// call makes the call and answers with what came of it.
func (g *Gateway) call(w http.ResponseWriter, r *http.Request) {
	done := Call{Method: r.Method, Path: r.URL.Path}
	a := &answer{gateway: g, w: w, control: http.NewResponseController(w), upgrade: upgrades(r)}
	outcome, err := g.carry(r, a)
	done.Usage, done.Paid = outcome.Usage, outcome.Paid
	if err == nil {
		err = ending(outcome, string(a.reason))
	}
	done.Status, done.Err = a.status, err
	if a.tokens != nil && a.status != 0 {
		_, done.Told = a.tokens.Total()
	}
	if err != nil && a.status == 0 {
		done.Status = g.fail(w, err)
	}
	if g.cfg.Done != nil {
		g.cfg.Done(done)
	}
	a.end(err)
}

// carry makes the call.
func (g *Gateway) carry(r *http.Request, a *answer) (sdk.Outcome, error) {
	head, err := g.head(r)
	if err != nil {
		return sdk.Outcome{}, err
	}
	if err := a.control.EnableFullDuplex(); err != nil {
		return sdk.Outcome{}, fmt.Errorf("%w: %w", mman.ErrUnsupported, err)
	}
	var body io.Reader = paused{r.Body, a.control, g.cfg.Now}
	if g.cfg.API == call.OpenAI && call.Counts(head.Method, head.Path) {
		b, err := io.ReadAll(io.LimitReader(body, maxCounted+1))
		if err != nil {
			return sdk.Outcome{}, fmt.Errorf("%w: the body: %w", mman.ErrInvalid, err)
		}
		if len(b) > maxCounted {
			return sdk.Outcome{}, fmt.Errorf("%w: a body of more than %d bytes", mman.ErrTooLarge, maxCounted)
		}
		head.Sized, head.Bytes = true, uint64(len(b))
		body, a.tokens, a.strip = bytes.NewReader(b), call.NewTokens(b), !asksUsage(b)
	}
	var start bytes.Buffer
	if err := call.WriteHead(&start, head); err != nil {
		return sdk.Outcome{}, err
	}
	work := sdk.Work{Input: io.MultiReader(&start, body), Stdout: a, Stderr: &a.reason, Tokens: a.cost}
	if a.upgrade {
		from, to := io.Pipe()
		defer func() { _ = from.Close() }() // always nil
		a.typed, work.Input, work.Idle = to, io.MultiReader(&start, from), talkIdle
	}
	return g.cfg.Run(r.Context(), work)
}

// asksUsage reports whether the program wants the usage of a stream itself.
func asksUsage(body []byte) bool {
	var v struct {
		Options struct {
			Usage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	return json.Unmarshal(body, &v) == nil && v.Options.Usage
}

// ending is the error of a call that did not end well, with the provider's reason
// for one that it declined.
func ending(o sdk.Outcome, reason string) error {
	switch {
	case o.Result.Code == 0 && o.Result.ExitCode == 0:
		return nil
	case o.Result.Code == 0:
		return fmt.Errorf("%w: the answer broke off at the provider; what came is paid", mman.ErrUnreachable)
	case reason != "":
		return mman.RemoteError(o.Result.Code, mman.RetryNever, reason)
	}
	for _, e := range []*mman.Error{mman.ErrCapExceeded, mman.ErrUnpaid, mman.ErrWall, mman.ErrOutput, mman.ErrInputLimit, mman.ErrIdle, mman.ErrCanceled} {
		if o.Result.Code == e.Code {
			return fmt.Errorf("%w: what came until then is paid", e)
		}
	}
	return mman.RemoteError(o.Result.Code, mman.RetryNever, fmt.Sprintf("the provider ended the call with code %d", o.Result.Code))
}
