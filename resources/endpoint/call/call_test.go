package call_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/endpoint/call"
)

func TestHeadTravels(t *testing.T) {
	t.Parallel()
	want := call.Request{Method: "POST", Path: "/v1/x y/é", Query: "a=1&b=%20", Header: []call.Field{{Name: "content-type", Value: "text/plain"}}, Sized: true, Bytes: 7}
	var b bytes.Buffer
	require.NoError(t, call.WriteHead(&b, want))
	got, err := call.ReadRequest(&b)
	require.NoError(t, err)
	require.Equal(t, want, got)

	answer := call.Response{Status: 200, Header: []call.Field{{Name: "etag", Value: `"x"`}}}
	require.NoError(t, call.WriteHead(&b, answer))
	back, err := call.ReadResponse(&b)
	require.NoError(t, err)
	require.Equal(t, answer, back)
	require.Equal(t, `"x"`, call.Get(back.Header, "etag"))
}

func TestHeadsThatMeanTwoThings(t *testing.T) {
	t.Parallel()
	ok := call.Request{Method: "GET", Path: "/"}
	require.NoError(t, ok.Validate())
	for name, change := range map[string]func(*call.Request){
		"a method with a space":   func(r *call.Request) { r.Method = "GET /x" },
		"no method":               func(r *call.Request) { r.Method = "" },
		"a relative path":         func(r *call.Request) { r.Path = "x" },
		"a path up":               func(r *call.Request) { r.Path = "/a/../b" },
		"a dot":                   func(r *call.Request) { r.Path = "/a/./b" },
		"two slashes":             func(r *call.Request) { r.Path = "//b" },
		"a backslash":             func(r *call.Request) { r.Path = `/a\..\b` },
		"a percent sign":          func(r *call.Request) { r.Path = "/a%2e%2e/b" },
		"a line end in the path":  func(r *call.Request) { r.Path = "/a\r\nx: y" },
		"a line end in the query": func(r *call.Request) { r.Query = "a\r\nx: y" },
		"a long path":             func(r *call.Request) { r.Path = "/" + strings.Repeat("a", call.MaxTarget) },
		"a line end in a value":   func(r *call.Request) { r.Header = []call.Field{{Name: "a", Value: "b\r\nc: d"}} },
		"a name with a colon":     func(r *call.Request) { r.Header = []call.Field{{Name: "a:", Value: "b"}} },
		"a name in capitals":      func(r *call.Request) { r.Header = []call.Field{{Name: "Host", Value: "b"}} },
		"too many fields":         func(r *call.Request) { r.Header = make([]call.Field, call.MaxFields+1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ok
			change(&r)
			err := r.Validate()
			require.Error(t, err)
			require.Contains(t, []mman.Code{mman.ErrInvalid.Code, mman.ErrTooLarge.Code}, mman.CodeOf(err))
		})
	}
}

func TestDecodePath(t *testing.T) {
	t.Parallel()
	got, err := call.DecodePath("/a%20b/%C3%A9")
	require.NoError(t, err)
	require.Equal(t, "/a b/é", got)
	for _, bad := range []string{"/..", "/%2e%2E/x", "/a%2fb", "/a%5Cb", "/a%00", "/%252e", "/a;b", "//x", "/a//b", "x", "", "/%zz", "/a/../../etc"} {
		_, err := call.DecodePath(bad)
		require.Error(t, err, bad)
	}
}

func TestCutHead(t *testing.T) {
	t.Parallel()
	for _, b := range []string{"", "\x00", "\x00\x00\x00\x09abc", "\xff\xff\xff\xff", "\x00\x00\x00\x01\xff"} {
		_, err := call.ReadRequest(strings.NewReader(b))
		require.Error(t, err, "%q", b)
	}
}

func FuzzReadRequest(f *testing.F) {
	var b bytes.Buffer
	require.NoError(f, call.WriteHead(&b, call.Request{Method: "GET", Path: "/a", Query: "b=c", Header: []call.Field{{Name: "a", Value: "b"}}}))
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := call.ReadRequest(bytes.NewReader(in))
		if err != nil {
			return
		}
		var again bytes.Buffer
		require.NoError(t, call.WriteHead(&again, r))
		require.Equal(t, in[:again.Len()], again.Bytes())
	})
}

