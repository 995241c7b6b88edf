package gateway_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/gateway"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/p2ptest"
)

func service(t *testing.T, h *p2p.Host) *content.Service {
	t.Helper()
	cfg := content.Default()
	cfg.After, cfg.BlockTimeout = time.After, 10*time.Second
	s, err := content.New(t.Context(), h, content.NewPublicStore(content.Memory()), nil, cfg)
	require.NoError(t, err)
	p2ptest.Closing(t, s)
	return s
}

type scene struct {
	base    string
	root    mman.CID
	big     []byte
	private mman.CID
}

// setUp has a gateway at one peer and everything at another.
func setUp(t *testing.T) scene {
	t.Helper()
	hosts := p2ptest.New(t, 2)
	near, far := service(t, hosts[0]), service(t, hosts[1])
	p2ptest.Connect(t, hosts[0], hosts[1])
	s := scene{big: make([]byte, 5<<20)}
	_, err := rand.Read(s.big)
	require.NoError(t, err)
	tree, err := far.AddPublicFolder(t.Context(), fstest.MapFS{
		"a/<b>&\"c\".txt": {Data: []byte("odd name")},
		"a/plain.txt":     {Data: []byte("plain")},
		"site/index.html": {Data: []byte("<h1>index</h1><script>alert(1)</script>")},
		"big.bin":         {Data: s.big},
	})
	require.NoError(t, err)
	s.root = tree.Root
	s.private, _, err = content.AddTo(t.Context(), content.NewPrivateStore(content.Memory()), bytes.NewReader([]byte("secret")))
	require.NoError(t, err)
	server := httptest.NewServer(gateway.New(near, slog.New(slog.DiscardHandler)))
	t.Cleanup(server.Close)
	s.base = server.URL
	return s
}

// answer is a response whose body was read.
type answer struct {
	StatusCode    int
	ContentLength int64
	Header        http.Header
}

func ask(t *testing.T, method, url string, change func(*http.Request)) (answer, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	require.NoError(t, err)
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return answer{resp.StatusCode, resp.ContentLength, resp.Header}, b
}

func TestGateway(t *testing.T) {
	t.Parallel()
	s := setUp(t)
	at := s.base + "/ipfs/" + s.root.String()
	header := func(key, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(key, value) }
	}
	for name, tc := range map[string]struct {
		method, url string
		change      func(*http.Request)
		want        int
		text        string
	}{
		"file":            {url: at + "/a/plain.txt", want: 200, text: "plain"},
		"odd name":        {url: at + "/a/%3Cb%3E&%22c%22.txt", want: 200, text: "odd name"},
		"range":           {url: at + "/a/plain.txt", change: header("Range", "bytes=1-2"), want: 206, text: "la"},
		"range past":      {url: at + "/a/plain.txt", change: header("Range", "bytes=100-"), want: 416},
		"folder":          {url: at + "/a/", want: 200, text: `<a href="./%3Cb%3E&amp;%22c%22.txt">&lt;b&gt;&amp;&#34;c&#34;.txt</a>`},
		"folder, slash":   {url: at + "/a", want: 200, text: "plain.txt"},
		"index":           {url: at + "/site/", want: 200, text: "<h1>index</h1>"},
		"not there":       {url: at + "/nothing", want: 404, text: "nothing"},
		"in a file":       {url: at + "/a/plain.txt/x", want: 501},
		"no cid":          {url: s.base + "/ipfs/", want: 404},
		"bad cid":         {url: s.base + "/ipfs/xyz", want: 400},
		"nobody has it":   {url: s.base + "/ipfs/" + mman.SumCID(mman.CodecRaw, []byte("?")).String(), want: 404},
		"private":         {url: s.base + "/ipfs/" + s.private.String(), want: 404},
		"private, block":  {url: s.base + "/ipfs/" + s.private.String() + "?format=raw", want: 404},
		"private, car":    {url: s.base + "/ipfs/" + s.private.String() + "?format=car", want: 404},
		"unknown key":     {url: at + "?x=1", want: 400, text: "format only"},
		"unknown format":  {url: at + "?format=zip", want: 400},
		"post":            {method: http.MethodPost, url: at, want: 501},
		"embedded":        {url: at + "/a/plain.txt", change: header("Sec-Fetch-Site", "cross-site"), want: 403},
		"same, unchanged": {url: at + "/a/plain.txt", change: header("If-None-Match", "*"), want: 304},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method := tc.method
			if method == "" {
				method = http.MethodGet
			}
			resp, body := ask(t, method, tc.url, tc.change)
			require.Equal(t, tc.want, resp.StatusCode, string(body))
			require.Contains(t, string(body), tc.text)
			require.Equal(t, "sandbox", resp.Header.Get("Content-Security-Policy"), "pages of strangers run no scripts here")
			if tc.want >= 400 && tc.want != 416 {
				require.Empty(t, resp.Header.Get("Cache-Control"), "a failure is not kept")
			}
		})
	}
}

func TestGatewayLargeAndWhole(t *testing.T) {
	t.Parallel()
	s := setUp(t)
	at := s.base + "/ipfs/" + s.root.String()
	resp, body := ask(t, http.MethodHead, at+"/big.bin", nil)
	require.Equal(t, int64(len(s.big)), resp.ContentLength)
	require.Empty(t, body)
	_, body = ask(t, http.MethodGet, at+"/big.bin", nil)
	require.True(t, bytes.Equal(s.big, body))

	// The CAR file makes the same tree elsewhere.
	resp, car := ask(t, http.MethodGet, at, func(r *http.Request) { r.Header.Set("Accept", "application/vnd.ipld.car; version=1") })
	require.Contains(t, resp.Header.Get("Content-Type"), "application/vnd.ipld.car")
	other := service(t, p2ptest.Start(t, 5))
	roots, err := other.ImportCAR(t.Context(), bytes.NewReader(car), 1<<30)
	require.NoError(t, err)
	require.Equal(t, []mman.CID{s.root}, roots)
	e, err := other.Folders().Walk(t.Context(), s.root, []string{"big.bin"})
	require.NoError(t, err)
	require.Equal(t, uint64(len(s.big)), e.Bytes)

	_, block := ask(t, http.MethodGet, at+"?format=raw", nil)
	require.Equal(t, s.root, mman.SumCID(mman.CodecDagPB, block))
}
