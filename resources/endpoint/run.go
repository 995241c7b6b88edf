package endpoint

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/endpoint/call"
)

const (
	// chunk is how much of an answer goes on at a time.
	chunk = 32 << 10
	// yieldAfter is the pause after which a few bytes that may begin the secret go on.
	yieldAfter = 100 * time.Millisecond
	// brokenExit is the exit code of a call whose answer broke off.
	brokenExit = 1
)

// carry is one call under way.
type carry struct {
	e       *Executor
	site    *site
	limits  resources.Limits
	streams resources.IO
	begun   time.Time

	in, out atomic.Uint64
	rested  time.Duration
	tokens  *call.Tokens // nil where none are counted
	spoken  *sieve       // over the texts of a stream
	leak    error        // what spoken found
	sent    bool         // the answer has begun
	exit    uint32
}

// Run carries out one call. An answer that breaks off ends with exit code 1 and
// is paid as far as it came; a call that the upstream does not answer is an error,
// mman.ErrUnreachable or ErrTimeout, as is an answer with the provider's secret,
// mman.ErrDenied.
func (e *Executor) Run(ctx context.Context, prepared resources.Prepared, streams resources.IO) (resources.Result, error) {
	p, ok := prepared.(*ready)
	if !ok {
		return resources.Result{}, fmt.Errorf("%w: a %T was not prepared by this executor", mman.ErrInvalid, prepared)
	}
	if streams.Stdin == nil {
		return resources.Result{}, fmt.Errorf("%w: an endpoint is called in an interactive run", mman.ErrInvalid)
	}
	select {
	case p.site.places <- struct{}{}:
		defer func() { <-p.site.places }()
	default:
		return resources.Result{}, fmt.Errorf("%w: %d calls to this endpoint are under way", mman.ErrBusy, p.site.Calls)
	}
	wall := time.Duration(p.task.Limits.WallMs) * time.Millisecond //nolint:gosec // Validate bounds it
	ctx, cancel := context.WithTimeoutCause(ctx, wall, mman.ErrWall)
	defer cancel()
	c := &carry{e: e, site: p.site, limits: p.task.Limits, streams: streams, begun: e.clock()}
	err := c.carry(ctx)
	if err != nil && ctx.Err() != nil { // its end says why
		err = context.Cause(ctx)
		if errors.Is(err, context.Canceled) {
			err = fmt.Errorf("%w: the consumer gave the call up", mman.ErrCanceled)
		}
	}
	return resources.Result{ExitCode: c.exit, Usage: c.used(true)}, err
}

// used is the usage so far; at the end tokens are what the whole answer cost.
func (c *carry) used(end bool) resources.Usage {
	wall := c.e.clock().Sub(c.begun) - c.rested
	u := resources.Usage{
		CallCount: 1, InBytes: c.in.Load(), OutBytes: c.out.Load(),
		WallMs: uint64(max(0, (wall+time.Millisecond-1)/time.Millisecond)),
	}
	if c.tokens == nil {
		return u
	}
	u.Tokens = c.tokens.SoFar()
	if end && c.sent {
		n, _ := c.tokens.Total()
		if _, _, told := c.tokens.Usage(); c.e.off.usage && told > 0 {
			n = told
		}
		u.Tokens = max(u.Tokens, n)
	}
	return u
}

// settle rests until what was used is paid.
func (c *carry) settle(ctx context.Context) error {
	used := c.used(false)
	if c.streams.Credit == nil && c.streams.Progress != nil {
		c.streams.Progress(used)
	}
	if c.streams.Credit == nil || c.streams.Credit.Covers(used) {
		return nil
	}
	begun := c.e.clock()
	err := c.streams.Credit.Await(ctx, used)
	c.rested += c.e.clock().Sub(begun)
	return err
}

