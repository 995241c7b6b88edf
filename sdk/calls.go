package sdk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
)

const (
	// callRest is how long a session without calls is used again: the provider ends
	// one that rests for longer.
	callRest = 5 * time.Minute
	// callBye is how long the end of a session may take.
	callBye = 2 * time.Second
)

// Calls makes calls on one lease, several at once, each on a lane of its own. Its
// methods are safe for concurrent use. Close it.
type Calls struct {
	client *Client
	lease  *Lease
	places chan struct{}

	mu   sync.Mutex
	idle []restingSession // the last used at the end
}

type restingSession struct {
	*Session

	since time.Time
}

// Calls returns what makes calls on a lease, at most parallel at once: 1 to
// market.MaxLanes.
func (c *Client) Calls(lease *Lease, parallel int) (*Calls, error) {
	if parallel < 1 || parallel > market.MaxLanes {
		return nil, fmt.Errorf("%w: %d calls at once: a lease allows 1 to %d", mman.ErrInvalid, parallel, market.MaxLanes)
	}
	return &Calls{client: c, lease: lease, places: make(chan struct{}, parallel)}, nil
}

// Do makes one call; see Session.Run.
func (c *Calls) Do(ctx context.Context, w Work) (Outcome, error) {
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-ctx.Done():
		return Outcome{}, fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
	s, err := c.take(ctx)
	if err != nil {
		return Outcome{}, err
	}
	outcome, err := s.Run(ctx, w)
	if err != nil {
		c.bye(ctx, s) // it may be broken; the next call greets anew
		return outcome, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, restingSession{s, c.client.cfg.Now()})
	return outcome, nil
}

// take returns a session that rests, or a new one.
func (c *Calls) take(ctx context.Context) (*Session, error) {
	for {
		c.mu.Lock()
		last := len(c.idle) - 1
		if last < 0 {
			c.mu.Unlock()
			return c.client.Open(ctx, c.lease)
		}
		s := c.idle[last]
		c.idle = c.idle[:last]
		c.mu.Unlock()
		if c.client.cfg.Now().Sub(s.since) < callRest {
			return s.Session, nil
		}
		c.bye(ctx, s.Session)
	}
}

// bye ends a session that nobody waits for.
func (c *Calls) bye(ctx context.Context, s *Session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callBye)
	defer cancel()
	if s.Close(ctx) != nil {
		_ = s.conn.Reset() // it is gone
	}
}

// Close ends the sessions that rest; calls under way end with their contexts. The
// lease stays open.
func (c *Calls) Close(ctx context.Context) error {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	var errs []error
	for _, s := range idle {
		errs = append(errs, s.Close(ctx))
	}
	return errors.Join(errs...)
}
