package bank

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/genesis"
)

// baseFee is the base fee as of its last change.
type baseFee struct {
	Micro uint64 `cbor:"micro"`
	// Height is the first block for which it counted.
	Height uint64 `cbor:"height"`
}

const (
	baseFeeKey      = "base"
	baseFeeMaxBytes = 64
)

func baseFees() state.Table[baseFee] {
	return state.NewTable[baseFee](state.BankFee, baseFeeMaxBytes)
}

// BaseFee returns the base fee of the block of that height in 10⁻⁶ uman per
// gas. The blocks since its last change were quiet, and each of them lowered
// it, without a write: so a quiet block leaves the state as it was.
func BaseFee(r state.Reader, p genesis.Params, height uint64) (uint64, error) {
	last, ok, err := baseFees().Get(r, []byte(baseFeeKey))
	if err != nil {
		return 0, err
	}
	if !ok {
		last = baseFee{Micro: p.BaseFeeMicro, Height: 1}
	}
	base := last.Micro
	for h := last.Height; h < height && base > p.BaseFeeFloorMicro; h++ {
		if base, err = p.NextBaseFee(base, 0); err != nil {
			return 0, err
		}
	}
	return max(base, p.BaseFeeFloorMicro), nil
}

// Collect ends a block in which admitted transactions had paid fees and used
// gas: a part of the fees is burned, the rest waits in the pool for the
// validators, and the base fee of the next block is set. The fees are debited
// already. A block without either changes nothing.
func Collect(ctx *block.Context, base uint64, fees mman.Amount, used uint64) error {
	if used == 0 && fees == 0 {
		return nil
	}
	const million = 1_000_000
	burned, err := fees.MulDivCeil(ctx.Params.FeeBurnPPM, million)
	if err != nil {
		return err
	}
	if err := move(ctx.State, burned, totalLiquid, totalBurned); err != nil {
		return err
	}
	if err := move(ctx.State, fees-burned, totalLiquid, totalPools); err != nil {
		return err
	}
	next, err := ctx.Params.NextBaseFee(base, used)
	if err != nil {
		return fmt.Errorf("%w: base fee after %d with %d gas: %w", mman.ErrInvariant, base, used, err)
	}
	return baseFees().Set(ctx.State, []byte(baseFeeKey), baseFee{Micro: next, Height: ctx.Height + 1})
}