func (c *carry) carry(ctx context.Context) error {
	soon, cancel := context.WithTimeoutCause(ctx, headWithin, mman.ErrIdle)
	defer cancel()
	in := &input{c: c, ctx: soon, within: headWithin}
	head, err := call.ReadRequest(in)
	if c.e.off.paths && errors.Is(err, mman.ErrInvalid) {
		err = nil
	}
	if err == nil {
		err = c.admit(head)
	}
	if err != nil {
		return err
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	in.ctx, in.within = ctx, bodyWithin
	in.left = c.site.MaxBody
	in.bound = !head.Upgrade && !c.e.off.body
	body, err := c.body(&head, in)
	if err != nil {
		return err
	}
	return c.ask(ctx, head, body, in)
}

// admit holds the call to what the endpoint lets be called.
func (c *carry) admit(head call.Request) error {
	if head.Upgrade && !c.site.Websockets {
		return fmt.Errorf("%w: this endpoint has no websockets", mman.ErrDenied)
	}
	if head.Sized && head.Bytes > c.site.MaxBody && !c.e.off.body {
		return fmt.Errorf("%w: a body of %d bytes, at most %d are allowed here", mman.ErrTooLarge, head.Bytes, c.site.MaxBody)
	}
	if c.e.off.routes {
		return nil
	}
	for _, r := range c.site.routes {
		if r.allows(head.Method, head.Path) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s %.80q may not be called here; allowed are %s", mman.ErrDenied, head.Method, head.Path, strings.Join(c.site.Allow, ", "))
}

// body returns what is sent upstream. A body that costs tokens is read whole, written
// anew, so that no two readers see two things in it, and told to send its usage.
func (c *carry) body(head *call.Request, in *input) (io.Reader, error) {
	if head.Upgrade || head.Sized && head.Bytes == 0 {
		head.Sized, head.Bytes = true, 0
		return http.NoBody, nil
	}
	if c.site.API != call.OpenAI || !call.Counts(head.Method, head.Path) {
		return in, nil
	}
	b, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	c.tokens = call.NewTokens(b)
	if c.site.index != nil && !c.e.off.search {
		c.spoken = &sieve{index: c.site.index}
		c.tokens.Said = func(text string) {
			if _, err := c.spoken.pass([]byte(text)); err != nil {
				c.leak = err
			}
		}
	}
	b, err = rewritten(b, c.site.MaxTokens, strings.HasSuffix(head.Path, "/embeddings"))
	head.Sized, head.Bytes = true, uint64(len(b))
	return bytes.NewReader(b), err
}

// rewritten returns the request as one reading of it, with a stream's usage asked for
// and its length bounded.
func rewritten(b []byte, most uint64, embeds bool) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, fmt.Errorf("%w: the body is no JSON object: %w", mman.ErrInvalid, err)
	}
	var stream bool
	if raw, ok := fields["stream"]; ok && json.Unmarshal(raw, &stream) != nil {
		return nil, fmt.Errorf("%w: stream: true or false is due", mman.ErrInvalid)
	}
	if stream {
		options := map[string]json.RawMessage{}
		if raw, ok := fields["stream_options"]; ok && json.Unmarshal(raw, &options) != nil {
			return nil, fmt.Errorf("%w: stream_options: an object is due", mman.ErrInvalid)
		}
		if options == nil {
			options = map[string]json.RawMessage{}
		}
		options["include_usage"] = json.RawMessage("true")
		raw, err := json.Marshal(options)
		if err != nil {
			return nil, fmt.Errorf("%w: stream_options: %w", mman.ErrInvalid, err)
		}
		fields["stream_options"] = raw
	}
	if most > 0 && !embeds {
		bound(fields, most)
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("%w: the body: %w", mman.ErrInvalid, err)
	}
	return out, nil
}

// bound lowers what the request lets be generated.
func bound(fields map[string]json.RawMessage, most uint64) {
	named := false
	for _, name := range []string{"max_tokens", "max_completion_tokens"} {
		raw, ok := fields[name]
		if !ok {
			continue
		}
		named = true
		var n uint64
		if json.Unmarshal(raw, &n) != nil || n > most || n == 0 {
			fields[name] = json.RawMessage(strconv.FormatUint(most, 10))
		}
	}
	if !named {
		fields["max_tokens"] = json.RawMessage(strconv.FormatUint(most, 10))
	}
}

