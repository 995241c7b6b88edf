package consensus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/cometbft/cometbft/libs/log"
	rpccore "github.com/cometbft/cometbft/rpc/core"
	rpcserver "github.com/cometbft/cometbft/rpc/jsonrpc/server"

	mman "github.com/limboid/massive-man"
)

const rpcReadTimeout = 10 * time.Second

// listen binds an address. The error of one in use names the flag.
func listen(ctx context.Context, address, flag string) (net.Listener, error) {
	plain, err := hostPort(address, flag)
	if err != nil {
		return nil, err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", plain)
	if err != nil {
		return nil, listenError(err, plain, flag)
	}
	return ln, nil
}

func listenError(err error, address, flag string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another program listens on %s: end it, or choose another address with %s (port 0 takes a free one)",
			mman.ErrPortInUse, address, flag)
	}
	return fmt.Errorf("%w: cannot listen on %s, set with %s: %w", mman.ErrInvalid, address, flag, err)
}

// RPCServer serves RPC in CometBFT's form on a listener of ours. CometBFT's own
// server neither tells which port it took nor closes its connections at the end.
type RPCServer struct {
	conns *tracked
	http  *http.Server
	done  chan struct{}
}

// RPCWriteTimeout bounds an answer. It is above the ten seconds of
// broadcast_tx_commit.
const RPCWriteTimeout = 12 * time.Second

// ServeRPC begins to answer calls of the routes on the listener, over HTTP and
// websockets. It calls failed when it cannot go on, and unsubscribe for each
// websocket that is gone. queue is how many answers wait for a slow websocket.
func ServeRPC(ln net.Listener, routes rpccore.RoutesMap, queue int, out log.Logger, unsubscribe func(remote string), failed func(error)) *RPCServer {
	cfg := rpcserver.DefaultConfig()
	cfg.MaxBodyBytes, cfg.MaxHeaderBytes, cfg.MaxRequestBatchSize = rpcBodyBytes, rpcHeaderBytes, rpcBatch
	sockets := rpcserver.NewWebsocketManager(routes,
		rpcserver.OnDisconnect(unsubscribe),
		rpcserver.ReadLimit(cfg.MaxBodyBytes),
		rpcserver.WriteChanCapacity(queue),
	)
	sockets.SetLogger(out.With("protocol", "websocket"))
	mux := http.NewServeMux()
	mux.HandleFunc("/websocket", sockets.WebsocketHandler)
	rpcserver.RegisterRPCFuncs(mux, routes, out)
	s := &RPCServer{
		conns: newTracked(ln, rpcConns),
		http: &http.Server{
			Handler:           sameSite(onLoopback(ln.Addr().String()), rpcserver.PreChecksHandler(rpcserver.RecoverAndLogHandler(mux, out), cfg)),
			ReadTimeout:       rpcReadTimeout,
			ReadHeaderTimeout: rpcReadTimeout,
			WriteTimeout:      RPCWriteTimeout,
			MaxHeaderBytes:    rpcHeaderBytes,
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(s.conns); !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("serve RPC: %w", err))
		}
	}()
	return s
}

// Stop lets running calls end until ctx does and closes every connection.
func (s *RPCServer) Stop(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // the connections are closed below in any case
	}
	s.conns.closeAll() // websockets have left the server's sight
	<-s.done
}

// sameSite refuses what a foreign web page sends through its visitor's browser:
// a page's Origin that is not the host it calls, and on a loopback listener a
// Host that is not this machine (a name rebound to 127.0.0.1).
func sameSite(loopback bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		origin := r.Header.Get("Origin")
		from, err := url.Parse(origin)
		if loopback && !loopbackHost(trimBrackets(host)) || origin != "" && (err != nil || from.Host != r.Host) {
			http.Error(w, "this RPC answers neither foreign web pages nor foreign host names", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func trimBrackets(host string) string {
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		return host[1 : n-1]
	}
	return host
}

// tracked is a listener with at most a number of connections at a time, which
// knows them.
type tracked struct {
	net.Listener

	slots chan struct{}
	mu    sync.Mutex
	open  map[*trackedConn]struct{} // nil when all were closed
}

func newTracked(ln net.Listener, limit int) *tracked {
	return &tracked{Listener: ln, slots: make(chan struct{}, limit), open: map[*trackedConn]struct{}{}}
}

// Accept implements net.Listener. It closes at once what is above the limit, so
// that it never waits for others to leave.
func (t *tracked) Accept() (net.Conn, error) {
	for {
		raw, err := t.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case t.slots <- struct{}{}:
		default:
			_ = raw.Close() // it was never used
			continue
		}
		c := &trackedConn{Conn: raw}
		c.gone = sync.OnceFunc(func() { t.forget(c) })
		t.mu.Lock()
		late := t.open == nil
		if !late {
			t.open[c] = struct{}{}
		}
		t.mu.Unlock()
		if late {
			_ = c.Close() // it was never used
			continue
		}
		return c, nil
	}
}

func (t *tracked) forget(c *trackedConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, c)
	<-t.slots
}

func (t *tracked) closeAll() {
	t.mu.Lock()
	open := t.open
	t.open = nil
	t.mu.Unlock()
	for c := range open {
		_ = c.Close() // both sides may close it
	}
}

type trackedConn struct {
	net.Conn

	gone func()
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	defer c.gone()
	return c.Conn.Close()
}
