package chain

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
)

// maxAnswer bounds one answer.
const maxAnswer = 16 << 20

// Client speaks to one RPC. It is safe for concurrent use.
type Client struct {
	url  string
	http *http.Client
}

// New returns a client of the RPC at address, http://host:port or host:port. It
// dials nothing yet.
func New(address string) (*Client, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("%w: node %.200q: write it as http://127.0.0.1:26657", mman.ErrInvalid, address)
	}
	return &Client{
		url: u.String(),
		http: &http.Client{
			Timeout: 30 * time.Second,
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				MaxIdleConnsPerHost: 16,
				IdleConnTimeout:     time.Minute,
			},
		},
	}, nil
}

// URL returns where the client speaks to.
func (c *Client) URL() string { return c.url }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

type rpcRequest struct {
	Version string `json:"jsonrpc"`
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

type rpcAnswer struct {
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    string `json:"data"`
}

func (e *rpcError) Error() string { return strings.TrimSpace(e.Message + " " + e.Data) }

func (c *Client) call(ctx context.Context, method string, params, result any) error {
	body, err := json.Marshal(rpcRequest{"2.0", 1, method, params})
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return c.unreachable(ctx, err)
	}
	if len(b) > maxAnswer {
		return fmt.Errorf("%s: %w: the answer has more than %d bytes, ask for a smaller page", method, mman.ErrTooLarge, maxAnswer)
	}
	var answer rpcAnswer
	if err := json.Unmarshal(b, &answer); err != nil {
		return fmt.Errorf("%s: %w: %s does not answer like a CometBFT RPC (HTTP %d)", method, mman.ErrProtocol, c.url, resp.StatusCode)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: %w", method, answer.Error)
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		return fmt.Errorf("%s: %w: %w", method, mman.ErrProtocol, err)
	}
	return nil
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // the address is said already
	}
	return fmt.Errorf("%w: node %s: %w; is it running? if not, name another node", mman.ErrUnreachable, c.url, err)
}

// Status is what a node says of itself.
type Status struct {
	ChainID  string
	Height   uint64
	Moniker  string
	Syncing  bool
	IsVoting bool // it is a validator
	// Meet is id@host:port, where nodes of the ledger reach this one, as it says.
	Meet string
	// Earliest is the first block that it has.
	Earliest uint64
}

// Status asks the node how it is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var r struct {
		NodeInfo struct {
			ID      string `json:"id"`
			Listen  string `json:"listen_addr"`
			Network string `json:"network"`
			Moniker string `json:"moniker"`
		} `json:"node_info"`
		SyncInfo struct {
			Height   string `json:"latest_block_height"`
			Earliest string `json:"earliest_block_height"`
			Syncing  bool   `json:"catching_up"`
		} `json:"sync_info"`
		Validator struct {
			Power string `json:"voting_power"`
		} `json:"validator_info"`
	}
	if err := c.call(ctx, "status", struct{}{}, &r); err != nil {
		return Status{}, err
	}
	h, err := strconv.ParseUint(r.SyncInfo.Height, 10, 64)
	if err != nil {
		return Status{}, fmt.Errorf("status: %w: height %.32q", mman.ErrProtocol, r.SyncInfo.Height)
	}
	first, err := strconv.ParseUint(r.SyncInfo.Earliest, 10, 64)
	if err != nil {
		return Status{}, fmt.Errorf("status: %w: height %.32q", mman.ErrProtocol, r.SyncInfo.Earliest)
	}
	return Status{
		ChainID: r.NodeInfo.Network, Height: h, Moniker: r.NodeInfo.Moniker, Syncing: r.SyncInfo.Syncing,
		IsVoting: r.Validator.Power != "" && r.Validator.Power != "0",
		Meet:     r.NodeInfo.ID + "@" + strings.TrimPrefix(r.NodeInfo.Listen, "tcp://"), Earliest: first,
	}, nil
}

// BlockHash returns the hash of the block at a height, as the node says.
func (c *Client) BlockHash(ctx context.Context, height uint64) (mman.Hash, error) {
	var r struct {
		Signed struct {
			Commit struct {
				Block struct {
					Hash string `json:"hash"`
				} `json:"block_id"`
			} `json:"commit"`
		} `json:"signed_header"`
	}
	if err := c.call(ctx, "commit", map[string]string{"height": strconv.FormatUint(height, 10)}, &r); err != nil {
		return mman.Hash{}, err
	}
	var h mman.Hash
	if err := h.UnmarshalText([]byte(strings.ToLower(r.Signed.Commit.Block.Hash))); err != nil {
		return mman.Hash{}, fmt.Errorf("block %d: %w: %w", height, mman.ErrProtocol, err)
	}
	return h, nil
}

// Genesis returns the document with which the node's chain began. Its hash is in
// the ledger, see Chain.
func (c *Client) Genesis(ctx context.Context) (genesis.Document, error) {
	var r struct {
		Genesis struct {
			Document json.RawMessage `json:"app_state"`
		} `json:"genesis"`
	}
	if err := c.call(ctx, "genesis", struct{}{}, &r); err != nil {
		return genesis.Document{}, err
	}
	return genesis.Decode(r.Genesis.Document)
}

// AppHash returns the application's root after block height, which the header
// of the next block carries: that block must exist.
func (c *Client) AppHash(ctx context.Context, height uint64) (string, error) {
	var r struct {
		Header struct {
			AppHash string `json:"app_hash"`
		} `json:"header"`
	}
	if err := c.call(ctx, "header", map[string]string{"height": strconv.FormatUint(height+1, 10)}, &r); err != nil {
		return "", err
	}
	return strings.ToLower(r.Header.AppHash), nil
}

