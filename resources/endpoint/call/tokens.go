package call

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
)

// OpenAI is the attribute "api" of endpoints that speak the API of OpenAI.
const OpenAI = "openai"

const (
	// MaxCounted bounds an answer that is not a stream and whose usage is read; a
	// longer one is counted by its size.
	MaxCounted = 16 << 20
	// maxEvent bounds one event of a stream.
	maxEvent = 1 << 20
	// bytesPerToken is what a token counts for where no usage is told.
	bytesPerToken = 4
)

// Tokens counts the tokens of one call. A server's own usage counts when it is
// possible: at least one token for each event with text, at most one for each byte
// of request and answer, or as many as the request allowed. Otherwise text is
// counted, four bytes for a token. Give it the request's body, the answer's head
// and then its body; it is for one goroutine.
type Tokens struct {
	// Said, when set, is told the texts of a stream, each before Write returns.
	Said func(text string)

	request uint64 // bytes of the body
	asked   uint64 // max_tokens
	text    uint64 // bytes of text on both sides
	stream  bool
	failed  bool
	buf     []byte // of an event or of the whole answer
	over    bool   // buf would be too large
	answer  uint64 // bytes
	events  uint64 // with text
	usage   *usage
}

type usage struct {
	Prompt     uint64 `json:"prompt_tokens"`
	Completion uint64 `json:"completion_tokens"`
	Total      uint64 `json:"total_tokens"`
}

// piece is what is read of an answer or an event.
type piece struct {
	Choices []struct {
		Text    json.RawMessage `json:"text"`
		Delta   said            `json:"delta"`
		Message said            `json:"message"`
	} `json:"choices"`
	Usage json.RawMessage `json:"usage"`
}

// said is what a model says in one place.
type said struct {
	Content   json.RawMessage `json:"content"`
	Refusal   json.RawMessage `json:"refusal"`
	Reasoning json.RawMessage `json:"reasoning_content"`
	ToolCalls json.RawMessage `json:"tool_calls"`
}

// asks is what is read of a request.
type asks struct {
	Messages      json.RawMessage `json:"messages"`
	Prompt        json.RawMessage `json:"prompt"`
	Input         json.RawMessage `json:"input"`
	MaxTokens     uint64          `json:"max_tokens"`
	MaxCompletion uint64          `json:"max_completion_tokens"`
}

// Counts reports whether calls to a path of such an API cost tokens.
func Counts(method, path string) bool {
	if method != "POST" {
		return false
	}
	for _, end := range []string{"/chat/completions", "/completions", "/embeddings"} {
		if strings.HasSuffix(path, end) {
			return true
		}
	}
	return false
}

// NewTokens begins with the body of the request.
func NewTokens(body []byte) *Tokens {
	t := &Tokens{request: uint64(len(body))}
	var a asks
	if json.Unmarshal(body, &a) == nil {
		t.asked = max(a.MaxTokens, a.MaxCompletion)
		t.text = texts(a.Messages) + texts(a.Prompt) + texts(a.Input)
	}
	return t
}

// texts adds up the strings in a value, but not the names of its members.
func texts(raw json.RawMessage) (n uint64) {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return 0
	}
	for todo := []any{v}; len(todo) > 0; {
		last := len(todo) - 1
		v, todo = todo[last], todo[:last]
		switch v := v.(type) {
		case string:
			n += uint64(len(v))
		case []any:
			todo = append(todo, v...)
		case map[string]any:
			for _, one := range v {
				todo = append(todo, one)
			}
		}
	}
	return n
}

// Head begins the answer. One that failed costs no tokens.
func (t *Tokens) Head(r Response) {
	t.failed = r.Status >= 300
	t.stream = strings.HasPrefix(Get(r.Header, "content-type"), "text/event-stream")
}

// Write takes a part of the answer's body. It never fails.
func (t *Tokens) Write(p []byte) (int, error) {
	t.answer += uint64(len(p))
	if !t.stream {
		if t.over = t.over || len(t.buf)+len(p) > MaxCounted; t.over {
			t.buf = nil
		} else {
			t.buf = append(t.buf, p...)
		}
		return len(p), nil
	}
	for rest := p; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		rest = after
		if t.over = t.over || len(t.buf)+len(line) > maxEvent; t.over {
			t.buf = nil
		} else {
			t.buf = append(t.buf, line...)
		}
		if whole {
			t.line(t.buf)
			t.buf, t.over = t.buf[:0], false
		}
	}
	return len(p), nil
}

func (t *Tokens) line(line []byte) {
	data, ok := bytes.CutPrefix(line, []byte("data:"))
	if !ok {
		return
	}
	var p piece
	if json.Unmarshal(bytes.TrimSpace(data), &p) == nil { // not [DONE]
		t.take(p)
	}
}

func (t *Tokens) take(p piece) {
	var n uint64
	for _, c := range p.Choices {
		for _, raw := range []json.RawMessage{
			c.Text, c.Delta.Content, c.Delta.Refusal, c.Delta.Reasoning, c.Delta.ToolCalls,
			c.Message.Content, c.Message.Refusal, c.Message.Reasoning, c.Message.ToolCalls,
		} {
			n += t.hear(raw)
		}
	}
	if n > 0 {
		t.events++
	}
	t.text += n
	var u usage
	if len(p.Usage) > 0 && string(p.Usage) != "null" && json.Unmarshal(p.Usage, &u) == nil {
		t.usage = &u
	}
}

// hear counts a text and lets Said have it.
func (t *Tokens) hear(raw json.RawMessage) uint64 {
	var text string
	if t.Said != nil && len(raw) > 0 && json.Unmarshal(raw, &text) == nil {
		t.Said(text)
	}
	return texts(raw)
}

// SoFar is what a stream has cost at least: a token for each event with text.
func (t *Tokens) SoFar() uint64 {
	if t.failed {
		return 0
	}
	return t.events
}

// Total is what the call cost by what came so far, and whether the server told it.
func (t *Tokens) Total() (n uint64, told bool) {
	if t.failed {
		return 0, false
	}
	if !t.stream && !t.over {
		var p piece
		if json.Unmarshal(t.buf, &p) == nil { // it is whole
			t.take(p)
			t.buf = nil
		}
	}
	least := t.events
	if !t.stream {
		least = 0
	}
	counted := max(least, (t.text+bytesPerToken-1)/bytesPerToken)
	if t.over && !t.stream {
		counted = (t.request + t.answer) / bytesPerToken
	}
	if t.usage == nil {
		return counted, false
	}
	total := max(t.usage.Total, saturate(t.usage.Prompt, t.usage.Completion))
	if total < least || total > saturate(t.request, max(t.answer, t.asked)) {
		return counted, false
	}
	return total, true
}

func saturate(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// Usage returns what the server told, zero when it told nothing.
func (t *Tokens) Usage() (prompt, completion, total uint64) {
	if t.usage == nil {
		return 0, 0, 0
	}
	return t.usage.Prompt, t.usage.Completion, t.usage.Total
}
