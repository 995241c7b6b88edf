package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/provider"
)

// Client speaks to the API of a node on this machine.
type Client struct {
	base, token string
	http        *http.Client
}

// publishTimeout bounds a call that adds content and waits for a block.
const publishTimeout = 10 * time.Minute

// NewClient returns a client of the API at base, http://host:port.
func NewClient(base, token string) *Client {
	return &Client{base, token, &http.Client{Timeout: publishTimeout}}
}

// Publish has the node lend what the listing file at the absolute path says.
func (c *Client) Publish(ctx context.Context, path string) (p provider.Published, err error) {
	body, err := json.Marshal(map[string]string{"path": path})
	if err != nil {
		return p, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/v1/listings", bytes.NewReader(body))
	if err != nil {
		return p, fmt.Errorf("%w: %w", mman.ErrInvalid, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return p, fmt.Errorf("%w: %w", mman.ErrUnreachable, err)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return p, fmt.Errorf("%w: %w", mman.ErrUnreachable, err)
	}
	if resp.StatusCode != http.StatusCreated {
		var e struct {
			Error struct {
				Code mman.Code `json:"code"`
				Text string    `json:"text"`
			} `json:"error"`
		}
		if err := json.Unmarshal(b, &e); err != nil {
			return p, fmt.Errorf("%w: the API answers %s", mman.ErrProtocol, resp.Status)
		}
		return p, mman.RemoteError(e.Error.Code, mman.RetryNever, e.Error.Text)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("%w: %w", mman.ErrProtocol, err)
	}
	return p, nil
}

// Runs asks what the node carries out.
func (c *Client) Runs(ctx context.Context) (r Runs, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/runs", nil)
	if err != nil {
		return r, fmt.Errorf("%w: %w", mman.ErrInvalid, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	return get[Runs](c, req)
}

// Drain has the node go out of service with a notice, and end.
func (c *Client) Drain(ctx context.Context, notice time.Duration) error {
	body := fmt.Sprintf(`{"notice_ms": %d}`, notice.Milliseconds())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/v1/drain", strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInvalid, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrUnreachable, err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%w: the API answers %s", mman.ErrProtocol, resp.Status)
	}
	return nil
}

// get reads the answer to a question.
func get[T any](c *Client, req *http.Request) (answer T, err error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return answer, fmt.Errorf("%w: %w", mman.ErrUnreachable, err)
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, maxLent)).Decode(&answer)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return answer, fmt.Errorf("%w: the API's answer: %w", mman.ErrProtocol, err)
	}
	return answer, nil
}

// Lent asks what the node lends, when it told others of it, and from where it can be
// reached.
func (c *Client) Lent(ctx context.Context) (l Lent, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/listings", nil)
	if err != nil {
		return l, fmt.Errorf("%w: %w", mman.ErrInvalid, err)
	}
	return get[Lent](c, req)
}

// maxLent bounds the answer to a question.
const maxLent = 16 << 20
