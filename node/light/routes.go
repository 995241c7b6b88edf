package light

import (
	"bytes"
	"context"
	"fmt"
	"time"

	cmtbytes "github.com/cometbft/cometbft/libs/bytes"
	lightproxy "github.com/cometbft/cometbft/light/proxy"
	rpccore "github.com/cometbft/cometbft/rpc/core"
	ctypes "github.com/cometbft/cometbft/rpc/core/types"
	rpcserver "github.com/cometbft/cometbft/rpc/jsonrpc/server"
	rpctypes "github.com/cometbft/cometbft/rpc/jsonrpc/types"
	"github.com/cometbft/cometbft/types"

	mman "github.com/limboid/massive-man"
)

const (
	// resultPatience is how long the header after a transaction is waited for.
	resultPatience = 8 * time.Second
	resultLook     = 50 * time.Millisecond
	maxHeaders     = 20
)

// routes are those of CometBFT's proxy, with own ones where it passes an answer on
// that can be checked, and without those that tell a node's inside.
func (p *Proxy) routes() rpccore.RoutesMap {
	routes := lightproxy.RPCRoutes(p.checked)
	for _, inside := range []string{"dump_consensus_state", "consensus_state", "net_info"} {
		delete(routes, inside)
	}
	routes["abci_query"] = rpcserver.NewRPCFunc(p.query, "path,data,height,prove")
	routes["status"] = rpcserver.NewRPCFunc(p.status, "")
	routes["header"] = rpcserver.NewRPCFunc(p.header, "height")
	routes["commit"] = rpcserver.NewRPCFunc(p.commit, "height")
	routes["validators"] = rpcserver.NewRPCFunc(p.validators, "height,page,per_page")
	routes["blockchain"] = rpcserver.NewRPCFunc(p.blockchain, "minHeight,maxHeight")
	routes["tx"] = rpcserver.NewRPCFunc(p.tx, "hash,prove")
	routes["tx_search"] = rpcserver.NewRPCFunc(p.txSearch, "query,prove,page,per_page,order_by")
	return routes
}

// block returns a verified header with its commit and validators, the newest one
// for nil.
func (p *Proxy) block(ctx context.Context, height *int64) (*types.LightBlock, error) {
	if height == nil {
		return p.headers.Update(ctx, p.cfg.Now())
	}
	return p.headers.VerifyLightBlockAtHeight(ctx, *height, p.cfg.Now())
}

// status is the node's, with the newest verified block in place of what it says.
func (p *Proxy) status(call *rpctypes.Context) (*ctypes.ResultStatus, error) {
	b, err := p.block(call.Context(), nil)
	if err != nil {
		return nil, err
	}
	s, err := p.node.Status(call.Context())
	if err != nil {
		return nil, err
	}
	s.NodeInfo.Network = p.headers.ChainID()
	s.SyncInfo.LatestBlockHash, s.SyncInfo.LatestAppHash = b.Hash(), b.AppHash
	s.SyncInfo.LatestBlockHeight, s.SyncInfo.LatestBlockTime = b.Height, b.Time
	return s, nil
}

func (p *Proxy) header(call *rpctypes.Context, height *int64) (*ctypes.ResultHeader, error) {
	b, err := p.block(call.Context(), height)
	if err != nil {
		return nil, err
	}
	return &ctypes.ResultHeader{Header: b.Header}, nil
}

func (p *Proxy) commit(call *rpctypes.Context, height *int64) (*ctypes.ResultCommit, error) {
	b, err := p.block(call.Context(), height)
	if err != nil {
		return nil, err
	}
	return &ctypes.ResultCommit{SignedHeader: *b.SignedHeader, CanonicalCommit: true}, nil
}

func (p *Proxy) validators(call *rpctypes.Context, height *int64, page, perPage *int) (*ctypes.ResultValidators, error) {
	b, err := p.block(call.Context(), height)
	if err != nil {
		return nil, err
	}
	return p.checked.Validators(call.Context(), &b.Height, page, perPage)
}

