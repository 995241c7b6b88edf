package lm

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"net/http"
	"strings"
	"time"
)

// Name is the model's.
const Name = "book-trigrams"

const (
	maxBody       = 4 << 20
	maxTokens     = 2048
	defaultTokens = 64
	maxInputs     = 256
)

// Usage is what a request cost in tokens.
type Usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

// Server answers the API of OpenAI.
type Server struct {
	// Model continues texts.
	Model *Model
	// Key, when set, is asked of every request.
	Key string
	// Now is the clock.
	Now func() time.Time
	// Pause is between two tokens of a stream.
	Pause time.Duration
	// Served, when set, is told what each request cost, from several goroutines.
	Served func(path string, u Usage)
}

type request struct {
	Model    string `json:"model"`
	Messages []struct {
		Role    string `json:"role"`
		Content any    `json:"content"`
	} `json:"messages"`
	Prompt        any     `json:"prompt"`
	Input         any     `json:"input"`
	MaxTokens     int     `json:"max_tokens"`
	MaxCompletion int     `json:"max_completion_tokens"`
	Seed          *uint64 `json:"seed"`
	Stream        bool    `json:"stream"`
	Options       struct {
		Usage bool `json:"include_usage"`
	} `json:"stream_options"`
	Encoding string `json:"encoding_format"`
}

// Handler returns the routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		s.answer(w, http.StatusOK, map[string]any{"object": "list", "data": []any{s.card()}})
	})
	mux.HandleFunc("GET /v1/models/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") != Name {
			s.fail(w, http.StatusNotFound, "there is no such model")
			return
		}
		s.answer(w, http.StatusOK, s.card())
	})
	mux.HandleFunc("POST /v1/chat/completions", s.with(func(w http.ResponseWriter, r *http.Request, q request) { s.complete(w, r, q, true) }))
	mux.HandleFunc("POST /v1/completions", s.with(func(w http.ResponseWriter, r *http.Request, q request) { s.complete(w, r, q, false) }))
	mux.HandleFunc("POST /v1/embeddings", s.with(s.embed))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Key != "" && r.Header.Get("Authorization") != "Bearer "+s.Key {
			s.fail(w, http.StatusUnauthorized, "the API key is wrong")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) card() map[string]any {
	return map[string]any{"id": Name, "object": "model", "created": 0, "owned_by": "massive-man"}
}

func (s *Server) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // who asked may be gone
}

func (s *Server) fail(w http.ResponseWriter, status int, text string) {
	s.answer(w, status, map[string]any{"error": map[string]any{"message": text, "type": "invalid_request_error", "param": nil, "code": nil}})
}

func (s *Server) with(next func(http.ResponseWriter, *http.Request, request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q request
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&q); err != nil {
			s.fail(w, http.StatusBadRequest, "the body cannot be read: "+err.Error())
			return
		}
		if q.Model != Name {
			s.fail(w, http.StatusNotFound, fmt.Sprintf("model %q is not here, %q is", q.Model, Name))
			return
		}
		next(w, r, q)
	}
}

// texts returns the strings of a value, joined.
func texts(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var out strings.Builder
		for _, one := range v {
			out.WriteString(texts(one))
		}
		return out.String()
	case map[string]any:
		return texts(v["text"])
	default:
		return ""
	}
}

func (q request) most() int {
	most := max(q.MaxTokens, q.MaxCompletion)
	if most <= 0 {
		most = defaultTokens
	}
	return min(most, maxTokens)
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request, q request, chat bool) {
	var said strings.Builder
	said.WriteString(texts(q.Prompt))
	for _, m := range q.Messages {
		said.WriteString(texts(m.Content) + "\n")
	}
	prompt := said.String()
	if prompt == "" {
		s.fail(w, http.StatusBadRequest, "there is nothing to continue")
		return
	}
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(prompt)) // it never fails
	from := seed.Sum64()
	if q.Seed != nil {
		from = *q.Seed
	}
	a := completion{s: s, chat: chat, id: fmt.Sprintf("lm-%016x", from), created: s.Now().Unix()}
	tokens := s.Model.Encode(prompt)
	if q.Stream {
		s.stream(r.Context(), w, q, a, tokens, from, r.URL.Path)
		return
	}
	var text strings.Builder
	n := 0
	s.Model.Continue(tokens, from, q.most(), func(t Token) bool {
		n++
		text.WriteString(s.Model.Decode(t))
		return true
	})
	u := Usage{len(tokens), n, len(tokens) + n}
	s.served(r.URL.Path, u)
	s.answer(w, http.StatusOK, a.whole(text.String(), u))
}