// ask sends the call and carries the answer.
func (c *carry) ask(ctx context.Context, head call.Request, body io.Reader, in *input) error {
	req, err := c.site.request(ctx, head, body, c.e.off)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := c.trip(ctx, cancel, req)
	if err == nil && c.e.off.redirects {
		resp, err = c.follow(ctx, resp)
	}
	if err != nil {
		if fault := in.fault.Load(); fault != nil { // the consumer's body was at fault
			return *fault
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }() // what it has to say is said
	if (resp.StatusCode == http.StatusSwitchingProtocols) != head.Upgrade && (resp.StatusCode == http.StatusSwitchingProtocols || resp.StatusCode < 300) {
		return fmt.Errorf("%w: the upstream answers %s to a call with upgrade %t", mman.ErrUnreachable, resp.Status, head.Upgrade)
	}
	answer, err := c.site.response(resp, c.e.off)
	if err != nil {
		return err
	}
	content, err := c.decoded(resp)
	if err != nil {
		return err
	}
	if c.tokens != nil {
		c.tokens.Head(answer)
	}
	if err := call.WriteHead(c.stdout(), answer); err != nil {
		return err
	}
	c.sent = true
	if err := c.settle(ctx); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return c.converse(ctx, resp, in)
	}
	return c.pump(ctx, content)
}

// trip is one round trip, which must begin to answer in time.
func (c *carry) trip(ctx context.Context, cancel context.CancelCauseFunc, req *http.Request) (*http.Response, error) {
	late := fmt.Errorf("%w: the upstream did not begin to answer within %d ms", mman.ErrTimeout, c.site.AnswerMs)
	if !c.e.off.pauses {
		timer := time.AfterFunc(time.Duration(c.site.AnswerMs)*time.Millisecond, func() { cancel(late) }) //nolint:gosec // bounded
		defer timer.Stop()
	}
	from := c.site.from
	if from == nil {
		from = c.e.transport
	}
	resp, err := from.RoundTrip(req.WithContext(ctx))
	if err == nil {
		return resp, nil
	}
	if errors.Is(context.Cause(ctx), mman.ErrTimeout) {
		return nil, late
	}
	if c.site.secret != "" && strings.Contains(err.Error(), c.site.secret) {
		return nil, errSecret()
	}
	return nil, fmt.Errorf("%w: the upstream: %w", mman.ErrUnreachable, cleaned(err))
}

// cleaned is an error of the transport without the upstream's address.
func cleaned(err error) error {
	for _, known := range []error{io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return known
		}
	}
	if strings.Contains(err.Error(), "connection refused") {
		return errors.New("it refuses connections")
	}
	return errors.New("the call failed")
}

// follow is for tests alone: it shows what following a redirection would send.
func (c *carry) follow(ctx context.Context, resp *http.Response) (*http.Response, error) {
	at, err := resp.Location()
	if err != nil {
		return resp, nil //nolint:nilerr // no redirection
	}
	if err := resp.Body.Close(); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set(c.site.SecretHeader, c.site.SecretPrefix+c.site.secret)
	return c.e.transport.RoundTrip(req)
}

// decoded returns the answer as it is without compression: nothing is found in a
// compressed one. None was asked for.
func (c *carry) decoded(resp *http.Response) (io.Reader, error) {
	coding := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding")))
	if c.e.off.decode || coding == "" || coding == "identity" || resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.Body, nil
	}
	var r io.Reader
	var err error
	switch coding {
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(resp.Body)
	case "deflate":
		r, err = zlib.NewReader(resp.Body)
	default:
		err = fmt.Errorf("%w: coding %.32q", mman.ErrUnsupported, coding)
	}
	if errors.Is(err, io.EOF) {
		return http.NoBody, nil // a head alone
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the upstream's answer cannot be read: %w", mman.ErrUnreachable, err)
	}
	return r, nil
}

// part is a piece of an answer, or its end.
type part struct {
	bytes []byte
	err   error
}

