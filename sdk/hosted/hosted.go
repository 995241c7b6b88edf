package hosted

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/container/hosting"
	"github.com/limboid/massive-man/resources/container/mux"
	"github.com/limboid/massive-man/sdk"
)

// Config is what a Harbour stands on.
type Config struct {
	// Listen is a loopback host:port; port 0 takes a free one.
	Listen string
	// Told, when set, is told what becomes of the container, from another goroutine.
	Told func(hosting.Event)
	// Logs takes what the program prints, from another goroutine; nil leaves it.
	Logs io.Writer
	// After is the clock's alarm.
	After func(time.Duration) <-chan time.Time
}

// Harbour is the address of a hosted container, which may come and go behind it.
type Harbour struct {
	cfg Config
	ln  net.Listener

	mu    sync.Mutex
	ship  *mux.Session // nil while nothing is hosted
	conns sync.WaitGroup
}

const (
	// idle is how long the provider may hear nothing; each side says twice a minute
	// that it is there.
	idle = 10 * time.Minute
	// openWithin is how long a connection waits for the container's port.
	openWithin = 30 * time.Second
	// byeWithin is how long the program may take to end when it is asked to, with what
	// it takes to say so.
	byeWithin = 30 * time.Second
)

// New listens. Close it.
func New(ctx context.Context, cfg Config) (*Harbour, error) {
	ap, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil || !ap.Addr().IsLoopback() {
		return nil, fmt.Errorf("%w: --listen %.64q: it listens on loopback only, write 127.0.0.1:8080", mman.ErrInvalid, cfg.Listen)
	}
	if cfg.After == nil {
		return nil, fmt.Errorf("%w: hosted: a clock is needed", mman.ErrInvalid)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: %s: choose another with --listen", mman.ErrPortInUse, cfg.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: --listen %s: %w", mman.ErrInvalid, cfg.Listen, err)
	}
	h := &Harbour{cfg: cfg, ln: ln}
	h.conns.Go(func() { h.accept(ctx) })
	return h, nil
}

// Addr returns the host:port that was chosen.
func (h *Harbour) Addr() string { return h.ln.Addr().String() }

// Close closes the address and what goes over it.
func (h *Harbour) Close() error {
	err := h.ln.Close()
	h.enter(nil)
	h.conns.Wait()
	return err
}

// enter says over what the container is reached from now on.
func (h *Harbour) enter(ship *mux.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ship != nil {
		_ = h.ship.Close() // it is over
	}
	h.ship = ship
}

func (h *Harbour) accept(ctx context.Context) {
	// Some streams are for what is said of it.
	mux.Admit(&h.conns, mux.MaxStreams-8, h.ln.Accept, func(conn net.Conn) { h.carry(ctx, conn) })
}

// carry joins a connection to the container's port.
func (h *Harbour) carry(ctx context.Context, conn net.Conn) {
	h.mu.Lock()
	ship := h.ship
	h.mu.Unlock()
	half, ok := conn.(mux.Half)
	if ship == nil || !ok {
		_ = conn.Close() // nothing is there now
		return
	}
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	stream, err := ship.Open(ctx, mux.KindConn)
	if err != nil {
		_ = conn.Close() // as above
		return
	}
	mux.Join(half, stream)
}

// deck is a run's input and output as one connection.
type deck struct {
	io.Reader
	io.Writer

	end func()
}

// Close ends both.
func (d deck) Close() error {
	d.end()
	return nil
}

// Run has the work hosted until it ends, or until ctx does: then the program is asked to
// end, and the run ends in order. run carries it out, as sdk.Session.Run does.
func (h *Harbour) Run(ctx context.Context, work sdk.Work, run func(context.Context, sdk.Work) (sdk.Outcome, error)) (sdk.Outcome, error) {
	up, down := newPipe(), newPipe()
	work.Input, work.Stdout, work.Idle = up.r, down.w, idle
	ship, err := mux.Client(deck{down.r, up.w, func() {
		_ = down.r.Close() // always nil
		_ = up.w.Close()   // as above
	}})
	if err != nil {
		return sdk.Outcome{}, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	var said sync.WaitGroup
	said.Go(func() {
		h.listen(ctx, ship, mux.KindEvents, func(s io.Reader) error { return hosting.ReadEvents(s, h.told) })
	})
	if h.cfg.Logs != nil {
		said.Go(func() {
			h.listen(ctx, ship, mux.KindLog, func(s io.Reader) error {
				_, err := io.Copy(h.cfg.Logs, s)
				return err
			})
		})
	}
	h.enter(ship)
	life, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	stop := context.AfterFunc(ctx, func() {
		_ = up.w.Close() // the end of the input asks the program to end
		select {
		case <-life.Done():
		case <-h.cfg.After(byeWithin):
			abandon()
		}
	})
	defer stop()
	outcome, err := run(life, work)
	_ = down.w.Close() // the run is over
	_ = up.r.Close()
	said.Wait()
	h.enter(nil)
	return outcome, err
}

func (h *Harbour) told(e hosting.Event) {
	if h.cfg.Told != nil {
		h.cfg.Told(e)
	}
}

// listen reads what is said about the container until that ends.
func (h *Harbour) listen(ctx context.Context, ship *mux.Session, kind byte, read func(io.Reader) error) {
	stream, err := ship.Open(ctx, kind)
	if err != nil {
		return // the run says why
	}
	if read(stream) != nil {
		_ = stream.Reset() // what says nonsense is not listened to
		return
	}
	_ = stream.Close()
}

// pipe is one direction.
type pipe struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func newPipe() pipe {
	r, w := io.Pipe()
	return pipe{r, w}
}
