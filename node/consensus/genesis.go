package consensus

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	blockstore "github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/node/store"
)

// genesisTime is the time of every chain's first block: all validators must
// name the same one before any of them has seen a block. The second block
// carries the validators' clocks.
func genesisTime() time.Time { return time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC) }

// CometGenesis returns CometBFT's genesis for a document, which it carries as
// app_state. Two documents with the same content give the same bytes; an
// invalid one is mman.ErrGenesis.
func CometGenesis(doc genesis.Document) (*types.GenesisDoc, error) {
	if err := doc.Validate(); err != nil {
		return nil, err
	}
	state, err := json.Marshal(doc.Canonical())
	if err != nil {
		return nil, fmt.Errorf("%w: encode: %w", mman.ErrGenesis, err)
	}
	p := doc.Params
	params := types.DefaultConsensusParams()
	params.Block = types.BlockParams{MaxBytes: int64(p.BlockMaxBytes), MaxGas: int64(p.MaxGasPerBlock)} //nolint:gosec // bounded by Validate
	params.Evidence = types.EvidenceParams{
		MaxAgeNumBlocks: int64(p.EvidenceMaxBlocks),                        //nolint:gosec // bounded by Validate
		MaxAgeDuration:  time.Duration(p.EvidenceMaxSeconds) * time.Second, //nolint:gosec // bounded by Validate
		MaxBytes:        int64(p.EvidenceMaxBytes),                         //nolint:gosec // bounded by Validate
	}
	begin := genesisTime()
	if doc.State != nil && doc.State.Time > 0 {
		begin = time.Unix(doc.State.Time, 0).UTC()
	}
	out := &types.GenesisDoc{
		GenesisTime: begin, ChainID: doc.ChainID, InitialHeight: int64(doc.InitialHeight), //nolint:gosec // bounded by Validate
		ConsensusParams: params, AppState: state,
	}
	for _, v := range doc.Canonical().Validators {
		out.Validators = append(out.Validators, types.GenesisValidator{
			PubKey: ed25519.PubKey(v.ConsensusKey), Name: v.Name, Power: int64(v.Power), //nolint:gosec // bounded by Validate
		})
	}
	if err := out.ValidateAndComplete(); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrGenesis, err)
	}
	return out, nil
}

const genesisKey = "consensus/genesis"

// claimGenesis remembers a home's genesis at its first start and refuses
// another one ever after: CometBFT itself would silently go on with the first.
func claimGenesis(home string, doc genesis.Document, data *store.Data) error {
	hash, err := doc.Hash()
	if err != nil {
		return err
	}
	records := data.Namespace(store.NamespaceNode)
	known, ok, err := records.Get([]byte(genesisKey))
	switch {
	case err != nil:
		return err
	case !ok:
		if err := records.Set([]byte(genesisKey), hash[:]); err != nil {
			return err
		}
		return records.Sync()
	case string(known) != string(hash[:]):
		return fmt.Errorf("%w: %s belongs to the network with genesis %.8x, not to %s with genesis %.8x: use that network's genesis file, or another home",
			mman.ErrHome, home, known, doc.ChainID, hash[:])
	}
	return nil
}

// BlockTime returns when a block was that the node has, in seconds since 1970;
// mman.ErrNotFound. The node must not run.
func BlockTime(data *store.Data, height uint64) (int64, error) {
	blocks := blockstore.NewBlockStore(NewDB(data.Namespace(store.NamespaceCometBlocks)))
	meta := blocks.LoadBlockMeta(int64(height)) //nolint:gosec // a height
	if meta == nil {
		return 0, fmt.Errorf("%w: block %d is not in the store: blocks %d to %d are", mman.ErrNotFound, height, blocks.Base(), blocks.Height())
	}
	return meta.Header.Time.Unix(), nil
}
