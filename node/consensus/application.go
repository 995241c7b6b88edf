package consensus

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	abci "github.com/cometbft/cometbft/abci/types"

	mman "github.com/limboid/massive-man"
)

// application is the caller's application behind the gate. It keeps the first
// error that stops a chain, which CometBFT hands on as text only.
type application struct {
	abci.Application

	gate *gate
	// broke is told the error of a call that a chain cannot go on without.
	broke func(error)
	// syncing says whether blocks come from other nodes rather than consensus.
	syncing func() bool
	// full says why the mempool takes no further transaction of so many bytes; nil
	// when it does.
	full func(bytes int) error
}

func through[Q, A any](ctx context.Context, app *application, fn func(context.Context, Q) (A, error), req Q) (A, error) {
	app.gate.enter()
	defer app.gate.leave()
	return fn(ctx, req)
}

// decisive is through for a call whose error halts the chain. In consensus
// CometBFT turns the error into a halt by itself; while it fetches blocks from
// others it would panic on a goroutine of its own and take the process along,
// so that goroutine ends here and Run ends with the error.
func decisive[Q, A any](ctx context.Context, app *application, name string, fn func(context.Context, Q) (A, error), req Q) (A, error) {
	answer, err := func() (answer A, err error) {
		app.gate.enter()
		defer app.gate.leave()
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("%w: panic: %v\n%s", mman.ErrInternal, r, debug.Stack())
			}
		}()
		return fn(ctx, req)
	}()
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		app.broke(err)
		if app.syncing() {
			runtime.Goexit()
		}
	}
	return answer, err
}

// InitChain implements abci.Application.
func (a *application) InitChain(ctx context.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	return decisive(ctx, a, "init chain", a.Application.InitChain, req)
}

// FinalizeBlock implements abci.Application.
func (a *application) FinalizeBlock(ctx context.Context, req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	return decisive(ctx, a, fmt.Sprintf("block %d", req.Height), a.Application.FinalizeBlock, req)
}

// Commit implements abci.Application.
func (a *application) Commit(ctx context.Context, req *abci.RequestCommit) (*abci.ResponseCommit, error) {
	return decisive(ctx, a, "commit", a.Application.Commit, req)
}

// Info implements abci.Application.
func (a *application) Info(ctx context.Context, req *abci.RequestInfo) (*abci.ResponseInfo, error) {
	return through(ctx, a, a.Application.Info, req)
}

// Query implements abci.Application.
func (a *application) Query(ctx context.Context, req *abci.RequestQuery) (*abci.ResponseQuery, error) {
	return through(ctx, a, a.Application.Query, req)
}

// CheckTx implements abci.Application. A new transaction for which there is no room
// is refused before the application counts it.
func (a *application) CheckTx(ctx context.Context, req *abci.RequestCheckTx) (*abci.ResponseCheckTx, error) {
	if req.Type == abci.CheckTxType_New {
		if err := a.full(len(req.Tx)); err != nil {
			return &abci.ResponseCheckTx{Code: uint32(mman.CodeOf(err)), Codespace: mman.Codespace, Log: err.Error()}, nil
		}
	}
	return through(ctx, a, a.Application.CheckTx, req)
}

// PrepareProposal implements abci.Application.
func (a *application) PrepareProposal(ctx context.Context, req *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	return decisive(ctx, a, fmt.Sprintf("block %d", req.Height), a.Application.PrepareProposal, req)
}

// ProcessProposal implements abci.Application.
func (a *application) ProcessProposal(ctx context.Context, req *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	return decisive(ctx, a, fmt.Sprintf("block %d", req.Height), a.Application.ProcessProposal, req)
}

// ListSnapshots implements abci.Application.
func (a *application) ListSnapshots(ctx context.Context, req *abci.RequestListSnapshots) (*abci.ResponseListSnapshots, error) {
	return through(ctx, a, a.Application.ListSnapshots, req)
}

// OfferSnapshot implements abci.Application.
func (a *application) OfferSnapshot(ctx context.Context, req *abci.RequestOfferSnapshot) (*abci.ResponseOfferSnapshot, error) {
	return through(ctx, a, a.Application.OfferSnapshot, req)
}

// LoadSnapshotChunk implements abci.Application.
func (a *application) LoadSnapshotChunk(ctx context.Context, req *abci.RequestLoadSnapshotChunk) (*abci.ResponseLoadSnapshotChunk, error) {
	return through(ctx, a, a.Application.LoadSnapshotChunk, req)
}

// ApplySnapshotChunk implements abci.Application.
func (a *application) ApplySnapshotChunk(ctx context.Context, req *abci.RequestApplySnapshotChunk) (*abci.ResponseApplySnapshotChunk, error) {
	return through(ctx, a, a.Application.ApplySnapshotChunk, req)
}