// count feeds an answer in pieces of a size.
func count(request, kind, answer string, status, piece int) (uint64, bool) {
	tokens := call.NewTokens([]byte(request))
	tokens.Head(call.Response{Status: uint64(status), Header: []call.Field{{Name: "content-type", Value: kind}}})
	for b := []byte(answer); len(b) > 0; {
		n := min(piece, len(b))
		_, _ = tokens.Write(b[:n])
		b = b[n:]
	}
	return tokens.Total()
}

func TestTokens(t *testing.T) {
	t.Parallel()
	const asks = `{"messages":[{"role":"user","content":"12345678"}],"max_tokens":50}` // 8 + 4 bytes of text
	stream := `data: {"choices":[{"delta":{"role":"assistant"}}]}` + "\n\n" +
		`data: {"choices":[{"delta":{"content":"one"}}]}` + "\n\n" + `data: {"choices":[{"delta":{"content":" two"}}]}` + "\n\n"
	last := func(total int) string {
		return `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":` + strconv.Itoa(total) + `}}` + "\n\ndata: [DONE]\n\n"
	}
	for name, c := range map[string]struct {
		kind, answer string
		status       int
		want         uint64
		told         bool
	}{
		"told":                       {"application/json", `{"choices":[{"message":{"content":"abcd"}}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}`, 200, 5, true},
		"told without a total":       {"application/json", `{"choices":[{"message":{"content":null}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}`, 200, 7, true},
		"not told":                   {"application/json", `{"choices":[{"message":{"content":"abcd"}}]}`, 200, 4, false},
		"usage is null":              {"application/json", `{"choices":[{"message":{"content":"abcd"}}],"usage":null}`, 200, 4, false},
		"more than can be":           {"application/json", `{"choices":[{"message":{"content":"abcd"}}],"usage":{"total_tokens":1000000}}`, 200, 4, false},
		"overflow":                   {"application/json", `{"choices":[],"usage":{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615,"total_tokens":1}}`, 200, 3, false},
		"an embedding":               {"application/json", `{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":3,"total_tokens":3}}`, 200, 3, true},
		"an error":                   {"application/json", `{"error":{},"usage":{"total_tokens":5}}`, 429, 0, false},
		"a stream that tells":        {"text/event-stream", stream + last(5), 200, 5, true},
		"a stream that does not":     {"text/event-stream; charset=utf-8", stream + "data: [DONE]\n\n", 200, 5, false},
		"a stream that tells less":   {"text/event-stream", stream + `data: {"choices":[],"usage":{"total_tokens":1}}` + "\n\n", 200, 5, false},
		"a stream that tells a lot":  {"text/event-stream", stream + last(100_000), 200, 5, false},
		"a stream that breaks off":   {"text/event-stream", stream, 200, 5, false},
		"a stream of carriage lines": {"text/event-stream", strings.ReplaceAll(stream+last(5), "\n", "\r\n"), 200, 5, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, piece := range []int{1, 7, 1 << 20} {
				got, told := count(asks, c.kind, c.answer, c.status, piece)
				require.Equal(t, c.want, got, piece)
				require.Equal(t, c.told, told, piece)
			}
		})
	}
	require.True(t, call.Counts("POST", "/v1/chat/completions"))
	require.True(t, call.Counts("POST", "/api/v1/embeddings"))
	require.False(t, call.Counts("GET", "/v1/chat/completions"))
	require.False(t, call.Counts("POST", "/v1/files"))
}

func FuzzTokens(f *testing.F) {
	f.Add([]byte(`{"messages":[]}`), []byte("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"), true)
	f.Fuzz(func(t *testing.T, request, answer []byte, stream bool) {
		kind := "application/json"
		if stream {
			kind = "text/event-stream"
		}
		whole, _ := count(string(request), kind, string(answer), 200, 1<<20)
		parts, _ := count(string(request), kind, string(answer), 200, 3)
		require.Equal(t, whole, parts, "both sides count alike, however the bytes come")
	})
}
