package light

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	abcitypes "github.com/cometbft/cometbft/abci/types"
	cmtbytes "github.com/cometbft/cometbft/libs/bytes"
	rpcclient "github.com/cometbft/cometbft/rpc/client"
	ctypes "github.com/cometbft/cometbft/rpc/core/types"
	rpctypes "github.com/cometbft/cometbft/rpc/jsonrpc/types"
	"github.com/cometbft/cometbft/types"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/state"
)

// maxReads bounds the proofs that one question may need.
const maxReads = 1000

// at returns the state's height and root for a question: the root of a height
// stands in the next header, and height 0 is the newest that has one.
func (p *Proxy) at(ctx context.Context, height int64) (int64, mman.Hash, error) {
	var b *types.LightBlock
	var err error
	switch {
	case height < 0:
		return 0, mman.Hash{}, fmt.Errorf("%w: height %d", mman.ErrInvalid, height)
	case height == 0:
		b, err = p.headers.Update(ctx, p.cfg.Now())
	default:
		b, err = p.headers.VerifyLightBlockAtHeight(ctx, height+1, p.cfg.Now())
	}
	if err != nil {
		return 0, mman.Hash{}, err
	}
	if b.Height < 2 || len(b.AppHash) != len(mman.Hash{}) {
		return 0, mman.Hash{}, fmt.Errorf("%w: the chain has no state yet: wait for its second block", mman.ErrBusy)
	}
	return b.Height - 1, mman.Hash(b.AppHash), nil
}

// prove fetches a key with its proof and verifies it. A node's word that it has
// no such key, or no such height, is an error: only a proof of absence counts.
func (p *Proxy) prove(ctx context.Context, root mman.Hash, height int64, store string, key []byte) (abcitypes.ResponseQuery, error) {
	res, err := p.node.ABCIQueryWithOptions(ctx, "/store/"+store+"/key", key, rpcclient.ABCIQueryOptions{Height: height, Prove: true})
	if err != nil {
		return abcitypes.ResponseQuery{}, fmt.Errorf("%w: %s: %w", mman.ErrUnreachable, p.cfg.Trust.Servers[0], err)
	}
	r := res.Response
	switch {
	case r.Code != 0:
		return r, fmt.Errorf("%w: %s gives no proof at height %d: %.200s", mman.ErrProof, p.cfg.Trust.Servers[0], height, r.Log)
	case r.Height != height || !bytes.Equal(r.Key, key):
		return r, fmt.Errorf("%w: %s was asked for key %.40x at height %d and answers for key %.40x at height %d",
			mman.ErrProof, p.cfg.Trust.Servers[0], key, height, r.Key, r.Height)
	case r.ProofOps == nil || len(r.ProofOps.Ops) != 1 || r.ProofOps.Ops[0].Type != abci.ProofType:
		return r, fmt.Errorf("%w: %s answers without one proof of type %s", mman.ErrProof, p.cfg.Trust.Servers[0], abci.ProofType)
	}
	return r, state.Verify(root, store, key, r.Value, r.ProofOps.Ops[0].Data)
}

// reader is a state of which every value is proved.
type reader func(store string, key []byte) ([]byte, bool, error)

// Get implements state.Reader.
func (r reader) Get(store string, key []byte) ([]byte, bool, error) { return r(store, key) }

// Iterate implements state.Reader: what it would need cannot be proved.
func (reader) Iterate(string, []byte, []byte, int) ([]state.Pair, error) {
	return nil, fmt.Errorf("%w: a list, because the tree holds hashes of keys: ask for one thing by its id, or ask a node that you trust, or start the proxy with --unproved", mman.ErrUnproved)
}

func (p *Proxy) reader(ctx context.Context, root mman.Hash, height int64) reader {
	reads := 0
	return func(store string, key []byte) ([]byte, bool, error) {
		if reads++; reads > maxReads {
			return nil, false, fmt.Errorf("%w: more than %d values would have to be proved", mman.ErrTooLarge, maxReads)
		}
		r, err := p.prove(ctx, root, height, store, key)
		return r.Value, len(r.Value) > 0, err
	}
}

// query is abci_query. What could be proved and was not is an error of the call;
// what the proved state answers with an error is an answer.
func (p *Proxy) query(call *rpctypes.Context, path string, data cmtbytes.HexBytes, height int64, _ bool) (*ctypes.ResultABCIQuery, error) {
	ctx := call.Context()
	height, root, err := p.at(ctx, height)
	if err != nil {
		return nil, err
	}
	if rest, ok := strings.CutPrefix(path, "/store/"); ok {
		store, ok := strings.CutSuffix(rest, "/key")
		if !ok {
			return nil, fmt.Errorf("%w: path /store/%.64s: use /store/<store>/key", mman.ErrUnsupported, rest)
		}
		r, err := p.prove(ctx, root, height, store, data)
		if err != nil {
			return nil, err
		}
		return &ctypes.ResultABCIQuery{Response: abcitypes.ResponseQuery{
			Key: r.Key, Value: r.Value, ProofOps: r.ProofOps, Height: height, Info: "proved",
		}}, nil
	}
	value, err := p.asker.Ask(p.reader(ctx, root, height), uint64(height), path, data) //nolint:gosec // positive
	switch {
	case err == nil:
		return &ctypes.ResultABCIQuery{Response: abcitypes.ResponseQuery{Value: value, Height: height, Info: "proved"}}, nil
	case errors.Is(err, mman.ErrUnproved) && p.cfg.Unproved:
		res, err := p.node.ABCIQueryWithOptions(ctx, path, data, rpcclient.ABCIQueryOptions{Height: height})
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", mman.ErrUnreachable, p.cfg.Trust.Servers[0], err)
		}
		res.Response.Info = "NOT PROVED: the word of " + p.cfg.Trust.Servers[0]
		return res, nil
	case errors.Is(err, mman.ErrProof) || errors.Is(err, mman.ErrUnreachable):
		return nil, err
	}
	return &ctypes.ResultABCIQuery{Response: abcitypes.ResponseQuery{
		Code: uint32(mman.CodeOf(err)), Codespace: mman.Codespace, Log: err.Error(), Height: height, Info: "proved",
	}}, nil
}
