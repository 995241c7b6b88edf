package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources"
)

const (
	// nodeAnswer bounds an answer of the own node's API.
	nodeAnswer = 4 << 20
	// nodePatience bounds a call: a node may have to read a large file before
	// it offers it.
	nodePatience = 30 * time.Minute
)

// listing is one resource that the own node lends.
type listing struct {
	Resource mman.CID        `json:"resource"`
	Name     string          `json:"name"`
	Kind     resources.Kind  `json:"kind"`
	Facet    resources.Facet `json:"facet"`
	Private  bool            `json:"private"`
	Offer    mman.CID        `json:"offer,omitzero"`
	Expires  uint64          `json:"expires"`
}

// ownNode speaks to the loopback API of the node that runs from this home.
type ownNode struct {
	base, token string
	http        *http.Client
}

// ownNode finds the node by the home's run.json. The token goes to an address
// of this machine only.
func (a *app) ownNode() (*ownNode, error) {
	r, err := a.readRunning()
	if err != nil {
		return nil, err
	}
	if r.API == "" || r.Token == "" {
		return nil, fmt.Errorf("%w: the node of home %s offers no API to its owner; name the home of a node that mman-node --provide started with --home", mman.ErrUnreachable, a.home)
	}
	if !strings.Contains(r.API, "://") {
		r.API = "http://" + r.API
	}
	u, err := url.Parse(r.API)
	if err != nil || u.Scheme != "http" || !loopback(u.Hostname()) {
		return nil, fmt.Errorf("%w: %s of home %s names the API %.100q, which is not on this machine", mman.ErrDenied, runFile, a.home, r.API)
	}
	dial := (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	// No proxy: the token stays on this machine.
	return &ownNode{strings.TrimSuffix(u.String(), "/"), r.Token, &http.Client{Timeout: nodePatience, Transport: &http.Transport{DialContext: dial}}}, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

// call sends body as JSON, nil for none, and reads the answer into result,
// unless that is nil.
func (n *ownNode) call(ctx context.Context, method, path string, body, result any) error {
	defer n.http.CloseIdleConnections()
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%w: %w", mman.ErrInternal, err)
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, n.base+path, sent)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := n.http.Do(req)
	if err != nil {
		return n.unreachable(ctx, err)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, nodeAnswer))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return n.unreachable(ctx, err)
	}
	if resp.StatusCode/100 != 2 {
		return n.refusal(resp.Status, b)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(b, result); err != nil {
		return fmt.Errorf("%w: the node's API %s: %w", mman.ErrProtocol, n.base, err)
	}
	return nil
}

// refusal reads the error in an answer.
func (n *ownNode) refusal(status string, b []byte) error {
	var f console.Failure
	if json.Unmarshal(b, &f) != nil || f.Error == nil {
		return fmt.Errorf("%w: the node's API %s answers %s", mman.ErrProtocol, n.base, status)
	}
	return mman.RemoteError(f.Error.Code, mman.RetryNever, f.Error.Text)
}

func (n *ownNode) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
	return fmt.Errorf("%w: the node's API: %w; is it still running? start it with mman-node --provide", mman.ErrUnreachable, err)
}

func (n *ownNode) listings(ctx context.Context) ([]listing, error) {
	var page struct {
		Items []listing `json:"items"`
	}
	err := n.call(ctx, http.MethodGet, "/v1/listings", nil, &page)
	return page.Items, err
}

func (n *ownNode) publish(ctx context.Context, path string) (listing, error) {
	var l listing
	err := n.call(ctx, http.MethodPost, "/v1/listings", map[string]string{"path": path}, &l)
	return l, err
}

func (n *ownNode) withdraw(ctx context.Context, resource mman.CID) error {
	return n.call(ctx, http.MethodDelete, "/v1/listings/"+resource.String(), nil, nil)
}