// blockchain compares every header with the verified one.
func (p *Proxy) blockchain(call *rpctypes.Context, low, high int64) (*ctypes.ResultBlockchainInfo, error) {
	res, err := p.node.BlockchainInfo(call.Context(), low, high)
	if err != nil {
		return nil, err
	}
	if len(res.BlockMetas) > maxHeaders {
		return nil, fmt.Errorf("%w: %d headers, at most %d were asked for", mman.ErrProof, len(res.BlockMetas), maxHeaders)
	}
	for _, meta := range res.BlockMetas {
		if meta == nil {
			return nil, fmt.Errorf("%w: a header is missing", mman.ErrProof)
		}
		b, err := p.block(call.Context(), &meta.Header.Height)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(meta.Header.Hash(), b.Hash()) || !bytes.Equal(meta.BlockID.Hash, b.Hash()) {
			return nil, fmt.Errorf("%w: header %d is not %s", mman.ErrProof, meta.Header.Height, b.Hash())
		}
	}
	return res, nil
}

// tx proves that the transaction is in its block and what came of it. Events are
// covered by no hash of a header.
func (p *Proxy) tx(call *rpctypes.Context, hash []byte, _ bool) (*ctypes.ResultTx, error) {
	res, err := p.node.Tx(call.Context(), hash, true)
	if err != nil {
		return nil, err // nobody can prove that there is none
	}
	return res, p.checkTx(call.Context(), res, hash)
}

func (p *Proxy) checkTx(ctx context.Context, res *ctypes.ResultTx, hash []byte) error {
	if !bytes.Equal(res.Tx.Hash(), hash) || !bytes.Equal(res.Proof.Data, res.Tx) || !bytes.Equal(res.Hash, hash) || int64(res.Index) != res.Proof.Proof.Index {
		return fmt.Errorf("%w: the transaction is not %X", mman.ErrProof, hash)
	}
	b, err := p.block(ctx, &res.Height)
	if err != nil {
		return err
	}
	if err := res.Proof.Validate(b.DataHash); err != nil {
		return fmt.Errorf("%w: transaction %X in block %d: %w", mman.ErrProof, hash, res.Height, err)
	}
	if err := p.awaitHeader(ctx, res.Height+1); err != nil {
		return err
	}
	results, err := p.checked.BlockResults(ctx, &res.Height)
	if err != nil {
		return fmt.Errorf("%w: results of block %d: %w", mman.ErrProof, res.Height, err)
	}
	if int(res.Index) >= len(results.TxsResults) {
		return fmt.Errorf("%w: block %d has %d results, transaction %X is number %d", mman.ErrProof, res.Height, len(results.TxsResults), hash, res.Index)
	}
	res.TxResult = *results.TxsResults[res.Index]
	return nil
}

// awaitHeader waits for a header that is about to come: the results of a block
// stand in the next one.
func (p *Proxy) awaitHeader(ctx context.Context, height int64) error {
	expired := p.cfg.After(resultPatience)
	for {
		b, err := p.block(ctx, nil)
		if err != nil {
			return err
		}
		if b.Height >= height {
			return nil
		}
		select {
		case <-p.cfg.After(resultLook):
		case <-expired:
			return fmt.Errorf("%w: header %d, which has the results, is not there after %s: ask again", mman.ErrTimeout, height, resultPatience)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", mman.ErrCanceled, context.Cause(ctx))
		case <-p.quit:
			return fmt.Errorf("%w: the proxy ends", mman.ErrCanceled)
		}
	}
}

// txSearch proves each transaction that was found, not that there are no others.
func (p *Proxy) txSearch(call *rpctypes.Context, query string, _ bool, page, perPage *int, order string) (*ctypes.ResultTxSearch, error) {
	res, err := p.node.TxSearch(call.Context(), query, true, page, perPage, order)
	if err != nil {
		return nil, err
	}
	for _, one := range res.Txs {
		if one == nil {
			return nil, fmt.Errorf("%w: a transaction is missing", mman.ErrProof)
		}
		if err := p.checkTx(call.Context(), one, cmtbytes.HexBytes(one.Tx.Hash())); err != nil {
			return nil, err
		}
	}
	return res, nil
}
