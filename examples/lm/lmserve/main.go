// Command lmserve serves the model of package lm, trained on examples/book.txt at its start,
// with the API of OpenAI:
//
//	go run ./examples/lm/lmserve --listen 127.0.0.1:8081 --key-file key.txt
//
// It writes its address and then, for each request, a line of JSON with what that
// cost in tokens to standard output.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/examples/lm"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8081", "address to listen on")
	keyFile := flag.String("key-file", "", "file with the API key that is asked for")
	pause := flag.Duration("pause", 0, "between two tokens of a stream")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) //nolint:forbidigo // a main
	defer stop()
	if err := serve(ctx, *listen, *keyFile, *pause, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "lm:", err)
		os.Exit(1) //nolint:forbidigo,gocritic // a main; nothing is left to stop
	}
}

func serve(ctx context.Context, listen, keyFile string, pause time.Duration, out io.Writer) error {
	s := lm.Server{Model: lm.New(string(examples.Book())), Now: time.Now, Pause: pause} //nolint:forbidigo // a main
	if keyFile != "" {
		b, err := os.ReadFile(keyFile) //nolint:gosec // the operator names it
		if err != nil {
			return err
		}
		s.Key = strings.TrimSpace(string(b))
	}
	var mu sync.Mutex
	s.Served = func(path string, u lm.Usage) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(out).Encode(map[string]any{"path": path, "usage": u}) // a log
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if _, err := fmt.Fprintf(out, "http://%s\n", ln.Addr()); err != nil {
		return err
	}
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