// read hands the parts of r on until its end.
func read(ctx context.Context, r io.Reader) <-chan part {
	parts := make(chan part)
	go func() {
		for {
			p := make([]byte, chunk)
			n, err := r.Read(p)
			select {
			case parts <- part{p[:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return parts
}

// pump carries the answer's body: what may begin the secret waits for what follows.
func (c *carry) pump(ctx context.Context, from io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := sieve{index: c.site.index}
	if c.e.off.search {
		s.index = nil
	}
	pause := time.Duration(c.site.PauseMs) * time.Millisecond    //nolint:gosec // bounded
	late, few := time.NewTimer(pause), time.NewTimer(yieldAfter) //nolint:forbidigo // both are reset for every part
	defer late.Stop()
	defer few.Stop()
	for parts := read(ctx, from); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-few.C:
			if err := c.write(ctx, s.yield()); err != nil {
				return err
			}
		case <-late.C:
			if !c.e.off.pauses {
				c.exit = brokenExit
				return c.write(ctx, s.rest())
			}
		case p := <-parts:
			late.Reset(pause)
			few.Reset(yieldAfter)
			end, err := c.part(ctx, &s, p)
			if end || err != nil {
				return err
			}
		}
	}
}

func (c *carry) part(ctx context.Context, s *sieve, p part) (end bool, err error) {
	if len(p.bytes) > 0 {
		safe, err := s.pass(p.bytes)
		if err != nil {
			return false, err
		}
		if err := c.write(ctx, safe); err != nil {
			return false, err
		}
	}
	if p.err == nil {
		return false, nil
	}
	if !errors.Is(p.err, io.EOF) {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		c.exit = brokenExit
	}
	return true, c.write(ctx, s.rest())
}

// write sends a part of the body and waits until it is paid.
func (c *carry) write(ctx context.Context, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if c.tokens != nil {
		_, _ = c.tokens.Write(p) // it never fails
		if c.leak != nil {
			return c.leak
		}
	}
	if _, err := c.stdout().Write(p); err != nil {
		return err
	}
	return c.settle(ctx)
}

// converse carries a websocket until one side ends it.
func (c *carry) converse(ctx context.Context, resp *http.Response, in *input) error {
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		return fmt.Errorf("%w: a %T carries no websocket", mman.ErrInternal, resp.Body)
	}
	ctx, cancel := context.WithCancel(ctx)
	in.ctx, in.within = ctx, time.Duration(c.limits.WallMs)*time.Millisecond //nolint:gosec // Validate bounds it
	up := make(chan struct{})
	go func() {
		defer close(up)
		_, _ = io.Copy(conn, in) // its end is the other's too
		_ = conn.Close()
	}()
	err := c.pump(ctx, conn)
	c.exit = 0 // a websocket has its own words for its end
	cancel()
	_ = conn.Close() // it may be closed
	<-up
	return err
}

func (c *carry) stdout() io.Writer { return counted{c} }

// counted counts what goes to the consumer, within the limit.
type counted struct{ c *carry }

// Write sends p if the call may write that much.
func (w counted) Write(p []byte) (int, error) {
	if have := w.c.out.Load(); uint64(len(p)) > w.c.limits.OutputBytes-min(have, w.c.limits.OutputBytes) {
		return 0, fmt.Errorf("%w: an answer of more than %d bytes", mman.ErrOutput, w.c.limits.OutputBytes)
	}
	n, err := w.c.streams.Stdout.Write(p)
	w.c.out.Add(uint64(n)) //nolint:gosec // writers count upwards
	return n, err
}

// input is what the consumer sends, in time and within the limits.
type input struct {
	c      *carry
	ctx    context.Context //nolint:containedctx // an input lives as long as its call
	within time.Duration
	left   uint64
	bound  bool // by left
	fault  atomic.Pointer[error]
}

// Read reads on. A consumer that pauses for too long is given up.
func (i *input) Read(p []byte) (int, error) {
	if i.bound && uint64(len(p)) > i.left+1 {
		p = p[:i.left+1]
	}
	ctx, cancel := i.ctx, context.CancelFunc(func() {})
	if !i.c.e.off.pauses {
		ctx, cancel = context.WithTimeoutCause(i.ctx, i.within, mman.ErrIdle)
	}
	defer cancel()
	n, err := i.c.streams.Stdin.Read(ctx, p)
	if in := i.c.in.Add(uint64(n)); in > i.c.limits.InputBytes { //nolint:gosec // readers count upwards
		err = fmt.Errorf("%w: %d bytes", mman.ErrInputLimit, i.c.limits.InputBytes)
	}
	if i.bound && uint64(n) > i.left { //nolint:gosec // as above
		err = fmt.Errorf("%w: a body of more than the %d bytes that are allowed here", mman.ErrTooLarge, i.c.site.MaxBody)
	}
	i.left -= min(i.left, uint64(n)) //nolint:gosec // as above
	if err != nil && !errors.Is(err, io.EOF) {
		if errors.Is(context.Cause(ctx), mman.ErrIdle) {
			err = fmt.Errorf("%w: the call paused for %s", mman.ErrTimeout, i.within)
		}
		i.fault.Store(&err)
	}
	return n, err
}
