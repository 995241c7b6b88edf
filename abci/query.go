package abci

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/proto/tendermint/crypto"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
)

// Bounds of a question.
const (
	maxQueryPath = 1024
	maxQueryArgs = 8
)

// ProofType names the form of the one ProofOp of an answer: its key is the store, a
// slash and the raw key, its data what state.Verify takes.
const ProofType = "ics23:smt"

// Query answers from committed state: /mman/<noun>… in JSON, /store/<store>/key
// with the raw key as data, and in protobuf what wallets of the ecosystem ask
// (tx.PathAccount and its neighbours). It waits for no block.
func (a *Application) Query(_ context.Context, req *types.RequestQuery) (*types.ResponseQuery, error) {
	answer, err := a.answer(req)
	if err != nil {
		return &types.ResponseQuery{
			Code: uint32(mman.CodeOf(err)), Codespace: codespace, Log: err.Error(),
			Height: wireInt(a.latest.Load().Latest().Height()),
		}, nil
	}
	return answer, nil
}

func (a *Application) answer(req *types.RequestQuery) (*types.ResponseQuery, error) {
	if len(req.Path) > maxQueryPath {
		return nil, fmt.Errorf("%w: a path of %d bytes, at most %d are allowed", mman.ErrTooLarge, len(req.Path), maxQueryPath)
	}
	snapshot, err := a.snapshotAt(req)
	if err != nil {
		return nil, err
	}
	if rest, ok := strings.CutPrefix(req.Path, "/store/"); ok {
		return storeAnswer(snapshot, rest, req)
	}
	value, err := a.askAny(snapshot, snapshot.Height(), req.Path, req.Data)
	if err != nil {
		return nil, err
	}
	return &types.ResponseQuery{Value: value, Height: wireInt(snapshot.Height())}, nil
}

// askAny answers what is no raw key.
func (a *Application) askAny(r state.Reader, height uint64, path string, data []byte) ([]byte, error) {
	if isWalletPath(path) {
		return a.askWallet(r, height, path, data)
	}
	rest, ok := strings.CutPrefix(path, "/mman/")
	if !ok {
		return nil, fmt.Errorf("%w: path %.96q: use /mman/<noun>, /store/<store>/key, or what doc.go of abci lists for wallets", mman.ErrUnsupported, path)
	}
	q, err := parseQuery(rest)
	if err != nil {
		return nil, err
	}
	q.State, q.Height = r, height
	value, err := a.ask(q)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, fmt.Errorf("%w: encode the answer to %.96q: %w", mman.ErrInternal, path, err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), nil
}

// Asker answers the questions of Query over a state that it does not hold. A
// light client has one: it asks with a Reader that checks a proof of all that it
// reads. It is safe for concurrent use.
type Asker struct{ app *Application }

// NewAsker returns an Asker of this version's rules.
func NewAsker() (*Asker, error) {
	r, err := newRoutes(newModules())
	if err != nil {
		return nil, err
	}
	return &Asker{&Application{routes: r, verified: newVerifiedTxs(1), waiting: newWaitingTxs()}}, nil
}

// Ask answers a path of Query, but /store/…, from the state r of a height. The
// errors are those of the ledger and of r.
func (k *Asker) Ask(r state.Reader, height uint64, path string, data []byte) ([]byte, error) {
	if len(path) > maxQueryPath {
		return nil, fmt.Errorf("%w: a path of %d bytes, at most %d are allowed", mman.ErrTooLarge, len(path), maxQueryPath)
	}
	return k.app.askAny(r, height, path, data)
}

// snapshotAt picks the height. The root of height h stands in the header of
// h+1, so a proof that names no height is of the height before the last.
func (a *Application) snapshotAt(req *types.RequestQuery) (*state.Snapshot, error) {
	recent := a.latest.Load()
	if req.Height < 0 {
		return nil, fmt.Errorf("%w: height %d", mman.ErrInvalid, req.Height)
	}
	height := uint64(req.Height)
	if last := recent.Latest().Height(); req.Prove && height == 0 && last > 1 {
		height = last - 1
	}
	return recent.At(height)
}

