package gateway

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"unicode"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/endpoint/call"
)

// answer turns what comes of a call into what its program gets. Bytes that the
// program no longer takes are counted all the same.
type answer struct {
	gateway *Gateway
	w       http.ResponseWriter
	control *http.ResponseController
	upgrade bool
	typed   *io.PipeWriter // what the program says after an upgrade
	tokens  *call.Tokens   // nil where none are counted
	strip   bool           // the program did not ask for the usage that a stream ends with

	reason reason // why the provider declined
	start  []byte // of the head
	status int    // 0 until the head is there
	stream bool
	conn   net.Conn // after an upgrade
	events []byte   // an event that is not whole yet
}

// maxEvent bounds an event that is looked at; a longer one passes.
const maxEvent = 1 << 20

// reason is a sentence of a provider, bounded and printable.
type reason string

// Write adds to it; what is too much is left out.
func (r *reason) Write(p []byte) (int, error) {
	for _, c := range string(p) {
		if len(*r) < maxReason && unicode.IsPrint(c) {
			*r += reason(c)
		}
	}
	return len(p), nil
}

const maxReason = 512

// cost is what the answer cost in tokens by what came.
func (a *answer) cost() uint64 {
	if a.tokens == nil || a.status == 0 {
		return 0
	}
	total, _ := a.tokens.Total()
	return max(total, a.tokens.SoFar())
}

// Write takes a part of the answer.
func (a *answer) Write(p []byte) (int, error) {
	n := len(p)
	if a.status == 0 {
		var err error
		if p, err = a.head(p); err != nil {
			return 0, err
		}
	}
	if len(p) > 0 {
		if a.tokens != nil {
			_, _ = a.tokens.Write(p) // it never fails
		}
		a.send(p)
	}
	return n, nil
}

// head takes what may be a part of the head, and returns what follows it.
func (a *answer) head(p []byte) (rest []byte, err error) {
	a.start = append(a.start, p...)
	if len(a.start) < 4 {
		return nil, nil
	}
	size := binary.BigEndian.Uint32(a.start)
	if size > call.MaxHead {
		return nil, fmt.Errorf("%w: the provider's answer has a head of %d bytes", mman.ErrProtocol, size)
	}
	if uint32(len(a.start)) < 4+size { //nolint:gosec // bounded by what a frame carries
		return nil, nil
	}
	head, err := call.ReadResponse(bytes.NewReader(a.start[:4+size]))
	if err != nil {
		return nil, err
	}
	rest, a.start = a.start[4+size:], nil
	return rest, a.begin(head)
}

// begin sends the head.
func (a *answer) begin(head call.Response) error {
	if (head.Status == http.StatusSwitchingProtocols) && !a.upgrade {
		return fmt.Errorf("%w: the provider upgrades what asked for no upgrade", mman.ErrProtocol)
	}
	a.status = int(head.Status) //nolint:gosec // three digits
	if a.tokens != nil {
		a.tokens.Head(head)
	}
	a.stream = strings.HasPrefix(call.Get(head.Header, "content-type"), "text/event-stream")
	h := http.Header{}
	for _, f := range head.Header {
		switch value := f.Value; {
		case slices.Contains([]string{"connection", "content-length", "transfer-encoding", "upgrade", "trailer", "content-encoding", "access-control-allow-origin"}, f.Name):
		case f.Name == "set-cookie":
			if value = a.gateway.incoming(value); value != "" {
				h.Add(f.Name, value)
			}
		default:
			h.Add(f.Name, value)
		}
	}
	if head.Status == http.StatusSwitchingProtocols {
		return a.switched(h)
	}
	maps.Copy(a.w.Header(), h)
	a.w.WriteHeader(a.status)
	_ = a.control.Flush() // who asked may be gone
	return nil
}

// switched goes on as a websocket.
func (a *answer) switched(h http.Header) error {
	conn, from, err := a.control.Hijack()
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrUnsupported, err)
	}
	a.conn = conn
	_ = conn.SetDeadline(a.gateway.cfg.Now().Add(talkIdle * 24)) // no pause of a request any more
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", "websocket")
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	if err := h.Write(&b); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	b.WriteString("\r\n")
	a.send(b.Bytes())
	go func() {
		_, err := io.Copy(a.typed, from)
		_ = a.typed.CloseWithError(err) // always nil
	}()
	return nil
}

// send hands bytes on; the program may be gone.
func (a *answer) send(p []byte) {
	if a.conn != nil {
		_, _ = a.conn.Write(p)
		return
	}
	if a.strip && a.stream {
		p = a.stripped(p)
	}
	if len(p) > 0 {
		_, _ = a.w.Write(p)
		_ = a.control.Flush()
	}
}

// stripped leaves out the event with the usage, which the provider asked for.
func (a *answer) stripped(p []byte) (out []byte) {
	a.events = append(a.events, p...)
	for {
		i := bytes.Index(a.events, []byte("\n\n"))
		if i < 0 {
			break
		}
		if event := a.events[:i+2]; !onlyUsage(event) {
			out = append(out, event...)
		}
		a.events = a.events[i+2:]
	}
	if len(a.events) > maxEvent {
		out = append(out, a.events...)
		a.events = nil
	}
	return out
}

func onlyUsage(event []byte) bool {
	data, ok := bytes.CutPrefix(event, []byte("data:"))
	var v struct {
		Choices []json.RawMessage `json:"choices"`
		Usage   *json.RawMessage  `json:"usage"`
	}
	return ok && json.Unmarshal(bytes.TrimSpace(data), &v) == nil && v.Choices != nil && len(v.Choices) == 0 && v.Usage != nil
}

// end ends the answer. One that broke off must not look whole.
func (a *answer) end(err error) {
	if a.conn != nil {
		_ = a.conn.Close() // nothing is left to say
		return
	}
	if a.status == 0 {
		return
	}
	if len(a.events) > 0 {
		_, _ = a.w.Write(a.events)
	}
	if err == nil {
		return
	}
	if a.stream && a.gateway.cfg.API == call.OpenAI {
		_, _ = fmt.Fprintf(a.w, "data: %s\n\n", bytes.TrimSpace(a.gateway.problem(Status(err), err)))
		return
	}
	panic(http.ErrAbortHandler)
}
