// Command ferry is described by the package above it. Its one argument is the port.
package main

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/limboid/massive-man/resources/container/mux"
)

const dialTimeout = 20 * time.Second

func main() {
	if len(os.Args) != 2 || serve("127.0.0.1:"+os.Args[1]) != nil {
		os.Exit(1)
	}
}

// ends are the ends of the pipe on which the ferry lives.
type ends struct {
	io.Reader
	io.WriteCloser
}

// serve answers streams until the pipe ends.
func serve(addr string) error {
	session, err := mux.Server(ends{os.Stdin, os.Stdout})
	if err != nil {
		return err
	}
	for {
		stream, err := session.Accept()
		if err != nil {
			return nil //nolint:nilerr // the pipe ended, and with it the ferry's work
		}
		go one(stream, addr)
	}
}

func one(stream mux.Stream, addr string) {
	kind, err := stream.Head()
	switch {
	case err != nil:
	case kind == mux.KindConn:
		if conn, err := net.DialTimeout("tcp", addr, dialTimeout); err == nil { //nolint:gosec,noctx // the container's own loopback
			tcp, ok := conn.(*net.TCPConn)
			if _, err := stream.Write([]byte{mux.KindConn}); ok && err == nil { // the way is open
				mux.Join(tcp, stream)
				return
			}
		}
	case kind == mux.KindSignal:
		if number, err := stream.Head(); err == nil {
			// All processes that the ferry may signal, but the first and itself.
			_ = syscall.Kill(-1, syscall.Signal(number)) // there may be none
			_ = stream.Close()
			return
		}
	}
	_ = stream.Reset()
}