// parseQuery splits what stands behind /mman/.
func parseQuery(s string) (block.Query, error) {
	path, args, _ := strings.Cut(s, "?")
	q := block.Query{Path: strings.Split(path, "/"), Args: map[string]string{}}
	if args == "" {
		return q, nil
	}
	pairs := strings.Split(args, "&")
	if len(pairs) > maxQueryArgs {
		return q, fmt.Errorf("%w: %d arguments, at most %d are allowed", mman.ErrTooLarge, len(pairs), maxQueryArgs)
	}
	for _, pair := range pairs {
		name, escaped, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(escaped)
		if err != nil {
			return q, fmt.Errorf("%w: argument %.64q: %w", mman.ErrInvalid, pair, err)
		}
		if _, twice := q.Args[name]; twice {
			return q, fmt.Errorf("%w: argument %.64q is given twice", mman.ErrInvalid, name)
		}
		q.Args[name] = value
	}
	return q, nil
}

// FeeAnswer is the answer to /mman/fee.
type FeeAnswer struct {
	// BaseFeeMicro is the next block's, in 10⁻⁶ uman per gas. It can rise by an
	// eighth a block; a transaction pays the base fee of its own block, so one
	// that offers more loses nothing.
	BaseFeeMicro uint64      `json:"base_fee_micro"`
	Gas          genesis.Gas `json:"gas"`
	MaxGasPerTx  uint64      `json:"max_gas_per_tx"`
}

func (a *Application) ask(q block.Query) (any, error) {
	switch q.Path[0] {
	case "params", "fee", "chain", "bootstrap", "upgrades":
		var paging []string
		if q.Path[0] == "bootstrap" {
			paging = []string{"limit", "after"}
		}
		if err := q.Allow(paging...); err != nil {
			return nil, err
		}
		if len(q.Path) != 1 {
			return nil, fmt.Errorf("%w: nothing follows /mman/%s", mman.ErrInvalid, q.Path[0])
		}
		return a.askChain(q)
	default:
	}
	m, ok := a.routes.nouns[q.Path[0]]
	if !ok {
		return nil, fmt.Errorf("%w: /mman/%.64s: this chain does not answer that", mman.ErrUnsupported, q.Path[0])
	}
	return m.Query(q)
}

func (a *Application) askChain(q block.Query) (any, error) {
	switch q.Path[0] {
	case "chain":
		return readChain(q.State)
	case "upgrades":
		return a.changes.answer(q.State)
	case "bootstrap":
		return bootstrap(q)
	default:
	}
	p, err := readParams(q.State)
	if err != nil || q.Path[0] == "params" {
		return p, err
	}
	base, err := bank.BaseFee(q.State, p, q.Height+1)
	return FeeAnswer{base, p.Gas, p.MaxGasPerTx}, err
}

// storeAnswer answers a raw key, with an ICS-23 proof of presence or absence
// when it is asked for one.
func storeAnswer(s *state.Snapshot, rest string, req *types.RequestQuery) (*types.ResponseQuery, error) {
	store, ok := strings.CutSuffix(rest, "/key")
	if !ok {
		return nil, fmt.Errorf("%w: path /store/%.64s: use /store/<store>/key", mman.ErrUnsupported, rest)
	}
	value, _, err := s.Get(store, req.Data)
	if err != nil {
		return nil, err
	}
	answer := &types.ResponseQuery{Key: req.Data, Value: value, Height: wireInt(s.Height())}
	if !req.Prove {
		return answer, nil
	}
	proof, err := s.Prove(store, req.Data)
	if err != nil {
		return nil, err
	}
	b, err := proof.Marshal()
	if err != nil {
		return nil, fmt.Errorf("%w: encode a proof: %w", mman.ErrInternal, err)
	}
	answer.ProofOps = &crypto.ProofOps{Ops: []crypto.ProofOp{{Type: ProofType, Key: []byte(store + "/" + string(req.Data)), Data: b}}}
	return answer, nil
}
