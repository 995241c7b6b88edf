package resources

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
)

// Restart says what becomes of a hosted program that has ended.
type Restart string

// The restart policies.
const (
	RestartNever     Restart = "no"         // the run ends with it
	RestartOnFailure Restart = "on-failure" // begun again when its exit code is not 0, or it is not healthy
	RestartAlways    Restart = "always"     // begun again whatever its exit code
)

// Service makes a run a hosted one: its program listens at a port and goes on until
// its consumer, its provider or a limit ends it. The consumer reaches it over the
// run's input and output.
type Service struct {
	// Port is where the program listens on its own loopback, 1 to 65535.
	Port uint64 `cbor:"port" json:"port"`
	// Health is the path that must answer with a status below 400; without one it
	// is enough that the port takes connections.
	Health string `cbor:"health,omitempty" json:"health,omitempty"`
	// HealthMs is the time between two looks, HealthMinMs to HealthMaxMs. Default
	// 5000.
	HealthMs uint64 `cbor:"health_ms,omitempty" json:"health_ms,omitempty"`
	// Restart is RestartNever when empty.
	Restart Restart `cbor:"restart,omitempty" json:"restart,omitempty"`
	// Network asks that others reach the port at an address of the provider.
	Network bool `cbor:"network,omitempty" json:"network,omitempty"`
}

// Bounds of Service.HealthMs, and its default.
const (
	HealthMinMs     = 100
	HealthMaxMs     = 3_600_000
	HealthDefaultMs = 5_000
	maxHealth       = 1024
)

// Validate reports the first field that is out of its range, wrapping
// mman.ErrInvalid.
func (s Service) Validate() error {
	switch {
	case s.Port == 0 || s.Port > 65535:
		return fmt.Errorf("%w: service: port %d: 1 to 65535", mman.ErrInvalid, s.Port)
	case s.HealthMs != 0 && (s.HealthMs < HealthMinMs || s.HealthMs > HealthMaxMs):
		return fmt.Errorf("%w: service: health checks every %d ms: %d to %d", mman.ErrInvalid, s.HealthMs, HealthMinMs, HealthMaxMs)
	case s.Restart != "" && s.Restart != RestartNever && s.Restart != RestartOnFailure && s.Restart != RestartAlways:
		return fmt.Errorf("%w: service: restart %.20q: no, on-failure or always", mman.ErrInvalid, s.Restart)
	}
	if s.Health == "" {
		return nil
	}
	u, err := url.ParseRequestURI(s.Health)
	if err != nil || len(s.Health) > maxHealth || !strings.HasPrefix(s.Health, "/") || strings.HasPrefix(s.Health, "//") || u.Host != "" {
		return fmt.Errorf("%w: service: health path %.80q: write a path such as /healthz, of at most %d bytes", mman.ErrInvalid, s.Health, maxHealth)
	}
	return nil
}

// Again reports whether a program that ended so is begun again.
func (s Service) Again(failed bool) bool {
	return s.Restart == RestartAlways || s.Restart == RestartOnFailure && failed
}

// Notice says that a hosted run will be ended.
type Notice struct {
	// Reason is a sentence for the consumer.
	Reason string
	// In is how long it goes on.
	In time.Duration
}

// Notices brings notices. It is safe for concurrent use.
type Notices interface {
	// Next waits for the next one, but not longer than ctx, whose error it returns.
	Next(ctx context.Context) (Notice, error)
}

// Door is an address of the provider at which others come in. Its methods are safe
// for concurrent use.
type Door interface {
	// Next waits for somebody; it fails when the door is closed.
	Next() (Visitor, error)
	// Addr is host:port.
	Addr() string
	Close() error
}

// Visitor is somebody's connection, whose sides end one by one.
type Visitor interface {
	io.ReadWriteCloser
	CloseWrite() error
}