type abciResult struct {
	Code      uint32 `json:"code"`
	Codespace string `json:"codespace"`
	Log       string `json:"log"`
}

// err turns a result into the coded error that it means, nil for success.
func (r abciResult) err() error {
	if r.Code == 0 {
		return nil
	}
	if r.Codespace != mman.Codespace {
		return fmt.Errorf("%w: %s (code %d of %q)", mman.ErrInternal, r.Log, r.Code, r.Codespace)
	}
	return mman.RemoteError(mman.Code(r.Code), mman.RetryNever, r.Log)
}

// Query asks the application for the path, /mman/…, and reads its JSON answer
// into result. The state that answers is at the returned height.
func (c *Client) Query(ctx context.Context, path string, result any) (height uint64, err error) {
	value, at, err := c.ask(ctx, path, nil)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(value, result); err != nil {
		return 0, fmt.Errorf("query %s: %w: %w", path, mman.ErrProtocol, err)
	}
	height, err = strconv.ParseUint(at, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("query %s: %w: height %.32q", path, mman.ErrProtocol, at)
	}
	return height, nil
}

// ask puts a question to the application with data beside its path.
func (c *Client) ask(ctx context.Context, path string, data []byte) (value []byte, height string, err error) {
	var r struct {
		Response struct {
			abciResult

			Value  []byte `json:"value"`
			Height string `json:"height"`
		} `json:"response"`
	}
	params := map[string]any{"path": path, "data": hex.EncodeToString(data), "height": "0", "prove": false}
	if err := c.call(ctx, "abci_query", params, &r); err != nil {
		return nil, "", err
	}
	return r.Response.Value, r.Response.Height, r.Response.err()
}

// Simulate asks which gas a transaction needs as the state is now. It changes
// nothing. The error is the one with which the transaction would fail.
func (c *Client) Simulate(ctx context.Context, raw []byte) (gas uint64, err error) {
	value, _, err := c.ask(ctx, tx.PathSimulate, tx.EncodeSimulateQuery(raw))
	if err != nil {
		return 0, err
	}
	return tx.DecodeSimulateAnswer(value)
}

// Broadcast hands a transaction to the node's mempool. The error is the one
// that the application's check gave.
func (c *Client) Broadcast(ctx context.Context, raw []byte) error {
	var r abciResult
	if err := c.call(ctx, "broadcast_tx_sync", map[string]any{"tx": raw}, &r); err != nil {
		return c.refused(err)
	}
	return r.err()
}

// refused gives what CometBFT itself answers to a transaction its code; nil when
// the node has the transaction already.
func (c *Client) refused(err error) error {
	var e *rpcError
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case strings.Contains(e.Data, "already exists in cache"):
		return nil
	case strings.Contains(e.Data, "catching up"):
		return fmt.Errorf("%w: %s still fetches blocks from others: wait until status says that it is in step, or name another node with --node", mman.ErrBusy, c.url)
	case strings.Contains(e.Data, "mempool is full"):
		return fmt.Errorf("%w: %s has as many waiting transactions as it takes: try again after the next block: %w", mman.ErrBusy, c.url, err)
	default:
		return err
	}
}

// TxResult is a transaction in a block.
type TxResult struct {
	Hash    mman.Hash
	Height  uint64
	GasUsed uint64
	// Fee is what the signer was charged; 0 when the transaction was refused.
	Fee mman.Amount
	// Err is what the transaction failed with, nil when it succeeded.
	Err    error
	Raw    []byte
	Events []Event
}

// Event is what a transaction made happen.
type Event struct {
	Type       string      `json:"type"`
	Attributes []Attribute `json:"attributes"`
}

// Attribute is one fact of an event.
type Attribute struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Tx returns a transaction that is in a block, or mman.ErrNotFound.
func (c *Client) Tx(ctx context.Context, hash mman.Hash) (TxResult, error) {
	var r struct {
		Height string `json:"height"`
		Tx     []byte `json:"tx"`
		Result struct {
			abciResult

			GasUsed string  `json:"gas_used"`
			Events  []Event `json:"events"`
		} `json:"tx_result"`
	}
	if err := c.call(ctx, "tx", map[string]any{"hash": hash[:], "prove": false}, &r); err != nil {
		var e *rpcError
		if errors.As(err, &e) && strings.Contains(e.Data, "not found") {
			return TxResult{}, fmt.Errorf("transaction %s: %w: it is in no block that %s has", hash, mman.ErrNotFound, c.url)
		}
		return TxResult{}, err
	}
	height, err := strconv.ParseUint(r.Height, 10, 64)
	if err != nil {
		return TxResult{}, fmt.Errorf("transaction %s: %w: height %.32q", hash, mman.ErrProtocol, r.Height)
	}
	gas, err := strconv.ParseUint(r.Result.GasUsed, 10, 64)
	if err != nil {
		return TxResult{}, fmt.Errorf("transaction %s: %w: gas %.32q", hash, mman.ErrProtocol, r.Result.GasUsed)
	}
	return TxResult{
		Hash: hash, Height: height, GasUsed: gas, Fee: charged(r.Result.Events), Err: r.Result.err(), Raw: r.Tx, Events: r.Result.Events,
	}, nil
}

// charged reads the fee out of the events of a transaction.
func charged(events []Event) mman.Amount {
	for _, e := range events {
		for _, a := range e.Attributes {
			if e.Type == "tx" && a.Key == "fee" {
				fee, err := mman.ParseAmount(a.Value)
				if err != nil {
					return 0
				}
				return fee
			}
		}
	}
	return 0
}
