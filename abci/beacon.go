package abci

import (
	"fmt"

	"github.com/cometbft/cometbft/abci/types"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/beacon"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/stake"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
)

// Prover makes the proofs of the beacon with the key that the validator
// registered. A sig.VRFKey is one.
type Prover interface {
	// Prove returns the proof for the input.
	Prove(input []byte) []byte
}

// draws reports whether a message is executed with the beacon of its own block:
// the requests of a block are matched in an order that nobody chose.
func draws(msgs []tx.Msg) bool {
	for _, m := range msgs {
		if _, ok := m.(tx.MsgRequest); ok {
			return true
		}
	}
	return false
}

// checkBeacon verifies the system transaction of a block against the key of its
// proposer and returns the output of the proof.
func checkBeacon(r state.Reader, chainID string, height uint64, proposer block.ConsensusAddress, raw []byte) ([]byte, error) {
	proof, err := tx.DecodeBeacon(raw)
	if err != nil {
		return nil, err
	}
	key, ok, err := stake.BeaconKey(r, proposer)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: the proposer %x is no validator", mman.ErrBeacon, proposer)
	}
	before, err := beacon.Latest(r)
	if err != nil {
		return nil, err
	}
	output, ok := sig.VerifyVRF(key, beacon.Input(chainID, height, before), proof)
	if !ok {
		return nil, fmt.Errorf("%w: the proof is not that of proposer %x for height %d", mman.ErrBeacon, proposer, height)
	}
	return output[:], nil
}

// proveBeacon makes the system transaction of a block that this node proposes.
func (a *Application) proveBeacon(r state.Reader, chainID string, height uint64, proposer block.ConsensusAddress) ([]byte, error) {
	if a.beacon == nil {
		return nil, fmt.Errorf("%w: this node has no beacon key", mman.ErrBeacon)
	}
	before, err := beacon.Latest(r)
	if err != nil {
		return nil, err
	}
	raw := tx.EncodeBeacon(a.beacon.Prove(beacon.Input(chainID, height, before)))
	_, err = checkBeacon(r, chainID, height, proposer, raw)
	return raw, err
}

// advance takes the system transaction, when the block has one, before all
// others. A block must carry one exactly when it has work to draw for.
func (e *execution) advance(txs []entry) ([]entry, error) {
	due, err := beacon.Due(e.state, e.header.Height)
	if err != nil {
		return nil, err
	}
	for _, t := range txs {
		due = due || draws(t.msgs)
	}
	if len(txs) > 0 && tx.IsBeacon(txs[0].raw) {
		if err := e.takeBeacon(txs[0].raw, due); err != nil {
			return nil, err
		}
		txs = txs[1:]
	} else if due {
		e.refuse(fmt.Errorf("%w: block %d has work to draw for and carries none", mman.ErrBeacon, e.header.Height))
	}
	latest, err := beacon.Latest(e.state)
	e.header.Beacon = latest.Value
	return txs, err
}

func (e *execution) takeBeacon(raw []byte, due bool) error {
	output, err := checkBeacon(e.state, e.header.ChainID, e.header.Height, e.proposer, raw)
	if err == nil && !due {
		err = fmt.Errorf("%w: block %d has nothing to draw for and carries one", mman.ErrBeacon, e.header.Height)
	}
	if err != nil {
		e.refuse(err)
		e.out.results = append(e.out.results, failed(err, 0, 0))
		return fatal(err)
	}
	var events []block.Event
	if _, err := beacon.Advance(e.context(e.state, &events), output); err != nil {
		return err
	}
	e.out.results = append(e.out.results, &types.ExecTxResult{Events: wireEvents(events)})
	return nil
}