func (s *Server) served(path string, u Usage) {
	if s.Served != nil {
		s.Served(path, u)
	}
}

// completion writes the objects of one answer.
type completion struct {
	s       *Server
	chat    bool
	id      string
	created int64
}

func (a completion) object(kind string, choices []any) map[string]any {
	return map[string]any{"id": a.id, "object": kind, "created": a.created, "model": Name, "choices": choices}
}

func (a completion) whole(text string, u Usage) map[string]any {
	choice, kind := map[string]any{"index": 0, "text": text, "finish_reason": "length", "logprobs": nil}, "text_completion"
	if a.chat {
		choice, kind = map[string]any{"index": 0, "message": map[string]any{"role": "assistant", "content": text}, "finish_reason": "length"}, "chat.completion"
	}
	out := a.object(kind, []any{choice})
	out["usage"] = u
	return out
}

func (a completion) part(text string, end any) map[string]any {
	if !a.chat {
		return a.object("text_completion", []any{map[string]any{"index": 0, "text": text, "finish_reason": end, "logprobs": nil}})
	}
	delta := map[string]any{}
	if end == nil {
		delta["content"] = text
	}
	return a.object("chat.completion.chunk", []any{map[string]any{"index": 0, "delta": delta, "finish_reason": end}})
}

func (s *Server) stream(ctx context.Context, w http.ResponseWriter, q request, a completion, prompt []Token, seed uint64, path string) {
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	send := func(v any) bool {
		b, err := json.Marshal(v)
		if err == nil {
			_, err = fmt.Fprintf(w, "data: %s\n\n", b)
		}
		return err == nil && control.Flush() == nil
	}
	n := 0
	s.Model.Continue(prompt, seed, q.most(), func(t Token) bool {
		n++
		if s.Pause > 0 {
			select {
			case <-time.After(s.Pause): //nolint:forbidigo // a pause for people
			case <-ctx.Done():
			}
		}
		return send(a.part(s.Model.Decode(t), nil)) && ctx.Err() == nil
	})
	u := Usage{len(prompt), n, len(prompt) + n}
	s.served(path, u)
	if !send(a.part("", "length")) {
		return
	}
	if q.Options.Usage {
		kind := "text_completion"
		if a.chat {
			kind = "chat.completion.chunk"
		}
		last := a.object(kind, []any{})
		last["usage"] = u
		send(last)
	}
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n") // who asked may be gone
}

func (s *Server) embed(w http.ResponseWriter, r *http.Request, q request) {
	inputs, ok := q.Input.([]any)
	if !ok {
		inputs = []any{q.Input}
	}
	if len(inputs) == 0 || len(inputs) > maxInputs {
		s.fail(w, http.StatusBadRequest, "input: one text or up to 256 are due")
		return
	}
	n, data := 0, make([]any, 0, len(inputs))
	for i, in := range inputs {
		text := texts(in)
		n += len(s.Model.Encode(text))
		vector := s.Model.Embed(text)
		var shown any = vector
		if q.Encoding == "base64" {
			b := make([]byte, 0, 4*len(vector))
			for _, f := range vector {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
			}
			shown = base64.StdEncoding.EncodeToString(b)
		}
		data = append(data, map[string]any{"object": "embedding", "index": i, "embedding": shown})
	}
	u := Usage{Prompt: n, Total: n}
	s.served(r.URL.Path, u)
	s.answer(w, http.StatusOK, map[string]any{"object": "list", "data": data, "model": Name, "usage": map[string]int{"prompt_tokens": n, "total_tokens": n}})
}
